"""Mel power, chroma, and the fused array of the competition: 128 mel rows in dB, 12 of chroma."""

from typing import Annotated, Self

import librosa
import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from music_emotion.config import N_CHROMA, N_MELS, N_ROWS_OF, Rows

N_ROWS = N_ROWS_OF["fused"]
ANALYSIS_N_FFT, ANALYSIS_HOP_LENGTH = 2048, 512  # what librosa takes for tuning and separation
_FEATURES_VERSION = 1  # raised when the same settings come to give other numbers
SILENCE_DB = -80.0  # what `power_to_db` gives silence: its floor below the loudest frame


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FeatureSettings:
    """How audio becomes features; the defaults are the course's own extraction.

    Attributes
    ----------
    sample_rate_hz : int
        Sample rate of the analysed waveform; at least 8,400, since chroma reads up to 4,186 Hz.
    n_fft : int
        Window of the short-time Fourier transform, in samples; even.
    hop_length : int
        Samples from one frame to the next; at most a window.
    """

    sample_rate_hz: Annotated[int, Field(ge=8400)] = 22050
    n_fft: Annotated[int, Field(ge=256, multiple_of=2)] = 2048
    hop_length: Annotated[int, Field(ge=1)] = 512

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hop_length > self.n_fft:
            raise ValueError(
                f"hop_length is {self.hop_length}, longer than the window n_fft of {self.n_fft}: "
                f"samples between frames would be lost"
            )
        return self

    def __str__(self) -> str:
        return f"{self.sample_rate_hz} Hz / {self.n_fft} / {self.hop_length} / version {_FEATURES_VERSION}"


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


def short_time_spectrum(
    waveform: np.ndarray,
    n_fft: int = ANALYSIS_N_FFT,
    hop_length: int = ANALYSIS_HOP_LENGTH,
    window: str = "hann",
) -> np.ndarray:
    """Short-time Fourier transform, as `librosa.stft` has it, of clips however short.

    Returns
    -------
    np.ndarray [shape=(1 + n_fft // 2, 1 + n_samples // hop_length)], complex64
        Frames lie one after the other in memory.
    """
    is_short = len(waveform) < n_fft
    if is_short:  # padded here as librosa does it, but would warn of
        waveform = np.pad(waveform, n_fft // 2)
    return librosa.stft(
        waveform, n_fft=n_fft, hop_length=hop_length, window=window, center=not is_short, pad_mode="constant"
    )


def mel_power(magnitude: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Mel spectrogram as power.

    Parameters
    ----------
    magnitude : np.ndarray [shape=(1 + n_fft // 2, n_frames)]
        Of the short-time spectrum.
    settings : FeatureSettings

    Returns
    -------
    np.ndarray [shape=(128, n_frames)], float32
    """
    return librosa.feature.melspectrogram(S=magnitude**2, sr=settings.sample_rate_hz, n_mels=N_MELS)


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
