"""Compute the fused array of a clip: 128 mel rows in dB and 12 chroma rows, full-rate or beat-synchronous."""

import librosa
import numpy as np

from music_emotion.audio.settings import N_FFT, FeatureSettings
from music_emotion.audio.spectrum import chroma, estimate_tuning, percussive_part, short_time_spectrum
from music_emotion.config import N_MELS
from music_emotion.files import compiling


def mel_power(magnitude: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Compute the mel power spectrogram.

    Parameters
    ----------
    magnitude : np.ndarray [shape=(1 + n_fft // 2, n_frames)]
        Magnitude of the short-time Fourier transform.
    settings : FeatureSettings

    Returns
    -------
    np.ndarray [shape=(128, n_frames)], float32
    """
    return librosa.feature.melspectrogram(S=magnitude**2, sr=settings.sample_rate_hz, n_mels=N_MELS)


def fuse(mel: np.ndarray, chroma_rows: np.ndarray) -> np.ndarray:
    """Stack the mel spectrogram, in dB relative to its maximum, and the chromagram.

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
    """Compute the full-rate array of a clip.

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
    return fuse(*_mel_and_chroma(waveform, short_time_spectrum(waveform), settings))


def fused_features(waveform: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray]:
    """Compute the two arrays that the competition provides per clip: full-rate and beat-synchronous.

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
        One column per interval between beats: the median of mel power and of chroma over its frames.
    """
    spectrum = short_time_spectrum(waveform)  # shared by mel, tuning and HPSS; librosa computes it for each
    mel, chroma_rows = _mel_and_chroma(waveform, spectrum, settings)
    borders = [0, *beat_frames(waveform, settings, spectrum).tolist()]  # a clip without beats is one interval
    beat_mel = librosa.util.sync(mel, borders, aggregate=np.median)
    beat_chroma = librosa.util.sync(chroma_rows, borders, aggregate=np.median)
    return fuse(mel, chroma_rows), fuse(beat_mel, beat_chroma)


def beat_frames(
    waveform: np.ndarray, settings: FeatureSettings, spectrum: np.ndarray | None = None
) -> np.ndarray:
    """Track beats on the percussive part of a waveform.

    librosa's `beat_track`: dynamic programming over the onset strength (Ellis, 2007).

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.
    settings : FeatureSettings
    spectrum : np.ndarray, optional
        The waveform's `short_time_spectrum`, if already computed.

    Returns
    -------
    np.ndarray [shape=(n_beats,)], integer
        Ascending frame numbers; empty if no beats are found.
    """
    spectrum = short_time_spectrum(waveform) if spectrum is None else spectrum
    percussive = percussive_part(spectrum, len(waveform))  # beats from the masked spectrum would differ
    rate_hz, hop_length = settings.sample_rate_hz, settings.hop_length
    return librosa.beat.beat_track(y=percussive, sr=rate_hz, hop_length=hop_length)[1]


def _mel_and_chroma(
    waveform: np.ndarray, spectrum: np.ndarray, settings: FeatureSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Compute mel power and chroma. `spectrum` has librosa's default window and hop."""
    magnitude = np.abs(spectrum)
    rate_hz, n_fft, hop_length = settings.sample_rate_hz, settings.n_fft, settings.hop_length
    chroma_rows = chroma(waveform, estimate_tuning(magnitude, rate_hz), rate_hz, hop_length)
    if (n_fft, hop_length) != (N_FFT, N_FFT // 4):
        magnitude = np.abs(short_time_spectrum(waveform, n_fft, hop_length))
    return mel_power(magnitude, settings), chroma_rows


def compile_ahead(settings: FeatureSettings) -> None:
    """Fill numba's cache by one run of the extraction, while other commands wait for their turn.

    Call it before starting several processes.

    Parameters
    ----------
    settings : FeatureSettings
        Settings that the processes will use.
    """
    print("Preparing, which can take half a minute the first time.", flush=True)
    clicks = np.arange(0.25, 3, 0.5)
    waveform = librosa.clicks(times=clicks, sr=settings.sample_rate_hz, length=3 * settings.sample_rate_hz)
    with compiling():
        fused_features(waveform.astype(np.float32), settings)
