"""The description of a model that its file holds, without which weights mean nothing. Imports no torch."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError, safe_open

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import STRICT, Experiment
from music_emotion.files import InputError, describe, regular_file, shortened

METADATA_KEY = "music_emotion"
NO_MODEL = "Train it first, or correct the path."


@dataclass(frozen=True, config=STRICT)
class ModelCard:
    """Everything needed to interpret a network's weights.

    Attributes
    ----------
    experiment : Experiment
    outputs : tuple of str
        Targets, or classes in the order of the logits.
    row_mean, row_deviation : tuple of float
        Mean and standard deviation of each row over the frames of the training clips.
    target_mean, target_deviation : tuple of float
        Mean and standard deviation of each target over the training clips; 0 and 1 if targets are not
        standardised.
    target_quantiles : tuple of tuple of float
        Quantiles of each target over the training clips, if targets are learnt as normal scores.
    features : FeatureSettings
        Settings of the feature extraction; meaningful only for networks on arrays.
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


CARDS = TypeAdapter(ModelCard)


@contextmanager
def opened(path: Path, remedy: str, framework: str = "numpy") -> Iterator[Any]:
    """Open a safetensors file, as `safetensors.safe_open`.

    Raises
    ------
    InputError
        When the file is missing or damaged.
    """
    regular_file(path, "The model file", remedy)
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({shortened(str(error), 200)}).") from None


def read_card(path: Path) -> ModelCard:
    """Read the card of a model file, without the weights.

    Raises
    ------
    InputError
        When the file is missing, damaged, or not from music-emotion.
    """
    with opened(path, NO_MODEL) as file:
        metadata = file.metadata() or {}
    return card_in(metadata, path)


def card_in(metadata: Mapping[str, str], path: Path) -> ModelCard:
    """Read the card in the metadata of a file.

    Raises
    ------
    InputError
        When there is none, or it can't be read.
    """
    if METADATA_KEY not in metadata:
        raise InputError(f"{path} has no experiment in its metadata, so it was not written by music-emotion.")
    try:
        return CARDS.validate_python(json.loads(metadata[METADATA_KEY]))
    except ValidationError as error:
        reason = describe(error, "The description", ModelCard)
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"{shortened(repr(error), 200)}."
    raise InputError(f"{path} describes its network in a way that can't be read. {reason}")


def is_model(path: Path) -> bool:
    """Whether a file has the card of a model of this package."""
    if not path.is_file():
        return False
    with opened(path, "") as file:
        return METADATA_KEY in (file.metadata() or {})
