"""Read runs and submissions from their text files. Data, stores and weights are not needed."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from music_emotion.config import Experiment, Task
from music_emotion.evaluation.blend import Recipe, read_recipe
from music_emotion.evaluation.intervals import Resampled, resampled_scores
from music_emotion.evaluation.metrics import table_scores
from music_emotion.evaluation.scores import read_classes, read_run_groups
from music_emotion.files import InputError, checked, read_object, read_predictions, read_truth
from music_emotion.runs import BLEND, RUN, VOTE, read_cost, read_experiment, seconds_of

_RUN_FILES = (RUN, BLEND, VOTE, "scores.json", "diverged.json")
_TOLERANCE = 1e-6  # versions of scipy round differently
_AGAIN = "Run the command that made it again."


class Score(BaseModel):
    """A score in `scores.json`: value, 95 % interval and number of clips.

    For repeated splits, ``value`` is the mean, ``low`` and ``high`` are the smallest and largest score, and
    ``sd`` is the standard deviation.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    sd: float | None = None


class _Repeat(BaseModel):
    n_test: int


class _Fold(BaseModel):
    seed: int
    scores: dict[str, float]


class _PerFold(BaseModel):
    scores: list[_Fold] = []


class ScoreFile(BaseModel):
    """Fields of `scores.json` that reports and comparisons use."""

    pooled: dict[str, Score] = {}
    measures: dict[str, dict[str, Score]] = {}
    per_seed: dict[str, dict[str, float]] = {}
    per_fold: _PerFold = _PerFold()
    repeated: dict[str, dict[str, Score]] = {}
    repeats: list[_Repeat] = []
    classes: list[str] = []
    selected_on_validation: bool = False

    @property
    def task(self) -> Task:
        """Task of the run."""
        return "genre" if self.classes else "emotion"


class Submission(BaseModel):
    """Card (JSON file) of a submission."""

    file: str
    runs: list[str]
    commit: str
    out_of_fold: dict[str, Score]
    leaderboard: float | None = None
    selected_on_validation: bool = False


@dataclass(frozen=True, eq=False)
class Run:
    """A scored run, blend or vote.

    Attributes
    ----------
    name : str
        Folder, relative to the folder of all runs.
    experiment : Experiment or None
        None for blends and votes.
    recipe : Recipe or None
        Only for blends.
    members : list of str
        Directories of the members of a blend or vote.
    file : ScoreFile
        Content of `scores.json`.
    scores : dict of str to Score
        Score per target or measure; for repeated splits, on the test clips.
    predictions, truth : pd.DataFrame
        Out-of-fold predictions and target values; for genres, probabilities and one-hot classes. Both have
        the same clips and columns. Both are empty for runs without out-of-fold scores.
    groups : pd.Series or None
        Group of every clip, if the run's folds kept groups together.
    costs : list of dict
        For each finished fold, its `cost.json` merged into the run's `environment.json`.
    """

    name: str
    experiment: Experiment | None
    recipe: Recipe | None
    members: list[str]
    file: ScoreFile
    scores: dict[str, Score]
    predictions: pd.DataFrame
    truth: pd.DataFrame
    groups: pd.Series | None
    costs: list[dict[str, Any]]

    @property
    def targets(self) -> list[str]:
        """Names of the targets; for genre runs, of the classes."""
        return [str(name) for name in self.truth]

    @cached_property
    def resampled(self) -> Resampled:
        """Out-of-fold scores in bootstrap resamples of the clips, or of their groups."""
        return resampled_scores(self.file.task, self.truth, self.predictions, self.groups)


@dataclass(frozen=True)
class Report:
    """All runs and submissions, and a name and message for each that can't be read."""

    runs: list[Run]
    submissions: list[Submission]
    problems: list[tuple[str, str]]


