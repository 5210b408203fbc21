"""Pairs of clips that are probably one recording: re-encoded, louder, noisier, or cut a little otherwise."""

from collections.abc import Callable, Iterator
from functools import reduce

import numpy as np
import pandas as pd

# Which pairs of positions matter [shape=(n_pairs,)], bool.
Matters = Callable[[np.ndarray, np.ndarray], np.ndarray]

MOST_LISTED = 100_000
MOST_COMPARED = 20_000  # clips; the time grows with their square, here to half a minute of one core
_LAGS = range(-4, 5)  # in steps, so up to two seconds
_ALIKE, _LONG_STEPS = 0.7, 50  # of unrelated clips of 30 s none is so alike; see LOG.md, 2026-11-28
_CLIPS_AT_ONCE = 512


class Pairs:
    """Pairs that matter, of which the most similar are kept.

    Parameters
    ----------
    matters : callable
        Whether pairs matter.

    Attributes
    ----------
    n : int
        How many there are in all.
    """

    def __init__(self, matters: Matters):
        self.matters = matters
        self.n = 0
        self._parts: list[pd.DataFrame] = []
        self._n_kept = 0

    def add(self, first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> None:
        """Take those of some pairs that matter."""
        chosen = self.matters(first, second)
        self.n += int(chosen.sum())
        self._n_kept += int(chosen.sum())
        found = {"first": first[chosen], "second": second[chosen], "similarity": similarity[chosen]}
        self._parts.append(pd.DataFrame(found))
        if self._n_kept > 2 * MOST_LISTED:
            self._parts = [self.table()]
            self._n_kept = MOST_LISTED

    def table(self) -> pd.DataFrame:
        """`first` and `second` (positions) and `similarity` of at most `MOST_LISTED`, most similar first."""
        table = pd.concat(self._parts)
        order = np.lexsort((table["second"], table["first"], -table["similarity"]))
        return table.iloc[order[:MOST_LISTED]].reset_index(drop=True)


def find_near_twins(fingerprints: np.ndarray, pairs: Pairs) -> None:
    """Compare every clip with every other, in blocks, at lags of up to two seconds.

    Parameters
    ----------
    fingerprints : np.ndarray [shape=(n, n_steps, n_bands)]
        Of norm 1; such of zeros are like no other. The similarity of two is their largest inner
        product over the lags, and has to be the larger the shorter the clips are, since fewer steps
        are more easily alike by chance.
    pairs : Pairs
        Gets what is found.
    """
    n, _, n_bands = fingerprints.shape
    used = (fingerprints != 0).any(axis=2)
    n_steps = np.where(used.any(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    alike = (1 - (1 - _ALIKE) * np.minimum(1, n_steps / _LONG_STEPS)).astype(np.float32)
    flat = fingerprints[:, : max(n_steps.max(initial=0), 1)].astype(np.float32).reshape(n, -1)
    for start in range(0, n, _CLIPS_AT_ONCE):
        block, others = flat[start : start + _CLIPS_AT_ONCE], flat[start:]
        similarity = reduce(np.maximum, _products(block, others, n_bands))
        enough = np.maximum(alike[start : start + len(block), None], alike[start:])
        first, second = np.nonzero(similarity >= enough)
        later = second > first
        first, second = first[later], second[later]
        pairs.add(first + start, second + start, similarity[first, second])


def _products(block: np.ndarray, others: np.ndarray, n_bands: int) -> Iterator[np.ndarray]:
    """Inner products of all with all at every lag [shape=(n_block, n_others)]."""
    width = block.shape[1]
    for lag in _LAGS:
        cut = min(abs(lag) * n_bands, width)
        one, other = (cut, 0) if lag > 0 else (0, cut)
        yield block[:, one : width - other] @ others[:, other : width - one].T


def find_copies(contents: list[bytes], pairs: Pairs) -> None:
    """Find clips of the same content; of empty ones nothing is known.

    Parameters
    ----------
    contents : list of bytes
        What every clip holds, or a digest of it.
    pairs : Pairs
        Gets what is found, with the similarity 1.
    """
    positions = pd.Series(np.arange(len(contents))).groupby(np.array(contents, object)).indices
    for content, same in positions.items():
        if not content or len(same) < 2:
            continue
        for number, first in enumerate(same[:-1]):  # one by one, for a thousand copies are a million pairs
            second = np.asarray(same[number + 1 :])
            pairs.add(np.full(len(second), first), second, np.ones(len(second)))
