"""The competition's arrays, against librosa called directly in the ordinary way."""

import warnings

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import median_filter

from music_emotion.audio import spectrum
from music_emotion.audio.features import beat_frames, full_features, fused_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets.synthesis import draw_music, synthesise

SETTINGS = FeatureSettings()
RATE_HZ = 22050


def melody(rate_hz: int = RATE_HZ, n_seconds: int = 3, cents: float = 0) -> np.ndarray:
    """A click every .5 s over a melody with a note every .36 s, so many cents off."""
    seconds = np.arange(n_seconds * rate_hz) / rate_hz
    clicks = librosa.clicks(times=np.arange(0.25, n_seconds, 0.5), sr=rate_hz, length=len(seconds))
    pitch_hz = 220 * 2 ** ((seconds // 0.36 * 7 % 12 + cents / 100) / 12)
    notes = sum(np.sin(2 * np.pi * pitch_hz * partial * seconds) / partial for partial in (1, 2, 3, 4))
    return (0.5 * clicks + 0.1 * notes).astype(np.float32)


def demo_music(genre: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return synthesise(draw_music(genre, rng), 6.0, RATE_HZ, rng)


def with_silence() -> np.ndarray:
    """Digital silence before, within and after: frames that are all zero, and their borders."""
    waveform = melody(n_seconds=6)
    waveform[: RATE_HZ // 2] = waveform[3 * RATE_HZ : 5 * RATE_HZ] = waveform[-RATE_HZ // 2 :] = 0
    return waveform


def noise(n_samples: int, level: float) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(n_samples)).astype(np.float32)


def ordinary(waveform: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The full array, the beats and the beat-synchronous array by librosa's own calls."""
    rate_hz, hop_length = settings.sample_rate_hz, settings.hop_length
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=rate_hz, n_fft=settings.n_fft, hop_length=hop_length, n_mels=128
    )
    chroma = librosa.feature.chroma_cqt(y=waveform, sr=rate_hz, hop_length=hop_length)
    percussive = librosa.effects.percussive(waveform)
    _, beats = librosa.beat.beat_track(y=percussive, sr=rate_hz, hop_length=hop_length)
    # librosa makes an empty array of no beats; one column for the whole clip is what is meant
    medians = [librosa.util.sync(rows, beats.tolist() or [0], aggregate=np.median) for rows in (mel, chroma)]
    full, beat = (
        np.concatenate([librosa.power_to_db(power, ref=np.max), pitches])
        for power, pitches in ((mel, chroma), medians)
    )
    return full, beats, beat


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")  # of librosa's own calls
@pytest.mark.filterwarnings("ignore:Trying to estimate tuning:UserWarning")
@pytest.mark.parametrize(
    ("waveform", "settings"),
    [
        (melody(n_seconds=6), SETTINGS),
        (with_silence(), SETTINGS),
        (demo_music("Electronic", 0), SETTINGS),
        (np.clip(5 * demo_music("Rock", 4), -1, 1), SETTINGS),
        (noise(3 * RATE_HZ, 1e-4), SETTINGS),
        (noise(2048, 0.1), SETTINGS),
        (noise(4410, 0.1), SETTINGS),
        (melody(cents=-40), SETTINGS),
        (melody(cents=33), SETTINGS),
        (melody(16000), FeatureSettings(sample_rate_hz=16000)),
        (melody(), FeatureSettings(n_fft=1024, hop_length=256)),
        (melody(), FeatureSettings(hop_length=441)),  # odd: no octave can have half the sample rate
        (melody(), FeatureSettings(hop_length=500)),  # two octaves can
        (melody(44100), FeatureSettings(sample_rate_hz=44100)),  # halved once before the first octave
        (melody(96000), FeatureSettings(sample_rate_hz=96000, hop_length=1024)),  # twice
    ],
)
def test_arrays_and_beats_are_librosas(waveform, settings):
    full, beats, beat = ordinary(waveform, settings)
    with warnings.catch_warnings(action="error"):
        our_full, our_beat = fused_features(waveform, settings)
    np.testing.assert_array_equal(beat_frames(waveform, settings), beats)
    for ours, theirs in ((our_full, full), (our_beat, beat)):
        assert ours.dtype == np.float32
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours[:128], theirs[:128], rtol=0, atol=1e-3)
        np.testing.assert_allclose(ours[128:], theirs[128:], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(full_features(waveform, settings), our_full)
    magnitude, rate_hz = np.abs(spectrum.short_time_spectrum(waveform)), settings.sample_rate_hz
    tuning = librosa.estimate_tuning(S=magnitude, sr=rate_hz, bins_per_octave=36)
    assert spectrum.estimate_tuning(magnitude, rate_hz) == tuning


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sample_rate_hz": 8000}, "8400"),
        ({"n_fft": 100}, "256"),
        ({"hop_length": 0}, "1"),
        ({"hop_length": 4096}, "hop_length is 4096, longer than the window n_fft of 2048"),
        ({"hop": 512}, "hop"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        FeatureSettings(**settings)


def test_filters_are_built_once_per_tuning():
    spectrum._octaves.cache_clear()
    for tuning in (0.1, 0.1, -0.2, 0.1, -0.2):
        spectrum.chroma(noise(RATE_HZ, 1), tuning, RATE_HZ, 512)
    assert spectrum._octaves.cache_info().misses == 2


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 70), st.integers(1, 70)),
        elements=st.sampled_from([0.0, 1.0, 1.5, 2.0]) | st.floats(-1e6, 1e6, width=32),  # with many ties
    ),
    half=st.integers(0, 20),
)
def test_the_running_median_is_scipys_and_leaves_its_input_alone(values, half):
    size, before = 2 * half + 1, values.copy()
    # mirrored here, since scipy errs where a window is many times as long as the values
    mirrored = np.pad(values, ((half, half), (0, 0)), mode="symmetric")
    expected = median_filter(mirrored, size=(size, 1))[half : half + len(values)]
    np.testing.assert_array_equal(spectrum.running_median(values, size), expected)
    np.testing.assert_array_equal(values, before)


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")
@pytest.mark.parametrize("n_samples", [2048, 66151])
def test_the_percussive_part_is_librosas_to_the_bit(n_samples):
    waveform = noise(n_samples, 0.1) + 0.3 * np.sin(np.arange(n_samples) / 20).astype(np.float32)
    waveform[n_samples // 2 : n_samples // 2 + 5000] = 0  # digital silence: nothing over nothing
    ours = spectrum.percussive_part(spectrum.short_time_spectrum(waveform), n_samples)
    np.testing.assert_array_equal(ours, librosa.effects.percussive(waveform))
