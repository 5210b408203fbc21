"""Study files: an experiment, and a grid of settings or a space of settings for Optuna."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from music_emotion import files
from music_emotion.config import Count, Experiment, FolderName, Positive, Section, build_experiment
from music_emotion.experiment_files import dotted, find_experiment, lay_over, read_differences
from music_emotion.files import InputError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Settings = dict[str, Any]  # dotted keys of an experiment
_SHARED = ("data.", "excerpt.", "model.")  # sections that a row shares with the pretraining of its trunk
_DIGITS = 4  # significant digits of proposed numbers, so that row names are exact


class Search(Section):
    """The trials of a search and the space of their settings.

    Attributes
    ----------
    trials : int
        Number of trials, over all processes and starts together.
    space : dict
        Dotted key to a list of values, or to a range: `low`, `high` and optionally `log`, as in Optuna.
    seed : int
        Seed of Optuna's sampler. A trial depends on it, on the trial's number and on earlier results.
    """

    trials: Positive
    space: Annotated[dict[str, list[Any] | dict[str, Any]], Field(min_length=1)]
    seed: Count = 0


class StudyFile(Section):
    """The content of a study file.

    Attributes
    ----------
    name : str
        Name of the study's folder, ``runs/<name>``.
    base : str
        The experiment to vary: a built-in name, or a file relative to the study file.
    grid : list of dict or None
        Tables of dotted keys and lists of values. Each table gives all combinations of its values.
    search : Search or None
        The space for Optuna, in place of a grid.
    fixed : dict
        Dotted keys that are set in all rows.
    pretrain : str or None
        A genre experiment that each row starts from: a built-in name, or a file relative to the study
        file. It is trained with the row's `data`, `excerpt` and `model` settings. Rows that agree in
        these share one pretraining.
    """

    name: FolderName
    base: str
    grid: list[dict[str, list[Any]]] | None = None
    search: Search | None = None
    fixed: Settings = Field(default_factory=dict)
    pretrain: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.grid is None) == (self.search is None):
            has = "neither" if self.grid is None else "both"
            raise ValueError(f"a study has either [[grid]] or [search], but this has {has}.")
        return self


@dataclass(frozen=True)
class Row:
    """A row of the table, or the pretraining that rows start from.

    Attributes
    ----------
    place : Path
        ``runs/<study>/<name>``.
    settings : dict
        Settings that distinguish the row, by dotted key.
    experiment : Experiment
    trunk : Row or None
        The pretraining that the row starts from.
    is_trunk : bool
        Whether this is a pretraining.
    """

    place: Path
    settings: Settings
    experiment: Experiment
    trunk: "Row | None" = None
    is_trunk: bool = False

    @property
    def name(self) -> str:
        """Name of its directory."""
        return self.place.name


@dataclass
class Study:
    """A validated study.

    Attributes
    ----------
    file : StudyFile
    path : Path
        Path of the study file.
    folder : Path
        ``runs/<study>``.
    differences : dict
        The experiment to vary, as differences from the defaults, nested like `Experiment`.
    pretrain : dict or None
        The genre experiment of the pretraining, in the same form.
    rows : dict of str to Row
        All rows of a grid, or the rows that a search has proposed so far, by name.
    distributions : dict
        For a search: dotted key to Optuna's distribution. Choices are the strings from `word`.
    """

    file: StudyFile
    path: Path
    folder: Path
    differences: dict[str, Any]
    pretrain: dict[str, Any] | None
    rows: dict[str, Row] = field(default_factory=dict)
    distributions: dict[str, "BaseDistribution"] = field(default_factory=dict)

    def row(self, settings: Settings) -> Row:
        """Build the row with these settings.

        Raises
        ------
        InputError
            When a setting is wrong, or is also fixed for all rows.
        """
        if twice := sorted(settings.keys() & self.file.fixed.keys()):
            raise InputError(f"{self.path}: {twice[0]} is varied, and also set for all rows. Leave one out.")
        name = "-".join(word(key, value) for key, value in settings.items())
        place, every, trunk = f"{self.path} ({name})", self.file.fixed | settings, None
        if self.pretrain is not None:
            shared = {key: value for key, value in every.items() if key.startswith(_SHARED)}
            words = [word(key, value) for key, value in settings.items() if key in shared]
            genres = "-".join([*words, "genres"])
            pretraining = _build(self.pretrain, shared | {"name": genres}, place)
            trunk = Row(self.folder / genres, {}, pretraining, is_trunk=True)
            fold = trunk.place / f"seed{pretraining.seeds[0]}" / "fold0"
            every = every | {"model.trunk": str(fold / "model.safetensors")}
        experiment = _build(self.differences, every | {"name": name}, place)
        return Row(self.folder / name, settings, experiment, trunk)

    def proposed(self, params: Settings) -> Row:
        """Convert Optuna's parameters to a row, with numbers rounded to four significant digits."""
        settings = dict(params)
        for key, axis in self.file.search.space.items() if self.file.search else ():
            if isinstance(axis, list):
                settings[key] = next(value for value in axis if word(key, value) == params[key])
            elif isinstance(params[key], float):
                rounded = float(f"{params[key]:.{_DIGITS}g}")
                settings[key] = float(np.clip(rounded, axis["low"], axis["high"]))
        row = self.row(settings)
        return self.rows.setdefault(row.name, row)


