"""Scores with bootstrap intervals: out-of-fold emotion predictions, and a genre report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import rankdata
from sklearn.metrics import classification_report, confusion_matrix

from music_emotion.errors import InputError, first_five
from music_emotion.files import atomic_path, write_table, write_text
from music_emotion.predictions import check_predictions
from music_emotion.training.metrics import genre_scores, is_constant, spearman_per_target

_VALUES_AT_ONCE = 1_000_000  # of a chunk of resamples; ranking needs some ten arrays of them, 80 MB


def bootstrap_spearman(
    truth: np.ndarray,
    prediction: np.ndarray,
    n_resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of Spearman's correlation, of the mean over columns if there are several.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n,) or (n, n_targets)]
        Target values and predictions.
    n_resamples : int
        How often clips are drawn, n of n with replacement.
    seed : int
        Equal seeds draw equal clips.
    confidence : float
        Share of resamples inside the interval, 0 to 1.

    Returns
    -------
    low, high : float
        Ends of the interval, -1 to 1.

    Raises
    ------
    InputError
        As by `spearman_per_target`.

    References
    ----------
    B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.
    """
    truth, prediction = (np.asarray(values).reshape(len(values), -1) for values in (truth, prediction))
    spearman_per_target(truth, prediction, [f"column {k}" for k in range(truth.shape[1])])
    resampled = _resampled_spearman(truth, prediction, n_resamples, seed)
    return _interval(resampled.mean(axis=1), confidence)


