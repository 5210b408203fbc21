"""Faster equivalents of librosa's STFT, tuning estimation, constant-Q chromagram and HPSS.

The constant-Q filters are built once per tuning; librosa builds them for every clip. The median filter of the
harmonic-percussive source separation (HPSS) is compiled with numba.
"""

import math
from functools import lru_cache

import librosa
import numba
import numpy as np
import scipy.fft

from music_emotion.audio.settings import N_FFT
from music_emotion.config import N_CHROMA

_BINS_PER_OCTAVE, _N_OCTAVES = 36, 7  # of `librosa.feature.chroma_cqt`, from C1 up
_N_BINS = _BINS_PER_OCTAVE * _N_OCTAVES
_SPARSITY = 0.01  # share of each filter's magnitude that librosa sets to zero
_LOWEST_PEAK_HZ, _HIGHEST_PEAK_HZ, _PEAK_SHARE = 150.0, 4000.0, 0.1  # of `librosa.piptrack`
_MEDIAN_SIZE = 31  # of `librosa.decompose.hpss`, in frames and in frequency bins
_LANES = 64  # columns sorted at once; their windows fit into the L1 cache


def short_time_spectrum(
    waveform: np.ndarray, n_fft: int = N_FFT, hop_length: int | None = None, window: str = "hann"
) -> np.ndarray:
    """Short-time Fourier transform (STFT) with centred frames, like `librosa.stft`.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
    n_fft, hop_length : int
        Window and hop in samples. The hop is a quarter of the window by default.
    window : str
        Name of the window function, as in `scipy.signal.get_window`.

    Returns
    -------
    np.ndarray [shape=(1 + n_fft // 2, 1 + n_samples // hop_length)], complex64
        Frames are contiguous in memory.
    """
    padded = np.pad(waveform, n_fft // 2)  # librosa would warn about clips shorter than a window
    return librosa.stft(padded, n_fft=n_fft, hop_length=hop_length, window=window, center=False)


def estimate_tuning(magnitude: np.ndarray, sample_rate_hz: int) -> float:
    """Estimate the deviation of the tuning from A 440.

    Equal to `librosa.estimate_tuning` with 36 bins per octave. The stronger half of all spectral peaks votes
    for a deviation. Parabolic interpolation (Smith, 2011) refines their frequencies. librosa interpolates all
    bins, this function only the peaks.

    Parameters
    ----------
    magnitude : np.ndarray [shape=(n_bins, n_frames)], float32
        Magnitude of `short_time_spectrum` with its defaults.
    sample_rate_hz : int

    Returns
    -------
    float
        In bins (thirds of a semitone), -0.5 to 0.5 in steps of 0.01. 0 without peaks.
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
    # votes often tie, so rounding must match librosa's at every step
    slope, curvature = (above - below) / 2, (above + below) - 2 * at.astype(np.float64)
    inside = np.abs(slope) < np.abs(curvature)
    shift = np.divide(-slope, curvature, out=np.zeros_like(curvature), where=inside).astype(np.float32)
    heights = at + 0.5 * slope * shift
    bins = low + np.nonzero(peaks)[0] + shift
    pitches_hz = (bins * sample_rate_hz / n_fft).astype(np.float32)
    strong = heights >= np.median(heights)
    return float(librosa.pitch_tuning(pitches_hz[strong], bins_per_octave=_BINS_PER_OCTAVE))


def chroma(waveform: np.ndarray, tuning: float, sample_rate_hz: int, hop_length: int) -> np.ndarray:
    """Compute the constant-Q chromagram, equal to `librosa.feature.chroma_cqt` up to rounding.

    The recursive method of Schoerkhuber and Klapuri (2010) processes one octave at a time. Each octave uses
    half the sample rate of the octave above.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
    tuning : float
        Deviation in bins, from `estimate_tuning`.
    sample_rate_hz, hop_length : int

    Returns
    -------
    np.ndarray [shape=(12, n_frames)], float32
        0 to 1. The maximum of every frame is 1.
    """
    responses, current_hz = [], float(sample_rate_hz)
    for rate_hz, hop, n_fft, bins, filters in _octaves(sample_rate_hz, hop_length, tuning):
        waveform = librosa.resample(waveform, orig_sr=current_hz / rate_hz, target_sr=1, scale=True)
        spectrum, current_hz = short_time_spectrum(waveform, n_fft, hop, window="ones"), rate_hz
        # transposed, because frames are contiguous in memory
        responses.append(np.abs(spectrum.T[:, bins] @ filters.T).T)
    n_frames = min(response.shape[1] for response in responses)
    magnitude = np.concatenate([response[:, :n_frames] for response in reversed(responses)])
    fold = librosa.filters.cq_to_chroma(_N_BINS, bins_per_octave=_BINS_PER_OCTAVE, n_chroma=N_CHROMA)
    return librosa.util.normalize(fold @ magnitude, norm=np.inf, axis=0)


# There are a hundred possible tunings. Their filters take 24 MB at the default settings.
@lru_cache(maxsize=128)
def _octaves(
    sample_rate_hz: int, hop_length: int, tuning: float
) -> list[tuple[float, int, int, slice, np.ndarray]]:
    """Build the filters of every octave, highest first, with the scaling of `librosa.vqt`.

    Each item holds the octave's sample rate, its hop and n_fft in samples, a slice of Fourier bins, and the
    filters in that slice [shape=(36, n_bins)]. Outside the slice, all filters are 0.
    """
    lowest_hz = float(librosa.note_to_hz("C1")) * 2 ** (tuning / _BINS_PER_OCTAVE)
    frequencies_hz = librosa.cqt_frequencies(_N_BINS, fmin=lowest_hz, bins_per_octave=_BINS_PER_OCTAVE)
    lengths, cutoff_hz = librosa.filters.wavelet_lengths(freqs=frequencies_hz, sr=sample_rate_hz)
    # how often librosa halves the rate before the highest octave
    possible = math.ceil(math.log2(sample_rate_hz / 2 / cutoff_hz)) - 2
    twos_in_hop = (hop_length & -hop_length).bit_length() - 1
    halvings = max(0, min(possible, twos_in_hop - _N_OCTAVES + 1))
    top_rate_hz, hop_length = sample_rate_hz / 2**halvings, hop_length >> halvings
    lengths = lengths / 2**halvings
    octaves = []
    for first in range(_N_BINS - _BINS_PER_OCTAVE, -1, -_BINS_PER_OCTAVE):
        rows, rate_hz = slice(first, first + _BINS_PER_OCTAVE), sample_rate_hz / 2**halvings
        tones, tone_lengths = librosa.filters.wavelet(freqs=frequencies_hz[rows], sr=rate_hz)
        n_fft = tones.shape[1]
        tones *= tone_lengths[:, None] / n_fft  # in place, to keep complex64 like librosa
        transforms = scipy.fft.fft(tones, axis=1)[:, : n_fft // 2 + 1]
        filters = librosa.util.sparsify_rows(transforms, quantile=_SPARSITY).toarray()
        filters *= np.sqrt(top_rate_hz / rate_hz) / np.sqrt(lengths[rows, None])
        used = np.flatnonzero(filters.any(axis=0))
        bins = slice(int(used[0]), int(used[-1]) + 1)
        octaves.append((rate_hz, hop_length, n_fft, bins, filters[:, bins].astype(np.complex64)))
        if hop_length % 2 == 0:
            halvings, hop_length = halvings + 1, hop_length // 2
    return octaves


def percussive_part(spectrum: np.ndarray, n_samples: int) -> np.ndarray:
    """Extract the percussive part of a waveform by harmonic-percussive source separation (HPSS).

    Median filtering (Fitzgerald, 2010), equal to `librosa.effects.percussive` with its defaults.

    Parameters
    ----------
    spectrum : np.ndarray [shape=(n_bins, n_frames)], complex
        From `short_time_spectrum` with its defaults.
    n_samples : int
        Length of the waveform, in samples.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
    """
    magnitude, phase = librosa.magphase(np.ascontiguousarray(spectrum.T))
    harmonic = running_median(magnitude, _MEDIAN_SIZE)
    percussive = running_median(np.ascontiguousarray(magnitude.T), _MEDIAN_SIZE).T
    mask = librosa.util.softmask(percussive, harmonic, power=2, split_zeros=True)
    return librosa.istft((magnitude * mask * phase).T, length=n_samples)


def running_median(values: np.ndarray, size: int) -> np.ndarray:
    """Running median down each column.

    Bit-equal to ``scipy.ndimage.median_filter(values, size=(size, 1), mode="reflect")``.

    Parameters
    ----------
    values : np.ndarray [shape=(n_rows, n_columns)], float32
        Finite.
    size : int
        Rows in the window; odd. The array is mirrored at its ends.

    Returns
    -------
    np.ndarray [shape=(n_rows, n_columns)], float32
    """
    padded = np.pad(values, ((size // 2, size // 2), (0, 0)), mode="symmetric")
    medians = np.empty_like(values, order="C")
    _slide(padded, size, medians)
    return medians


@numba.njit(cache=True, nogil=True)
def _slide(padded: np.ndarray, size: int, medians: np.ndarray) -> None:
    """Keep a sorted window of each column. Inner loops run over 64 columns, so they are vectorised.

    For each row, one pass over the sorted window removes the oldest value and inserts the newest.
    """
    n_columns = medians.shape[1]
    below = np.empty(_LANES, np.float32)
    for first in range(0, n_columns, _LANES):
        width = min(_LANES, n_columns - first)
        window = np.full((size + 1, _LANES), np.inf, np.float32)  # ascending; the last row stays infinite
        oldest = np.full(_LANES, np.inf, np.float32)
        newest = np.full(_LANES, np.inf, np.float32)
        for row in range(padded.shape[0]):
            newest[:width] = padded[row, first : first + width]
            if row >= size:
                oldest[:width] = padded[row - size, first : first + width]
            below[:] = -np.inf
            for place in range(size):
                for lane in range(_LANES):
                    here = window[place, lane]
                    kept = window[place + 1, lane] if here >= oldest[lane] else here
                    carried = below[lane] if below[lane] > newest[lane] else newest[lane]
                    window[place, lane] = kept if kept < carried else carried
                    below[lane] = kept
            if row >= size - 1:
                medians[row - size + 1, first : first + width] = window[size // 2, :width]