def word(key: str, value: Any) -> str:
    """Format a setting for a row's name."""
    if isinstance(value, list):
        return "x".join(word(key, each) for each in value)
    if isinstance(value, bool):
        return ("" if value else "not-") + key.rpartition(".")[2].replace("_", "-")
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _build(differences: dict[str, Any], settings: Settings, place: str) -> Experiment:
    """Build an experiment from differences from the defaults, overridden by dotted settings."""
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        differences = lay_over(differences, {section: {key: value}} if section else {key: value})
    return build_experiment(differences, place)


def read_study(path: Path, flags: Settings | None = None, runs: Path = Path("runs")) -> Study:
    """Read a study file, and check its settings by building experiments.

    Parameters
    ----------
    path : Path
        The file, or the name of a built-in study.
    flags : dict, optional
        Settings of all rows by dotted key, such as ``data.root``; they override the file's.
    runs : Path, optional
        Folder of all runs.

    Raises
    ------
    InputError
        When the file is not a study, one of its settings is wrong, or Optuna is missing for a search.
    """
    path = find_experiment(path)
    file = files.checked(StudyFile, files.read_toml(path), path)
    file = file.model_copy(update={"fixed": file.fixed | (flags or {})})
    differences = read_differences(find_experiment(file.base, path.parent))
    pretrain = read_differences(find_experiment(file.pretrain, path.parent)) if file.pretrain else None
    study = Study(file, path, runs / file.name, differences, pretrain)
    if file.search is None:
        _add_rows(study)
    else:
        _add_distributions(study, file.search.space)
    return study


def _add_rows(study: Study) -> None:
    """Build all combinations of each table of the grid."""
    trunks: dict[str, Row] = {}
    for table in study.file.grid or []:
        for values in itertools.product(*table.values()):
            row = study.row(dict(zip(table, values, strict=True)))
            if study.rows.setdefault(row.name, row) is not row:
                raise InputError(f"{study.path}: the grid gives the row {row.name} twice. Leave one out.")
            if row.trunk is not None and trunks.setdefault(row.trunk.name, row.trunk) != row.trunk:
                raise InputError(
                    f"{study.path}: two rows would start from different trunks of the one name "
                    f"{row.trunk.name}. Give the tables of the grid studies of their own."
                )
    if not study.rows:
        raise InputError(f"{study.path}: the grid gives no rows. Add a [[grid]] table of lists.")


def _add_distributions(study: Study, space: dict[str, Any]) -> None:
    """Make Optuna's distributions, and check each pair of settings by building experiments.

    Choices are all checked, ranges at both ends. Conflicts of three or more settings are rare, and all
    combinations would be too many.
    """
    try:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except ImportError as error:
        remedy = "Install it: pip install 'music-emotion[study]'."
        raise InputError(f"A search needs Optuna, which can't be imported ({error}). {remedy}") from None
    ends = {}
    for key, axis in space.items():
        try:
            if isinstance(axis, list):
                words, ends[key] = [word(key, value) for value in axis], axis
                study.distributions[key] = CategoricalDistribution(words)
                if len(set(words)) < len(words):
                    raise ValueError(f"it holds one of {files.first_five(words)} twice")
            else:
                study.distributions[key], ends[key] = FloatDistribution(**axis), [axis["low"], axis["high"]]
        except (TypeError, ValueError) as error:
            raise InputError(f"{study.path}: search.space {key} can't be searched: {error}.") from None
    first = {key: values[0] for key, values in ends.items()}
    for one, other in itertools.combinations_with_replacement(ends, 2):
        for values in itertools.product(ends[one], ends[other]):
            row = study.row(first | dict(zip((one, other), values, strict=True)))
    for key, axis in space.items():
        held = dotted(row.experiment.model_dump())[key]
        if isinstance(axis, dict) and isinstance(held, int):
            ends_of = {"low": int(axis["low"]), "high": int(axis["high"])}
            study.distributions[key] = IntDistribution(**(axis | ends_of))
