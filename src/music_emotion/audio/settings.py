"""Settings and rows of the fused arrays. Prediction needs them without librosa."""

from typing import Annotated, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from music_emotion.config import N_CHROMA, N_MELS, N_ROWS_OF, Rows

N_ROWS = N_ROWS_OF["fused"]
N_FFT = 2048  # librosa's default window for tuning and separation; the hop is a quarter of it
_FEATURES_VERSION = 1  # increase it when a change of the code changes the features
SILENCE_DB = -80.0  # floor of `power_to_db` relative to the maximum


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FeatureSettings:
    """Settings of the feature extraction. The defaults are those of the competition's arrays.

    Attributes
    ----------
    sample_rate_hz : int
        Sample rate of the waveform; at least 8,400, because chroma covers frequencies up to 4,186 Hz.
    n_fft : int
        Window of the short-time Fourier transform, in samples; even.
    hop_length : int
        Samples from one frame to the next; at most `n_fft`.
    """

    sample_rate_hz: Annotated[int, Field(ge=8400)] = 22050
    n_fft: Annotated[int, Field(ge=256, multiple_of=2)] = 2048
    hop_length: Annotated[int, Field(ge=1)] = 512

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length is {self.hop_length}, longer than the window n_fft of {self.n_fft}")
        return self

    def __str__(self) -> str:
        return f"{self.sample_rate_hz} Hz / {self.n_fft} / {self.hop_length} / version {_FEATURES_VERSION}"


def row_slice(rows: Rows) -> slice:
    """Rows of a fused array that hold the mel spectrogram, the chromagram, or both ("fused").

    Parameters
    ----------
    rows : {"fused", "mel", "chroma"}

    Returns
    -------
    slice
    """
    return {"fused": slice(0, N_ROWS), "mel": slice(0, N_MELS), "chroma": slice(N_MELS, N_ROWS)}[rows]


def silent_rows() -> np.ndarray:
    """One frame of silence, which pads excerpts.

    Returns
    -------
    np.ndarray [shape=(140,)], float32
        -80 (dB) in the mel rows, 0 in the chroma rows.
    """
    return np.repeat(np.array([SILENCE_DB, 0.0], np.float32), [N_MELS, N_CHROMA])
