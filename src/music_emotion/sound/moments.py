"""What the statistics of a clip have in common: moments over its frames, over its bins, over lags."""

import librosa
import numpy as np

_ROLL_OFF_SHARE = 0.85
_TINY = 1e-10


def mean_and_std(name: str, values: np.ndarray, unit: str = "") -> dict[str, float]:
    """Mean and standard deviation over the frames of a clip.

    Parameters
    ----------
    name, unit : str
        What the values are, and their unit; none for a ratio.
    values : np.ndarray [shape=(n_frames,)]
        One per frame, in that unit.

    Returns
    -------
    dict of str to float
        `{name}_mean_{unit}` and `{name}_std_{unit}`.

    Examples
    --------
    >>> mean_and_std("level", np.array([-20.0, -10.0]), "db")
    {'level_mean_db': -15.0, 'level_std_db': 5.0}
    """
    ending = f"_{unit}" if unit else ""
    return {f"{name}_mean{ending}": float(values.mean()), f"{name}_std{ending}": float(values.std())}


def spectral_shape(weights: np.ndarray, positions: np.ndarray, prefix: str, unit: str) -> dict[str, float]:
    """Mean and deviation of each frame's centroid, bandwidth and 85 % roll-off.

    They are those of librosa in a quarter of its time. As there, a frame of nothing but zeros
    counts as 0.

    Parameters
    ----------
    weights : np.ndarray [shape=(n_bins, n_frames)]
        Magnitude or power, not negative.
    positions : np.ndarray [shape=(n_bins,)]
        Where the bins are, in `unit`.
    prefix, unit : str
        What the names begin and end with.

    Returns
    -------
    dict of str to float
        Six statistics, all in `unit`.
    """
    # in double precision, for the difference of two squares of 10 kHz may be a few hertz
    sums, first, second = np.stack([np.ones(len(positions)), positions, positions**2]) @ weights
    total = np.where(sums > 0, sums, 1)
    centroid = first / total
    bandwidth = np.sqrt(np.maximum(second / total - centroid**2, 0))
    below = weights.cumsum(axis=0)
    roll_off = positions[(below < _ROLL_OFF_SHARE * below[-1]).sum(axis=0)]
    return {
        **mean_and_std(f"{prefix}centroid", centroid, unit),
        **mean_and_std(f"{prefix}bandwidth", bandwidth, unit),
        **mean_and_std(f"{prefix}roll_off", np.where(sums > 0, roll_off, 0), unit),
    }


def autocorrelation(values: np.ndarray) -> np.ndarray:
    """Correlation of a series with itself some frames later.

    Parameters
    ----------
    values : np.ndarray [shape=(n_frames,)]
        Such as onset strength; its mean is taken off.

    Returns
    -------
    np.ndarray [shape=(n_frames,)]
        By lag in frames: 1 at lag 0, then less as the overlap shrinks; all 0 for a constant.

    Examples
    --------
    >>> autocorrelation(np.array([1.0, 0.0, 1.0, 0.0])).round(2)
    array([ 1.  , -0.75,  0.5 , -0.25])
    """
    correlation = librosa.autocorrelate(values - values.mean(dtype=np.float64))
    return correlation / correlation[0] if correlation[0] >= _TINY else np.zeros(len(values))
