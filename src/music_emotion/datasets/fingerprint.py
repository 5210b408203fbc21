"""A coarse print of a clip's array, by which the same recording is known again.

It is kept from what copies of a recording differ in: loudness and equaliser (the mean of every band is
taken away), quiet and high sounds, which a lossy encoder drops, and slow swells, in which unrelated
clips are alike. What is left is which bands rise above the others, and when.
"""

import numpy as np
from scipy.ndimage import uniform_filter1d

from music_emotion.config import Rate

N_STEPS, N_BANDS = 64, 16
FRAMES_PER_STEP: dict[Rate, int] = {"full": 24, "beat": 1}  # about half a second
_N_ROWS = 96  # mel rows below 4 kHz at 22,050 Hz
_DEPTH_DB = 50.0  # below the loudest value of the clip
_SLOW_STEPS = 13  # about seven seconds
_LEAST_NORM_DB = 1e-3  # rounding leaves less of levels that never change


def fingerprint(frames: np.ndarray, frames_per_step: int) -> np.ndarray:
    """The print of a clip.

    Parameters
    ----------
    frames : np.ndarray [shape=(n_frames, 140)]
        The clip's array, time first.
    frames_per_step : int
        By how many frames the steps of the print are apart; each is a mean over twice as many.

    Returns
    -------
    np.ndarray [shape=(N_STEPS, N_BANDS)], float16
        Of norm 1, with zeros after the last step of the clip; steps beyond `N_STEPS` are left out. All
        zeros for a clip that is too short or too even to have a print.
    """
    levels = frames[:, :_N_ROWS].astype(np.float32)
    levels = np.maximum(levels, levels.max() - _DEPTH_DB)
    bands = levels.reshape(len(levels), N_BANDS, -1).mean(axis=2)
    steps = _means(bands, frames_per_step)
    steps -= steps.mean(axis=0)
    steps -= steps.mean(axis=1, keepdims=True)
    steps -= uniform_filter1d(steps, _SLOW_STEPS, axis=0, mode="nearest")
    whole = np.zeros((N_STEPS, N_BANDS))
    whole[: len(steps)] = steps
    norm = np.linalg.norm(whole)
    return (whole / norm if norm > _LEAST_NORM_DB else np.zeros_like(whole)).astype(np.float16)


def _means(bands: np.ndarray, frames_per_step: int) -> np.ndarray:
    """Means over overlapping spans of frames [shape=(n_steps, N_BANDS)], float64."""
    width = min(2 * frames_per_step, len(bands))
    starts = np.arange(0, len(bands) - width + 1, frames_per_step)[:N_STEPS]
    sums = np.concatenate([np.zeros((1, N_BANDS)), bands.cumsum(axis=0, dtype=np.float64)])
    return (sums[starts + width] - sums[starts]) / width
