"""A study: one experiment in many settings, each of them a run, and a table of what they reach."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from accelerate import Accelerator
from filelock import FileLock
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from music_emotion.config import STRICT, names_folder
from music_emotion.experiment_files import find_experiment, read_differences
from music_emotion.files import InputError, describe, first_five, read_toml, shortened, write_table
from music_emotion.studies.search import run_search
from music_emotion.studies.search_space import Search, Space, check_space
from music_emotion.studies.shared_rows import Claim, claim_row, claimed_rows, run_row
from music_emotion.studies.study_row import (
    Row,
    Settings,
    Varied,
    is_finished,
    problem_of,
    row_line,
    table_of,
)


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
        A genre experiment that is trained before each row with the row's `data`, `excerpt` and `model`
        settings, and whose trunk the row starts from.
        Rows with the same of these settings share it.
    """

    name: str
    base: str
    grid: list[dict[str, list[Any]]] | None = None
    search: Search | None = None
    fixed: dict[str, Any] = field(default_factory=dict)
    pretrain: str | None = None


@dataclass(frozen=True)
class Study:
    """A study whose experiments are all built.

    Attributes
    ----------
    name : str
        Names ``runs/<name>``.
    varied : Varied
        Makes its rows.
    rows : list of Row
        Of the grid; empty for a search.
    search : Search or None
    space : Space or None
        What the search chooses from.
    """

    name: str
    varied: Varied
    rows: list[Row]
    search: Search | None = None
    space: Space | None = None


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
        When the file is not a study, or one of its settings is wrong: before anything is trained.
    """
    path = find_experiment(path)
    fields = read_toml(path, "study", "experiments/studies/")
    try:
        file = TypeAdapter(StudyFile).validate_python(fields)
    except ValidationError as error:
        raise InputError(describe(error, str(path))) from None
    if not names_folder(file.name):
        raise InputError(f"{path}: name is {shortened(file.name)!r}; it names a folder, so give letters.")
    if (file.grid is None) == (file.search is None):
        has = "neither" if file.grid is None else "both"
        raise InputError(f"{path}: a study has either [[grid]] or [search], but this has {has}.")
    differences = read_differences(find_experiment(file.base, path.parent))
    pretrain = (
        None if file.pretrain is None else read_differences(find_experiment(file.pretrain, path.parent))
    )
    varied = Varied(str(path), differences, file.fixed | (flags or {}), pretrain)
    if file.search is not None:
        space = check_space(file.search, varied.row, str(path))
        return Study(file.name, varied, [], file.search, space)
    return Study(file.name, varied, _grid_rows(file.grid or [], varied))


def _grid_rows(grid: list[dict[str, list[Any]]], varied: Varied) -> list[Row]:
    rows = [varied.row(settings) for settings in _combinations(grid)]
    names = [row.name for row in rows]
    trunks = {row.pretrain.name: row.pretrain for row in rows if row.pretrain is not None}
    if not rows or len(set(names)) < len(names):
        repeated = first_five(sorted({name for name in names if names.count(name) > 1})) or "none"
        raise InputError(f"{varied.place}: the grid gives {len(rows)} rows, of which twice: {repeated}.")
    for row in rows:
        if row.pretrain is not None and row.pretrain != trunks[row.pretrain.name]:
            raise InputError(
                f"{varied.place}: two rows would start from different trunks of the one name "
                f"{row.pretrain.name}. Give the tables of the grid studies of their own."
            )
    return rows


def _combinations(grid: list[dict[str, list[Any]]]) -> Iterator[Settings]:
    for table in grid:
        for values in itertools.product(*table.values()):
            yield dict(zip(table, values, strict=True))


def run_study(study: Study, runs: Path, accelerator: Accelerator) -> pd.DataFrame:
    """Train every row that is not finished, score all, and write ``runs/<study>/table.csv`` after each.

    Processes that are started with the same study and folder share its rows, on other machines, too.

    Parameters
    ----------
    study : Study
    runs : Path
        Folder of all runs.
    accelerator : Accelerator
        Device, processes, precision.

    Returns
    -------
    pd.DataFrame
        One row per setting, in the order of the file, or the best of a search first: its name and
        settings, the score (mean Spearman correlation of the targets, or macro F1 of genres) with its
        95 % interval (of repeated holdouts the smallest and largest), every other score, the deviation
        over repeats where there are several, and minutes of training. A row whose training diverged
        has no score, but a `problem`, and is not trained again before its directory is deleted. Empty
        in all processes but the main one.

    Raises
    ------
    InputError
        When a row was trained with other settings or clips, or can't be.
    """
    folder = runs / study.name
    if study.search is not None and study.space is not None:
        return run_search(folder, study.varied, study.search, study.space, accelerator)
    grid = _Grid(study.rows, folder)
    for row in claimed_rows(grid.take, grid.finish, accelerator):
        run_row(row, folder, accelerator)
    return grid.write_table() if accelerator.is_main_process else pd.DataFrame()


class _Grid:
    """The rows of a grid that this process has yet to see finished, and the table of all that are."""

    def __init__(self, rows: list[Row], folder: Path):
        self.rows, self.folder = rows, folder
        self.waiting = list(rows)
        self.lines: dict[str, dict[str, Any]] = {}  # by the name of the row

    def take(self) -> Claim | Literal["wait", "done"]:
        for row in self.waiting:
            if claim := claim_row(row, self.folder):
                return claim
        return "wait" if self.waiting else "done"

    def finish(self, row: Row) -> None:
        self.waiting.remove(row)
        self.write_table()
        line = self.lines[row.name]
        reached = f"{line['score']:.3f} [{line['low']:.3f}, {line['high']:.3f}]"
        print(f"{row.name}: {problem_of(row, self.folder) or reached}", flush=True)

    def write_table(self) -> pd.DataFrame:
        """Write the line of every row that any process has finished; gives the table."""
        with FileLock(self.folder / "table.lock"):
            for row in self.rows:
                if row.name not in self.lines and is_finished(row, self.folder):
                    self.lines[row.name] = row_line(row, self.folder)
            table = table_of([self.lines[row.name] for row in self.rows if row.name in self.lines])
            write_table(self.folder / "table.csv", table)
        return table
