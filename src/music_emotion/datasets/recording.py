"""The sound of one clip of a table, or the reason why there is none to analyse."""

from pathlib import Path

import numpy as np

from music_emotion.audio.constant_q import ANALYSIS_N_FFT
from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.journal import Source
from music_emotion.files import InputError

_SILENCE = 2.0**-16  # half a step of 16-bit sound: below, mel power vanishes in librosa's floor
_LOUDEST = 1e6  # full scale is 1; some files hold the steps of 16-bit sound as they are


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
            f"{audio}: the clip from {source.start_seconds:g} s on has {len(waveform)} samples at "
            f"{settings.sample_rate_hz} Hz; at least {shortest} are needed."
        )
    loudest = np.abs(waveform).max()
    if not loudest < _LOUDEST:
        raise InputError(f"{audio}: the audio holds values that are not finite, or far beyond full scale.")
    if loudest < _SILENCE:
        raise InputError(f"{audio}: the clip from {source.start_seconds:g} s on is silent.")
    return waveform