def read_report(runs: Path, submissions: Path) -> Report:
    """Read all runs and submission cards. Unreadable ones are listed as problems.

    Parameters
    ----------
    runs : Path
        Folder of all runs. It is searched recursively.
    submissions : Path
        Folder of the submission cards; may be missing.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        When the folder of runs does not exist or holds no runs.
    """
    if not runs.is_dir():
        raise InputError(f"The folder of runs {runs} does not exist. Give another --runs.")
    places = sorted({path.parent for name in _RUN_FILES for path in runs.rglob(name)} - {runs})
    if not places:
        raise InputError(f"{runs} holds no runs. Train one first, or give another --runs.")
    report = Report([], [], [])
    for folder, paths in ((runs, places), (submissions, sorted(submissions.glob("*.json")))):
        for path in paths:
            name = path.relative_to(folder).as_posix()
            try:
                if folder is runs:
                    report.runs.append(read_run(path, name))
                else:
                    report.submissions.append(checked(Submission, read_object(path), path, _AGAIN))
            except (InputError, OSError) as error:
                report.problems.append((name, str(error).replace(f"{folder}/", "")))
    return report


def read_run(directory: Path, name: str) -> Run:
    """Read the text files of a run.

    Parameters
    ----------
    directory : Path
    name : str
        Name of the run in the report.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        When the run has no scores yet, a file is damaged, or files contradict each other.
    """
    path = directory / "scores.json"
    folds = sorted(valid.parent for valid in directory.glob("seed*/fold*/valid.csv"))
    if not path.exists() and (diverged := directory / "diverged.json").exists():
        raise InputError(f"Its training diverged. {read_object(diverged).get('problem', '')}")
    if not path.exists():
        found = f"it has no scores.json, and {len(folds)} trained folds"
        raise InputError(f"{name} is not finished: {found}. {_AGAIN}")
    file = checked(ScoreFile, read_object(path), path, _AGAIN)
    scores = file.repeated.get("test", {}) if file.repeated else file.pooled
    if not scores:
        raise InputError(f"{path} holds no scores. {_AGAIN}")
    for single in [*file.per_seed.values(), *(fold.scores for fold in file.per_fold.scores)]:
        if lacking := scores.keys() - single.keys():
            raise InputError(f"{path} holds no '{min(lacking)}' of a single seed or fold. {_AGAIN}")
    recipe = read_recipe(directory) if (directory / BLEND).exists() else None
    vote, machine = (
        read_object(directory / name) if (directory / name).exists() else {}
        for name in (VOTE, "environment.json")
    )
    costs = [(read_cost(fold), fold) for fold in folds]
    predictions, truth = _read_tables(directory, file)
    return Run(
        name=name,
        experiment=read_experiment(directory) if (directory / RUN).exists() else None,
        recipe=recipe,
        members=recipe.members if recipe else checked(list[str], vote.get("members", []), directory / VOTE),
        file=file,
        scores=scores,
        predictions=predictions,
        truth=truth,
        groups=None if truth.empty else read_run_groups(directory / "truth.csv"),
        costs=[machine | (asdict(cost) if cost else {"seconds": seconds_of(fold)}) for cost, fold in costs],
    )


def _read_tables(directory: Path, file: ScoreFile) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read out-of-fold predictions and truth, and check that they match each other and the scores."""
    oof, known = directory / "oof.csv", directory / "truth.csv"
    if file.repeated or (file.classes and not oof.exists()):
        return pd.DataFrame(), pd.DataFrame()
    predictions = read_predictions(oof)
    columns = file.classes or [name for name in file.pooled if name != "mean"]
    truth = read_classes(known, columns) if file.classes else read_truth(known)
    if not truth.index.equals(predictions.index) or not set(truth) == set(predictions) == set(columns):
        raise InputError(f"{oof}, truth.csv and scores.json are not of the same clips and columns. {_AGAIN}")
    predictions, truth = predictions[columns], truth[columns]
    values = table_scores(file.task, truth, predictions)
    if not all(k in file.pooled and abs(file.pooled[k].value - v) <= _TOLERANCE for k, v in values.items()):
        raise InputError(f"{oof} and truth.csv give other scores than scores.json holds. {_AGAIN}")
    return predictions, truth
