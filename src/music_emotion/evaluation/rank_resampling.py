"""Spearman's correlation in many resamples of the clips, which are sorted only once."""

from dataclasses import dataclass

import numpy as np

from music_emotion.evaluation.bootstrap import resamples

_VALUES_AT_ONCE = 60_000  # of some resamples; a few arrays of them fit into a core's cache


@dataclass(frozen=True)
class _Order:
    """How a column is sorted.

    Attributes
    ----------
    rows : np.ndarray [shape=(n,)], integer
        The clips, ascending by their value.
    starts : np.ndarray [shape=(n_different,)], integer
        Where in `rows` another value begins.
    place : np.ndarray [shape=(n,)], integer
        Of every clip, which of the different values it has.
    """

    rows: np.ndarray
    starts: np.ndarray
    place: np.ndarray

    def centred_ranks(self, counts: np.ndarray) -> np.ndarray:
        """Every clip's rank less the mean rank, where it is drawn `counts` times [shape=(n, n_chunk)]."""
        drawn = counts[self.rows]
        if len(self.starts) < len(self.rows):
            drawn = np.add.reduceat(drawn, self.starts, axis=0)
        last = np.cumsum(drawn, axis=0)  # those of one value share the mean of their ranks
        return (last - (drawn + len(counts)) / 2)[self.place]


def resampled_spearman(
    truth: np.ndarray, prediction: np.ndarray, n_resamples: int = 2000, seed: int = 0
) -> np.ndarray:
    """Spearman's correlation of every column in bootstrap resamples of the clips.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n, n_targets)]
        Target values and predictions.
    n_resamples : int
        How often clips are drawn, n of n with replacement.
    seed : int
        Equal seeds draw equal clips, so that two runs can be compared in pairs.

    Returns
    -------
    np.ndarray [shape=(n_resamples, n_targets)]
        -1 to 1; 0 where a resample leaves a column constant.
    """
    n = len(truth)
    orders = [(_order(known), _order(guessed)) for known, guessed in zip(truth.T, prediction.T, strict=True)]
    n_chunk = max(1, _VALUES_AT_ONCE // n)
    chunks = [
        np.stack([_rank_correlation(counts, *pair) for pair in orders], axis=1)
        for rows in resamples(n, n_resamples, seed)
        for start in range(0, len(rows), n_chunk)
        for counts in [_counts(rows[start : start + n_chunk])]
    ]
    return np.concatenate(chunks)


def _order(column: np.ndarray) -> _Order:
    rows = np.argsort(column, kind="stable")
    values = column[rows]
    begins = np.concatenate([[True], values[1:] != values[:-1]])
    place = np.empty(len(column), dtype=np.int64)
    place[rows] = np.cumsum(begins) - 1
    return _Order(rows, np.flatnonzero(begins), place)


def _counts(rows: np.ndarray) -> np.ndarray:
    """How often every clip is in each resample [shape=(n, n_chunk)]."""
    n_chunk, n = rows.shape
    flat = n_chunk * rows + np.arange(n_chunk)[:, np.newaxis]
    return np.bincount(flat.ravel(), minlength=n_chunk * n).reshape(n, n_chunk).astype(np.float64)


def _rank_correlation(counts: np.ndarray, truth: _Order, prediction: _Order) -> np.ndarray:
    """Spearman's correlation in every resample; 0 where a column is constant."""
    a, b = truth.centred_ranks(counts), prediction.centred_ranks(counts)
    both, ours, others = (_sums(counts, *pair) for pair in ((a, b), (a, a), (b, b)))
    norms = np.sqrt(ours * others)
    return np.divide(both, norms, out=np.zeros(counts.shape[1]), where=norms > 0)


def _sums(counts: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of products over the drawn clips [shape=(n_chunk,)]."""
    return np.einsum("ij,ij,ij->j", counts, a, b)
