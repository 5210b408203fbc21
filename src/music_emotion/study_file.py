"""Study files: one experiment in all settings of a grid, or in a space that Optuna searches."""

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as checked

from music_emotion import config, files
from music_emotion.config import STRICT, Count, Experiment, Positive
from music_emotion.experiment_files import find_experiment, read_differences
from music_emotion.files import InputError, first_five

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Settings = dict[str, Any]  # dotted keys of an experiment
_SHARED = ("data.", "excerpt.", "model.")  # what a row and the pretraining of its trunk have in common
_DIGITS = 4  # of a proposed number, so that a row's name says it exactly


@checked(frozen=True, config=STRICT)
class Search:
    """What a search tries.

    Attributes
    ----------
    trials : int
        How many settings, over all processes and starts together.
    space : dict
        Dotted key to a list of values, or to a range: `low`, `high` and perhaps `log`, as Optuna takes them.
    seed : int
        A trial depends on it, on its number and on the results before it.
    """

    trials: Positive
    space: Annotated[dict[str, list[Any] | dict[str, Any]], Field(min_length=1)]
    seed: Count = 0


@checked(frozen=True, config=STRICT)
class StudyFile:
    """What a study file holds.

    Attributes
    ----------
    name : str
        Names ``runs/<name>``.
    base : str
        The experiment that is varied: its name, or its file relative to the study's.
    grid : list of dict or None
        Dotted key to the values it takes; each table of the list gives all their combinations.
    search : Search or None
        In place of a grid, what Optuna searches.
    fixed : dict
        Dotted keys that all rows set.
    pretrain : str or None
        A genre experiment, by name or by its file relative to the study's. It is trained with the row's
        `data`, `excerpt` and `model` settings, and the row starts from its trunk. Rows with the same
        settings share it.
    """

    name: str
    base: str
    grid: list[dict[str, list[Any]]] | None = None
    search: Search | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    pretrain: str | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table, or the pretraining of a trunk that lines start from.

    Attributes
    ----------
    name : str
        Names ``runs/<study>/<name>``.
    settings : dict
        Dotted keys and values in which it differs.
    experiment : Experiment
    trunk : Row or None
        What is trained before it.
    is_trunk : bool
        Whether it is the pretraining of a trunk.
    """

    name: str
    settings: Settings
    experiment: Experiment
    trunk: "Row | None" = None
    is_trunk: bool = False


@dataclass
class Study:
    """A study whose settings are checked.

    Attributes
    ----------
    file : StudyFile
    place : str
        Where it is, for messages.
    differences : dict
        Of the experiment that is varied, nested like `Experiment`.
    pretrain : dict or None
        Differences of the genre experiment that trains each row's trunk.
    rows : dict of str to Row
        Of a grid all rows, of a search those that were proposed.
    distributions : dict
        Of a search: dotted key to what Optuna chooses from; of choices, their words in a row's name.
    """

    file: StudyFile
    place: str
    differences: dict[str, Any]
    pretrain: dict[str, Any] | None
    rows: dict[str, Row] = field(default_factory=dict)
    distributions: dict[str, "BaseDistribution"] = field(default_factory=dict)

    def row(self, settings: Settings) -> Row:
        """The row with these settings.

        Raises
        ------
        InputError
            When one of them is wrong, or also set in all rows.
        """
        if twice := sorted(settings.keys() & self.file.fixed.keys()):
            raise InputError(f"{self.place}: {twice[0]} is varied, and also set for all rows. Leave one out.")
        name = "-".join(word(key, value) for key, value in settings.items())
        place, every, trunk = f"{self.place} ({name})", self.file.fixed | settings, None
        if self.pretrain is not None:
            shared = {key: value for key, value in every.items() if key.startswith(_SHARED)}
            words = [word(key, value) for key, value in settings.items() if key in shared]
            genres = "-".join([*words, "genres"])
            every = every | {"model.trunk": "of the row's pretraining"}  # known where the runs are
            trunk = Row(genres, {}, _built(self.pretrain, shared | {"name": genres}, place), is_trunk=True)
        return Row(name, settings, _built(self.differences, every | {"name": name}, place), trunk)

    def proposed(self, params: Settings) -> Row:
        """The row that Optuna proposes; numbers are rounded to four digits."""
        settings: Settings = {}
        for key, axis in self.file.search.space.items() if self.file.search else ():
            settings[key] = param = params[key]
            if isinstance(axis, list):
                settings[key] = next(value for value in axis if word(key, value) == param)
            elif isinstance(param, float):
                settings[key] = float(np.clip(float(f"{param:.{_DIGITS}g}"), axis["low"], axis["high"]))
        row = self.row(settings)
        return self.rows.setdefault(row.name, row)


def word(key: str, value: Any) -> str:
    """A setting as a part of a name."""
    if isinstance(value, list):
        return "x".join(word(key, each) for each in value)
    if isinstance(value, bool):
        return ("" if value else "not-") + key.rpartition(".")[2].replace("_", "-")
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _built(differences: dict[str, Any], settings: Settings, place: str) -> Experiment:
    """The experiment with these differences from the defaults, and with dotted settings laid over them."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in differences.items()}
    for dotted, value in settings.items():
        section, _, key = dotted.rpartition(".")
        (result.setdefault(section, {}) if section else result)[key] = value
    return config.build_experiment(result, place)


