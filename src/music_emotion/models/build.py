"""The whole network of an experiment: standardise, vary, trunk, head; saved as one file."""

import json
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import ValidationError
from pydantic.dataclasses import dataclass as checked
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from music_emotion.audio.features import FeatureSettings
from music_emotion.config import (
    N_MELS,
    STRICT,
    DataSection,
    Experiment,
    ModelSection,
    build_experiment,
    experiment_to_dict,
)
from music_emotion.files import InputError, atomic_path, describe, first_five, shortened
from music_emotion.models.augment import SpectrogramAugmentation
from music_emotion.models.conv import ConvNet
from music_emotion.models.heads import build_head
from music_emotion.models.lstm import Lstm
from music_emotion.models.mlp import Mlp
from music_emotion.models.target_scale import TargetScale

if TYPE_CHECKING:
    from music_emotion.models.pretrained import TimmBackbone

_METADATA_KEY = "music_emotion"


@checked(frozen=True, config=STRICT)
class ModelCard:
    """All that a network's weights mean nothing without.

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


class Network(nn.Module):
    """Frames as the store has them to standardised targets, their normal scores, or class logits.

    Parameters
    ----------
    card : ModelCard
        Describes it whole.
    """

    row_mean: torch.Tensor
    row_deviation: torch.Tensor

    def __init__(self, card: ModelCard):
        super().__init__()
        self.card = card
        experiment, model = card.experiment, card.experiment.model
        n_rows = len(card.row_mean)
        for name in ("row_mean", "row_deviation"):  # kept in the card, so not in the weights
            values = torch.tensor(getattr(card, name), dtype=torch.float32)[:, None]
            self.register_buffer(name, values, persistent=False)
        self.target_scale = TargetScale(card.target_mean, card.target_deviation, card.target_quantiles)
        self.augmentation = SpectrogramAugmentation(experiment.augment, _n_mels(experiment.data, n_rows))
        self.trunk = _build_trunk(model, n_rows, experiment.excerpt.frames)
        self.head = build_head(model, experiment.task, self.trunk.n_features, len(card.outputs))

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
        model = self.card.experiment.model
        standard = self.augmentation((frames - self.row_mean) / self.row_deviation)
        if model.kind in ("lstm", "mlp"):
            return self.trunk(standard, lengths)
        images = _channels(standard, model)
        return self.trunk(images.contiguous(memory_format=torch.channels_last), lengths)

    def predict(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Targets in their own units, or class probabilities [shape=(n, n_outputs)]."""
        outputs = self(frames, lengths).float()
        if self.card.experiment.task == "genre":
            return outputs.softmax(dim=1)
        return self.target_scale.targets_of(outputs)


def _n_mels(data: DataSection, n_rows: int) -> int:
    """How many of a network's rows are mel bands: none of windows', statistics' or chroma's."""
    return min(n_rows, N_MELS) if data.of_layout and data.rows != "chroma" else 0


def build_network(card: ModelCard) -> Network:
    """A network with random weights, in the memory format its experiment asks for."""
    return Network(card).to(memory_format=torch.channels_last)


def _build_trunk(
    model: ModelSection, n_rows: int, n_frames: int | None
) -> "ConvNet | Lstm | Mlp | TimmBackbone":
    match model.kind:
        case "conv":
            return ConvNet(model, n_rows, n_frames or 1)
        case "lstm":
            return Lstm(model, n_rows)
        case "mlp":
            return Mlp(model, n_rows, n_frames or 1)
        case "timm":
            from music_emotion.models.pretrained import TimmBackbone  # timm takes seconds to import

            return TimmBackbone(model, n_rows, n_frames or 256)


def _channels(frames: torch.Tensor, model: ModelSection) -> torch.Tensor:
    """Standardised frames to images [shape=(n, n_channels, n_rows, n_frames)]."""
    if model.kind == "conv":
        fewest = model.smallest_input[1]
        if frames.shape[2] < fewest:  # shorter than the pooling: the mean, which is 0 here
            frames = nn.functional.pad(frames, (0, fewest - frames.shape[2]))
    images = {"spectrogram": frames}
    if "frequency" in model.channels:
        rows = torch.linspace(-1, 1, frames.shape[1], device=frames.device, dtype=frames.dtype)
        images["frequency"] = rows[:, None].expand_as(frames)
    if "delta" in model.channels:
        images["delta"] = torch.diff(frames, dim=2, prepend=frames[:, :, :1])
    return torch.stack([images[name] for name in model.channels], dim=1)


def save_model(path: Path, network: Network, weights: dict[str, torch.Tensor]) -> None:
    """Write weights, with the card as JSON metadata, to one safetensors file, atomically."""
    card = dict(
        vars(network.card),
        experiment=experiment_to_dict(network.card.experiment),
        features=asdict(network.card.features),
    )
    contiguous = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata={_METADATA_KEY: json.dumps(card)}))


def load_model(path: Path) -> Network:
    """Read a network, ready to predict.

    Raises
    ------
    InputError
        When the file is missing, damaged, not one of ours, or of another network.
    """
    card, weights = _read_model(path)
    # The file holds every weight, so the files this network once started from aren't needed.
    whole = card.experiment.model.model_copy(update={"weights": None, "trunk": None})
    train = card.experiment.train.model_copy(update={"frozen_epochs": 0})
    whole_experiment = card.experiment.model_copy(update={"model": whole, "train": train})
    described = replace(card, experiment=whole_experiment)
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
    theirs, ours = (_shape(weights.get(name)) for weights in (there, here))
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
        fields: dict[str, Any] = json.loads(metadata[_METADATA_KEY])
        experiment = build_experiment(fields.pop("experiment"), str(path))
        features = FeatureSettings(**fields.pop("features", {}))  # models of earlier versions lack them
        card = ModelCard(experiment=experiment, features=features, **fields)
    except InputError:
        raise
    except ValidationError as error:
        reason = describe(error, "The description")
        raise InputError(f"{path} describes its network in a way that can't be read. {reason}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} describes its network in a way that can't be read ({shortened(repr(error), 200)})."
        ) from None
    return card, weights


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


def _shape(tensor: torch.Tensor | None) -> str:
    return "missing" if tensor is None else str(tuple(tensor.shape))
