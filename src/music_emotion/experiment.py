"""The description of one run: frozen, validated, read from a file of differences, and saved.

The defaults are the best known system. An experiment file (`experiments/<name>.toml`) holds only
what it does differently.
"""

import difflib
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from music_emotion.errors import InputError, nearest, shortened
from music_emotion.files import read_toml
from music_emotion.rules import check_experiment
from music_emotion.sections import (
    STRICT,
    AugmentSection,
    ClassicalSection,
    Count,
    DataSection,
    ExcerptSection,
    FoldSection,
    LossSection,
    ModelSection,
    OptimSection,
    PseudoSection,
    Task,
    TrainSection,
)

_MOST_NAMED = 10


@dataclass(frozen=True, config=STRICT)
class Experiment:
    """Everything that describes a run, and nothing about the machine it runs on.

    Attributes
    ----------
    name : str
        Names `runs/<name>`.
    task : {"emotion", "genre"}
        Regress targets or classify genres.
    seeds : tuple of int
        The folds are repeated for every seed.
    """

    name: str = "multitask"
    task: Task = "emotion"
    seeds: tuple[Count, ...] = (0,)
    data: DataSection = field(default_factory=DataSection)
    excerpt: ExcerptSection = field(default_factory=ExcerptSection)
    folds: FoldSection = field(default_factory=FoldSection)
    model: ModelSection = field(default_factory=ModelSection)
    classical: ClassicalSection = field(default_factory=ClassicalSection)
    augment: AugmentSection = field(default_factory=AugmentSection)
    loss: LossSection = field(default_factory=LossSection)
    optim: OptimSection = field(default_factory=OptimSection)
    train: TrainSection = field(default_factory=TrainSection)
    pseudo: PseudoSection = field(default_factory=PseudoSection)

    @property
    def is_classical(self) -> bool:
        """Whether an estimator on clip statistics takes the network's place."""
        return self.classical.kind != "none"

    @property
    def has_repeats(self) -> bool:
        """Whether every seed trains, validates and tests once, in place of folds."""
        return self.folds.split == "holdout" or self.data.windows != "none"

    @property
    def selects_on_validation(self) -> bool:
        """Whether the clips that are scored have chosen the network's epoch."""
        return self.train.select != "last" and not self.is_classical


def read_differences(path: Path) -> dict[str, Any]:
    """Read an experiment file: what it does differently from the defaults.

    Raises
    ------
    InputError
        Naming the file, the key or value, and the nearest right word.
    """
    differences = read_toml(path, "experiment file", "experiments/")
    build_experiment(differences, str(path))
    return differences


def build_experiment(differences: dict[str, Any], place: str) -> Experiment:
    """Lay differences over the defaults.

    Parameters
    ----------
    differences : dict
        Nested like `Experiment`.
    place : str
        Where they come from, for messages.

    Raises
    ------
    InputError
        For an unknown key, a value of the wrong kind, or settings that exclude each other.
    """
    if not isinstance(differences, dict):
        raise InputError(f"{place} holds no experiment, but {shortened(repr(differences))}.")
    _check_keys(differences, Experiment, place, "")
    try:
        experiment = TypeAdapter(Experiment).validate_python(differences)
    except ValidationError as error:
        raise InputError(describe(error, place)) from None
    check_experiment(experiment, place)
    return experiment


def _check_keys(differences: dict[str, Any], section: Any, place: str, above: str) -> None:
    known = {item.name: item.type for item in fields(section)}
    for key, value in differences.items():
        if key not in known:
            raise InputError(f"{place}: unknown key '{above}{shortened(key)}'; {nearest(key, known)}")
        if is_dataclass(known[key]) and isinstance(value, dict):
            _check_keys(value, known[key], place, f"{above}{key}.")


def describe(error: ValidationError, place: str) -> str:
    """Say what pydantic refused, as sentences."""
    sentences = []
    for item in error.errors()[:_MOST_NAMED]:
        key = shortened(".".join(str(part) for part in item["loc"]))
        held = "missing" if item["type"] == "missing" else _repr(item["input"])
        what = f"{key} is {held}; " if key else ""  # a rule between fields has no key
        sentence = f"{place}: {what}{_decapitalised(item['msg'].removeprefix('Value error, '))}"
        if item["type"] == "literal_error":
            choices = [word.strip("' ") for word in item["ctx"]["expected"].replace(" or ", ",").split(",")]
            close = difflib.get_close_matches(held, choices, n=1, cutoff=0.3)
            sentence += f"; did you mean '{close[0]}'?" if close else ""
        sentences.append(sentence if sentence.endswith("?") else sentence + ".")
    if error.error_count() > _MOST_NAMED:
        sentences.append(f"There are {error.error_count() - _MOST_NAMED} more.")
    return " ".join(sentences)


def _repr(value: Any) -> str:
    try:
        return shortened(repr(value), 200)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a huge number"


def _decapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def experiment_to_dict(experiment: Experiment) -> dict[str, Any]:
    """The resolved experiment as plain values, as `experiment.json` holds it."""
    return TypeAdapter(Experiment).dump_python(experiment, mode="json")


def differing_keys(one: dict[str, Any], other: dict[str, Any], above: str = "") -> list[str]:
    """Dotted keys in which two resolved experiments differ."""
    keys: list[str] = []
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key), other.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            keys += differing_keys(left, right, f"{above}{key}.")
        elif left != right:
            keys.append(f"{above}{key}")
    return keys
