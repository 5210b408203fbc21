"""The sound of one clip of a table, or the reason why there is none to analyse."""

from pathlib import Path

import numpy as np

from music_emotion.data.journal import Source
from music_emotion.errors import InputError
from music_emotion.sound.spectrogram import ANALYSIS_N_FFT, FeatureSettings
from music_emotion.sound.waveform import read_waveform


def read_clip(audio: Path, source: Source, settings: FeatureSettings) -> np.ndarray:
    """Read a clip that can be analysed.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.

    Raises
    ------
    InputError
        When it can't be decoded, is shorter than a window, silent, or not finite.
    """
    waveform = read_waveform(audio, settings.sample_rate_hz, source.start_seconds, source.end_seconds)
    shortest = max(settings.n_fft, ANALYSIS_N_FFT)
    if len(waveform) < shortest:
        raise InputError(
            f"{audio}: the clip has {len(waveform)} samples at {settings.sample_rate_hz} Hz; "
            f"at least {shortest} are needed."
        )
    if not np.isfinite(waveform).all():
        raise InputError(f"{audio}: the audio holds values that are not finite numbers.")
    if not waveform.any():
        raise InputError(f"{audio}: the clip is silent.")
    return waveform
