"""Bootstrap intervals of scores and of paired differences, and standard deviations over seeds and folds.

References
----------
B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from music_emotion.config import Task
from music_emotion.evaluation.metrics import MEASURES, table_scores

N_RESAMPLES = 2000
_AT_ONCE = 60_000  # row numbers; a few such arrays fit into the CPU cache
_LEAST = 1e-6  # smaller denominators are 0 but for rounding

# Scores by name of a chunk of resamples, from how often each clip is drawn [shape=(n, n_chunk)]
Measure = Callable[[np.ndarray], dict[Any, np.ndarray]]


def resamples(n: int) -> Iterator[np.ndarray]:
    """Draw 2,000 bootstrap resamples of n clips. The draws depend only on n.

    Parameters
    ----------
    n : int
        Number of clips.

    Yields
    ------
    np.ndarray [shape=(n_chunk, n)], integer
        Row numbers of a chunk of resamples.
    """
    random = np.random.default_rng(0)
    n_chunk = max(1, _AT_ONCE // n)
    for start in range(0, N_RESAMPLES, n_chunk):
        yield random.integers(0, n, (min(n_chunk, N_RESAMPLES - start), n))


def with_interval(value: float, resampled: np.ndarray | pd.Series, n: int) -> dict[str, float]:
    """Add a 95 % percentile interval to a score.

    Parameters
    ----------
    value : float
        Score of all clips.
    resampled : np.ndarray [shape=(n_resamples,)]
        Score of every resample.
    n : int
        Number of clips.

    Returns
    -------
    dict
        ``value``, ``low``, ``high`` and ``n``, as in `scores.json`.
    """
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high), "n": n}


@dataclass(frozen=True, eq=False)
class Resampled:
    """Scores of predictions for all clips and for every bootstrap resample.

    Attributes
    ----------
    n : int
        Number of clips.
    values : pd.Series
        Scores of all clips, indexed by name.
    drawn : pd.DataFrame [shape=(2000, n_scores)]
        Scores of every resample.
    """

    n: int
    values: pd.Series
    drawn: pd.DataFrame

    def interval(self, names: Iterable[Any]) -> dict[str, float]:
        """Mean of the named scores, in the format of `with_interval`."""
        value, drawn = self.values[list(names)].mean(), self.drawn[list(names)].mean(axis=1)
        return with_interval(float(value), drawn, self.n)

    def intervals(self) -> dict[str, dict[str, float]]:
        """All scores, in the format of `with_interval`."""
        return {str(name): self.interval([name]) for name in self.drawn}

    def difference(self, other: "Resampled", names: Iterable[Any]) -> dict[str, float]:
        """Paired difference to the mean of the named scores of other predictions for the same clips.

        Both are scored in the same resamples, so clips that are hard for both don't widen the interval.

        Parameters
        ----------
        other : Resampled
        names : iterable
            Names of scores.

        Returns
        -------
        dict
            The format of `with_interval`, and ``above``: share of resamples in which the difference is
            positive. A difference of 0 counts half.
        """
        value = float((self.values - other.values)[list(names)].mean())
        drawn = (self.drawn - other.drawn)[list(names)].mean(axis=1)
        above = float((drawn > 0).mean() + (drawn == 0).mean() / 2)
        return with_interval(value, drawn, self.n) | {"above": above}


def resampled_scores(
    task: Task, truth: pd.DataFrame, table: pd.DataFrame, groups: pd.Series | None = None
) -> Resampled:
    """Score a prediction table in 2,000 bootstrap resamples of its clips, or of groups of clips.

    Parameters
    ----------
    task, truth, table
        As for `table_scores`.
    groups : pd.Series, optional
        Group of every clip, such as its artist, indexed by `Id`. Groups are drawn with all their clips, since
        clips of one group are alike.

    Returns
    -------
    Resampled
        Scores with the names of `table_scores`. In a resample with a constant column, the correlation is 0.
    """
    values = pd.Series(table_scores(task, truth, table))
    if task == "genre":
        known, predicted = (each[list(truth)].to_numpy() for each in (truth.loc[table.index], table))
        score = _genre_scores(known.argmax(axis=1), predicted.argmax(axis=1), known.shape[1])
        return Resampled(len(table), values, _resampled(table.index, groups, score))
    drawn = _resampled(table.index, groups, _of_targets(truth, table, _rank_correlation))
    return Resampled(len(table), values, drawn["spearman"].assign(mean=drawn.mean(axis=1)))


def resampled_measures(
    truth: pd.DataFrame,
    table: pd.DataFrame,
    groups: pd.Series | None = None,
    scales: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Compute the measures that research papers report, with their intervals, as in `scores.json`.

    A target whose values are all 0 or 1 is a tag.

    Parameters
    ----------
    truth, table, groups
        As for `resampled_scores`.
    scales : mapping of str to tuple of float, optional
        Lowest and highest value of a target in the data set's own scale, whose values here are 0 to 1.

    Returns
    -------
    dict
        Measure to target, or ``mean`` of the targets that have it, to the format of `with_interval`. Tags
        have ``roc_auc`` and ``pr_auc`` (average precision). Other targets have ``r2``, ``pearson``, ``ccc``
        and ``rmse``, and those in `scales` ``rmse_own_scale``, the error in the data set's own scale. With a
        constant column, correlations are 0; in a resample with one, R² is 0 and ROC-AUC 0.5, too.
    """
    measure = _of_targets(truth, table, _research_measures)
    drawn = _resampled(table.index, groups, measure)
    values = pd.DataFrame(measure(np.ones((len(table), 1)))).iloc[0]
    for name, (low, high) in (scales or {}).items():
        if ("rmse", name) in values:
            for each in (values, drawn):
                each["rmse_own_scale", name] = each["rmse", name] * (high - low)
    resampled, found = Resampled(len(table), values, drawn), dict[str, dict[str, dict[str, float]]]()
    for kind in MEASURES:
        if columns := [(kind, name) for name in truth if (kind, name) in drawn]:
            found[kind] = {str(name): resampled.interval([(kind, name)]) for _, name in columns}
            found[kind]["mean"] = resampled.interval(columns)
    return found


