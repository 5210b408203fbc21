"""The mel spectrogram of `full_features` without librosa, for prediction, which should start at once."""

from functools import lru_cache

import numpy as np
import scipy.fft

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import N_MELS

_LINEAR_HZ, _LINEAR_MELS, _STEP = 1000.0, 15.0, np.log(6.4) / 27  # Slaney's scale: linear up to 1 kHz
_FILTERS_AT_ONCE, _FRAMES_AT_ONCE = 16, 128  # so that intermediate results stay in the processor's cache
LEAST_POWER = 1e-10  # -100 dB, the floor of `librosa.power_to_db`


def mel_decibels(waveform: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Compute the mel spectrogram, equal to librosa's up to rounding.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.
    settings : FeatureSettings

    Returns
    -------
    np.ndarray [shape=(128, n_frames)], float32
        Power in dB, at least -100.
    """
    n_fft = settings.n_fft
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    samples = np.pad(waveform, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[:: settings.hop_length]
    mel = np.empty((N_MELS, len(frames)), np.float32)
    for first in range(0, len(frames), _FRAMES_AT_ONCE):
        spectrum = scipy.fft.rfft(frames[first : first + _FRAMES_AT_ONCE] * window)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        for rows, bins, weights in _groups(settings):
            mel[rows, first : first + _FRAMES_AT_ONCE] = weights @ power[:, bins].T
    return 10 * np.log10(np.maximum(mel, LEAST_POWER))


@lru_cache
def _groups(settings: FeatureSettings) -> list[tuple[slice, slice, np.ndarray]]:
    """Groups of neighbouring filters, each with the bins that it reads, since most weights are 0."""
    groups, filters = [], mel_filters(settings)
    for first in range(0, N_MELS, _FILTERS_AT_ONCE):
        rows = slice(first, first + _FILTERS_AT_ONCE)
        read = np.flatnonzero(filters[rows].any(axis=0))
        bins = slice(read[0], read[-1] + 1)
        groups.append((rows, bins, np.ascontiguousarray(filters[rows, bins])))
    return groups


def mel_filters(settings: FeatureSettings) -> np.ndarray:
    """Triangular filters of equal area on Slaney's mel scale [shape=(128, 1 + n_fft // 2)], float32.

    Equal to `librosa.filters.mel` with its defaults.
    """
    highest_hz = settings.sample_rate_hz / 2
    mels = np.linspace(0, _LINEAR_MELS + np.log(highest_hz / _LINEAR_HZ) / _STEP, N_MELS + 2)
    above_linear = _LINEAR_HZ * np.exp(_STEP * (mels - _LINEAR_MELS))
    edges_hz = np.where(mels < _LINEAR_MELS, mels * _LINEAR_HZ / _LINEAR_MELS, above_linear)[:, None]
    bins_hz = np.linspace(0, highest_hz, 1 + settings.n_fft // 2)
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.minimum((bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre))
    return (np.maximum(triangles, 0) * 2 / (high - low)).astype(np.float32)
