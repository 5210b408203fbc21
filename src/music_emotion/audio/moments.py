"""What the statistics of a clip have in common: moments over its frames, over its bins, over lags."""

import librosa
import numpy as np

_ROLL_OFF_SHARE = 0.85
_TINY = 1e-10
_LAGS_SECONDS = 3.0 / 2.0 ** np.arange(7, -1, -1)


def whole_frames(seconds: float, frame_seconds: float) -> int:
    """The number of frames nearest to a time, at least one."""
    return max(1, round(seconds / frame_seconds))


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


def skewness(rows: np.ndarray) -> np.ndarray:
    """Third standardised moment of every row [shape=(n_rows,)]; 0 of one that does not vary."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    squares = centred**2
    variance = squares.mean(axis=1)
    third = (squares * centred).mean(axis=1)  # a power of 3 takes many times as long
    return np.where(variance > _TINY, third / np.maximum(variance, _TINY) ** 1.5, 0.0)


def correlations(rows: np.ndarray) -> np.ndarray:
    """Pearson correlation of every two rows [shape=(n_pairs,)]; 0 where one does not vary.

    The first row with all others comes first, then the second with those after it.
    """
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    covariance = centred @ centred.T / rows.shape[1]
    deviation = np.sqrt(np.maximum(covariance.diagonal(), _TINY))
    return (covariance / np.outer(deviation, deviation))[np.triu_indices(len(rows), 1)]


def lag_changes(rows: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Mean distance of every row to itself, from 0.02 s later in doublings to 3 s later.

    Parameters
    ----------
    rows : np.ndarray [shape=(n_rows, n_frames)]
        Longer than 3 s, and than one frame.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    np.ndarray [shape=(8, n_rows)]
        In the rows' unit; short times first.
    """
    lags = [whole_frames(lag, frame_seconds) for lag in _LAGS_SECONDS]
    return np.stack([np.abs(rows[:, lag:] - rows[:, :-lag]).mean(axis=1) for lag in lags])