def _resampled(ids: pd.Index, groups: pd.Series | None, measure: Measure) -> pd.DataFrame:
    """Measure every resample of clips, or of their groups."""
    unit_of = np.arange(len(ids)) if groups is None else np.unique(groups.loc[ids], return_inverse=True)[1]
    n_units, chunks = unit_of.max() + 1, []
    for rows in resamples(n_units):
        drawn = [np.bincount(row, minlength=n_units) for row in rows]
        chunks.append(pd.DataFrame(measure(np.stack(drawn, axis=1)[unit_of].astype(np.float64))))
    return pd.concat(chunks, ignore_index=True)


def _of_targets(
    truth: pd.DataFrame, table: pd.DataFrame, make: Callable[[np.ndarray, np.ndarray], Measure]
) -> Measure:
    """Measure every target by a measure that is made of its truth and predictions."""
    of_target = {}
    for name in truth:
        known, predicted = truth[name].loc[table.index].to_numpy(), table[name].to_numpy()
        there = ~np.isnan(known)  # clips whose target is unknown don't count for it
        of_target[name] = slice(None) if there.all() else there, make(known[there], predicted[there])
    return lambda counts: {
        (measure, name): values
        for name, (there, of) in of_target.items()
        for measure, values in of(counts[there]).items()
    }


def _one_hot(places: np.ndarray, n_places: int) -> csr_array:
    clips = np.arange(len(places))
    return csr_array((np.ones(len(places)), (places, clips)), shape=(n_places, len(places)))


def _tied(column: np.ndarray) -> csr_array:
    """One-hot matrix of the distinct values, ascending, over clips [shape=(n_distinct, n)]."""
    values, places = np.unique(column, return_inverse=True)
    return _one_hot(places, len(values))


def _rank_correlation(truth: np.ndarray, prediction: np.ndarray) -> Measure:
    """Spearman's correlation. Ranks follow from the counts of each clip, so clips are sorted only once."""
    columns = _tied(truth), _tied(prediction)

    def correlation(counts: np.ndarray) -> dict[str, np.ndarray]:
        ranks = []
        for tied in columns:
            drawn = tied @ counts
            mean_ranks = np.cumsum(drawn, axis=0) - (drawn + counts.sum(axis=0)) / 2  # centred
            ranks.append(tied.T @ mean_ranks)
        both, ours, others = (
            np.einsum("ij,ij,ij->j", counts, ranks[i], ranks[j]) for i, j in ((0, 1), (0, 0), (1, 1))
        )
        return {"spearman": _ratio(both, np.sqrt(ours * others))}

    return correlation