def _resampled_spearman(
    truth: np.ndarray, prediction: np.ndarray, n_resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """Correlation of every column in every resample [shape=(n_resamples, n_targets)]."""
    chunks = [
        np.stack(
            [_rank_correlation(truth[rows, k], prediction[rows, k]) for k in range(truth.shape[1])], axis=1
        )
        for rows in _resamples(len(truth), n_resamples, seed)
    ]
    return np.concatenate(chunks)


def _resamples(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Row numbers of resamples, a chunk of [shape=(n_chunk, n)] at a time."""
    random = np.random.default_rng(seed)
    n_chunk = max(1, _VALUES_AT_ONCE // n)
    for start in range(0, n_resamples, n_chunk):
        yield random.integers(0, n, (min(n_chunk, n_resamples - start), n))


def _rank_correlation(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Spearman's correlation of every row of [shape=(n_chunk, n)]; 0 where one is constant."""
    mean_rank = (truth.shape[1] + 1) / 2
    a, b = (rankdata(values, axis=1) - mean_rank for values in (truth, prediction))
    norms = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)


def _interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def emotion_scores(
    truth: pd.DataFrame, out_of_fold: Mapping[int, pd.DataFrame], fold_of: Mapping[int, pd.Series]
) -> dict[str, Any]:
    """Score out-of-fold predictions: pooled over folds, per seed, and per fold.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values; may know more clips than were predicted.
    out_of_fold : mapping of int to pd.DataFrame
        Seed to predictions, of all clips or of those whose folds are done.
    fold_of : mapping of int to pd.Series
        Seed to the fold of every clip, indexed by `Id`.

    Returns
    -------
    dict
        Ready for JSON. ``n`` clips and the ``folds`` done, by seed; ``pooled``: of the mean over
        seeds, per target and their ``mean``, value with 95 % bootstrap interval and n; ``per_seed``;
        ``per_fold``: scores, their mean, and their standard deviation (None for a single fold);
        ``constant``: every seed, fold and target that was predicted as one value, and scores 0.

    Raises
    ------
    InputError
        When there are no predictions, ids or targets do not fit, or a truth can't be ranked.
    """
    if not out_of_fold or "mean" in truth.columns:
        raise InputError("Give out-of-fold predictions of at least one seed, of no target named 'mean'.")
    tables = {seed: _checked(seed, out_of_fold[seed], truth, fold_of) for seed in sorted(out_of_fold)}
    pooled = pd.concat(list(tables.values())).groupby(level=0).mean()
    folds = [row for seed, table in tables.items() for row in _fold_rows(seed, table, truth, fold_of[seed])]
    scores = pd.DataFrame([row["scores"] for row in folds])
    deviation = scores.std() if len(folds) > 1 else scores.iloc[0].map(lambda _: None)
    return {
        "n": len(pooled),
        "folds": {str(seed): [row["fold"] for row in folds if row["seed"] == seed] for seed in tables},
        "pooled": _with_intervals(truth, pooled),
        "per_seed": {str(seed): _with_mean(truth, table) for seed, table in tables.items()},
        "per_fold": {"scores": folds, "mean": scores.mean().to_dict(), "sd": deviation.to_dict()},
        "constant": [
            {"seed": row["seed"], "fold": row["fold"], "target": target}
            for row in folds
            for target in row.pop("constant")
        ],
    }


def _checked(
    seed: int, table: pd.DataFrame, truth: pd.DataFrame, fold_of: Mapping[int, pd.Series]
) -> pd.DataFrame:
    place = f"out-of-fold predictions of seed {seed}"
    check_predictions(table, place)
    _check_known(table.index, truth.index, place, "truth")
    _check_known(table.index, fold_of[seed].index if seed in fold_of else pd.Index([]), place, "fold")
    if sorted(table.columns) != sorted(truth.columns):
        raise InputError(
            f"The {place} have the targets {', '.join(table.columns)}, but the truth has "
            f"{', '.join(truth.columns)}. Give the truth of the same targets."
        )
    return table[list(truth.columns)]


def _check_known(ids: pd.Index, known: pd.Index, place: str, what: str) -> None:
    unknown = ids.difference(known)
    if len(unknown):
        raise InputError(
            f"{place}: {len(unknown)} clips have no {what}: {first_five(unknown)}. Give that of every clip."
        )


def _with_mean(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Scores of a table's clips per target, and their mean."""
    known = truth.loc[table.index].to_numpy()
    scores = spearman_per_target(known, table.to_numpy(), [str(name) for name in truth.columns])
    return scores | {"mean": float(np.mean(list(scores.values())))}


def _with_intervals(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, dict[str, float]]:
    values = _with_mean(truth, table)
    resampled = _resampled_spearman(truth.loc[table.index].to_numpy(), table.to_numpy())
    columns = [*resampled.T, resampled.mean(axis=1)]
    return {
        name: _scored(values[name], column, len(table)) for name, column in zip(values, columns, strict=True)
    }


def _scored(value: float, resampled: np.ndarray, n: int) -> dict[str, float]:
    low, high = _interval(resampled)
    return {"value": value, "low": low, "high": high, "n": n}


def _fold_rows(
    seed: int, table: pd.DataFrame, truth: pd.DataFrame, fold_of: pd.Series
) -> Iterator[dict[str, Any]]:
    for fold, part in table.groupby(fold_of.loc[table.index]):
        try:
            scores = _with_mean(truth, part)
        except InputError as error:
            raise InputError(f"Seed {seed}, fold {fold}: {error}") from None
        constant = [str(name) for name, column in part.items() if is_constant(column.to_numpy())]
        yield {"seed": seed, "fold": int(str(fold)), "n": len(part), "scores": scores, "constant": constant}


def genre_report(
    truth: pd.Series, probabilities: pd.DataFrame, classes: Sequence[str], directory: Path
) -> dict[str, Any]:
    """Score genre predictions, and write `report.txt`, `confusion.csv` and `confusion.png`.

    Parameters
    ----------
    truth : pd.Series
        Index of the true class, indexed by `Id`; may know more clips than were predicted.
    probabilities : pd.DataFrame
        One column per class.
    classes : sequence of str
        All classes, in the order of the indices.
    directory : Path
        Where the three files go.

    Returns
    -------
    dict
        Ready for JSON. ``n`` clips, ``classes``, and ``pooled``: accuracy, macro and weighted F1,
        each as value with 95 % bootstrap interval and n. A class no clip of a resample has counts 0.

    Raises
    ------
    InputError
        When ids or classes do not fit.
    """
    check_predictions(probabilities, "genre predictions")
    _check_known(probabilities.index, truth.index, "genre predictions", "truth")
    if sorted(probabilities.columns) != sorted(classes):
        raise InputError(
            f"The predictions are of {', '.join(probabilities.columns)}, but the classes are "
            f"{', '.join(classes)}. Give the class list of the model."
        )
    known, likely = truth.loc[probabilities.index].to_numpy(), probabilities[list(classes)].to_numpy()
    values, resampled = genre_scores(known, likely, classes), _resampled_genre(known, likely)
    _write_report(known, likely.argmax(axis=1), list(classes), directory)
    pooled = {name: _scored(value, resampled[name], len(known)) for name, value in values.items()}
    return {"n": len(known), "classes": list(classes), "pooled": pooled}


def _resampled_genre(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of `genre_scores` in 2000 resamples, from their confusion matrices."""
    n, n_classes = probabilities.shape
    cells = truth * n_classes + probabilities.argmax(axis=1)
    counts = np.concatenate(
        [
            np.stack([np.bincount(row, minlength=n_classes**2) for row in cells[rows]])
            for rows in _resamples(n, 2000, seed=0)
        ]
    ).reshape(-1, n_classes, n_classes)
    right, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
    found = support + counts.sum(axis=1)
    f1 = np.divide(2 * right, found, out=np.zeros(found.shape), where=found > 0)
    return {
        "accuracy": right.sum(axis=1) / n,
        "macro_f1": f1.mean(axis=1),
        "weighted_f1": (f1 * support).sum(axis=1) / n,
    }


def _write_report(truth: np.ndarray, predicted: np.ndarray, classes: list[str], directory: Path) -> None:
    labels = range(len(classes))
    text = classification_report(
        truth, predicted, labels=labels, target_names=classes, digits=3, zero_division=0
    )
    write_text(directory / "report.txt", text)
    counts = pd.DataFrame(confusion_matrix(truth, predicted, labels=labels), classes, classes)
    write_table(directory / "confusion.csv", counts.rename_axis("truth").reset_index())
    with atomic_path(directory / "confusion.png") as temporary:
        FigureCanvasAgg(_confusion_figure(counts)).print_png(temporary)


def _confusion_figure(counts: pd.DataFrame) -> Figure:
    """Counts in cells, shaded by their share of the true class."""
    side = 2 + 0.6 * len(counts)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="prediction", ylabel="truth", title=f"{counts.to_numpy().sum()} clips")
    shares = counts.to_numpy() / counts.sum(axis=1).clip(lower=1).to_numpy()[:, np.newaxis]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(counts)), counts.columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(counts)), counts.index)
    for (row, column), count in np.ndenumerate(counts.to_numpy()):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure
