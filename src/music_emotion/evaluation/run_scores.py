"""The folds of a run put together: out-of-fold and test predictions, the truth beside them, and scores."""

from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.config import Experiment, Task
from music_emotion.evaluation.ensemble import blend, in_target_units
from music_emotion.evaluation.genre_report import class_scores, genre_report
from music_emotion.evaluation.scores import emotion_scores
from music_emotion.evaluation.spread import spread_of, spreads
from music_emotion.files import (
    InputError,
    read_predictions,
    together,
    write_json,
    write_predictions,
    write_table,
)
from music_emotion.plots.pictures import draw_out_of_fold

SCORES = "scores.json"


def score_run(directory: Path, experiment: Experiment, truth: pd.DataFrame) -> str:
    """Write `oof.csv`, `truth.csv`, `test.csv` and `scores.json` of a run from its folds' files.

    `truth.csv` has the clips of `oof.csv` in their order, with their target values or their class as
    `Genre`, so that runs can be compared in pairs where the data is not.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    experiment : Experiment
        What the run was.
    truth : pd.DataFrame
        Target values or one-hot classes of the training clips, indexed by `Id`.

    Returns
    -------
    str
        The scores in a few lines.
    """
    folds = read_folds(directory, "valid")
    out_of_fold = {seed: pd.concat(tables.values()).sort_index() for seed, tables in folds.items()}
    fold_of = {seed: fold_numbers(tables) for seed, tables in folds.items()}
    known = mean_table(list(out_of_fold.values()))
    truth = truth.loc[known.index]
    with together(directory, SCORES) as fresh:
        write_predictions(fresh / "oof.csv", known)
        if any(directory.glob("seed*/fold*/test.csv")):  # one's own clips may have no test split
            write_predictions(fresh / "test.csv", _joined_test(every_fold(directory, "test"), experiment))
        write_truth(fresh, truth, experiment.task)
        if experiment.task == "genre":
            scores = genre_report(_class_index(truth), known, tuple(known.columns), fresh)
            scores |= _of_classes(truth, folds)
        else:
            scores = emotion_scores(truth, out_of_fold, fold_of)
            draw_out_of_fold(fresh / "oof.png", truth, known)
        scores["selected_on_validation"] = experiment.selects_on_validation
        write_json(fresh / SCORES, scores)
    return summary(directory.name, scores)


def write_truth(directory: Path, truth: pd.DataFrame, task: Task) -> None:
    """Write `truth.csv`: target values as predictions are written, or of one-hot classes the `Genre`."""
    if task == "emotion":
        write_predictions(directory / "truth.csv", truth)
    else:
        genres = truth.idxmax(axis=1).rename_axis("Id").rename("Genre")
        write_table(directory / "truth.csv", genres.reset_index())


def score_split(directory: Path, truth: pd.DataFrame) -> str:
    """Write `test.csv` and `scores.json` of a genre run scored on the set's own test split.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``; every seed's fold has predicted the test split.
    truth : pd.DataFrame
        One-hot classes of the test clips, indexed by `Id`.

    Returns
    -------
    str
        The scores in a few lines.
    """
    folds = read_folds(directory, "test")
    predictions = mean_table([table for tables in folds.values() for table in tables.values()])
    classes, names = _class_index(truth.loc[predictions.index]), tuple(predictions.columns)
    with together(directory, SCORES) as fresh:
        write_predictions(fresh / "test.csv", predictions)
        scores = genre_report(classes, predictions, names, fresh) | _of_classes(truth, folds)
        write_json(fresh / SCORES, scores)
    return summary(directory.name, scores, "test split")


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
        tables.setdefault(seed, {})[fold] = read_predictions(path)
    if not tables:
        raise InputError(f"{directory} has no finished folds (seed*/fold*/{part}.csv). Train it first.")
    return tables


def every_fold(directory: Path, part: str) -> list[pd.DataFrame]:
    """The tables of `read_folds`, of all seeds and folds."""
    return [table for tables in read_folds(directory, part).values() for table in tables.values()]


def fold_numbers(tables: dict[int, pd.DataFrame]) -> pd.Series:
    """The fold of every clip in one seed's validation tables, indexed by `Id`."""
    return pd.concat([pd.Series(fold, table.index) for fold, table in tables.items()]).sort_index()


def mean_table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean over tables, per clip, of those tables that have the clip."""
    return pd.concat(tables).groupby(level="Id").mean()


def _of_classes(truth: pd.DataFrame, folds: dict[int, dict[int, pd.DataFrame]]) -> dict[str, Any]:
    """Genre scores of every seed and of every fold, and how far they lie apart."""
    rows = [
        {"seed": seed, "fold": fold, "n": len(table), "scores": class_scores(truth, table)}
        for seed, tables in folds.items()
        for fold, table in tables.items()
    ]
    of_seeds = {seed: mean_table(list(tables.values())) for seed, tables in folds.items()}
    each = {
        "per_seed": {str(seed): class_scores(truth, table) for seed, table in of_seeds.items()},
        "per_fold": {"scores": rows},
    }
    return each | {"spread": spreads(each)}


def _joined_test(tables: list[pd.DataFrame], experiment: Experiment) -> pd.DataFrame:
    """Folds and seeds joined: probabilities by their mean, targets in z-scores, back in units."""
    mean = mean_table(tables)
    if experiment.task == "genre":
        return mean
    return in_target_units(blend(tables, "z-score"), mean.mean(), mean.std(ddof=0))


def _class_index(one_hot: pd.DataFrame) -> pd.Series:
    return pd.Series(one_hot.to_numpy().argmax(axis=1), one_hot.index)


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
