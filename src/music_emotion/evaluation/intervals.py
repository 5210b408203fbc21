"""Bootstrap intervals of scores, paired differences of two runs, and the spread over seeds and folds.

References
----------
B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from music_emotion.evaluation.metrics import genre_scores, target_scores
from music_emotion.files import InputError

_VALUES_AT_ONCE = 1_000_000  # 8 MB of row numbers
_RANKS_AT_ONCE = 60_000  # a few arrays of these fit into a core's cache


def resamples(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw n of n clips with replacement, many times.

    Parameters
    ----------
    n, n_resamples : int
        Number of clips, and of resamples.
    seed : int
        Equal seeds draw equal clips, so that two runs can be compared in pairs.

    Yields
    ------
    np.ndarray [shape=(n_chunk, n)], integer
        Row numbers, a chunk of resamples at a time.
    """
    random = np.random.default_rng(seed)
    n_chunk = max(1, _VALUES_AT_ONCE // n)
    for start in range(0, n_resamples, n_chunk):
        yield random.integers(0, n, (min(n_chunk, n_resamples - start), n))


def with_interval(value: float, resampled: np.ndarray, n: int) -> dict[str, float]:
    """A score with its 95 % percentile interval.

    Parameters
    ----------
    value : float
        The score of all clips.
    resampled : np.ndarray [shape=(n_resamples,)]
        The score of every resample.
    n : int
        Number of clips.

    Returns
    -------
    dict
        ``value``, ``low``, ``high`` and ``n``, as `scores.json` holds them.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high), "n": n}


def _with_pair(value: float, one: np.ndarray, other: np.ndarray, n: int) -> dict[str, float]:
    apart = one - other
    return with_interval(value, apart, n) | {"above": float((apart > 0).mean() + (apart == 0).mean() / 2)}


def resampled_spearman(
    truth: np.ndarray, prediction: np.ndarray, n_resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """Spearman's correlation of every column in bootstrap resamples of the clips.

    A resample's ranks follow from how often it holds each clip, so that clips are sorted once.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n, n_targets)]
        Target values and predictions.
    n_resamples, seed : int
        As for `resamples`.

    Returns
    -------
    np.ndarray [shape=(n_resamples, n_targets)]
        -1 to 1; 0 where a resample leaves a column constant.
    """
    n = len(truth)
    columns = [(_tied(known), _tied(guessed)) for known, guessed in zip(truth.T, prediction.T, strict=True)]
    n_chunk = max(1, _RANKS_AT_ONCE // n)
    return np.concatenate(
        [
            np.stack([_rank_correlation(counts, *pair) for pair in columns], axis=1)
            for rows in resamples(n, n_resamples, seed)
            for start in range(0, len(rows), n_chunk)
            for counts in [_counts(rows[start : start + n_chunk], n).T.astype(np.float64)]
        ]
    )


def _tied(column: np.ndarray) -> csr_array:
    """Which of the different values, ascending, every clip has [shape=(n_different, n)]."""
    values, place = np.unique(column, return_inverse=True)
    clips = np.arange(len(column))
    return csr_array((np.ones(len(column)), (place, clips)), shape=(len(values), len(column)))


def _counts(rows: np.ndarray, n: int) -> np.ndarray:
    """How often each of the numbers below n is in every row [shape=(n_rows, n)]; others are ignored."""
    return np.stack([np.bincount(row, minlength=n)[:n] for row in rows])


def _rank_correlation(counts: np.ndarray, truth: csr_array, prediction: csr_array) -> np.ndarray:
    """Spearman's correlation of clips that are drawn `counts` times [shape=(n, n_chunk)]."""
    ranks = []
    for tied in (truth, prediction):
        drawn = tied @ counts
        mean_ranks = np.cumsum(drawn, axis=0) - (drawn + len(counts)) / 2  # centred
        ranks.append(tied.T @ mean_ranks)
    both, ours, others = (
        np.einsum("ij,ij,ij->j", counts, ranks[i], ranks[j]) for i, j in ((0, 1), (0, 0), (1, 1))
    )
    norms = np.sqrt(ours * others)
    return np.divide(both, norms, out=np.zeros(counts.shape[1]), where=norms > 0)


def pooled_scores(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Every target's Spearman correlation and their `mean`, each as `with_interval`.

    Parameters
    ----------
    truth, table : pd.DataFrame
        As for `target_scores`.
    """
    resampled = resampled_spearman(truth.loc[table.index].to_numpy(), table.to_numpy())
    columns = [*resampled.T, resampled.mean(axis=1)]
    values = target_scores(truth, table)
    return {
        name: with_interval(values[name], drawn, len(table))
        for name, drawn in zip(values, columns, strict=True)
    }


def mean_score(truth: pd.DataFrame, table: pd.DataFrame, targets: Sequence[str]) -> dict[str, float]:
    """Spearman's correlation, averaged over some targets, as `with_interval`.

    Parameters
    ----------
    truth, table : pd.DataFrame
        Target values and predictions, indexed by `Id`. Only clips of both count.
    targets : sequence of str
        Which of the columns.

    Raises
    ------
    InputError
        As `paired_difference`.
    """
    tables = _common(truth, [table], targets)
    return with_interval(*_resampled_mean(*tables), len(tables[0]))


def paired_difference(
    truth: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame, targets: Sequence[str]
) -> dict[str, float]:
    """By how much one run's mean Spearman correlation is above another's.

    Both are scored in the same resamples, so that clips that are hard for both do not widen the interval.

    Parameters
    ----------
    truth, one, other : pd.DataFrame
        Target values and two runs' predictions, indexed by `Id`, in any order. Only clips of all count.
    targets : sequence of str
        Columns that the mean is over.

    Returns
    -------
    dict
        As `with_interval`, and ``above``: the share of resamples in which one is above the other; equal
        scores count half.

    Raises
    ------
    InputError
        When a table lacks a target, they share fewer than two clips, or a truth can't be ranked.
    """
    known, *tables = _common(truth, [one, other], targets)
    (value, drawn), (others_value, others_drawn) = (_resampled_mean(known, table) for table in tables)
    return _with_pair(value - others_value, drawn, others_drawn, len(known))


def _common(
    truth: pd.DataFrame, predictions: Sequence[pd.DataFrame], targets: Sequence[str]
) -> list[pd.DataFrame]:
    """Truth and predictions of the clips that all have, in ascending order."""
    ids = truth.index
    for table in predictions:
        ids = ids.intersection(table.index)
    if missing := [name for name in targets for table in (truth, *predictions) if name not in table]:
        raise InputError(
            f"A table has no '{missing[0]}', so it can't be compared. Name targets that all have."
        )
    if len(ids) < 2:
        raise InputError(f"Only {len(ids)} clips are in all tables. Compare predictions of the same clips.")
    return [table.loc[ids.sort_values(), list(targets)] for table in (truth, *predictions)]


def _resampled_mean(truth: pd.DataFrame, table: pd.DataFrame) -> tuple[float, np.ndarray]:
    """Mean over the targets, of all clips and in every resample [shape=(n_resamples,)]."""
    resampled = resampled_spearman(truth.to_numpy(), table.to_numpy())
    return target_scores(truth, table)["mean"], resampled.mean(axis=1)


def class_intervals(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Accuracy, macro and weighted F1, each as `with_interval`.

    Parameters
    ----------
    truth, probabilities, classes
        As for `genre_scores`.
    """
    values, resampled = genre_scores(truth, probabilities, classes), _resampled_genre(truth, probabilities)
    return {name: with_interval(value, resampled[name], len(truth)) for name, value in values.items()}


def paired_classes(
    truth: np.ndarray, one: np.ndarray, other: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """By how much one run's accuracy and F1 are above another's, each as by `paired_difference`.

    Parameters
    ----------
    truth, one, other, classes
        As for `genre_scores`, with two runs' probabilities.
    """
    values, others = (genre_scores(truth, each, classes) for each in (one, other))
    drawn, others_drawn = (_resampled_genre(truth, each) for each in (one, other))
    return {
        name: _with_pair(values[name] - others[name], drawn[name], others_drawn[name], len(truth))
        for name in values
    }


def _resampled_genre(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Scores in 2000 resamples, from counts per class: confusion matrices of all would not fit."""
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    hits = np.where(predicted == truth, truth, n_classes)
    counted = [
        [_counts(classes[rows], n_classes) for classes in (hits, truth, predicted)]
        for rows in resamples(n, 2000, seed=0)
    ]
    right, support, guessed = (np.concatenate(counts) for counts in zip(*counted, strict=True))
    found = support + guessed
    f1 = np.divide(2 * right, found, out=np.zeros(found.shape), where=found > 0)
    return {
        "accuracy": right.sum(axis=1) / n,
        "macro_f1": f1.mean(axis=1),
        "weighted_f1": (f1 * support).sum(axis=1) / n,
    }


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a score; None where one seed, or one fold of each, can't tell.

    Attributes
    ----------
    n_seeds, n_folds : int
        How many were scored; `n_folds` of the seed that has most.
    over_seeds : float or None
        Of the score that each seed has over all its clips.
    over_folds : float or None
        Of single folds about the mean of their seed. It includes the luck of the few clips of a fold.
    """

    n_seeds: int
    n_folds: int
    over_seeds: float | None
    over_folds: float | None

    def in_words(self) -> str:
        """Both, as runs print them behind a score."""
        return ", ".join(
            f"± unknown ({n} {what}{'s' * (n != 1)})"
            if deviation is None
            else f"± {deviation:.3f} ({n} {what}s)"
            for deviation, n, what in (
                (self.over_seeds, self.n_seeds, "seed"),
                (self.over_folds, self.n_folds, "fold"),
            )
        )


def spread_of(scores: Mapping[str, Any], names: Sequence[str]) -> Spread | None:
    """The spread of the mean of some scores, from what `scores.json` holds.

    Parameters
    ----------
    scores : mapping
        ``per_seed``, seed to scores, and perhaps ``per_fold``, whose ``scores`` have ``seed``, ``fold``
        and their own ``scores``.
    names : sequence of str
        Targets or measures.

    Returns
    -------
    Spread or None
        None where nothing is known of single seeds.
    """
    if not scores.get("per_seed"):
        return None
    of_seeds = pd.DataFrame.from_dict(scores["per_seed"], orient="index")[list(names)].mean(axis=1)
    rows = (scores.get("per_fold") or {}).get("scores", [])
    seeds = pd.Series([row["seed"] for row in rows], dtype="int64")
    means = [sum(row["scores"][name] for name in names) / len(names) for row in rows]
    of_folds = pd.Series(means, dtype=float)
    sizes = of_folds.groupby(seeds).size()
    return Spread(
        n_seeds=len(of_seeds),
        n_folds=int(sizes.max()) if len(sizes) else 0,
        over_seeds=_deviation(of_seeds - of_seeds.mean(), len(of_seeds) - 1),
        over_folds=_deviation(of_folds - of_folds.groupby(seeds).transform("mean"), int((sizes - 1).sum())),
    )


def _deviation(distances: pd.Series, freedom: int) -> float | None:
    return float((distances**2).sum() / freedom) ** 0.5 if freedom > 0 else None
