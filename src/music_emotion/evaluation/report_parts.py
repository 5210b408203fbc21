"""What a report is made of: runs, submissions, and what could not be read."""

import re
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from pydantic import ConfigDict
from pydantic import dataclasses as checked

from music_emotion.config import Experiment
from music_emotion.evaluation.blend import Recipe
from music_emotion.evaluation.report_costs import RunCost


@checked.dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class Score:
    """A score as `scores.json` holds it.

    Attributes
    ----------
    value : float
    low, high : float or None
        Ends of its 95 % interval; of repeats the smallest and the largest.
    n : int or None
        Number of clips.
    sd : float or None
        Over repeats.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    sd: float | None = None


Scores = dict[str, Score]


@dataclass(frozen=True, eq=False)
class Run:
    """A run that has been scored.

    Attributes
    ----------
    name : str
        Its folder, below that of all runs.
    experiment : Experiment or None
        None of blends and votes.
    n_settings : int
        How many settings its `experiment.json` tells; those of later versions are not among them.
    scores : dict of str to Score
        Per target or measure; of repeats over their test clips.
    last_scores : dict of str to Score
        Of repeats that test their last epoch too.
    single : dict
        Scores of single seeds and folds, for `spread_of`.
    folds, seeds : int
        How many were scored; `folds` of each seed.
    n_test : tuple of int
        Of repeats, the different numbers of test clips.
    selected : bool
        Whether the scored clips chose the epoch.
    classes : tuple of str
        Of genre runs that are no repeats.
    out_of_fold : bool
        Whether the training clips were scored, and not a test split or the test clips of repeats.
    predictions, truth : pd.DataFrame or None
        Out-of-fold, and target values of the same clips; None of other runs, and where they are not known.
    recipe : Recipe or None
        Of a blend.
    members : tuple of str
        Directories of the runs that a blend or vote was made from.
    cost : RunCost
    """

    name: str
    experiment: Experiment | None
    n_settings: int
    scores: Scores
    last_scores: Scores
    single: dict[str, Any]
    folds: int
    seeds: int
    n_test: tuple[int, ...]
    selected: bool
    classes: tuple[str, ...]
    out_of_fold: bool
    predictions: pd.DataFrame | None
    truth: pd.DataFrame | None
    recipe: Recipe | None
    members: tuple[str, ...]
    cost: RunCost

    @property
    def targets(self) -> tuple[str, ...]:
        """What is scored, in the order of the file, without the mean."""
        return tuple(name for name in self.scores if name != "mean")


@checked.dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class Submission:
    """What the card of a submission says.

    Attributes
    ----------
    file : str
        Its date is in its name.
    runs : list of str
        Directories.
    commit : str
    out_of_fold : dict of str to Score
        Per target and their `mean`.
    leaderboard : float or None
    selected_on_validation : bool
        Whether the scored clips chose the epoch of one of the runs.
    """

    file: str
    runs: list[str]
    commit: str
    out_of_fold: Scores
    leaderboard: float | None = None
    selected_on_validation: bool = False

    @property
    def date(self) -> str:
        """Year, month and day; empty where the name has none."""
        found = re.search(r"\d{4}-\d{2}-\d{2}(?=\.csv$)", self.file)
        return found[0] if found else ""


@dataclass(frozen=True)
class Report:
    """All that is reported.

    Attributes
    ----------
    runs : list of Run
        By name.
    submissions : list of Submission
        By date and name.
    problems : list of (str, str)
        A name and, as a sentence, why its numbers can't be given.
    """

    runs: list[Run] = field(default_factory=list)
    submissions: list[Submission] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
