"""A study: one experiment in many settings, each of them a run, and a table of what they reach."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from music_emotion.errors import InputError, first_five
from music_emotion.experiment import Experiment, build_experiment, describe, read_differences
from music_emotion.files import read_json, read_toml, write_table
from music_emotion.results.run_scores import read_folds, score_run, score_split
from music_emotion.sections import STRICT
from music_emotion.training.cross_validation import (
    folds_of_pretraining,
    folds_of_run,
    load_sets,
    train_folds,
)
from music_emotion.training.metrics import genre_scores, spearman_per_target

Settings = dict[str, Any]  # dotted keys of an experiment
_SHARED = ("data.", "excerpt.", "model.")  # what a row and the pretraining of its trunk have in common


@checked(frozen=True, config=STRICT)
class Study:
    """What a study file holds.

    Attributes
    ----------
    name : str
        Names ``runs/<name>``.
    experiment : str
        File of the experiment that is varied, relative to the study's.
    grid : list of dict
        Dotted key to the values it takes; each table of the list gives all their combinations.
    pretrain : str
        File of a genre experiment, relative to the study's, that is trained before each row with the
        row's `data`, `excerpt` and `model` settings, and whose trunk the row starts from; "none" without.
    """

    name: str
    experiment: str
    grid: list[dict[str, list[Any]]]
    pretrain: str = "none"


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


def read_study(path: Path) -> tuple[Study, list[Row]]:
    """Read a study file, and build every experiment of it.

    Raises
    ------
    InputError
        When the file is not a study, or one of its settings is wrong: before anything is trained.
    """
    fields = read_toml(path, "study", "experiments/studies/")
    try:
        study = TypeAdapter(Study).validate_python(fields)
    except ValidationError as error:
        raise InputError(describe(error, str(path))) from None
    rows = [_row(study, path, settings) for settings in _combinations(study.grid)]
    names = [row.name for row in rows]
    if not rows or len(set(names)) < len(names):
        repeated = first_five(sorted({name for name in names if names.count(name) > 1})) or "none"
        raise InputError(f"{path}: the grid gives {len(rows)} rows, of which twice: {repeated}.")
    return study, rows


def _combinations(grid: list[dict[str, list[Any]]]) -> Iterator[Settings]:
    for table in grid:
        for values in itertools.product(*table.values()):
            yield dict(zip(table, values, strict=True))


def _row(study: Study, path: Path, settings: Settings) -> Row:
    name = "-".join(_word(key, value) for key, value in settings.items())
    place = f"{path} ({name})"
    differences = read_differences(path.parent / study.experiment)
    own = settings | {"name": name}
    if study.pretrain == "none":
        return Row(name, settings, build_experiment(_laid_over(differences, own), place))
    own["model.trunk"] = "of the row's pretraining"  # known where the runs are
    shared = {key: value for key, value in settings.items() if key.startswith(_SHARED)}
    genres = read_differences(path.parent / study.pretrain)
    pretrain = build_experiment(_laid_over(genres, shared | {"name": f"{name}-genres"}), place)
    return Row(name, settings, build_experiment(_laid_over(differences, own), place), pretrain)


def _word(key: str, value: Any) -> str:
    """A setting as a part of a name."""
    if isinstance(value, list):
        return "x".join(_word(key, each) for each in value)
    if isinstance(value, bool):
        return ("" if value else "not-") + key.rpartition(".")[2].replace("_", "-")
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def _laid_over(differences: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in differences.items()}
    for dotted, value in settings.items():
        section, _, key = dotted.rpartition(".")
        (result.setdefault(section, {}) if section else result)[key] = value
    return result


def run_study(
    study: Study, rows: list[Row], runs: Path, accelerator: Accelerator, common: Settings
) -> pd.DataFrame:
    """Train every row that is not finished, score all, and write ``runs/<study>/table.csv`` after each.

    Parameters
    ----------
    study : Study
    rows : list of Row
    runs : Path
        Folder of all runs.
    accelerator : Accelerator
        Device, processes, precision.
    common : dict
        Dotted keys that are set in all rows and in what their trunks are trained by, such as
        ``data.root``.

    Returns
    -------
    pd.DataFrame
        One row per setting, in the order of the file: its name and settings, the score (mean Spearman
        correlation of the targets, or macro F1 of genres) with its 95 % interval, every other score,
        the deviation over seeds where there are several, and minutes of training.
    """
    lines = []
    for row in rows:
        line = _run_row(row, runs / study.name, accelerator, common)
        lines.append({"row": row.name, **row.settings, **line})
        table = pd.DataFrame(lines)
        if accelerator.is_main_process:
            write_table(runs / study.name / "table.csv", table)
            print(f"{row.name}: {line['score']:.3f} [{line['low']:.3f}, {line['high']:.3f}]", flush=True)
    return table


def _run_row(row: Row, directory: Path, accelerator: Accelerator, common: Settings) -> dict[str, float]:
    experiment = _with(row.experiment, common)
    if row.pretrain is not None:
        trunk = _train_trunk(_with(row.pretrain, common), directory, accelerator)
        experiment = replace(experiment, model=replace(experiment.model, trunk=str(trunk)))
    place = directory / row.name
    clips, test = load_sets(experiment, accelerator)
    train_folds(experiment, folds_of_run(experiment, clips), test, accelerator, place)
    if accelerator.is_main_process:
        score_run(place, experiment, clips.truth)
    accelerator.wait_for_everyone()
    pooled = read_json(place / "scores.json")["pooled"]
    headline = pooled["macro_f1" if experiment.task == "genre" else "mean"]
    by_seed = [_seed_score(tables, experiment, clips.truth) for tables in read_folds(place, "valid").values()]
    return {
        "score": headline["value"],
        "low": headline["low"],
        "high": headline["high"],
        "n": headline["n"],
        "seeds": len(by_seed),
        "deviation": float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else float("nan"),
        **{name: score["value"] for name, score in pooled.items()},
        "minutes": _seconds(place) / 60,
    }


def _with(experiment: Experiment, common: Settings) -> Experiment:
    data = {key.removeprefix("data."): value for key, value in common.items() if key.startswith("data.")}
    experiment = replace(experiment, data=replace(experiment.data, **data))
    if experiment.task == "emotion" and "folds.groups" in common:
        return replace(experiment, folds=replace(experiment.folds, groups=common["folds.groups"]))
    return experiment


def _train_trunk(experiment: Experiment, directory: Path, accelerator: Accelerator) -> Path:
    """Pretrain a row's trunk; say where it is."""
    clips, test = load_sets(experiment, accelerator)
    folds = folds_of_pretraining(experiment, clips, test)
    place = directory / experiment.name
    train_folds(experiment, folds, test, accelerator, place)
    if accelerator.is_main_process:
        score_split(place, test.truth)
    return place / folds[0].folder / "model.safetensors"


def _seed_score(tables: Mapping[int, pd.DataFrame], experiment: Experiment, truth: pd.DataFrame) -> float:
    """The headline score of one seed's out-of-fold predictions."""
    predictions = pd.concat(tables.values())
    known = truth.loc[predictions.index].to_numpy()
    targets = tuple(map(str, predictions))
    if experiment.task == "genre":
        return genre_scores(known.argmax(axis=1), predictions.to_numpy(), targets)["macro_f1"]
    return float(np.mean(list(spearman_per_target(known, predictions.to_numpy(), targets).values())))


def _seconds(place: Path) -> float:
    """Of training, all folds together; classical estimators, which take few, count none."""
    return sum(float(pd.read_csv(path)["seconds"].sum()) for path in place.glob("seed*/fold*/metrics.csv"))
