"""One row of a study's table: its experiment, its run, and its scores."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from filelock import FileLock

from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, build_experiment
from music_emotion.files import read_json
from music_emotion.results.repeats import headline
from music_emotion.results.whole_run import run_experiment, run_pretraining
from music_emotion.training.cross_validation import load_sets

Settings = dict[str, Any]  # dotted keys of an experiment
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
        What its trunk is trained by.
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
        genres = _laid_over(self.pretrain, shared | {"name": f"{name}-genres"})
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


def run_row(row: Row, folder: Path, accelerator: Accelerator) -> None:
    """Train what is not trained yet of a row and of its trunk, and score it.

    Parameters
    ----------
    row : Row
    folder : Path
        ``runs/<study>``.
    accelerator : Accelerator
        Device, processes, precision.
    """
    experiment = row.experiment
    if row.pretrain is not None:
        _pack(row.pretrain, folder, accelerator)
        _, trunk = run_pretraining(row.pretrain, accelerator, folder / row.pretrain.name)
        experiment = replace(experiment, model=replace(experiment.model, trunk=str(trunk)))
    _pack(experiment, folder, accelerator)
    run_experiment(experiment, accelerator, folder / row.name)


def _pack(experiment: Experiment, folder: Path, accelerator: Accelerator) -> None:
    """Pack what is not packed yet, while no other process of the study writes the same store."""
    with FileLock(folder / "pack.lock") if accelerator.is_main_process else nullcontext():
        load_sets(experiment, accelerator)


def row_line(row: Row, folder: Path) -> dict[str, Any]:
    """The line of a finished row: name, settings, headline with its spread, other scores, minutes."""
    place = folder / row.name
    scores = _scores(read_json(place / "scores.json"), row.experiment)
    return {"row": row.name, **row.settings, **scores, "minutes": _seconds(place) / 60}


def searched_score(row: Row, folder: Path) -> float:
    """What a search makes as large as it can; NaN where predictions don't vary.

    Of repeated holdouts it is the mean score of the validation clips, never that of the test clips:
    the best of many rows is chosen by it, and the clips that have chosen can't say how good the
    choice is. Folds have no third part: their out-of-fold score chooses, so the best row's own is
    too good.
    """
    experiment, scores = row.experiment, read_json(folder / row.name / "scores.json")
    if experiment.has_repeats:
        return float(headline(scores, experiment.task, "valid")["value"])
    return float(scores["pooled"][_metric(experiment)]["value"])


def _metric(experiment: Experiment) -> str:
    return "macro_f1" if experiment.task == "genre" else "mean"


def _scores(scores: dict[str, Any], experiment: Experiment) -> dict[str, float]:
    metric = _metric(experiment)
    if experiment.has_repeats:
        tested = scores["repeated"]["test"]
        score, n = tested[metric], scores["repeats"][0]["n_test"]
        deviation = np.nan if score["sd"] is None else score["sd"]
        repeats = len(scores["repeats"])
        others = {"valid": headline(scores, experiment.task, "valid")["value"]}
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
    epochs = sum(float(pd.read_csv(path)["seconds"].sum()) for path in place.glob("seed*/fold*/metrics.csv"))
    return epochs + sum(float(read_json(path)["seconds"]) for path in place.glob("seed*/fold*/fit.json"))