def _ratio(numerator: np.ndarray, denominator: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """Divide; `otherwise` where the denominator is 0."""
    out = np.full(numerator.shape, otherwise)
    return np.divide(numerator, denominator, out=out, where=denominator > _LEAST)


def _research_measures(truth: np.ndarray, prediction: np.ndarray) -> Measure:
    if np.isin(truth, (0, 1)).all():
        return partial(_tag_measures, truth, _tied(prediction))
    return partial(_value_measures, truth, prediction)


def _value_measures(truth: np.ndarray, prediction: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of a target per resample, from the moments of standardised columns."""
    y, p = ((each - each.mean()) / (each.std() or 1) for each in (truth, prediction))
    stretch, unit = prediction.std() / truth.std(), truth.std()
    apart = (prediction - truth) / unit
    moments = np.stack([y, p, y**2, p**2, y * p, apart, apart**2]) @ counts / counts.sum(axis=0)
    y_mean, p_mean, y_square, p_square, product, bias, error = moments
    ours, others = (y_square - y_mean**2).clip(0), (p_square - p_mean**2).clip(0)
    both = product - y_mean * p_mean
    return {
        "r2": 1 - _ratio(error, ours, 1.0),
        "pearson": _ratio(both, np.sqrt(ours * others)),
        "ccc": _ratio(2 * stretch * both, ours + stretch**2 * others + bias**2),
        "rmse": np.sqrt(error) * unit,
    }


def _tag_measures(truth: np.ndarray, tied: csr_array, counts: np.ndarray) -> dict[str, np.ndarray]:
    """Areas under the curves of a tag per resample, from the clips of every distinct prediction."""
    drawn, right = tied @ counts, tied @ (counts * truth[:, None])
    wrong = drawn - right
    below = np.cumsum(wrong, axis=0) - wrong / 2
    above, right_above = (each[::-1].cumsum(axis=0)[::-1] for each in (drawn, right))
    n_right, n_wrong = right.sum(axis=0), wrong.sum(axis=0)
    return {
        "roc_auc": _ratio((right * below).sum(axis=0), n_right * n_wrong, 0.5),
        "pr_auc": _ratio((right * _ratio(right_above, above)).sum(axis=0), n_right),
    }


def _genre_scores(known: np.ndarray, predicted: np.ndarray, n_classes: int) -> Measure:
    """Accuracy, macro and weighted F1, from counts per class.

    Confusion matrices of all resamples would need too much memory.
    """
    hits = _one_hot(np.where(predicted == known, known, n_classes), n_classes + 1)[:n_classes]
    one_hot = hits, _one_hot(known, n_classes), _one_hot(predicted, n_classes)

    def scores(counts: np.ndarray) -> dict[str, np.ndarray]:
        right, support, guessed = (each @ counts for each in one_hot)
        f1, n_drawn = _ratio(2 * right, support + guessed), counts.sum(axis=0)
        weighted = (f1 * support).sum(axis=0) / n_drawn
        return {"accuracy": right.sum(axis=0) / n_drawn, "macro_f1": f1.mean(axis=0), "weighted_f1": weighted}

    return scores


def spread_of(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[int, float | None]]:
    """Standard deviations over seeds and over folds of the mean of the named scores.

    Parameters
    ----------
    scores : mapping
        Content of `scores.json`: ``per_seed`` and, optionally, ``per_fold``.
    names : sequence of str
        Targets or measures.

    Returns
    -------
    dict
        ``seeds``: number of seeds, and standard deviation of their scores. ``folds``: largest number of folds
        of a seed, and pooled standard deviation of folds around the mean of their seed. It includes the
        sampling error of the few clips of a fold. A deviation is None for a single seed or single folds. The
        dict is empty without scores per seed.
    """
    if not scores.get("per_seed"):
        return {}
    seeds = pd.DataFrame(scores["per_seed"]).loc[list(names)].mean()
    rows = (scores.get("per_fold") or {}).get("scores", [])
    means = [sum(row["scores"][name] for name in names) / len(names) for row in rows]
    folds = pd.Series(means, [row["seed"] for row in rows], dtype=float).groupby(level=0)
    freedom = folds.size() - 1
    squares = float((folds.var() * freedom).sum())
    return {
        "seeds": (len(seeds), float(seeds.std()) if len(seeds) > 1 else None),
        "folds": (
            int(freedom.max()) + 1 if rows else 0,
            (squares / float(freedom.sum())) ** 0.5 if freedom.sum() else None,
        ),
    }
