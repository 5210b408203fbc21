"""Input of the pretrained ear: logarithmic mel bands from a waveform, or from a fused array."""

from functools import cache

import librosa
import numpy as np

from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.spectrum import short_time_spectrum
from music_emotion.config import N_MELS

RATE_HZ = 16000
N_BANDS = 96  # up to 8 kHz
_N_FFT, _HOP = 512, 256
_ROLL_OFF_DB = (1.0, 8.6)  # of the resampler to 16 kHz in the two highest bands; median of 40 clips
_ARRAYS = FeatureSettings()


def ear_bands(waveform: np.ndarray) -> np.ndarray:
    """Compute the ear's input from a waveform.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
        Mono, at 16 kHz.

    Returns
    -------
    np.ndarray [shape=(1 + n_samples // 256, 96)], float32
        log10(1 + 10000 p), p the mel power in librosa's conventions; 0 is silence.
    """
    magnitude = np.abs(short_time_spectrum(waveform, _N_FFT, _HOP))
    power = librosa.feature.melspectrogram(S=magnitude**2, sr=RATE_HZ, n_mels=N_BANDS)
    return _compress(power.T)


def _compress(power: np.ndarray) -> np.ndarray:
    return np.log10(1 + 10_000 * power).astype(np.float32)


def array_bands(fused: np.ndarray, level_db: float) -> np.ndarray:
    """Estimate the ear's input from a full-rate fused array.

    Parameters
    ----------
    fused : np.ndarray [shape=(140, n_frames)]
        As from `full_features` with its default settings.
    level_db : float
        Mel power of the ear's bands, in dB, where the array has 0 dB. The array has lost it.

    Returns
    -------
    np.ndarray [shape=(n_ear_frames, 96)], float32
        As from `ear_bands`, at 62.5 frames per second.
    """
    power = mel_to_mel() @ librosa.db_to_power(fused[:N_MELS])
    frames, places = np.arange(fused.shape[1]), places_in_array(fused.shape[1])
    decibels = [np.interp(places, frames, 10 * np.log10(band)) for band in power]
    return _compress(librosa.db_to_power(np.transpose(decibels) + level_db))


def places_in_array(n_frames: int) -> np.ndarray:
    """Place of each of the ear's frames in an array, in frames of the array [shape=(n_ear_frames,)]."""
    step = (_HOP / RATE_HZ) / (_ARRAYS.hop_length / _ARRAYS.sample_rate_hz)
    return np.arange(0, n_frames - 1 + step / 1000, step)


@cache
def mel_to_mel() -> np.ndarray:
    """Matrix from the array's mel power to that of the ear's bands [shape=(96, 128)].

    The power of each mel is spread over the Fourier bins of its filter.
    """
    rate_hz, n_fft = _ARRAYS.sample_rate_hz, _ARRAYS.n_fft
    mels = librosa.filters.mel(sr=rate_hz, n_fft=n_fft, n_mels=N_MELS)
    bands = librosa.filters.mel(sr=rate_hz, n_fft=n_fft, n_mels=N_BANDS, fmax=RATE_HZ / 2)
    shares = mels.T @ mels.sum(axis=1)
    matrix = bands @ (mels.T / np.maximum(shares, np.finfo(np.float32).tiny)[:, None])
    matrix[-2:] /= librosa.db_to_power(np.array(_ROLL_OFF_DB))[:, None]
    return matrix
