"""Beats of the percussive part, and features summed up between them."""

import librosa
import numpy as np

from music_emotion.sound.spectrogram import FeatureSettings, chroma, fuse, mel_power


def beat_frames(waveform: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Frames at which the percussive part of a waveform has its beats.

    Harmonic-percussive separation by median filtering (Fitzgerald, 2010), then dynamic
    programming over the onset strength (Ellis, 2007), both as librosa has them.

    Returns
    -------
    np.ndarray [shape=(n_beats,)], integer
        Ascending frame numbers; empty where no beat is heard.
    """
    percussive = librosa.effects.percussive(waveform)
    _, frames = librosa.beat.beat_track(
        y=percussive, sr=settings.sample_rate_hz, hop_length=settings.hop_length
    )
    return frames


def fused_features(waveform: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays the competition gives for a clip.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)]
        Mono, at ``settings.sample_rate_hz``.
    settings : FeatureSettings

    Returns
    -------
    full : np.ndarray [shape=(140, n_frames)], float32
        One column per hop.
    beat_synchronous : np.ndarray [shape=(140, n_beats + 1)], float32
        One column per span between beats: the median of mel power and of chroma over it.
    """
    mel, chroma_rows = mel_power(waveform, settings), chroma(waveform, settings)
    beats = beat_frames(waveform, settings)
    beat_mel = librosa.util.sync(mel, beats.tolist(), aggregate=np.median)
    beat_chroma = librosa.util.sync(chroma_rows, beats.tolist(), aggregate=np.median)
    return fuse(mel, chroma_rows), fuse(beat_mel, beat_chroma)


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
