"""The response of a network's first layers to a clip, taken with forward hooks."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import pad_packed_sequence

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import EvenExcerpts
from music_emotion.datasets.store import Store
from music_emotion.files import InputError
from music_emotion.models.network import Network

_N_LAYERS = 2


@dataclass(frozen=True)
class Activations:
    """An excerpt, and what layers answer to it.

    Attributes
    ----------
    excerpt : np.ndarray [shape=(n_rows, n_frames)]
        As in the arrays: mel in dB, chroma 0 to 1.
    start : int
        The frame of the clip that the excerpt begins with.
    layers : dict of str to np.ndarray
        Layer to feature maps [shape=(n_maps, n_rows, n_frames)], or to hidden states
        [shape=(n_units, n_frames)].
    """

    excerpt: np.ndarray
    start: int
    layers: dict[str, np.ndarray]


def activations(network: Network, fused: np.ndarray) -> Activations:
    """Run a network on the excerpt in the middle of a clip and keep what its first layers give.

    Parameters
    ----------
    network : Network
        As `load_model` gives it.
    fused : np.ndarray [shape=(140, n_frames)]
        At the rate the network was trained on.

    Returns
    -------
    Activations
        Of a ConvNet after each of the first two blocks, of a timm backbone after its first two
        stages, of an LSTM the hidden states of each direction in its last layer.

    Raises
    ------
    InputError
        When the network has no feature maps, as transformers and fully connected networks.
    """
    experiment = network.card.experiment
    # cut as in validation, so with the same rows, length and padding, but once
    clip = ClipSet.unlabelled(Store.in_memory(fused.T, [fused.shape[1]]))
    excerpt = experiment.excerpt.model_copy(update={"test": 1})
    batch = EvenExcerpts(clip, experiment.data, excerpt).__getitems__([0])
    frames, lengths = batch["frames"], batch["lengths"]
    layers: dict[str, np.ndarray] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for name, layer in _first_layers(network):
            hooks.enter_context(layer.register_forward_hook(partial(_keep, layers, name)))
        network.eval()(frames, lengths)
    return Activations(frames[0].numpy(), round((fused.shape[1] - int(lengths[0])) / 2), layers)


def _first_layers(network: Network) -> list[tuple[str, nn.Module]]:
    model, trunk = network.card.experiment.model, network.trunk
    match model.kind:
        case "conv":
            return [(f"block {number}", block) for number, block in enumerate(trunk.blocks[:_N_LAYERS], 1)]
        case "lstm":
            return [("last LSTM layer", trunk.lstm)]
        case "timm":
            backbone = trunk.backbone
            stages = [stage["module"] for stage in getattr(backbone, "feature_info", None) or []][:_N_LAYERS]
            if stages and getattr(backbone, "output_fmt", "NCHW") == "NCHW":
                return [(f"{model.backbone} {stage}", backbone.get_submodule(stage)) for stage in stages]
            raise _no_maps(f"'{model.backbone}'")
    raise InputError("A fully connected network has no feature maps that could be drawn.")


def _no_maps(name: str) -> InputError:
    return InputError(
        f"{name} gives no feature maps that could be drawn, as transformers do not. "
        f"Take a convolutional backbone, such as resnet18."
    )


def _keep(layers: dict[str, np.ndarray], name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    """Keep one clip's output of a layer, as one array or, of an LSTM, one per direction."""
    if isinstance(output, tuple):  # packed steps, then hidden and cell state [layers * directions, n, width]
        states = pad_packed_sequence(output[0])[0][:, 0].T.numpy()  # [units of all directions, frames]
        width = output[1][0].shape[2]
        directions = ("forward", "backward")[: len(states) // width]
        layers |= {f"{name}, {way}": states[i * width :][:width] for i, way in enumerate(directions)}
    elif isinstance(output, torch.Tensor) and output.ndim == 4:
        layers[name] = output[0].float().numpy().copy()  # since the next layer may work in place
    else:
        raise _no_maps(name)
