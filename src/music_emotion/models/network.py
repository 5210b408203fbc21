"""The network of an experiment (standardisation, augmentation, trunk, head), saved as one file."""

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import N_MELS, Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import EvenExcerpts, batches
from music_emotion.files import InputError, atomic_path, first_five, shortened
from music_emotion.models.augment import SpectrogramAugmentation
from music_emotion.models.card import CARDS, METADATA_KEY, NO_MODEL, ModelCard, card_in, opened
from music_emotion.models.conv import ConvNet
from music_emotion.models.layers import Lstm, Mlp, PublicHeads, dense_layers
from music_emotion.models.musicnn import MusiCNN
from music_emotion.models.target_scale import TargetScale

EXCERPTS_AT_ONCE = 60
_STEP = ".step"  # ending of the name of the steps of 8-bit weights
_INPUT = ("row_mean", "row_deviation", "features")  # entries of a card
_NOT_OF_TRUNK = {"head", "head_widths", "dropout", "dropout_place", "weights", "trunk"}  # settings of model


class Network(nn.Module):
    """Predicts targets or class probabilities from frames of mel and chroma.

    It standardises each row, augments in training, and applies a trunk and a head.

    Parameters
    ----------
    card : ModelCard
        Describes the network, which is built with random weights.
    pretrained : bool, default True
        Whether a timm backbone or the ear loads its weights from the file in `model.weights`.

    Raises
    ------
    InputError
        When the model's settings do not fit the input.
    """

    row_mean: torch.Tensor
    row_deviation: torch.Tensor

    def __init__(self, card: ModelCard, pretrained: bool = True):
        super().__init__()
        self.card = card
        experiment, n_rows = card.experiment, len(card.row_mean)
        for name in ("row_mean", "row_deviation"):  # not persistent, since the card holds them
            self.register_buffer(name, torch.tensor(getattr(card, name))[:, None], persistent=False)
        has_mel = experiment.data.of_layout and experiment.data.rows != "chroma"
        varied = experiment.augment.model_dump(exclude={"mixup", "mixup_bandwidth"})
        self.augmentation = SpectrogramAugmentation(min(n_rows, N_MELS) if has_mel else 0, **varied)
        if experiment.model.kind == "ear" and card.features != FeatureSettings():
            remedy = "Extract with the defaults."
            raise InputError(f"model.kind 'ear' can't read arrays of {card.features}. {remedy}")
        self.trunk = build_trunk(experiment, n_rows, pretrained)
        self.head: Any = build_head(experiment, self.trunk.n_features, len(card.outputs))
        self.target_scale = None
        if experiment.task == "emotion":
            self.target_scale = TargetScale(card.target_mean, card.target_deviation, card.target_quantiles)
        self.to(memory_format=torch.channels_last)  # in which convolutions are fastest

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compute outputs.

        Parameters
        ----------
        frames : torch.Tensor [shape=(n, n_rows, n_frames)]
            As in the arrays: mel in dB, chroma 0 to 1.
        lengths : torch.Tensor [shape=(n,)]
            Frames before the padding.

        Returns
        -------
        torch.Tensor [shape=(n, n_outputs)]
            Targets as `TargetScale` maps them, or logits.
        """
        return self.head(self.features(frames, lengths))

    def features(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compute the trunk's features, the input of the head [shape=(n, n_features)]."""
        rows = self.augmentation((frames - self.row_mean) / self.row_deviation)
        if self.card.experiment.model.kind == "ear":  # which reads dB
            rows = rows * self.row_deviation + self.row_mean
        return self.trunk(rows, lengths)

    def predict(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Predict targets in their own units, or class probabilities [shape=(n, n_outputs)]."""
        return self.predict_from(self.features(frames, lengths))

    def predict_from(self, features: torch.Tensor) -> torch.Tensor:
        """Predict as `predict` does, from the trunk's features [shape=(n, n_features)]."""
        outputs = self.head(features).float()
        return outputs.softmax(dim=1) if self.target_scale is None else self.target_scale.targets_of(outputs)


def build_trunk(experiment: Experiment, n_rows: int, pretrained: bool = True) -> Any:
    """Build the trunk of an experiment, a module that maps frames and lengths to `n_features` features.

    Parameters
    ----------
    experiment : Experiment
    n_rows : int
        Rows of the input.
    pretrained : bool, default True
        Whether a timm backbone or the ear loads its weights from the file in `model.weights`.
    """
    model, n_frames = experiment.model, experiment.excerpt.frames
    match model.kind:
        case "lstm":
            return Lstm(n_rows, model.lstm_width, model.bidirectional, model.dropout)
        case "mlp":
            return Mlp(n_rows, n_frames or 1, model.widths, model.activation, model.norm == "batch")
        case "timm":
            from music_emotion.models.timm_backbone import TimmBackbone  # timm takes seconds to import

            weights = model.weights if pretrained else None
            return TimmBackbone(model.backbone, model.channels, n_rows, n_frames or 256, weights)
        case "ear":
            from music_emotion.models.ear import load_ear  # which reads its files with this module
            from music_emotion.models.ear_trunk import EarTrunk

            weights_file = Path(model.weights) if model.weights else None
            return EarTrunk(load_ear(weights_file) if pretrained else MusiCNN())
        case "conv":
            settings = model.model_dump(include=set(signature(ConvNet).parameters))
            return ConvNet(n_rows, n_frames or 1, **settings)


def build_head(experiment: Experiment, n_features: int, n_outputs: int) -> nn.Module:
    """Build the head of an experiment. The public baseline's has one part per target, or one for genres."""
    model = experiment.model
    if model.head == "mlp":
        return PublicHeads(
            n_features, n_outputs, n_outputs if experiment.task == "emotion" else 1, model.dropout
        )
    is_linear = model.head == "linear"
    widths = () if is_linear else model.head_widths
    layers = dense_layers(n_features, widths, model.activation)
    # an LSTM with a linear head has dropout between its layers instead
    dropout = nn.Dropout(0.0 if is_linear and model.kind == "lstm" else model.dropout)
    layers.insert(0 if is_linear or model.dropout_place == "before" else len(layers), dropout)
    return nn.Sequential(*layers, nn.Linear([n_features, *widths][-1], n_outputs))


def save_model(path: Path, network: Network, weights: dict[str, torch.Tensor], packed: bool = False) -> None:
    """Write weights, with the card as JSON metadata, to one safetensors file, atomically.

    Parameters
    ----------
    path : Path
    network : Network
        Provides the card.
    weights : dict of str to torch.Tensor
        The weights to save, such as the network's own or their EMA.
    packed : bool, default False
        Round every row of a matrix, and every filter, to 8 bits of its largest weight.
    """
    card = CARDS.dump_json(network.card).decode()
    contiguous = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    for name, value in list(contiguous.items()) if packed else ():
        if value.ndim > 1:
            step = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True).clamp(min=1e-12) / 127
            contiguous |= {name: (value / step).round().to(torch.int8), name + _STEP: step}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={METADATA_KEY: card}))


