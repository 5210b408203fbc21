"""Scores of out-of-fold predictions, with bootstrap intervals over the clips."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import rankdata
from sklearn.metrics import classification_report, confusion_matrix

from music_emotion.files import atomic_path, write_table, write_text
from music_emotion.training.metrics import genre_scores, is_constant, spearman

N_RESAMPLES = 2000
_VALUES_AT_ONCE = 2_000_000  # ranks of this many values are held in memory together


def bootstrap_spearman(
    truth: np.ndarray, prediction: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Spearman correlations of clips drawn with replacement.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n, n_targets)]
        Of the same clips.
    n_resamples : int
        How often n clips are drawn.
    seed : int
        The same draws for every call with as many clips, so that runs can be compared in pairs.

    Returns
    -------
    np.ndarray [shape=(n_resamples, n_targets)]
        A resample in which a column is constant counts 0.

    References
    ----------
    B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile
    intervals are read off the result).
    """
    n, n_targets = truth.shape
    rng = np.random.default_rng(seed)
    per_chunk = max(1, _VALUES_AT_ONCE // (n * n_targets))
    chunks = []
    for first in range(0, n_resamples, per_chunk):
        drawn = rng.integers(0, n, (min(per_chunk, n_resamples - first), n))
        chunks.append(_rank_correlation(truth[drawn], prediction[drawn]))
    return np.concatenate(chunks)


def _rank_correlation(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Spearman along the clips of arrays [shape=(n_resamples, n, n_targets)]."""
    one, other = rankdata(truth, axis=1), rankdata(prediction, axis=1)
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    norms = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.divide((one * other).sum(axis=1), norms, out=np.zeros_like(norms), where=norms > 0)


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap samples."""
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)


def emotion_scores(
    truth: pd.DataFrame, out_of_fold: Mapping[int, pd.DataFrame], fold_of: Mapping[int, pd.Series]
) -> dict[str, Any]:
    """Scores per target and their mean: pooled with an interval, per seed, per fold.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values, indexed by `Id`.
    out_of_fold : mapping of int to pd.DataFrame
        Seed to predictions; a run whose folds are not all done has fewer clips.
    fold_of : mapping of int to pd.Series
        Seed to the fold of each of these clips.

    Returns
    -------
    dict
        `pooled`: value, low, high and n of the mean over seeds. `per_seed` and `per_fold`: values.
        `fold_spread`: mean and deviation over folds. `constant`: what did not vary, and so scored 0.
    """
    mean = pd.concat(out_of_fold.values()).groupby(level="Id").mean()
    known = truth.loc[mean.index]
    per_fold, constant = {}, []
    for seed, table in out_of_fold.items():
        for fold, part in table.groupby(fold_of[seed].loc[table.index]):
            place = f"seed{seed}/fold{fold}"
            per_fold[place] = _values(truth.loc[part.index], part)
            constant += [f"{place} {name}" for name in part if is_constant(part[name].to_numpy())]
    spread = pd.DataFrame(per_fold.values())
    return {
        "pooled": _pooled(known, mean),
        "per_seed": {f"seed{s}": _values(truth.loc[t.index], t) for s, t in out_of_fold.items()},
        "per_fold": per_fold,
        "fold_spread": {
            name: {"mean": float(column.mean()), "deviation": float(column.std(ddof=0))}
            for name, column in spread.items()
        },
        "constant": constant,
    }


def _values(truth: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, float]:
    scores = {
        str(name): spearman(truth[name].to_numpy(), predictions[name].to_numpy()) for name in truth.columns
    }
    return {**scores, "mean": float(np.mean(list(scores.values())))}


def _pooled(truth: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    samples = bootstrap_spearman(truth.to_numpy(), predictions[truth.columns].to_numpy())
    per_score = {**dict(zip(truth.columns, samples.T, strict=True)), "mean": samples.mean(axis=1)}
    values = _values(truth, predictions)
    return {
        str(name): _with_interval(values[str(name)], drawn, len(truth)) for name, drawn in per_score.items()
    }


def _with_interval(value: float, samples: np.ndarray, n: int) -> dict[str, float]:
    low, high = interval(samples)
    return {"value": value, "low": low, "high": high, "n": n}


def genre_report(
    truth: pd.Series, probabilities: pd.DataFrame, classes: tuple[str, ...], directory: Path
) -> dict[str, Any]:
    """Score genres, and write the report and the confusion matrix.

    Writes `report.txt`, `confusion.csv` and `confusion.png`.

    Parameters
    ----------
    truth : pd.Series
        Number of the true class, indexed by `Id`.
    probabilities : pd.DataFrame
        One column per class, of the same clips.
    classes : tuple of str
        In the order of the columns.
    directory : Path
        Where the files go.

    Returns
    -------
    dict
        `pooled`: accuracy, macro F1 and weighted F1, each with value, low, high and n.
    """
    known, given = truth.to_numpy(), probabilities.loc[truth.index].to_numpy()
    numbers = range(len(classes))
    predicted = given.argmax(axis=1)
    report = classification_report(known, predicted, labels=numbers, target_names=classes, zero_division=0)
    write_text(directory / "report.txt", report)
    matrix = confusion_matrix(known, predicted, labels=numbers)
    table = pd.DataFrame(matrix, columns=list(classes))
    table.insert(0, "truth", classes)
    write_table(directory / "confusion.csv", table)
    _draw_confusion(directory / "confusion.png", matrix, classes)
    values = genre_scores(known, given, classes)
    drawn = _bootstrap(lambda chosen: genre_scores(known[chosen], given[chosen], classes), len(known))
    return {"pooled": {n: _with_interval(v, drawn[n].to_numpy(), len(known)) for n, v in values.items()}}


def _bootstrap(
    score: Callable[[np.ndarray], dict[str, float]], n: int, n_resamples: int = 500
) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame([score(rng.integers(0, n, n)) for _ in range(n_resamples)])


def _draw_confusion(path: Path, matrix: np.ndarray, classes: tuple[str, ...]) -> None:
    side = 2.2 + 0.5 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    panel = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if share[row, column] > 0.6 else "black"
        panel.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    panel.set_xticks(range(len(classes)), classes, rotation=90)
    panel.set_yticks(range(len(classes)), classes)
    panel.set_xlabel("predicted")
    panel.set_ylabel("truth")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
