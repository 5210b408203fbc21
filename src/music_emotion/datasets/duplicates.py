"""Find clips of one recording, even after re-encoding, gain changes, noise or a shift of up to two seconds.

The fingerprint of a clip describes which mel bands are louder than the others, and when. It removes the mean
of each band (gain, equaliser), quiet and high frequencies (lossy encoders) and slow changes of level.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d

from music_emotion.config import Rate

N_STEPS, N_BANDS = 64, 16
FRAMES_PER_STEP: dict[Rate, int] = {"full": 24, "beat": 1}  # about half a second
_N_ROWS = 96  # mel rows below 4 kHz at 22,050 Hz
_DEPTH_DB = 50.0  # range below the maximum of the clip
_SLOW_STEPS = 13  # about seven seconds
_LEAST_NORM_DB = 1e-3  # rounding errors of constant levels are smaller

MOST_LISTED = 100_000
MOST_COMPARED = 20_000  # clips; the time grows quadratically, here to half a minute on one core
_LAGS = range(-4, 5)  # in steps, so up to two seconds
_ALIKE, _LONG_STEPS = 0.7, 50  # unrelated clips of 30 s are less similar; see LOG.md, 2026-11-28
_CLIPS_AT_ONCE = 512


def fingerprint(frames: np.ndarray, frames_per_step: int) -> np.ndarray:
    """Compute the fingerprint of a clip.

    Parameters
    ----------
    frames : np.ndarray [shape=(n_frames, 140)]
        The clip's array, time first.
    frames_per_step : int
        Frames from one step to the next. Each step is the mean over twice as many frames.

    Returns
    -------
    np.ndarray [shape=(N_STEPS, N_BANDS)], float16
        Scaled to norm 1. Shorter clips are padded with zeros, longer clips cut at `N_STEPS`. All zeros if
        the clip is shorter than two steps or constant.
    """
    levels = frames[:, :_N_ROWS].astype(np.float32)
    levels = np.maximum(levels, levels.max() - _DEPTH_DB)
    bands = levels.reshape(len(levels), N_BANDS, -1).mean(axis=2)
    width = min(2 * frames_per_step, len(bands))
    starts = np.arange(0, len(bands) - width + 1, frames_per_step)[:N_STEPS]
    sums = np.concatenate([np.zeros((1, N_BANDS)), bands.cumsum(axis=0, dtype=np.float64)])
    steps = (sums[starts + width] - sums[starts]) / width
    steps -= steps.mean(axis=0)
    steps -= steps.mean(axis=1, keepdims=True)
    steps -= uniform_filter1d(steps, _SLOW_STEPS, axis=0, mode="nearest")
    whole = np.zeros((N_STEPS, N_BANDS))
    whole[: len(steps)] = steps
    norm = np.linalg.norm(whole)
    return (whole / norm if norm > _LEAST_NORM_DB else np.zeros_like(whole)).astype(np.float16)


def near_duplicates(fingerprints: np.ndarray) -> Iterator[pd.DataFrame]:
    """Compare all pairs of clips, in blocks, at lags of up to two seconds.

    Parameters
    ----------
    fingerprints : np.ndarray [shape=(n, n_steps, n_bands)]
        From `fingerprint`. Zeros match nothing.

    Yields
    ------
    pd.DataFrame
        Pairs above the similarity threshold: `first` and `second` (positions), and `similarity` (largest
        inner product over the lags). Short clips have a higher threshold, since chance matches are likelier.
    """
    n, _, n_bands = fingerprints.shape
    used = (fingerprints != 0).any(axis=2)
    n_steps = np.where(used.any(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    alike = (1 - (1 - _ALIKE) * np.minimum(1, n_steps / _LONG_STEPS)).astype(np.float32)
    width = max(n_steps.max(initial=0), 1) * n_bands
    flat = fingerprints.reshape(n, -1)[:, :width].astype(np.float32)
    for start in range(0, n, _CLIPS_AT_ONCE):
        block, others = flat[start : start + _CLIPS_AT_ONCE], flat[start:]
        similarity = np.zeros((len(block), len(others)), np.float32)
        for lag in _LAGS:
            cut = min(abs(lag) * n_bands, width)
            one, other = (cut, 0) if lag > 0 else (0, cut)
            product = block[:, one : width - other] @ others[:, other : width - one].T
            np.maximum(similarity, product, out=similarity)
        enough = np.maximum(alike[start : start + len(block), None], alike[start:])
        first, second = np.nonzero(np.triu(similarity >= enough, k=1))
        yield _pairs(first + start, second + start, similarity[first, second])


def copies(contents: list[bytes]) -> Iterator[pd.DataFrame]:
    """Find clips of identical content.

    Parameters
    ----------
    contents : list of bytes
        Content of each clip, or its digest. Empty bytes match nothing.

    Yields
    ------
    pd.DataFrame
        Pairs as in `near_duplicates`, with similarity 1.
    """
    positions = pd.Series(np.arange(len(contents))).groupby(np.array(contents, object)).indices
    for content, same in positions.items():
        for number in range(1, len(same) if content else 1):  # n copies make n² / 2 pairs: too many at once
            earlier, this = np.asarray(same[:number]), np.full(number, same[number])
            yield _pairs(earlier, this, np.ones(number, np.float32))


def most_similar(
    found: Iterable[pd.DataFrame], matters: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[pd.DataFrame, int]:
    """Collect the most similar pairs in bounded memory.

    Parameters
    ----------
    found : iterable of pd.DataFrame
        From `near_duplicates` and `copies`.
    matters : callable
        Maps the positions of the first and second clips to a mask of the pairs to keep [shape=(n_pairs,)].

    Returns
    -------
    pairs : pd.DataFrame
        At most `MOST_LISTED`, most similar first.
    n : int
        Number of all pairs that `matters` keeps.
    """
    kept, n, n_kept = [_pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))], 0, 0
    for pairs in found:
        kept.append(pairs[matters(pairs["first"].to_numpy(), pairs["second"].to_numpy())])
        n, n_kept = n + len(kept[-1]), n_kept + len(kept[-1])
        if n_kept > 2 * MOST_LISTED:
            kept, n_kept = [_first(kept)], MOST_LISTED
    return _first(kept), n


def _pairs(first: np.ndarray, second: np.ndarray, similarity: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"first": first, "second": second, "similarity": similarity})


def _first(kept: list[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(kept).sort_values(["similarity", "first", "second"], ascending=[False, True, True])
    return table[:MOST_LISTED].reset_index(drop=True)
