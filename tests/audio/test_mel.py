"""The mel spectrogram without librosa, against librosa's."""

import subprocess
import sys

import librosa
import numpy as np
import pytest

from music_emotion.audio.features import mel_power
from music_emotion.audio.mel import mel_decibels, mel_filters
from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.spectrum import short_time_spectrum
from music_emotion.datasets.synthesis import Music, synthesise


@pytest.mark.parametrize("settings", [FeatureSettings(), FeatureSettings(32000, 1024, 300)], ids=str)
def test_filters_and_decibels_are_librosas(settings):
    filters = librosa.filters.mel(sr=settings.sample_rate_hz, n_fft=settings.n_fft, n_mels=128)
    np.testing.assert_allclose(mel_filters(settings), filters, atol=1e-6 * filters.max())
    of_a_minor = Music(0, True, 110.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.4)
    music = synthesise(of_a_minor, 3.3, settings.sample_rate_hz, np.random.default_rng(0))
    magnitude = np.abs(short_time_spectrum(music, settings.n_fft, settings.hop_length))
    expected = librosa.power_to_db(mel_power(magnitude, settings), top_db=None)
    below = [
        np.maximum(decibels - expected.max(), -80) for decibels in (mel_decibels(music, settings), expected)
    ]
    np.testing.assert_allclose(*below, atol=2e-3)


def test_prediction_starts_without_librosa_and_timm():
    heavy = "{'librosa', 'timm', 'numba', 'matplotlib', 'sklearn'}"
    code = f"import sys, music_emotion.commands.predict; print({heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
