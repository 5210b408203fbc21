"""The ear's input from a waveform and from a fused array."""

import librosa
import numpy as np
import pytest
import soxr

from music_emotion.audio.ear_input import array_bands, ear_bands
from music_emotion.audio.features import full_features
from music_emotion.audio.settings import FeatureSettings

SECONDS = 12.0


def noise(sample_rate_hz: int) -> np.ndarray:
    """Noise that falls by 3 dB per octave, with a beep of 0.5 s after every second."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfft(rng.standard_normal(int(SECONDS * sample_rate_hz)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)))
    times = np.arange(len(pink)) / sample_rate_hz
    beep = 0.02 * np.sin(2 * np.pi * 1234.5 * times) * (times % 1 < 0.5)
    return (0.1 * pink / pink.std() + beep).astype(np.float32)


@pytest.mark.parametrize("n_samples", [0, 1, 300, 16000])
def test_bands_equal_librosa(n_samples):
    waveform = noise(16000)[:n_samples]
    padded = np.pad(waveform, 256)  # librosa refuses an empty waveform
    power = librosa.feature.melspectrogram(
        y=padded, sr=16000, n_fft=512, hop_length=256, n_mels=96, center=False
    )
    bands = ear_bands(waveform)
    assert (bands.dtype, bands.shape) == (np.float32, (1 + n_samples // 256, 96))
    np.testing.assert_allclose(bands, np.log10(1 + 10_000 * power.T), atol=1e-5)


def power_db(bands: np.ndarray) -> np.ndarray:
    return 10 * np.log10((10.0**bands - 1).mean(axis=0))


def test_an_array_has_the_bands_of_its_audio_but_for_its_level():
    waveform = noise(22050)
    fused = full_features(waveform, FeatureSettings())
    bands = ear_bands(soxr.resample(waveform, 22050, 16000, quality="HQ"))
    level_db = np.median(power_db(bands) - power_db(array_bands(fused, 0.0)))
    estimate = array_bands(fused, level_db)
    assert estimate.dtype == np.float32
    assert 0 <= len(bands) - len(estimate) <= 2  # the array doesn't tell how full its last frame is
    error_db = np.abs(power_db(estimate) - power_db(bands))[1:]  # the lowest band has two Fourier bins
    assert error_db.max() < 0.5
    assert error_db.mean() < 0.1
    beeps = [rows[:, np.argmax(bands.mean(axis=0)[30:]) + 30] for rows in (estimate, bands[: len(estimate)])]
    shifts = [np.corrcoef(np.roll(beeps[0], shift), beeps[1])[0, 1] for shift in range(-3, 4)]
    assert np.argmax(shifts) == 3


def test_an_array_of_one_frame_is_one_frame():
    assert array_bands(np.zeros((140, 1), np.float32), 20.0).shape == (1, 96)
