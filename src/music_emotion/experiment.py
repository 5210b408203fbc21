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

from music_emotion.errors import InputError, nearest
from music_emotion.files import read_toml
from music_emotion.sections import (
    N_ROWS_OF,
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

TREES = ("boosting", "xgboost", "lightgbm")


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
    _check_keys(differences, Experiment, place, "")
    try:
        experiment = TypeAdapter(Experiment).validate_python(differences)
    except ValidationError as error:
        raise InputError(describe(error, place)) from None
    check_experiment(experiment)
    return experiment


def _check_keys(differences: dict[str, Any], section: Any, place: str, above: str) -> None:
    known = {item.name: item.type for item in fields(section)}
    for key, value in differences.items():
        if key not in known:
            raise InputError(f"{place}: unknown key '{above}{key}'; {nearest(key, known)}")
        if is_dataclass(known[key]) and isinstance(value, dict):
            _check_keys(value, known[key], place, f"{above}{key}.")


def describe(error: ValidationError, place: str) -> str:
    """Say what pydantic refused, as sentences."""
    sentences = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        held = "missing" if item["type"] == "missing" else repr(item["input"])
        what = f"{key} is {held}; " if key else ""  # a rule between fields has no key
        sentence = f"{place}: {what}{_decapitalised(item['msg'].removeprefix('Value error, '))}"
        if item["type"] == "literal_error":
            choices = [word.strip("' ") for word in item["ctx"]["expected"].replace(" or ", ",").split(",")]
            close = difflib.get_close_matches(str(item["input"]), choices, n=1, cutoff=0.3)
            sentence += f"; did you mean '{close[0]}'?" if close else ""
        sentences.append(sentence if sentence.endswith("?") else sentence + ".")
    return " ".join(sentences)


def _decapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def check_experiment(experiment: Experiment) -> None:
    """Refuse settings that exclude each other.

    Raises
    ------
    InputError
        Naming both settings and what to change.
    """
    model, train, loss, pseudo = experiment.model, experiment.train, experiment.loss, experiment.pseudo
    taught = len(pseudo.teachers) > 0
    fixed_length = model.kind == "conv" and model.readout == "flatten"
    masked = experiment.augment.frequency_masks or experiment.augment.time_masks
    pretrained = model.trunk != "none" or model.weights != "none"
    kind = experiment.classical.kind
    genre_kinds, emotion_kinds = ("svm", *TREES), ("gp", "ridge", "svr", *TREES)
    fitting = genre_kinds if experiment.task == "genre" else emotion_kinds
    of_layout = experiment.data.windows == experiment.data.statistics == "none"
    n_rows = N_ROWS_OF[experiment.data.rows]
    rules = [
        (
            fixed_length and experiment.excerpt.frames == 0,
            "model.readout 'flatten' fixes the input length, but excerpt.frames is 0 (whole clips). "
            "Give excerpt.frames, such as 1293, or the readout 'mean-max' or 'attention'.",
        ),
        (
            experiment.task == "emotion" and loss.squared == 0,
            "loss.squared is 0, but the other losses know no scale, so folds could not be pooled in the "
            "targets' units. Give loss.squared a small weight, such as 0.1.",
        ),
        (
            loss.rank_normal and not loss.standardise,
            "loss.rank_normal puts normal scores in place of standardised targets, but loss.standardise is "
            "false. Give loss.standardise true, or loss.rank_normal false.",
        ),
        (
            loss.genre > 0 and (experiment.task != "emotion" or experiment.is_classical or not of_layout),
            "loss.genre gives an emotion network a second head, which learns from the genre set's arrays. "
            "Set it to 0, or give the task 'emotion', and 'none' for classical.kind, data.windows and "
            "data.statistics.",
        ),
        (
            loss.genre > 0 and experiment.excerpt.frames == 0,
            "loss.genre puts excerpts of two sets into one batch, but excerpt.frames is 0 (whole clips). "
            "Give excerpt.frames, such as 256, or loss.genre 0.",
        ),
        (
            train.patience > 0 and train.select == "last",
            "train.patience stops early, but train.select 'last' keeps the last epoch. "
            "Give train.select 'best-score' or 'best-loss', or train.patience 0.",
        ),
        (
            bool(masked) and experiment.data.normalise == "none",
            "augment masks put the mean in place of a band, but data.normalise 'none' knows no mean. "
            "Set augment.frequency_masks and augment.time_masks to 0, or data.normalise to 'band'.",
        ),
        (
            train.frozen_epochs > 0 and not pretrained,
            "train.frozen_epochs freezes a trunk of random weights. Give model.trunk or model.weights.",
        ),
        (
            experiment.is_classical and kind not in fitting,
            f"classical.kind '{kind}' is not for the task '{experiment.task}'. Give {', '.join(fitting)}.",
        ),
        (
            model.kind == "conv"
            and not experiment.is_classical
            and of_layout
            and n_rows < model.smallest_input[0],
            f"the network pools at least {model.smallest_input[0]} rows, but data.rows "
            f"'{experiment.data.rows}' has {n_rows}. Give fewer model.widths, or a smaller "
            f"model.pool_size or model.stem_pool.",
        ),
        (
            model.kind in {"conv", "mlp"} and not model.widths,
            f"model.kind '{model.kind}' has no layers, since model.widths is empty. Give at least one.",
        ),
        (
            kind == "boosting" and experiment.classical.clip_share < 1,
            "classical.kind 'boosting' fits its trees to all clips, but classical.clip_share is below 1. "
            "Give 1, or the kind 'lightgbm' or 'xgboost'.",
        ),
        (
            model.kind == "mlp" and experiment.excerpt.frames == 0,
            "model.kind 'mlp' fixes the input length, but excerpt.frames is 0 (whole clips). Give "
            "excerpt.frames; statistics have 1.",
        ),
        (
            experiment.data.windows == "none" != experiment.data.statistics
            and model.kind != "mlp"
            and not experiment.is_classical,
            f"data.statistics gives one vector for a clip, of which model.kind '{model.kind}' makes nothing. "
            f"Give 'mlp' with excerpt.frames 1, or a classical.kind.",
        ),
        (
            experiment.data.windows != "none" and experiment.task != "genre",
            "data.windows holds labels.npy, which are genres. Give the task 'genre'.",
        ),
        (
            experiment.folds.valid_share + experiment.folds.test_share >= 1,
            "folds.valid_share and folds.test_share leave nothing to train on. Lower them.",
        ),
        (
            train.keep_last and train.select == "last",
            "train.keep_last tests the last epoch beside the best, but train.select 'last' selects none. "
            "Give train.select 'best-score' or 'best-loss'.",
        ),
        (
            train.keep_last and not experiment.has_repeats,
            "train.keep_last compares two epochs on test clips with labels, which folds lack. Give "
            "folds.split 'holdout'.",
        ),
        (
            experiment.is_classical and experiment.data.rate == "beat",
            f"classical.kind '{kind}' sums up full-rate arrays, whose frames are equally long. "
            f"Give data.rate 'full'.",
        ),
        (
            experiment.is_classical and pretrained,
            f"classical.kind '{kind}' has no use for model.trunk and model.weights. Leave them 'none'.",
        ),
        (
            taught and (experiment.task != "emotion" or experiment.has_repeats or not of_layout),
            "pseudo.teachers give targets to the layout's unlabelled arrays, fold by fold. Give the task "
            "'emotion', folds.split 'folds' and no data.statistics or data.windows, or no teachers.",
        ),
        (
            taught and experiment.is_classical,
            f"classical.kind '{kind}' is fitted again wherever it predicts, also without pseudo.teachers. "
            f"Give a network, or no teachers; an estimator can be a teacher.",
        ),
        (
            not pseudo.clips or len(set(pseudo.clips)) < len(pseudo.clips),
            f"pseudo.clips is {list(pseudo.clips)}. Give 'test', 'genre' or both, each once.",
        ),
        (not experiment.seeds, "seeds is empty. Give at least one, such as [0]."),
        (len(set(experiment.seeds)) < len(experiment.seeds), "seeds holds a seed twice."),
        (
            not experiment.name or "/" in experiment.name or experiment.name.startswith("."),
            f"name is {experiment.name!r}; it names a folder, so give letters, digits and dashes.",
        ),
        (
            not model.channels or len(set(model.channels)) < len(model.channels),
            f"model.channels is {model.channels}; give one to three different ones.",
        ),
    ]
    for broken, sentence in rules:
        if broken:
            raise InputError(f"Experiment '{experiment.name}': {sentence}")


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
