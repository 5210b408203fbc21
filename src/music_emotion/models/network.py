"""The whole network of an experiment: standardise, augment, trunk, head; saved as one file."""

import json
from dataclasses import field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from music_emotion.audio.features import FeatureSettings
from music_emotion.config import N_MELS, STRICT, Experiment
from music_emotion.files import InputError, atomic_path, describe, first_five, shortened
from music_emotion.models.augment import SpectrogramAugmentation
from music_emotion.models.conv import ConvNet, ImageChannels
from music_emotion.models.layers import Lstm, Mlp, PublicHeads, dense_layers
from music_emotion.models.target_scale import TargetScale

_METADATA_KEY = "music_emotion"


@dataclass(frozen=True, config=STRICT)
class ModelCard:
    """Everything needed to interpret a network's weights.

    Attributes
    ----------
    experiment : Experiment
    outputs : tuple of str
        Targets, or classes in the order of the logits.
    row_mean, row_deviation : tuple of float
        Of the training folds' frames, per row.
    target_mean, target_deviation : tuple of float
        Of the training folds' targets; 0 and 1 where they are not standardised.
    target_quantiles : tuple of tuple of float
        Of the training folds' targets, per target, where they are learnt as normal scores.
    features : FeatureSettings
        How audio became the clips; means nothing of foreign windows and statistics.
    """

    experiment: Experiment
    outputs: tuple[str, ...]
    row_mean: tuple[float, ...]
    row_deviation: tuple[float, ...]
    target_mean: tuple[float, ...]
    target_deviation: tuple[float, ...]
    target_quantiles: tuple[tuple[float, ...], ...] = field(default=(), kw_only=True)
    features: FeatureSettings = field(default_factory=FeatureSettings, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("row", "target"):
            means, deviations = getattr(self, f"{name}_mean"), getattr(self, f"{name}_deviation")
            if not means or len(means) != len(deviations) or min(deviations) <= 0:
                raise ValueError(f"{name}_deviation is not a positive number for each of {name}_mean")


_CARDS = TypeAdapter(ModelCard)


class Network(nn.Module):
    """Frames as the store has them to targets or class probabilities.

    Parameters
    ----------
    trunk : nn.Module
        Takes frames or images, and lengths; has `n_features`.
    head : nn.Module
        Takes the trunk's features.
    row_mean, row_deviation : sequence of float
        Standardise frames per row.
    target_scale : TargetScale, optional
        Maps outputs to targets; without it they are logits of classes.
    augmentation : nn.Module, optional
        Varies standardised frames.
    channels : ImageChannels, optional
        Turns frames into images.

    Attributes
    ----------
    card : ModelCard
        What `build_network` built it from.
    """

    row_mean: torch.Tensor
    row_deviation: torch.Tensor
    trunk: Any
    head: Any
    card: ModelCard

    def __init__(
        self,
        trunk: nn.Module,
        head: nn.Module,
        row_mean: tuple[float, ...],
        row_deviation: tuple[float, ...],
        target_scale: TargetScale | None = None,
        augmentation: nn.Module | None = None,
        channels: ImageChannels | None = None,
    ):
        super().__init__()
        # the card keeps them, so the weights do not
        self.register_buffer("row_mean", torch.tensor(row_mean)[:, None], persistent=False)
        self.register_buffer("row_deviation", torch.tensor(row_deviation)[:, None], persistent=False)
        self.trunk, self.head = trunk, head
        self.target_scale = target_scale
        self.augmentation, self.channels = augmentation or nn.Identity(), channels or nn.Identity()

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
            Targets as `TargetScale` has them, or logits.
        """
        return self.head(self.features(frames, lengths))

    def features(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What the trunk makes of frames, for a head [shape=(n, n_features)]."""
        standard = self.augmentation((frames - self.row_mean) / self.row_deviation)
        return self.trunk(self.channels(standard), lengths)

    def predict(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Targets in their own units, or class probabilities [shape=(n, n_outputs)]."""
        outputs = self(frames, lengths).float()
        return outputs.softmax(dim=1) if self.target_scale is None else self.target_scale.targets_of(outputs)


def build_network(card: ModelCard) -> Network:
    """The network that a card describes, with random weights.

    Raises
    ------
    InputError
        When the model's settings do not fit the input.
    """
    experiment, n_rows = card.experiment, len(card.row_mean)
    data, augment = experiment.data, experiment.augment
    has_mel = data.of_layout and data.rows != "chroma"
    augmentation = SpectrogramAugmentation(
        min(n_rows, N_MELS) if has_mel else 0, **augment.model_dump(exclude={"mixup", "mixup_bandwidth"})
    )
    trunk, channels = build_trunk(experiment, n_rows)
    scale = None
    if experiment.task == "emotion":
        scale = TargetScale(card.target_mean, card.target_deviation, card.target_quantiles)
    head = build_head(experiment, trunk.n_features, len(card.outputs))
    network = Network(trunk, head, card.row_mean, card.row_deviation, scale, augmentation, channels)
    network.card = card
    return network.to(memory_format=torch.channels_last)


def build_trunk(experiment: Experiment, n_rows: int) -> tuple[Any, ImageChannels | None]:
    """The trunk that an experiment asks for, and the image channels it reads."""
    model, n_frames = experiment.model, experiment.excerpt.frames
    batch_norm = model.norm == "batch"
    match model.kind:
        case "lstm":
            return Lstm(n_rows, model.lstm_width, model.bidirectional, model.dropout), None
        case "mlp":
            return Mlp(n_rows, n_frames or 1, model.widths, model.activation, batch_norm), None
        case "timm":
            from music_emotion.models.timm_backbone import TimmBackbone  # timm takes seconds to import

            n_channels = len(model.channels)
            trunk = TimmBackbone(model.backbone, n_channels, n_rows, n_frames or 256, model.weights)
            return trunk, ImageChannels(model.channels)
        case "conv":
            fewest = model.smallest_input[1]
            shape = (len(model.channels), n_rows, max(n_frames or 1, fewest))
            settings = model.model_dump(include=set(signature(ConvNet).parameters))
            return ConvNet(*shape, batch_norm=batch_norm, **settings), ImageChannels(model.channels, fewest)


def build_head(experiment: Experiment, n_features: int, n_outputs: int) -> nn.Module:
    """The head that an experiment asks for; for genres, one head gives all classes."""
    model = experiment.model
    match model.head:
        case "linear":
            dropout = model.dropout if model.kind != "lstm" else 0.0  # the LSTM's is between layers
            return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, n_outputs))
        case "mlp":
            n_heads = n_outputs if experiment.task == "emotion" else 1
            return PublicHeads(n_features, n_outputs, n_heads, model.dropout)
        case "dense":
            layers = dense_layers(n_features, model.head_widths, model.activation)
            layers.insert(0 if model.dropout_place == "before" else len(layers), nn.Dropout(model.dropout))
            return nn.Sequential(*layers, nn.Linear([n_features, *model.head_widths][-1], n_outputs))


def save_model(path: Path, network: Network, weights: dict[str, torch.Tensor]) -> None:
    """Write weights, with the card as JSON metadata, to one safetensors file, atomically."""
    card = _CARDS.dump_json(network.card).decode()
    contiguous = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={_METADATA_KEY: card}))


def load_model(path: Path) -> Network:
    """Read a network, ready to predict.

    Raises
    ------
    InputError
        When the file is missing, damaged, not one of ours, or of another network.
    """
    card, weights = _read_model(path)
    # the file holds every weight, so it needs no file that training started from
    model = card.experiment.model.model_copy(update={"weights": None, "trunk": None})
    train = card.experiment.train.model_copy(update={"frozen_epochs": 0})
    experiment = card.experiment.model_copy(update={"model": model, "train": train})
    described = replace(card, experiment=experiment)
    try:
        with torch.device("meta"):  # takes no memory, however large a network is described
            expected = build_network(described).state_dict()
        misfits = [_misfit(name, weights, expected) for name in {**expected, **weights}]
        if any(misfits):
            raise ValueError(first_five(filter(None, misfits)))
        network = build_network(described)
        network.load_state_dict(weights)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        reason = shortened(str(error), 300)
        raise InputError(f"{path} holds weights of another network: {reason}. Train it anew.") from None
    network.card = card
    return network.eval()


def _misfit(name: str, there: dict[str, torch.Tensor], here: dict[str, torch.Tensor]) -> str:
    """How a weight of a file differs in shape from that of a network; empty where it doesn't."""
    theirs, ours = (
        str(tuple(weights[name].shape)) if name in weights else "missing" for weights in (there, here)
    )
    if name not in here:
        return f"{shortened(name)} is only there"
    return "" if theirs == ours else f"{shortened(name)} is {theirs} there, {ours} here"


def read_card(path: Path) -> ModelCard:
    """Read what a model file says of its network, without the weights.

    Raises
    ------
    InputError
        As for `load_model`.
    """
    return _read_model(path, with_weights=False)[0]


def _read_model(path: Path, with_weights: bool = True) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise InputError(f"The model file {path} does not exist. Train it first, or correct the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys() if with_weights else ()
            weights = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({shortened(str(error), 200)}).") from None
    if _METADATA_KEY not in metadata:
        raise InputError(f"{path} has no experiment in its metadata, so it was not written by music-emotion.")
    try:
        return _CARDS.validate_python(json.loads(metadata[_METADATA_KEY])), weights
    except ValidationError as error:
        reason = describe(error, "The description", ModelCard)
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"{shortened(repr(error), 200)}."
    raise InputError(f"{path} describes its network in a way that can't be read. {reason}")


def load_trunk(network: Network, path: Path) -> dict[str, list[str]]:
    """Start a network from the trunk of another model, such as a genre model.

    Parameters
    ----------
    network : Network
        Gets the trunk's weights; its head stays new.
    path : Path
        `model.safetensors` of the other model.

    Returns
    -------
    dict of str to list of str
        Names of the weights ``taken``, ``new`` (here, not there) and ``unused`` (there, not here).

    Raises
    ------
    InputError
        When any weight of the trunk is missing there or has another shape.
    """
    _, weights = _read_model(path)
    own = network.state_dict()
    trunk = [name for name in own if name.startswith("trunk.")]
    there = [name for name in weights if name.startswith("trunk.")]
    misfits = [misfit for name in dict.fromkeys([*trunk, *there]) if (misfit := _misfit(name, weights, own))]
    if misfits:
        raise InputError(
            f"The trunk of {path} does not fit: {len(misfits)} weights differ ({first_five(misfits)}). "
            f"Use the same model section as that run, or no model.trunk."
        )
    network.load_state_dict({**own, **{name: weights[name] for name in trunk}})
    new = [name for name in own if name not in trunk]
    return {"taken": trunk, "new": new, "unused": [name for name in weights if name not in trunk]}
