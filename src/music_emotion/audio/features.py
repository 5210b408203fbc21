"""The arrays of a clip: 128 mel rows in dB on 12 chroma rows, at full rate and between beats."""

from typing import Annotated, Self

import librosa
import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from music_emotion.audio.constant_q import ANALYSIS_N_FFT, chroma, estimate_tuning, short_time_spectrum
from music_emotion.audio.separation import percussive_part
from music_emotion.config import N_CHROMA, N_MELS, N_ROWS_OF, Rows

N_ROWS = N_ROWS_OF["fused"]
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
    return {"fused": slice(0, N_ROWS), "mel": slice(0, N_MELS), "chroma": slice(N_MELS, N_ROWS)}[rows]


def silent_rows() -> np.ndarray:
    """One frame of silence, with which excerpts are padded.

    Returns
    -------
    np.ndarray [shape=(140,)], float32
        -80 dB in the mel rows, where 0 would be the loudest possible value; 0 in the chroma rows.
    """
    return np.repeat(np.array([SILENCE_DB, 0.0], np.float32), [N_MELS, N_CHROMA])


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


def full_features(waveform: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """The full-rate array of a clip alone.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.
    settings : FeatureSettings

    Returns
    -------
    np.ndarray [shape=(140, n_frames)], float32
        One column per hop.
    """
    return fuse(*_mel_and_chroma(waveform, np.abs(short_time_spectrum(waveform)), settings))


def fused_features(waveform: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays the competition gives for a clip.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.
    settings : FeatureSettings

    Returns
    -------
    full : np.ndarray [shape=(140, n_frames)], float32
        One column per hop.
    beat_synchronous : np.ndarray [shape=(140, n_beats + 1)], float32
        One column per span between beats: the median of mel power and of chroma over it.
    """
    # Mel, tuning and separation all need this one; librosa's ordinary calls make it three times.
    spectrum = short_time_spectrum(waveform)
    magnitude = np.abs(spectrum)
    mel, chroma_rows = _mel_and_chroma(waveform, magnitude, settings)
    beats = _beats(spectrum, magnitude, len(waveform), settings)
    # `sync` starts at frame 0 anyway; named here, a clip without beats is one span, not none
    borders = [0, *beats.tolist()]
    beat_mel = librosa.util.sync(mel, borders, aggregate=np.median)
    beat_chroma = librosa.util.sync(chroma_rows, borders, aggregate=np.median)
    return fuse(mel, chroma_rows), fuse(beat_mel, beat_chroma)


def beat_frames(waveform: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Frames at which the percussive part of a waveform has its beats.

    Dynamic programming over the onset strength (Ellis, 2007), as librosa has it.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.
    settings : FeatureSettings

    Returns
    -------
    np.ndarray [shape=(n_beats,)], integer
        Ascending frame numbers; empty where no beat is heard.
    """
    spectrum = short_time_spectrum(waveform)
    return _beats(spectrum, np.abs(spectrum), len(waveform), settings)


def _beats(
    spectrum: np.ndarray, magnitude: np.ndarray, n_samples: int, settings: FeatureSettings
) -> np.ndarray:
    # resynthesised, since onsets of masked spectra give other beats
    percussive = percussive_part(spectrum, magnitude, n_samples)
    rate_hz, hop_length = settings.sample_rate_hz, settings.hop_length
    return librosa.beat.beat_track(y=percussive, sr=rate_hz, hop_length=hop_length)[1]


def _mel_and_chroma(
    waveform: np.ndarray, magnitude: np.ndarray, settings: FeatureSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of the fused array, from the magnitudes at librosa's own window and hop."""
    rate_hz, n_fft, hop_length = settings.sample_rate_hz, settings.n_fft, settings.hop_length
    chroma_rows = chroma(waveform, estimate_tuning(magnitude, rate_hz), rate_hz, hop_length)
    if (n_fft, hop_length) != (ANALYSIS_N_FFT, ANALYSIS_N_FFT // 4):
        magnitude = np.abs(short_time_spectrum(waveform, n_fft, hop_length))
    return mel_power(magnitude, settings), chroma_rows


def compile_ahead(settings: FeatureSettings) -> None:
    """Run all of the extraction once, so that what numba compiles for it is in numba's cache.

    Processes that compile the same functions at the same time can leave a cache whose parts do not fit each
    other, and crash in it (numba issue 10128). So call this before starting several.

    Parameters
    ----------
    settings : FeatureSettings
        Those that the processes will use.
    """
    clicks = np.arange(0.25, 3, 0.5)
    waveform = librosa.clicks(times=clicks, sr=settings.sample_rate_hz, length=3 * settings.sample_rate_hz)
    fused_features(waveform.astype(np.float32), settings)
