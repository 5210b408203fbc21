"""Families of statistics of the chroma rows: intervals, key and mode, and how harmony moves."""

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import welch

from music_emotion.audio.moments import skewness, whole_frames
from music_emotion.audio.summary import MAJOR, MINOR

_MODULATION_EDGES_HZ = np.array([0.3, 0.7, 1.4, 2.8, 5.6, 11.0, 21.5])
_MODULATION_SECONDS = 6.0
_KEY_SECONDS = 4.0
_TINY = 1e-9


def tonality_families(chroma: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Families of tonality of a clip: in another key, any of them is the same.

    `pitch_spectrum`, `chord_spectrum`
        How chromatic, whole-tone, diatonic and so on the pitch classes are: magnitudes of their
        Fourier coefficients 1 to 6 (E. Amiot, 2016, "Music through Fourier space"), of
        their shares over the clip; and of those in a frame, mean and deviation over frames.
    `intervals`
        Which intervals sound together.
    `local_key`
        How clear the key is and whether it is major, every second (profiles as for `fused_statistics`).
    `harmonic_flux`
        How much the pitch classes change from a frame to the next, after Harte, Sandler and Gasser,
        2006, "Detecting harmonic change in musical audio", without their projection.
    `harmonic_rhythm`
        How fast pitch classes come and go.

    Parameters
    ----------
    chroma : np.ndarray [shape=(12, n_frames)], float32
        From 0 to 1; at least 6 s and 4 frames.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    dict of str to np.ndarray
    """
    shares = chroma / (chroma.sum(axis=0) + _TINY)
    spectra = np.abs(np.fft.rfft(shares, axis=0))[1:]
    mean = chroma.mean(axis=1)
    return {
        "pitch_spectrum": np.abs(np.fft.rfft(mean / (mean.sum() + _TINY)))[1:],
        "chord_spectrum": np.concatenate([spectra.mean(axis=1), spectra.std(axis=1)]),
        "intervals": _intervals(chroma),
        "local_key": _local_key(chroma, frame_seconds),
        "harmonic_flux": _harmonic_flux(chroma),
        "harmonic_rhythm": _harmonic_rhythm(chroma, frame_seconds),
    }


def _intervals(chroma: np.ndarray) -> np.ndarray:
    """How strongly pitch classes one to six semitones apart sound together, mean, deviation over frames.

    In parts of the power: two equal notes give 1 / 2 at their interval, and 1 at six semitones, the
    only ones that are as far apart the other way round.
    """
    power = (chroma**2).sum(axis=0) + _TINY
    together = np.stack([(chroma * np.roll(chroma, n, axis=0)).sum(axis=0) / power for n in range(1, 7)])
    return np.concatenate([together.mean(axis=1), together.std(axis=1)])


def _local_key(chroma: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Correlation with the best major and minor key of every second, and which of them fits better.

    Mean of either and of major less minor; shares of seconds in major, and of changes of key; and
    the deviation of major less minor.
    """
    length, step = whole_frames(_KEY_SECONDS, frame_seconds), whole_frames(1, frame_seconds)
    seconds = _standardised(uniform_filter1d(chroma, length, axis=1)[:, ::step])
    fits = [_keys(profile) @ seconds / 12 for profile in (MAJOR, MINOR)]
    major, minor = (fit.max(axis=0) for fit in fits)
    mode = major - minor
    changes = np.diff(np.concatenate(fits).argmax(axis=0)) != 0
    return np.array([major.mean(), minor.mean(), mode.mean(), (mode > 0).mean(), changes.mean(), mode.std()])


def _keys(profile: np.ndarray) -> np.ndarray:
    """A profile on each of the twelve tonics [shape=(12, 12)]."""
    standardised = _standardised(profile[:, None])[:, 0]
    return np.stack([np.roll(standardised, tonic) for tonic in range(len(profile))])


def _standardised(columns: np.ndarray) -> np.ndarray:
    return (columns - columns.mean(axis=0)) / (columns.std(axis=0) + _TINY)


def _harmonic_flux(chroma: np.ndarray) -> np.ndarray:
    """Quantiles of the change from frame to frame, its skewness, and the share of large changes."""
    change = np.abs(np.diff(chroma, axis=1)).sum(axis=0)
    large = (change > 2 * change.mean()).mean()
    return np.array([*np.percentile(change, [10, 25, 50, 75, 90, 97]), *skewness(change[None]), large])


def _harmonic_rhythm(chroma: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Log power of the chroma rows' modulation in octaves from 0.3 Hz up."""
    n_window = min(whole_frames(_MODULATION_SECONDS, frame_seconds), chroma.shape[1])
    frequencies, power = welch(chroma, 1 / frame_seconds, nperseg=n_window)
    sums = np.histogram(frequencies, _MODULATION_EDGES_HZ, weights=power.mean(axis=0))[0]
    counts = np.histogram(frequencies, _MODULATION_EDGES_HZ)[0]
    return np.log(sums / np.maximum(counts, 1) + 1e-8)
