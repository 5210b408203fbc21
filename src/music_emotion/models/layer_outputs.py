"""What the first layers of a network make of a clip, taken with forward hooks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import EvenExcerpts
from music_emotion.datasets.store import Store
from music_emotion.files import InputError
from music_emotion.models.build import Network
from music_emotion.models.conv import ConvNet
from music_emotion.models.lstm import Lstm
from music_emotion.models.mlp import Mlp
from music_emotion.models.pretrained import TimmBackbone

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
        When the layers of a timm backbone do not give feature maps.
    """
    frames, lengths = _middle_excerpt(network, fused)
    outputs: dict[str, Any] = {}
    handles = [layer.register_forward_hook(_keeper(outputs, name)) for name, layer in _first_layers(network)]
    try:
        with torch.inference_mode():
            network.eval()(frames, lengths)
    finally:
        for handle in handles:
            handle.remove()
    layers = {name: array for key, value in outputs.items() for name, array in _arrays(key, value, network)}
    return Activations(frames[0].numpy(), round((fused.shape[1] - int(lengths[0])) / 2), layers)


def _middle_excerpt(network: Network, fused: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut as in validation, so with the same rows, length and padding, but once."""
    experiment = network.card.experiment
    clip = ClipSet.unlabelled(Store.in_memory(fused.T, [fused.shape[1]]))
    excerpt = experiment.excerpt.model_copy(update={"test": 1})
    batch = EvenExcerpts(clip, experiment.data, excerpt).__getitems__([0])
    return batch["frames"], batch["lengths"]


def _first_layers(network: Network) -> Iterable[tuple[str, nn.Module]]:
    match network.trunk:
        case ConvNet():
            blocks = list(network.trunk.blocks)[:_N_LAYERS]
            return [(f"block {number}", block) for number, block in enumerate(blocks, start=1)]
        case TimmBackbone():
            backbone = network.trunk.backbone
            name = network.card.experiment.model.backbone
            stages = list(getattr(backbone, "feature_info", None) or [])[:_N_LAYERS]
            if not stages or getattr(backbone, "output_fmt", "NCHW") != "NCHW":
                raise _no_maps(network)
            return [
                (f"{name} {stage['module']}", backbone.get_submodule(stage["module"])) for stage in stages
            ]
        case Lstm():
            return [("last LSTM layer", network.trunk.lstm)]
        case Mlp():
            raise InputError("A fully connected network has no feature maps that could be drawn.")
        case _:
            raise TypeError(f"no layers are known of {type(network.trunk).__name__}")


def _keeper(outputs: dict[str, Any], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        # a copy, since the next layer may work in place
        outputs[name] = output.clone() if isinstance(output, torch.Tensor) else output

    return keep


def _arrays(name: str, output: Any, network: Network) -> list[tuple[str, np.ndarray]]:
    """One clip's output of a layer, as one array or, of an LSTM, one per direction."""
    if isinstance(network.trunk, Lstm):
        steps: PackedSequence = output[0]
        states = pad_packed_sequence(steps, batch_first=True)[0][0].T  # [units of all directions, frames]
        directions = ("forward", "backward")[: network.trunk.n_directions]
        halves = states.chunk(network.trunk.n_directions)
        return [
            (f"{name}, {direction}", half.numpy()) for direction, half in zip(directions, halves, strict=True)
        ]
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        raise _no_maps(network)
    return [(name, output[0].float().numpy())]


def _no_maps(network: Network) -> InputError:
    return InputError(
        f"'{network.card.experiment.model.backbone}' gives no feature maps that could be drawn, as "
        f"transformers do not. Take a convolutional backbone, such as resnet18."
    )
