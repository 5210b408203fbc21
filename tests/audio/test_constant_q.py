"""Tuning as librosa estimates it, and filters that are built once."""

import librosa
import numpy as np
import pytest

from music_emotion.audio import constant_q
from music_emotion.audio.constant_q import short_time_spectrum


def magnitude_of(seed: int, rate_hz: int) -> np.ndarray:
    """Harmonic tones at odd pitches in noise, three seconds."""
    rng = np.random.default_rng(seed)
    seconds = np.arange(3 * rate_hz) / rate_hz
    pitches_hz = 110 * 2 ** (3 * rng.random(5))
    tones = sum(
        np.sin(2 * np.pi * partial * pitch * seconds) / partial
        for pitch in pitches_hz
        for partial in (1, 2, 3)
    )
    waveform = (0.1 * tones + 0.02 * rng.standard_normal(len(seconds))).astype(np.float32)
    return np.abs(short_time_spectrum(waveform))


@pytest.mark.parametrize("rate_hz", [16000, 22050, 44100])
@pytest.mark.parametrize("seed", range(8))
def test_tuning_is_librosas(seed, rate_hz):
    magnitude = magnitude_of(seed, rate_hz)
    expected = librosa.estimate_tuning(S=magnitude, sr=rate_hz, bins_per_octave=36)
    assert constant_q.estimate_tuning(magnitude, rate_hz) == expected


def test_what_has_no_peaks_is_in_tune():
    assert constant_q.estimate_tuning(np.zeros((1025, 4), np.float32), 22050) == 0
    flat = np.ones((1025, 4), np.float32)
    with pytest.warns(UserWarning, match="empty frequency set"):
        expected = librosa.estimate_tuning(S=flat, sr=22050, bins_per_octave=36)
    assert constant_q.estimate_tuning(flat, 22050) == expected


def test_filters_are_built_once_per_tuning(monkeypatch):
    built = []
    wavelet = librosa.filters.wavelet

    def counted(**settings):
        built.append(settings["sr"])
        return wavelet(**settings)

    monkeypatch.setattr(librosa.filters, "wavelet", counted)
    constant_q._octaves.cache_clear()
    waveform = np.random.default_rng(0).standard_normal(22050).astype(np.float32)
    for tuning in (0.1, 0.1, -0.2, 0.1, -0.2):
        constant_q.chroma(waveform, tuning, 22050, 512)
    assert built == [22050 / 2**octave for octave in range(7)] * 2
