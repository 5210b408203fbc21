"""Scores of runs from their fold files: out-of-fold, on the test split, and over repeated splits."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix, log_loss

from music_emotion import files
from music_emotion.config import Experiment, Task
from music_emotion.datasets.labels import read_genres
from music_emotion.evaluation.blend import blend, in_target_units
from music_emotion.evaluation.intervals import class_intervals, pooled_scores, spread_of
from music_emotion.evaluation.metrics import class_scores, is_constant, target_scores
from music_emotion.files import InputError, first_five

SCORES = "scores.json"
Folds = Mapping[int, Mapping[int, pd.DataFrame]]  # prediction tables by seed and fold
_LEAST_PROBABLE = 1e-7
_FILES = {"test": "test.csv", "last": "test-last.csv", "valid": "valid.csv"}  # of a repeat
_TITLES = {"test": "test clips", "last": "test clips, last epoch", "valid": "validation clips"}


def score_run(directory: Path, experiment: Experiment, truth: pd.DataFrame) -> str:
    """Write `oof.csv`, `truth.csv`, `test.csv` and `scores.json` of a run from its folds' files.

    `truth.csv` has the clips of `oof.csv`, with their target values or their class as `Genre`. Genre runs
    also get `report.txt` and `confusion.csv`.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    experiment : Experiment
    truth : pd.DataFrame
        Target values or one-hot classes of the training clips, indexed by `Id`.

    Returns
    -------
    str
        The scores in a few lines.

    Raises
    ------
    InputError
        When no fold is finished, or predictions and truth do not fit.
    """
    folds = read_folds(directory, "valid")
    with files.together(directory, SCORES) as fresh:
        if any(directory.glob("seed*/fold*/test.csv")):  # one's own clips may have no test split
            tests = every_fold(directory, "test")
            predictions = mean_table(tests)
            if experiment.task == "emotion":
                units = predictions.mean(), predictions.std(ddof=0)
                predictions = in_target_units(blend(tests, "z-score"), *units)
            files.write_predictions(fresh / "test.csv", predictions)
        score = genre_scores_of_folds if experiment.task == "genre" else emotion_scores
        scores, known = score(truth, folds), mean_table([t for each in folds.values() for t in each.values()])
        scores["selected_on_validation"] = experiment.selects_on_validation
        files.write_predictions(fresh / "oof.csv", known)
        write_truth(fresh / "truth.csv", truth.loc[known.index], experiment.task)
        if experiment.task == "genre":
            _write_report(fresh, truth.loc[known.index], known)
        files.write_json(fresh / SCORES, scores)
    return summary(directory.name, scores)


def score_split(directory: Path, truth: pd.DataFrame) -> str:
    """Write `test.csv`, `scores.json`, `report.txt` and `confusion.csv` of a pretraining on the test split.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    truth : pd.DataFrame
        One-hot classes of the test clips, indexed by `Id`.

    Returns
    -------
    str
        The scores in a few lines.
    """
    folds = read_folds(directory, "test")
    scores, predictions = genre_scores_of_folds(truth, folds), mean_table(every_fold(directory, "test"))
    with files.together(directory, SCORES) as fresh:
        files.write_predictions(fresh / "test.csv", predictions)
        _write_report(fresh, truth.loc[predictions.index], predictions)
        files.write_json(fresh / SCORES, scores)
    return summary(directory.name, scores, "test split")


def emotion_scores(truth: pd.DataFrame, folds: Folds) -> dict[str, Any]:
    """Score out-of-fold predictions: pooled over folds, per seed, and per fold.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values, indexed by `Id`; may know more clips than were predicted.
    folds : mapping
        Seed to fold to predictions.

    Returns
    -------
    dict
        Ready for JSON. ``n`` clips; ``folds`` by seed; ``pooled``: of the mean over seeds, as
        `pooled_scores`; ``per_seed``; ``per_fold``: scores and their mean; ``spread``;
        ``constant``: every seed, fold and target that was predicted as one value, which scores 0.

    Raises
    ------
    InputError
        When there are no predictions, ids or targets do not fit, or a truth can't be ranked.
    """
    if not folds or "mean" in truth.columns:
        raise InputError("Give out-of-fold predictions of at least one seed, of no target named 'mean'.")
    pooled, each = _of_each(truth, folds, target_scores)
    rows = each["per_fold"]["scores"]
    each["per_fold"]["mean"] = pd.DataFrame([row["scores"] for row in rows]).mean().to_dict()
    return {
        "n": len(pooled),
        "folds": {str(seed): sorted(tables) for seed, tables in sorted(folds.items())},
        "pooled": pooled_scores(truth, pooled),
        **each,
        "constant": [
            {"seed": row["seed"], "fold": row["fold"], "target": str(target)}
            for row in rows
            for target, column in folds[row["seed"]][row["fold"]][list(truth)].items()
            if is_constant(column.to_numpy())
        ],
    }


def genre_scores_of_folds(truth: pd.DataFrame, folds: Folds) -> dict[str, Any]:
    """Score genre predictions: pooled over folds, per seed, and per fold.

    Parameters
    ----------
    truth : pd.DataFrame
        One-hot classes, indexed by `Id`; may know more clips than were predicted.
    folds : mapping
        Seed to fold to probabilities.

    Returns
    -------
    dict
        Ready for JSON. ``n`` clips, ``classes``, ``pooled`` as `class_intervals`, ``per_seed``,
        ``per_fold`` and ``spread``.

    Raises
    ------
    InputError
        When ids or classes do not fit.
    """
    pooled, each = _of_each(truth, folds, class_scores)
    classes, known = [str(name) for name in truth], truth.loc[pooled.index].to_numpy().argmax(axis=1)
    intervals = class_intervals(known, pooled.to_numpy(), classes)
    return {"n": len(pooled), "classes": classes, "pooled": intervals, **each}


def _of_each(
    truth: pd.DataFrame, folds: Folds, score: Callable[[pd.DataFrame, pd.DataFrame], dict[str, float]]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Mean predictions over seeds; scores of every seed and every fold, and how far they spread."""
    of_seeds: dict[int, pd.DataFrame] = {}
    rows: list[dict[str, Any]] = []
    for seed, tables in sorted(folds.items()):
        of_seeds[seed] = _checked(pd.concat(tables.values()), truth, f"predictions of seed {seed}")
        for fold, table in sorted(tables.items()):
            try:
                scores = score(truth, table[list(truth)])
            except InputError as error:
                raise InputError(f"Seed {seed}, fold {fold}: {error}") from None
            rows.append({"seed": seed, "fold": fold, "n": len(table), "scores": scores})
    each: dict[str, Any] = {
        "per_seed": {str(seed): score(truth, table) for seed, table in of_seeds.items()},
        "per_fold": {"scores": rows},
    }
    spreads = {name: spread for name in rows[0]["scores"] if (spread := spread_of(each, [name]))}
    first = next(iter(spreads.values()))
    each["spread"] = {
        "n_seeds": first.n_seeds,
        "n_folds": first.n_folds,
        "over_seeds": {name: spread.over_seeds for name, spread in spreads.items()},
        "over_folds": {name: spread.over_folds for name, spread in spreads.items()},
    }
    return mean_table(list(of_seeds.values())), each


