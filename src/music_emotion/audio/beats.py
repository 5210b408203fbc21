"""Beats of the percussive part, and the two arrays of a clip: at full rate, and between beats."""

import librosa
import numpy as np

from music_emotion.audio.constant_q import chroma, estimate_tuning
from music_emotion.audio.separation import percussive_part
from music_emotion.audio.spectrogram import (
    ANALYSIS_HOP_LENGTH,
    ANALYSIS_N_FFT,
    FeatureSettings,
    fuse,
    mel_power,
    short_time_spectrum,
)


def beat_frames(percussive: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Frames at which the percussive part of a waveform has its beats.

    Dynamic programming over the onset strength (Ellis, 2007), as librosa has it.

    Parameters
    ----------
    percussive : np.ndarray [shape=(n_samples,)]
        The resynthesised part: onsets of masked spectra give other beats.
    settings : FeatureSettings

    Returns
    -------
    np.ndarray [shape=(n_beats,)], integer
        Ascending frame numbers; empty where no beat is heard.
    """
    _, frames = librosa.beat.beat_track(
        y=percussive, sr=settings.sample_rate_hz, hop_length=settings.hop_length
    )
    return frames


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
    magnitude = np.abs(short_time_spectrum(waveform))
    return fuse(*_mel_and_chroma(waveform, magnitude, settings))


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
    beats = beat_frames(percussive_part(spectrum, magnitude, len(waveform)), settings)
    # `sync` starts at frame 0 anyway; named here, a clip without beats is one span, not none
    borders = [0, *beats.tolist()]
    beat_mel = librosa.util.sync(mel, borders, aggregate=np.median)
    beat_chroma = librosa.util.sync(chroma_rows, borders, aggregate=np.median)
    return fuse(mel, chroma_rows), fuse(beat_mel, beat_chroma)


def _mel_and_chroma(
    waveform: np.ndarray, magnitude: np.ndarray, settings: FeatureSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Both halves of the fused array, from the spectrum at librosa's own window and hop."""
    tuning = estimate_tuning(magnitude, settings.sample_rate_hz)
    if (settings.n_fft, settings.hop_length) != (ANALYSIS_N_FFT, ANALYSIS_HOP_LENGTH):
        magnitude = np.abs(short_time_spectrum(waveform, settings.n_fft, settings.hop_length))
    return mel_power(magnitude, settings), chroma(waveform, tuning, settings)


def compile_ahead(settings: FeatureSettings) -> None:
    """Run all of the extraction once, so that what numba compiles for it is in numba's cache.

    Processes that compile the same functions at the same time can leave a cache whose parts do
    not fit each other, and crash in it (numba issue 10128). So call this before starting several.

    Parameters
    ----------
    settings : FeatureSettings
        Those that the processes will use.
    """
    clicks = np.arange(0.25, 3, 0.5)
    waveform = librosa.clicks(times=clicks, sr=settings.sample_rate_hz, length=3 * settings.sample_rate_hz)
    fused_features(waveform.astype(np.float32), settings)
