"""One row of a study's table: its experiment, and its scores or why it has none."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion.config import Experiment, build_experiment, differing_keys, experiment_to_dict
from music_emotion.files import InputError, read_json, write_json
from music_emotion.runs import read_experiment, seconds_of

Settings = dict[str, Any]  # dotted keys of an experiment
_DIVERGED = "diverged.json"  # in runs/<study>/<row>
_SHARED = ("data.", "excerpt.", "model.")  # what a row and the pretraining of its trunk have in common


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    name : str
        Names ``runs/<study>/<name>``.
    settings : dict
        Dotted keys and values in which it differs.
    experiment : Experiment
    pretrain : Experiment or None
        What its trunk is trained by, in ``runs/<study>/<pretrain.name>``; rows may share it.
    """

    name: str
    settings: Settings
    experiment: Experiment
    pretrain: Experiment | None = None


@dataclass(frozen=True)
class Varied:
    """What the rows of a study are made from.

    Attributes
    ----------
    place : str
        Where the study is, for messages.
    differences : dict
        Of the experiment that is varied, nested like `Experiment`.
    common : dict
        Dotted keys that are set in all rows; those of `data`, `excerpt` and `model` also in what
        their trunks are trained by.
    pretrain : dict or None
        Differences of the genre experiment that trains each row's trunk.
    """

    place: str
    differences: dict[str, Any]
    common: Settings
    pretrain: dict[str, Any] | None = None

    def row(self, settings: Settings) -> Row:
        """The row with these settings.

        Raises
        ------
        InputError
            When one of them is wrong, or also set in all rows.
        """
        if twice := sorted(settings.keys() & self.common.keys()):
            raise InputError(f"{self.place}: {twice[0]} is varied, and also set for all rows. Leave one out.")
        name = "-".join(word(key, value) for key, value in settings.items())
        place, every = f"{self.place} ({name})", self.common | settings
        if self.pretrain is None:
            experiment = build_experiment(_laid_over(self.differences, every | {"name": name}), place)
            return Row(name, settings, experiment)
        own = every | {"name": name, "model.trunk": "of the row's pretraining"}  # known where the runs are
        shared = {key: value for key, value in every.items() if key.startswith(_SHARED)}
        words = [word(key, value) for key, value in settings.items() if key in shared]
        genres = _laid_over(self.pretrain, shared | {"name": "-".join([*words, "genres"])})
        experiment = build_experiment(_laid_over(self.differences, own), place)
        return Row(name, settings, experiment, build_experiment(genres, place))


def word(key: str, value: Any) -> str:
    """A setting as a part of a name."""
    if isinstance(value, list):
        return "x".join(word(key, each) for each in value)
    if isinstance(value, bool):
        return ("" if value else "not-") + key.rpartition(".")[2].replace("_", "-")
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _laid_over(differences: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in differences.items()}
    for dotted, value in settings.items():
        section, _, key = dotted.rpartition(".")
        (result.setdefault(section, {}) if section else result)[key] = value
    return result


def note_problem(row: Row, folder: Path, problem: str) -> None:
    """Write down that a row's training has diverged, so that it is not trained again."""
    write_json(folder / row.name / _DIVERGED, {"problem": problem, "experiments": _experiments(row)})


def problem_of(row: Row, folder: Path) -> str:
    """Where and in which epoch the row's training diverged; empty where it didn't, or isn't trained."""
    path = folder / row.name / _DIVERGED
    if not path.exists():
        return ""
    noted = read_json(path)
    return str(noted["problem"]) if noted["experiments"] == _experiments(row) else ""


def _experiments(row: Row) -> list[dict[str, Any]]:
    """What a row was trained by; a file that holds the same is about this row, not an older one."""
    return [experiment_to_dict(each) for each in (row.experiment, row.pretrain) if each is not None]


def is_finished(row: Row, folder: Path) -> bool:
    """Whether the row is on disk, scored or diverged, and was trained with its present settings."""
    place = folder / row.name
    if problem_of(row, folder):
        return True
    if not (place / "scores.json").exists():
        return False
    held, asked = (experiment_to_dict(each) for each in (read_experiment(place), row.experiment))
    return set(differing_keys(held, asked)) <= {"model.trunk"}  # whose path a row doesn't know


def row_line(row: Row, folder: Path) -> dict[str, Any]:
    """The line of a finished row: name, settings, headline with its spread, other scores, minutes.

    The score of a diverged row is NaN, and its `problem` says why.
    """
    place, problem = folder / row.name, problem_of(row, folder)
    start, minutes = {"row": row.name, **row.settings}, _seconds(place) / 60
    if problem:
        none = dict.fromkeys(("score", "low", "high"), np.nan) | {"n": 0, "repeats": 0}
        return {**start, **none, "minutes": minutes, "problem": problem}
    return {**start, **_scores(read_json(place / "scores.json"), row.experiment), "minutes": minutes}


def table_of(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """A table of such lines; it has a column `problem`, the last one, where one of them has a problem."""
    table = pd.DataFrame(lines)
    if "problem" not in table:
        return table
    whole_first = sorted(lines, key=lambda line: "problem" in line)
    columns = dict.fromkeys(key for line in whole_first for key in line if key != "problem")
    return table[[*columns, "problem"]].fillna({"problem": ""})


def searched_score(row: Row, folder: Path) -> float:
    """What a search makes as large as it can; NaN where the training diverged.

    Of repeated holdouts it is the mean score of the validation clips, since the best of many rows is
    chosen by it, and clips that have chosen can't say how good the choice is. The test clips of one
    repeat validate another, however, so that the best row's test score is a little too good as well,
    less than its validation score is. Folds have no third part: their out-of-fold score chooses, so
    the best row's own is too good.
    """
    if problem_of(row, folder):
        return np.nan
    experiment, scores = row.experiment, read_json(folder / row.name / "scores.json")
    if experiment.has_repeats:
        return _validated(scores, experiment)
    return float(scores["pooled"][_metric(experiment)]["value"])


def _validated(scores: dict[str, Any], experiment: Experiment) -> float:
    """Mean score of the repeats' validation clips."""
    return float(scores["repeated"]["valid"][_metric(experiment)]["value"])


def _metric(experiment: Experiment) -> str:
    return "macro_f1" if experiment.task == "genre" else "mean"


def _scores(scores: dict[str, Any], experiment: Experiment) -> dict[str, float]:
    metric = _metric(experiment)
    if experiment.has_repeats:
        tested = scores["repeated"]["test"]
        score, n = tested[metric], scores["repeats"][0]["n_test"]
        deviation = np.nan if score["sd"] is None else score["sd"]
        repeats = len(scores["repeats"])
        others = {"valid": _validated(scores, experiment)}
    else:
        tested, seeds = scores["pooled"], [seed[metric] for seed in scores["per_seed"].values()]
        score, n = tested[metric], tested[metric]["n"]
        deviation, repeats, others = float(pd.Series(seeds).std()), len(seeds), {}
    return {
        **{"score": score["value"], "low": score["low"], "high": score["high"]},
        **{"n": n, "repeats": repeats, "deviation": deviation},
        **others,
        **{name: each["value"] for name, each in tested.items()},
    }


def _seconds(place: Path) -> float:
    """Of training, all folds together."""
    return sum(seconds_of(fold) or 0.0 for fold in place.glob("seed*/fold*"))
