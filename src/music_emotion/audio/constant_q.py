"""Short-time spectrum, tuning and the constant-Q chromagram, equal to librosa's up to rounding.

The constant-Q filters are built once per tuning, where librosa builds them for every clip.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import librosa
import numpy as np
import scipy.fft

from music_emotion.config import N_CHROMA

ANALYSIS_N_FFT = 2048  # librosa's own window for tuning and separation, with a hop of a quarter of it
_BINS_PER_OCTAVE, _N_OCTAVES = 36, 7  # of `librosa.feature.chroma_cqt`, from C1 up
_N_BINS = _BINS_PER_OCTAVE * _N_OCTAVES
_SPARSITY = 0.01  # share of each filter's magnitude that librosa sets to zero
_LOWEST_PEAK_HZ, _HIGHEST_PEAK_HZ, _PEAK_SHARE = 150.0, 4000.0, 0.1  # of `librosa.piptrack`


class _Octave(NamedTuple):
    """Filters of one octave, and the signal they are for.

    Attributes
    ----------
    halvings : int
        How often the waveform's sample rate is halved before.
    n_fft, hop_length : int
        In samples at that rate.
    bins : slice
        The Fourier bins where any of the filters is not zero.
    filters : np.ndarray [shape=(36, len(bins))], complex64
    """

    halvings: int
    n_fft: int
    hop_length: int
    bins: slice
    filters: np.ndarray


def short_time_spectrum(
    waveform: np.ndarray, n_fft: int = ANALYSIS_N_FFT, hop_length: int | None = None, window: str = "hann"
) -> np.ndarray:
    """Short-time Fourier transform like `librosa.stft`, without its warning for short clips.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
    n_fft, hop_length : int
        In samples; the hop is a quarter of the window by default.
    window : str

    Returns
    -------
    np.ndarray [shape=(1 + n_fft // 2, 1 + n_samples // hop_length)], complex64
        Frames lie one after the other in memory.
    """
    is_short = len(waveform) < n_fft
    if is_short:  # padded here as librosa does it, which would warn
        waveform = np.pad(waveform, n_fft // 2)
    return librosa.stft(
        waveform, n_fft=n_fft, hop_length=hop_length, window=window, center=not is_short, pad_mode="constant"
    )


def estimate_tuning(magnitude: np.ndarray, sample_rate_hz: int) -> float:
    """Deviation of the music from equal temperament at A 440.

    Equal to `librosa.estimate_tuning` on the same magnitudes with 36 bins per octave: spectral
    peaks with parabolic interpolation (Smith, 2011), the stronger half of which vote. Only the
    peaks are interpolated here, not every bin.

    Parameters
    ----------
    magnitude : np.ndarray [shape=(n_bins, n_frames)], float32
    sample_rate_hz : int

    Returns
    -------
    float
        In bins (thirds of a semitone), -.5 to .5 in steps of .01; 0 where there is no peak.
    """
    n_fft = 2 * (len(magnitude) - 1)
    frequencies_hz = librosa.fft_frequencies(sr=sample_rate_hz, n_fft=n_fft)
    low, high = np.searchsorted(frequencies_hz, [_LOWEST_PEAK_HZ, min(_HIGHEST_PEAK_HZ, sample_rate_hz / 2)])
    low, high = max(low, 1), min(high, len(magnitude) - 1)
    at, below, above = magnitude[low:high], magnitude[low - 1 : high - 1], magnitude[low + 1 : high + 1]
    peaks = (at > below) & (at >= above) & (at > _PEAK_SHARE * magnitude.max(axis=0))
    if not peaks.any():
        return 0.0
    at, below, above = at[peaks], below[peaks], above[peaks]
    # Votes often tie, so each number is rounded where librosa rounds it.
    slope, curvature = (above - below) / 2, (above + below) - 2 * at.astype(np.float64)
    inside = np.abs(slope) < np.abs(curvature)
    shift = np.divide(-slope, curvature, out=np.zeros_like(curvature), where=inside).astype(np.float32)
    heights = at + 0.5 * slope * shift
    bins = low + np.nonzero(peaks)[0] + shift
    pitches_hz = (bins * sample_rate_hz / n_fft).astype(np.float32)
    strong = heights >= np.median(heights)
    return float(librosa.pitch_tuning(pitches_hz[strong], bins_per_octave=_BINS_PER_OCTAVE))


def chroma(waveform: np.ndarray, tuning: float, sample_rate_hz: int, hop_length: int) -> np.ndarray:
    """Constant-Q chromagram, equal to `librosa.feature.chroma_cqt` up to rounding.

    The recursive transform of Schoerkhuber and Klapuri (2010): an octave at a time, each at half the sample
    rate of the one above.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
    tuning : float
        In bins, as `estimate_tuning` gives it.
    sample_rate_hz, hop_length : int

    Returns
    -------
    np.ndarray [shape=(12, n_frames)], float32
        0 to 1; each frame's largest is 1.
    """
    responses, halvings = [], 0
    for octave in _octaves(sample_rate_hz, hop_length, tuning):
        factor, halvings = 2 ** (octave.halvings - halvings), octave.halvings
        waveform = librosa.resample(waveform, orig_sr=factor, target_sr=1, scale=True)
        spectrum = short_time_spectrum(waveform, octave.n_fft, octave.hop_length, window="ones")
        # frames lie one after the other in memory, so this way around nothing is copied
        responses.append(np.abs(spectrum.T[:, octave.bins] @ octave.filters.T).T)
    n_frames = min(response.shape[1] for response in responses)
    magnitude = np.concatenate([response[:, :n_frames] for response in reversed(responses)])
    fold = librosa.filters.cq_to_chroma(_N_BINS, bins_per_octave=_BINS_PER_OCTAVE, n_chroma=N_CHROMA)
    return librosa.util.normalize(fold @ magnitude, norm=np.inf, axis=0)


# A hundred tunings are possible; their filters take 24 MB at the course's settings.
@lru_cache(maxsize=128)
def _octaves(sample_rate_hz: int, hop_length: int, tuning: float) -> tuple[_Octave, ...]:
    """Filters of all octaves, the highest first, as `librosa.vqt` makes and scales them."""
    lowest_hz = float(librosa.note_to_hz("C1")) * 2 ** (tuning / _BINS_PER_OCTAVE)
    frequencies_hz = librosa.cqt_frequencies(_N_BINS, fmin=lowest_hz, bins_per_octave=_BINS_PER_OCTAVE)
    lengths, cutoff_hz = librosa.filters.wavelet_lengths(freqs=frequencies_hz, sr=sample_rate_hz)
    # as often as librosa halves the rate before the highest octave, which leaves room above it
    possible = math.ceil(math.log2(sample_rate_hz / 2 / cutoff_hz)) - 2
    twos_in_hop = (hop_length & -hop_length).bit_length() - 1
    halvings = max(0, min(possible, twos_in_hop - _N_OCTAVES + 1))
    top_rate_hz, hop_length = sample_rate_hz / 2**halvings, hop_length >> halvings
    lengths = lengths / 2**halvings
    octaves = []
    for number in range(_N_OCTAVES):
        rows = slice(_N_BINS - _BINS_PER_OCTAVE * (number + 1), _N_BINS - _BINS_PER_OCTAVE * number)
        rate_hz = sample_rate_hz / 2**halvings
        filters, n_fft = _filters(frequencies_hz[rows], rate_hz)
        filters *= np.sqrt(top_rate_hz / rate_hz) / np.sqrt(lengths[rows, None])
        used = np.flatnonzero(filters.any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1)
        octaves.append(_Octave(halvings, n_fft, hop_length, bins, filters[:, bins].astype(np.complex64)))
        if hop_length % 2 == 0:
            halvings, hop_length = halvings + 1, hop_length // 2
    return tuple(octaves)


def _filters(frequencies_hz: np.ndarray, rate_hz: float) -> tuple[np.ndarray, int]:
    """Fourier transforms of windowed complex tones, their weakest parts set to zero; and n_fft."""
    tones, lengths = librosa.filters.wavelet(freqs=frequencies_hz, sr=rate_hz)
    n_fft = tones.shape[1]
    tones *= lengths[:, None] / n_fft  # in place and so in complex64: which parts are weakest hangs on it
    transforms = scipy.fft.fft(tones, axis=1)[:, : n_fft // 2 + 1]
    return librosa.util.sparsify_rows(transforms, quantile=_SPARSITY).toarray(), n_fft
