"""The mel spectrogram of `full_features` without librosa, for prediction, which should start at once."""

from functools import lru_cache

import numpy as np
import torch

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import N_MELS

_LINEAR_HZ, _LINEAR_MELS, _STEP = 1000.0, 15.0, np.log(6.4) / 27  # Slaney's scale: linear up to 1 kHz
_FILTERS_AT_ONCE, _FRAMES_AT_ONCE = 16, 128  # so that intermediate results stay in the processor's cache
_LEAST_POWER = 1e-10  # -100 dB, the floor of `librosa.power_to_db`


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
    n_fft, window = settings.n_fft, torch.hann_window(settings.n_fft)
    samples = torch.nn.functional.pad(torch.from_numpy(waveform), (n_fft // 2, n_fft // 2))
    parts = []
    for frames in samples.unfold(0, n_fft, settings.hop_length).split(_FRAMES_AT_ONCE):
        spectrum = torch.fft.rfft(frames * window)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = [weights @ power[:, first : first + weights.shape[1]].T for first, weights in _groups(settings)]
        parts.append(torch.cat(mel))
    return (10 * torch.cat(parts, dim=1).clamp(min=_LEAST_POWER).log10()).numpy()


@lru_cache
def _groups(settings: FeatureSettings) -> list[tuple[int, torch.Tensor]]:
    """Groups of neighbouring filters, each with the first bin that it reads, since most weights are 0."""
    groups = []
    for filters in mel_filters(settings).split(_FILTERS_AT_ONCE):
        read = filters.any(dim=0).nonzero()
        first, last = int(read[0]), int(read[-1])
        groups.append((first, filters[:, first : last + 1].contiguous()))
    return groups


def mel_filters(settings: FeatureSettings) -> torch.Tensor:
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
    return torch.from_numpy((np.maximum(triangles, 0) * 2 / (high - low)).astype(np.float32))
