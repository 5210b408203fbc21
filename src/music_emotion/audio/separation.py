"""The percussive part of a waveform: librosa's separation, with a running median made for it."""

import librosa
import numba
import numpy as np

_MEDIAN_FRAMES = 31  # librosa's own window, in frames one way and in frequency bins the other
_LANES = 64  # columns sorted side by side: their window fits a core's nearest cache


def percussive_part(spectrum: np.ndarray, magnitude: np.ndarray, n_samples: int) -> np.ndarray:
    """Resynthesise what is short in time and wide in frequency.

    Harmonic-percussive separation by median filtering (Fitzgerald, 2010) as
    `librosa.effects.percussive` does it with its defaults, from a spectrum that is already there.
    The harmonic part is not rebuilt.

    Parameters
    ----------
    spectrum : np.ndarray [shape=(n_bins, n_frames)], complex
        As `librosa.stft` gives it by default: 2048 samples, hop 512, Hann.
    magnitude : np.ndarray [shape=(n_bins, n_frames)], float32
        Its absolute values.
    n_samples : int
        Length of the waveform.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
    """
    # librosa's spectra lie frame after frame, and the running median is fast from row to row:
    # only for the median over frequency must the array be turned, and back.
    frames = np.ascontiguousarray(magnitude.T)
    harmonic = running_median(frames, _MEDIAN_FRAMES)
    percussive = running_median(np.ascontiguousarray(frames.T), _MEDIAN_FRAMES)
    masked = np.empty(frames.shape, np.complex64)
    _mask(np.ascontiguousarray(spectrum.T), frames, harmonic, np.ascontiguousarray(percussive.T), masked)
    return librosa.istft(masked.T, length=n_samples)


def running_median(values: np.ndarray, size: int) -> np.ndarray:
    """Median of a window that slides down the rows, every column for itself.

    Equal to the bit to ``scipy.ndimage.median_filter(values, size=(size, 1), mode="reflect")``.

    Parameters
    ----------
    values : np.ndarray [shape=(n_rows, n_columns)], float32
        Finite.
    size : int
        Rows in the window; odd. Beyond its ends the array is mirrored, its last row twice.

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
    """Keep the window of each column sorted; the inner loops become vector instructions.

    From one row to the next, one pass over the sorted window takes the oldest value out, which
    moves all that follow it down, and carries the newest up to its place.
    """
    n_columns = medians.shape[1]
    window = np.empty((size + 1, _LANES), np.float32)  # ascending; the last row stays infinite
    below = np.empty(_LANES, np.float32)
    oldest = np.empty(_LANES, np.float32)
    newest = np.empty(_LANES, np.float32)
    for first in range(0, n_columns, _LANES):
        width = min(_LANES, n_columns - first)
        window[:] = np.inf
        oldest[:] = np.inf
        newest[:] = np.inf
        for row in range(padded.shape[0]):
            for lane in range(width):
                newest[lane] = padded[row, first + lane]
            if row >= size:
                for lane in range(width):
                    oldest[lane] = padded[row - size, first + lane]
            below[:] = -np.inf
            for place in range(size):
                for lane in range(_LANES):
                    here = window[place, lane]
                    kept = window[place + 1, lane] if here >= oldest[lane] else here
                    carried = below[lane] if below[lane] > newest[lane] else newest[lane]
                    window[place, lane] = kept if kept < carried else carried
                    below[lane] = kept
            if row >= size - 1:
                for lane in range(width):
                    medians[row - size + 1, first + lane] = window[size // 2, lane]


@numba.njit(cache=True, nogil=True)
def _mask(
    spectrum: np.ndarray,
    magnitude: np.ndarray,
    harmonic: np.ndarray,
    percussive: np.ndarray,
    masked: np.ndarray,
) -> None:
    """Weigh a spectrum by a soft mask: the share of the percussive part in the squares of both.

    Each step is rounded as librosa's is (`softmask` of power 2, then magnitude times phase), so
    that beats, which hang on ties, come out the same.
    """
    one, half, tiny = np.float32(1), np.float32(0.5), np.float32(np.finfo(np.float32).tiny)
    for frame in range(spectrum.shape[0]):
        for number in range(spectrum.shape[1]):
            larger = max(harmonic[frame, number], percussive[frame, number])
            loudness = magnitude[frame, number]
            weight = half
            if larger >= tiny:
                wanted = percussive[frame, number] / larger
                other = harmonic[frame, number] / larger
                wanted, other = wanted * wanted, other * other
                weight = wanted / (wanted + other)
            value, weighted = spectrum[frame, number], loudness * weight
            if loudness == 0:
                loudness = one  # its phase does not matter
            masked[frame, number] = complex(
                weighted * (value.real / loudness), weighted * (value.imag / loudness)
            )
