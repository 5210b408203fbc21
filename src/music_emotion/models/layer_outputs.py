"""The activations of a network's first layers for a clip, recorded with forward hooks."""

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


@dataclass(frozen=True)
class Activations:
    """An excerpt, and the activations of a network's first layers.

    Attributes
    ----------
    excerpt : np.ndarray [shape=(n_rows, n_frames)]
        As in the arrays: mel in dB, chroma 0 to 1.
    start : int
        First frame of the excerpt in the clip.
    layers : dict of str to np.ndarray
        Layer to feature maps [shape=(n_maps, n_rows, n_frames)], or to hidden states
        [shape=(n_units, n_frames)].
    """

    excerpt: np.ndarray
    start: int
    layers: dict[str, np.ndarray]


def activations(network: Network, fused: np.ndarray) -> Activations:
    """Run a network on the excerpt in the middle of a clip and record its first layers.

    Parameters
    ----------
    network : Network
        As `load_model` returns it.
    fused : np.ndarray [shape=(140, n_frames)]
        Array of the clip, at the rate of the network's training clips.

    Returns
    -------
    Activations
        For a ConvNet, the outputs of the first two blocks. For a timm backbone, those of the first two
        stages. For an LSTM, the hidden states of each direction in the last layer.

    Raises
    ------
    InputError
        When the network has no feature maps, as transformers and fully connected networks.
    """
    experiment = network.card.experiment
    # one excerpt, cut as in validation
    clip = ClipSet.unlabelled(Store.in_memory(fused.T, [fused.shape[1]]))
    excerpt = experiment.excerpt.model_copy(update={"test": 1})
    batch = EvenExcerpts(clip, experiment.data, excerpt).__getitems__([0])
    frames, lengths = batch["frames"], batch["lengths"]
    layers: dict[str, np.ndarray] = {}
    with ExitStack() as hooks, torch.inference_mode():
        for name, layer in _first_layers(network).items():
            hooks.enter_context(layer.register_forward_hook(partial(_record, layers, name)))
        network.eval()(frames, lengths)
    if not layers:
        model = experiment.model
        raise InputError(
            f"'{model.backbone if model.kind == 'timm' else model.kind}' gives no feature maps that could be "
            f"drawn. Take a convolutional network, such as model.kind 'conv' or the backbone 'resnet18'."
        )
    return Activations(frames[0].numpy(), round((fused.shape[1] - int(lengths[0])) / 2), layers)


def _first_layers(network: Network) -> dict[str, nn.Module]:
    model, trunk = network.card.experiment.model, network.trunk
    match model.kind:
        case "conv":
            return {f"block {number}": block for number, block in enumerate(trunk.blocks[:2], 1)}
        case "lstm":
            return {"last LSTM layer": trunk.lstm}
        case "timm" if getattr(trunk.backbone, "output_fmt", "NCHW") == "NCHW":
            stages = [stage["module"] for stage in getattr(trunk.backbone, "feature_info", None) or []]
            return {f"{model.backbone} {name}": trunk.backbone.get_submodule(name) for name in stages[:2]}
    return {}


def _record(layers: dict[str, np.ndarray], name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
    """Forward hook: record the feature maps of a layer, or the hidden states of an LSTM per direction."""
    if isinstance(output, tuple):  # packed steps, then hidden and cell state [layers * directions, n, width]
        states = pad_packed_sequence(output[0])[0][:, 0].T  # [units of all directions, frames]
        parts = states.split(output[1][0].shape[2])
        ways = ("forward", "backward")[: len(parts)]
        layers |= {f"{name}, {way}": part.numpy() for way, part in zip(ways, parts, strict=True)}
    elif isinstance(output, torch.Tensor) and output.ndim == 4:
        layers[name] = output[0].float().numpy().copy()  # the next layer may change it in place
