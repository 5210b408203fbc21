"""The competition's arrays, against librosa called directly in the ordinary way."""

import librosa
import numpy as np
import pytest

from music_emotion.audio.features import (
    FeatureSettings,
    beat_frames,
    full_features,
    fused_features,
)
from music_emotion.datasets.synthesis import draw_music, synthesise

SETTINGS = FeatureSettings()
RATE_HZ = 22050


def melody(rate_hz: int = RATE_HZ) -> np.ndarray:
    """Six seconds: a click every .5 s over a melody with a note every .36 s."""
    seconds = np.arange(6 * rate_hz) / rate_hz
    clicks = librosa.clicks(times=np.arange(0.25, 6, 0.5), sr=rate_hz, length=6 * rate_hz)
    pitch_hz = 220 * 2 ** ((seconds // 0.36 * 7 % 12) / 12)
    notes = sum(np.sin(2 * np.pi * pitch_hz * partial * seconds) / partial for partial in (1, 2, 3, 4))
    return (0.5 * clicks + 0.1 * notes).astype(np.float32)


def demo_music(genre: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return synthesise(draw_music(genre, rng), 6.0, RATE_HZ, rng)


def with_silence() -> np.ndarray:
    """Digital silence before, within and after: frames that are all zero, and their borders."""
    waveform = melody()
    waveform[: RATE_HZ // 2] = 0
    waveform[3 * RATE_HZ : 5 * RATE_HZ] = 0
    waveform[-RATE_HZ:] = 0
    return waveform


def noise(n_samples: int, level: float) -> np.ndarray:
    return (level * np.random.default_rng(0).standard_normal(n_samples)).astype(np.float32)


CLIPS = {
    "melody": melody,
    "with silence": with_silence,
    "electronic": lambda: demo_music("Electronic", 0),
    "folk": lambda: demo_music("Folk", 1),
    "hip-hop": lambda: demo_music("Hip-Hop", 2),
    "classical": lambda: demo_music("Classical", 3),
    "faint noise": lambda: noise(5 * RATE_HZ, 1e-4),
    "one window": lambda: noise(2048, 0.1),
    "a fifth of a second": lambda: noise(4410, 0.1),
    "one second": lambda: noise(RATE_HZ, 0.1),
    "clipped": lambda: np.clip(5 * demo_music("Rock", 4), -1, 1),
}


def ordinary(waveform: np.ndarray, settings: FeatureSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The full array, the beats and the beat-synchronous array by librosa's own calls."""
    rate_hz, hop_length = settings.sample_rate_hz, settings.hop_length
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=rate_hz, n_fft=settings.n_fft, hop_length=hop_length, n_mels=128
    )
    chroma = librosa.feature.chroma_cqt(y=waveform, sr=rate_hz, hop_length=hop_length)
    _, percussive = librosa.effects.hpss(waveform)
    _, beats = librosa.beat.beat_track(y=percussive, sr=rate_hz, hop_length=hop_length)
    # librosa makes an empty array of no beats; one column for the whole clip is what is meant
    medians = [librosa.util.sync(rows, beats.tolist() or [0], aggregate=np.median) for rows in (mel, chroma)]
    full, beat = (
        np.concatenate([librosa.power_to_db(power, ref=np.max), pitches])
        for power, pitches in ((mel, chroma), medians)
    )
    return full, beats, beat


def check_equal(waveform: np.ndarray, settings: FeatureSettings) -> None:
    full, beats, beat = ordinary(waveform, settings)
    our_full, our_beat = fused_features(waveform, settings)
    np.testing.assert_array_equal(beat_frames(waveform, settings), beats)
    for ours, theirs in ((our_full, full), (our_beat, beat)):
        assert ours.dtype == np.float32
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours[:128], theirs[:128], rtol=0, atol=1e-3)
        np.testing.assert_allclose(ours[128:], theirs[128:], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(full_features(waveform, settings), our_full)


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")  # of librosa's own calls
@pytest.mark.filterwarnings("ignore:Trying to estimate tuning:UserWarning")
@pytest.mark.parametrize("name", CLIPS)
def test_arrays_and_beats_are_librosas(name):
    check_equal(CLIPS[name](), SETTINGS)


@pytest.mark.parametrize(
    "settings",
    [
        FeatureSettings(n_fft=1024, hop_length=256),
        FeatureSettings(hop_length=441),  # odd: no octave can have half the sample rate
        FeatureSettings(hop_length=500),  # two octaves can
        FeatureSettings(n_fft=4096, hop_length=1024),
        FeatureSettings(sample_rate_hz=16000),
        FeatureSettings(sample_rate_hz=44100),  # halved once before the first octave
        FeatureSettings(sample_rate_hz=96000, hop_length=1024),  # twice
    ],
    ids=lambda settings: f"{settings.sample_rate_hz}-{settings.n_fft}-{settings.hop_length}",
)
def test_so_they_are_at_other_settings(settings):
    check_equal(melody(settings.sample_rate_hz), settings)


@pytest.mark.parametrize("detune_cents", [-40, 8, 33])
def test_so_they_are_at_other_tunings(detune_cents):
    seconds = np.arange(4 * RATE_HZ) / RATE_HZ
    pitch_hz = 440 * 2 ** (detune_cents / 1200) * 2 ** (np.array([0, 4, 7, 12]) / 12)
    tones = np.sin(2 * np.pi * pitch_hz[:, None] * seconds).sum(axis=0)
    check_equal((0.2 * tones).astype(np.float32), SETTINGS)


def test_clips_shorter_than_a_window_give_no_warning(recwarn):
    fused_features(noise(2048, 0.1), SETTINGS)
    assert not [str(warning.message) for warning in recwarn]


def test_beats_are_those_of_the_percussive_part():
    beats = beat_frames(melody(), SETTINGS)
    assert len(beats) >= 8
    spans_seconds = np.diff(beats) * 512 / RATE_HZ
    assert np.median(spans_seconds) == pytest.approx(0.5, abs=0.02)
    _, of_the_whole = librosa.beat.beat_track(y=melody(), sr=RATE_HZ)
    assert list(of_the_whole) != list(beats)  # so that leaving the separation out would show


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
