"""Mel power, chroma, and the fused array of the competition: 128 mel rows in dB, 12 of chroma."""

import librosa
import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from music_emotion.sections import Rows

N_MELS = 128
N_CHROMA = 12
N_ROWS = N_MELS + N_CHROMA
SILENCE_DB = -80.0  # what `power_to_db` gives silence: its floor below the loudest frame


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FeatureSettings:
    """How audio becomes features; the defaults are the course's own extraction.

    Attributes
    ----------
    sample_rate_hz : int
        Sample rate of the analysed waveform.
    n_fft : int
        Window of the short-time Fourier transform, in samples.
    hop_length : int
        Samples from one frame to the next.
    """

    sample_rate_hz: int = 22050
    n_fft: int = 2048
    hop_length: int = 512


def row_slice(rows: Rows) -> slice:
    """The rows of a fused array that hold a representation."""
    match rows:
        case "fused":
            return slice(0, N_ROWS)
        case "mel":
            return slice(0, N_MELS)
        case "chroma":
            return slice(N_MELS, N_ROWS)


def silent_rows() -> np.ndarray:
    """One frame of silence.

    Zero would be the loudest possible value in dB, so this is what excerpts are padded with.

    Returns
    -------
    np.ndarray [shape=(140,)], float32
        -80 dB in the mel rows, 0 in the chroma rows.
    """
    return np.repeat(np.array([SILENCE_DB, 0.0], np.float32), [N_MELS, N_CHROMA])


def mel_power(waveform: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Mel spectrogram as power.

    Returns
    -------
    np.ndarray [shape=(128, n_frames)], float32
    """
    return librosa.feature.melspectrogram(
        y=waveform,
        sr=settings.sample_rate_hz,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=N_MELS,
    )


def chroma(waveform: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Constant-Q chromagram.

    Returns
    -------
    np.ndarray [shape=(12, n_frames)], float32
        0 to 1; each frame's largest is 1.
    """
    return librosa.feature.chroma_cqt(y=waveform, sr=settings.sample_rate_hz, hop_length=settings.hop_length)


def fuse(mel: np.ndarray, chroma_rows: np.ndarray) -> np.ndarray:
    """Stack mel power, as dB below its own maximum, on chroma.

    Parameters
    ----------
    mel : np.ndarray [shape=(128, n_frames)]
        Power, not dB.
    chroma_rows : np.ndarray [shape=(12, n_frames)]
        0 to 1.

    Returns
    -------
    np.ndarray [shape=(140, n_frames)], float32
        Rows 0-127 from -80 to 0 dB, rows 128-139 from 0 to 1.
    """
    decibels = librosa.power_to_db(mel, ref=np.max)
    return np.concatenate([decibels, chroma_rows]).astype(np.float32)