def read_study(path: Path, flags: Settings | None = None) -> Study:
    """Read a study file, and build every experiment of its grid, or those at the ends of its search.

    Parameters
    ----------
    path : Path
    flags : dict, optional
        Dotted keys that are set in all rows, such as ``data.root``, whatever the file says.

    Raises
    ------
    InputError
        When Optuna is missing, the file is not a study, or one of its settings is wrong.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"A study needs Optuna, which can't be imported ({error}). Install it: "
            f"pip install 'music-emotion[study]'."
        ) from None
    path = find_experiment(path)
    file = files.checked(StudyFile, files.read_toml(path, "study", "experiments/studies/"), path)
    if not config.names_folder(file.name):
        name = files.shortened(file.name)
        raise InputError(f"{path}: name is {name!r}; it names a folder, so give letters.")
    if (file.grid is None) == (file.search is None):
        has = "neither" if file.grid is None else "both"
        raise InputError(f"{path}: a study has either [[grid]] or [search], but this has {has}.")
    file = replace(file, fixed=file.fixed | (flags or {}))
    differences, pretrain = (
        None if name is None else read_differences(find_experiment(name, path.parent))
        for name in (file.base, file.pretrain)
    )
    study = Study(file, str(path), differences or {}, pretrain)
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
                raise InputError(f"{study.place}: the grid gives the row {row.name} twice. Leave one out.")
            if row.trunk is not None and trunks.setdefault(row.trunk.name, row.trunk) != row.trunk:
                raise InputError(
                    f"{study.place}: two rows would start from different trunks of the one name "
                    f"{row.trunk.name}. Give the tables of the grid studies of their own."
                )
    if not study.rows:
        raise InputError(f"{study.place}: the grid gives no rows. Add a [[grid]] table of lists.")


def _add_distributions(study: Study, space: dict[str, Any]) -> None:
    """Build experiments with all choices and the ends of all ranges, each pair of settings together.

    More than two settings seldom exclude each other, and all combinations would be too many.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    ends = {}
    for key, axis in space.items():
        try:
            if isinstance(axis, list):
                words, ends[key] = [word(key, value) for value in axis], axis
                study.distributions[key] = CategoricalDistribution(words)
                if len(set(words)) < len(words):
                    raise ValueError(f"it holds one of {first_five(words)} twice")
            else:
                study.distributions[key], ends[key] = FloatDistribution(**axis), [axis["low"], axis["high"]]
        except (TypeError, ValueError) as error:
            raise InputError(f"{study.place}: search.space {key} can't be searched: {error}.") from None
    first = {key: values[0] for key, values in ends.items()}
    for one, other in itertools.combinations_with_replacement(ends, 2):
        for values in itertools.product(ends[one], ends[other]):
            row = study.row(first | dict(zip((one, other), values, strict=True)))
    for key, axis in space.items():
        section, _, name = key.rpartition(".")
        held = getattr(getattr(row.experiment, section) if section else row.experiment, name)
        if isinstance(axis, dict) and isinstance(held, int):
            study.distributions[key] = IntDistribution(
                int(axis["low"]), int(axis["high"]), axis.get("log", False)
            )