def _checked(table: pd.DataFrame, truth: pd.DataFrame, place: str) -> pd.DataFrame:
    """A table with the columns of the truth, after its ids and columns were checked."""
    files.check_predictions(table, place)
    check_known(table.index, truth.index, place, "truth")
    if sorted(table.columns) != sorted(truth.columns):
        raise InputError(
            f"The {place} are of {', '.join(table.columns)}, but the truth is of "
            f"{', '.join(truth.columns)}. Give the truth of the same targets or classes."
        )
    return table[list(truth.columns)]


def check_known(ids: pd.Index, known: pd.Index, place: str, what: str) -> None:
    """Refuse clips of which something is not known, such as their truth.

    Raises
    ------
    InputError
        Naming the first five.
    """
    if len(unknown := ids.difference(known)):
        raise InputError(
            f"{place}: {len(unknown)} clips have no {what}: {first_five(unknown)}. Give that of every clip."
        )


def write_truth(path: Path, truth: pd.DataFrame, task: Task) -> None:
    """Write target values as predictions are written, or of one-hot classes the `Genre`."""
    if task == "emotion":
        files.write_predictions(path, truth)
    else:
        files.write_table(path, truth.idxmax(axis=1).rename_axis("Id").rename("Genre").reset_index())


def read_classes(path: Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read the truth of a genre run as one-hot classes, indexed by `Id`.

    Raises
    ------
    InputError
        When the file is missing or damaged, or has other classes.
    """
    remedy = "Run the command that trains the run again; it trains only what is missing."
    if not path.exists():
        raise InputError(f"{path} does not exist. {remedy}")
    genres = read_genres(path)
    if unknown := sorted(set(genres) - set(classes)):
        raise InputError(f"{path} has the classes {first_five(unknown)}, which were not predicted. {remedy}")
    return pd.DataFrame({name: (genres == name).astype(float) for name in classes}, genres.index)


def read_folds(directory: Path, part: str) -> dict[int, dict[int, pd.DataFrame]]:
    """Prediction tables of a run by seed and fold; `part` is "valid" or "test".

    Raises
    ------
    InputError
        When the run has none.
    """
    tables: dict[int, dict[int, pd.DataFrame]] = {}
    for path in sorted(directory.glob(f"seed*/fold*/{part}.csv")):
        seed, fold = (int(folder.name.lstrip("sedfol")) for folder in (path.parent.parent, path.parent))
        tables.setdefault(seed, {})[fold] = files.read_predictions(path)
    if not tables:
        raise InputError(f"{directory} has no finished folds (seed*/fold*/{part}.csv). Train it first.")
    return tables


def every_fold(directory: Path, part: str) -> list[pd.DataFrame]:
    """The tables of `read_folds`, of all seeds and folds."""
    return [table for tables in read_folds(directory, part).values() for table in tables.values()]


def fold_numbers(tables: Mapping[int, pd.DataFrame]) -> pd.Series:
    """The fold of every clip in one seed's validation tables, indexed by `Id`."""
    return pd.concat([pd.Series(fold, table.index) for fold, table in tables.items()]).sort_index()


def mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean over the tables that have a clip, sorted by `Id`."""
    return pd.concat(tables).groupby(level="Id").mean()


def _write_report(directory: Path, truth: pd.DataFrame, table: pd.DataFrame, mark: str = "") -> None:
    """Write `report<mark>.txt` and `confusion<mark>.csv` of one-hot classes and probabilities."""
    classes, labels = list(truth), range(truth.shape[1])
    known, predicted = (each[classes].to_numpy().argmax(axis=1) for each in (truth, table))
    text = classification_report(
        known, predicted, labels=labels, target_names=classes, digits=3, zero_division=0
    )
    files.write_text(directory / f"report{mark}.txt", text)
    counts = pd.DataFrame(confusion_matrix(known, predicted, labels=labels), classes, classes)
    files.write_table(directory / f"confusion{mark}.csv", counts.rename_axis("truth").reset_index())


def summary(name: str, scores: dict[str, Any], clips: str = "out-of-fold") -> str:
    """Scores in a few lines: value, 95 % interval, number of clips, deviation over seeds and over folds."""
    mark = ", selected on validation" if scores.get("selected_on_validation") else ""
    lines = [f"{name} ({clips}{mark}):"]
    for key, score in scores["pooled"].items():
        spread = spread_of(scores, [key])
        lines.append(
            f"  {key:<14} {score['value']:.3f}  [{score['low']:.3f}, {score['high']:.3f}]  n={score['n']}"
            f"  {'' if spread is None else spread.in_words()}".rstrip()
        )
    return "\n".join(lines)


def score_repeats(
    directory: Path, experiment: Experiment, truth: Mapping[str, pd.DataFrame], n_train: Sequence[int]
) -> str:
    """Write `scores.json` of a run whose every seed trains, validates and tests on clips of its own.

    Also writes `truth-valid.csv` and `truth-test.csv`, so that runs can vote where the data is not, and
    of genres reports over the test clips of all repeats, each as often as it is tested.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    experiment : Experiment
    truth : mapping of str to pd.DataFrame
        Of "valid" and "test": target values or one-hot classes of the clips of all repeats.
    n_train : sequence of int
        Number of training clips of every seed.

    Returns
    -------
    str
        Mean, deviation, smallest and largest score over the repeats, in a few lines.
    """
    folders = [directory / f"seed{seed}" / "fold0" for seed in experiment.seeds]
    parts = [part for part, file in _FILES.items() if (folders[0] / file).exists()]
    tables = {part: [files.read_predictions(folder / _FILES[part]) for folder in folders] for part in parts}
    scored = {
        part: [
            _repeat_scores(experiment.task, truth.get(part, truth["test"]), table) for table in tables[part]
        ]
        for part in parts
    }
    scores = {
        "repeats": [
            {"seed": seed, "n_train": n_train[k]}
            | {f"n_{part}": len(tables[part][k]) for part in ("valid", "test")}
            | {part: scored[part][k] for part in parts}
            for k, seed in enumerate(experiment.seeds)
        ],
        "repeated": {part: _over_repeats(scored[part]) for part in parts},
        "selected_on_validation": False,  # the clips that are scored have chosen nothing
    }
    with files.together(directory, SCORES) as fresh:
        for split, known in truth.items():
            write_truth(fresh / f"truth-{split}.csv", known, experiment.task)
        if experiment.task == "genre":
            for part in [part for part in parts if part != "valid"]:
                joined = pd.concat(tables[part])
                mark = "-last" if part == "last" else ""
                _write_report(fresh, truth["test"].loc[joined.index], joined, mark)
        files.write_json(fresh / SCORES, scores)
    return repeats_summary(directory.name, scores)


def _repeat_scores(task: Task, truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    table = table[list(truth)]
    if task == "emotion":
        return target_scores(truth, table)
    known = truth.loc[table.index].to_numpy().argmax(axis=1)
    likely = np.clip(table.to_numpy(), _LEAST_PROBABLE, 1)  # of a class never trained on
    loss = log_loss(known, likely / likely.sum(axis=1, keepdims=True), labels=range(truth.shape[1]))
    return class_scores(truth, table) | {"loss": float(loss)}


def _over_repeats(scores: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    table = pd.DataFrame(scores)
    found = table.agg(["mean", "std", "min", "max"]).set_axis(["value", "sd", "low", "high"])
    return {
        str(name): {str(key): None if np.isnan(value) else float(value) for key, value in column.items()}
        for name, column in found.items()
    }


def repeats_summary(name: str, scores: dict[str, Any]) -> str:
    """Scores in a few lines: mean over the repeats, deviation, smallest and largest."""
    sizes = sorted({repeat["n_test"] for repeat in scores["repeats"]})
    size = " to ".join(map(str, dict.fromkeys([sizes[0], sizes[-1]])))
    lines = [f"{name} ({len(scores['repeats'])} repeats, {size} test clips each; mean, deviation, range):"]
    for part, repeated in scores["repeated"].items():
        lines.append(f"  {_TITLES[part]}")
        for metric, score in repeated.items():
            deviation = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
            lines.append(
                f"    {metric:<14} {score['value']:.3f}{deviation}  [{score['low']:.3f}, {score['high']:.3f}]"
            )
    return "\n".join(lines)
