"""Resampling of clips, and what every score says beside its value.

References
----------
B. Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7, 1979.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from music_emotion.files import InputError, first_five

_VALUES_AT_ONCE = 1_000_000  # of a chunk of resamples, 8 MB


def resamples(n: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw n of n clips with replacement, many times.

    Parameters
    ----------
    n : int
        Number of clips.
    n_resamples : int
        How often they are drawn.
    seed : int
        Equal seeds draw equal clips.

    Yields
    ------
    np.ndarray [shape=(n_chunk, n)], integer
        Row numbers, a chunk of resamples at a time to bound the memory.
    """
    random = np.random.default_rng(seed)
    n_chunk = max(1, _VALUES_AT_ONCE // n)
    for start in range(0, n_resamples, n_chunk):
        yield random.integers(0, n, (min(n_chunk, n_resamples - start), n))


def interval(resampled: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of resampled scores [shape=(n_resamples,)]."""
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def with_interval(value: float, resampled: np.ndarray, n: int) -> dict[str, float]:
    """A score as `scores.json` holds it: value, ends of the 95 % interval, number of clips."""
    low, high = interval(resampled)
    return {"value": value, "low": low, "high": high, "n": n}


def with_pair(value: float, one: np.ndarray, other: np.ndarray, n: int) -> dict[str, float]:
    """A difference of two runs' scores: what `with_interval` says, and how often the first is above.

    Parameters
    ----------
    value : float
        The difference over all clips.
    one, other : np.ndarray [shape=(n_resamples,)]
        Scores of both in the same resamples.
    n : int
        Number of clips.

    Returns
    -------
    dict
        ``above`` is the share of resamples in which one is above the other; level ones count half.
    """
    apart = one - other
    return with_interval(value, apart, n) | {"above": float((apart > 0).mean() + (apart == 0).mean() / 2)}


def check_known(ids: pd.Index, known: pd.Index, place: str, what: str) -> None:
    """Refuse clips of which something is not known, such as their truth."""
    unknown = ids.difference(known)
    if len(unknown):
        raise InputError(
            f"{place}: {len(unknown)} clips have no {what}: {first_five(unknown)}. Give that of every clip."
        )