def load_model(path: Path) -> Network:
    """Read a network, ready to predict.

    Raises
    ------
    InputError
        When the file is missing, damaged, not from music-emotion, or its weights do not fit its card.
    """
    card, weights = _read_model(path)
    try:
        with torch.device("meta"):  # takes no memory, whatever the card describes
            expected = Network(card, pretrained=False).state_dict()
        if misfits := _misfits(weights, expected):
            raise ValueError(first_five(misfits))
        network = Network(card, pretrained=False)  # the file holds every weight
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = shortened(str(error), 300)
        raise InputError(f"{path} holds weights of another network: {reason}. Train it anew.") from None
    return network.eval()


def _misfits(there: dict[str, torch.Tensor], here: dict[str, torch.Tensor]) -> list[str]:
    """List the differences in name and shape between a file's weights and a network's."""
    theirs, ours = ({name: tuple(own.shape) for name, own in each.items()} for each in (there, here))
    pairs = {name: (theirs.get(name, "missing"), ours.get(name, "missing")) for name in ours | theirs}
    return [
        f"{shortened(k)} is {one} there, {other} here" for k, (one, other) in pairs.items() if one != other
    ]


def read_weights(path: Path, remedy: str) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Read metadata and weights of a safetensors file.

    Parameters
    ----------
    path : Path
    remedy : str
        What to do when there is no such file.

    Raises
    ------
    InputError
        When the file is missing or damaged.
    """
    with opened(path, remedy, "pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_model(path: Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    metadata, weights = read_weights(path, NO_MODEL)
    card = card_in(metadata, path)
    for name in [name for name in weights if name + _STEP in weights]:
        weights[name] = weights[name] * weights.pop(name + _STEP)
    return card, weights


def clip_features(network: Network, clips: ClipSet) -> np.ndarray:
    """Mean features of the trunk over the evenly spaced excerpts of each clip [shape=(n, n_features)].

    The network is set to evaluation mode.
    """
    excerpts = EvenExcerpts(clips, network.card.experiment.data, network.card.experiment.excerpt)
    loader = batches(excerpts, max(1, EXCERPTS_AT_ONCE // excerpts.n_excerpts))
    device = next(network.eval().parameters()).device
    with torch.inference_mode():
        parts = [network.features(b["frames"].to(device), b["lengths"].to(device)).float() for b in loader]
    return torch.cat(parts).unflatten(0, (-1, excerpts.n_excerpts)).mean(dim=1).cpu().numpy()


def share_trunks(networks: Sequence[Network]) -> None:
    """Let networks with equal trunks and equal input share one, whose features are then computed once.

    Weights that differ by the rounding of 8-bit files count as equal.
    """
    for number, network in enumerate(networks):
        own = network.trunk.state_dict()
        for other in networks[:number]:
            one, two = (
                [getattr(each.card, name) for name in _INPUT]
                + [each.card.experiment.model.model_dump(exclude=_NOT_OF_TRUNK)]
                for each in (network, other)
            )
            theirs = other.trunk.state_dict()
            if one != two or _misfits(theirs, own):
                continue
            if all(torch.allclose(own[k].float(), theirs[k].float(), rtol=1e-5, atol=0) for k in own):
                network.trunk = other.trunk
                break


def load_trunk(network: Network, path: Path) -> None:
    """Start a network from the trunk of another model, such as a genre model.

    Parameters
    ----------
    network : Network
        Receives the trunk's weights and the normalisation of its input; its head keeps its random weights.
    path : Path
        `model.safetensors` of the other model.

    Raises
    ------
    InputError
        When any weight of the trunk is missing in the file or has another shape.
    """
    card, weights = _read_model(path)
    there = {name: value for name, value in weights.items() if name.startswith("trunk.")}
    if misfits := _misfits(there, network.trunk.state_dict(prefix="trunk.")):
        raise InputError(
            f"The trunk of {path} does not fit: {len(misfits)} weights differ ({first_five(misfits)}). "
            f"Use the same model section as that run, or no model.trunk."
        )
    network.load_state_dict(there, strict=False)
    if len(card.row_mean) == len(network.row_mean):  # of the clips that the trunk has learnt from
        scale = {name: getattr(card, name) for name in ("row_mean", "row_deviation")}
        network.card = replace(network.card, **scale)
        for name, values in scale.items():
            getattr(network, name).copy_(torch.tensor(values)[:, None])
