"""The competition's arrays, against librosa called directly in the ordinary way."""

from itertools import pairwise

import librosa
import numpy as np
import pytest

from music_emotion.sound.beats import beat_frames, fused_features
from music_emotion.sound.spectrogram import (
    FeatureSettings,
    chroma,
    fuse,
    mel_power,
    row_slice,
    silent_rows,
)

SETTINGS = FeatureSettings()
RATE_HZ = 22050


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """Eight seconds: a click every .5 s over a melody with a note every .36 s."""
    seconds = np.arange(8 * RATE_HZ) / RATE_HZ
    clicks = librosa.clicks(times=np.arange(0.25, 8, 0.5), sr=RATE_HZ, length=8 * RATE_HZ)
    pitch_hz = 220 * 2 ** ((seconds // 0.36 * 7 % 12) / 12)
    notes = sum(np.sin(2 * np.pi * pitch_hz * partial * seconds) / partial for partial in (1, 2, 3, 4))
    return (0.5 * clicks + 0.1 * notes).astype(np.float32)


@pytest.fixture(scope="module")
def extracted(waveform) -> tuple[np.ndarray, np.ndarray]:
    return fused_features(waveform, SETTINGS)


@pytest.fixture(scope="module")
def beats(waveform) -> np.ndarray:
    """Beats of the percussive part, from librosa's two-part separation."""
    _, percussive = librosa.effects.hpss(waveform)
    _, frames = librosa.beat.beat_track(y=percussive, sr=RATE_HZ)
    return frames


def test_mel_rows_are_librosas(waveform, extracted):
    mel = librosa.feature.melspectrogram(y=waveform, sr=22050, n_fft=2048, hop_length=512, n_mels=128)
    np.testing.assert_allclose(mel_power(waveform, SETTINGS), mel, rtol=1e-6)
    np.testing.assert_allclose(extracted[0][:128], librosa.power_to_db(mel, ref=np.max), atol=1e-4)


def test_chroma_rows_are_librosas(waveform, extracted):
    expected = librosa.feature.chroma_cqt(y=waveform, sr=22050, hop_length=512)
    np.testing.assert_allclose(chroma(waveform, SETTINGS), expected, atol=1e-6)
    np.testing.assert_allclose(extracted[0][128:], expected, atol=1e-6)


def test_full_arrays_have_one_column_per_hop_in_the_competitions_ranges(waveform, extracted):
    full, _ = extracted
    assert full.dtype == np.float32
    assert full.shape == (140, 1 + len(waveform) // 512)
    assert full[:128].max() == 0
    assert full[:128].min() >= -80
    assert full[128:].min() >= 0
    assert full[128:].max() <= 1


def test_beats_are_those_of_the_percussive_part(waveform, beats):
    np.testing.assert_array_equal(beat_frames(waveform, SETTINGS), beats)
    assert len(beats) >= 10
    spans_seconds = np.diff(beats) * 512 / RATE_HZ
    assert np.median(spans_seconds) == pytest.approx(0.5, abs=0.02)
    _, of_the_whole = librosa.beat.beat_track(y=waveform, sr=RATE_HZ)
    assert list(of_the_whole) != list(beats)  # so that leaving the separation out would show


def test_beat_synchronous_arrays_are_medians_between_beats(waveform, extracted, beats):
    _, beat_synchronous = extracted
    mel = librosa.feature.melspectrogram(y=waveform, sr=22050)
    chromagram = librosa.feature.chroma_cqt(y=waveform, sr=22050)
    mel_sync = librosa.util.sync(mel, beats, aggregate=np.median)
    chroma_sync = librosa.util.sync(chromagram, beats, aggregate=np.median)
    expected = np.concatenate([librosa.power_to_db(mel_sync, ref=np.max), chroma_sync])
    assert beat_synchronous.dtype == np.float32
    assert beat_synchronous.shape == (140, len(beats) + 1)
    np.testing.assert_allclose(beat_synchronous, expected, atol=1e-4)


def test_a_beat_synchronous_column_is_the_median_of_its_frames(waveform, extracted, beats):
    mel, chroma_rows = mel_power(waveform, SETTINGS), chroma(waveform, SETTINGS)
    edges = [0, *beats, mel.shape[1]]
    medians = [
        [np.median(rows[:, one:other], axis=1) for one, other in pairwise(edges)]
        for rows in (mel, chroma_rows)
    ]
    columns = fuse(np.stack(medians[0], axis=1), np.stack(medians[1], axis=1))
    np.testing.assert_allclose(extracted[1], columns, atol=1e-4)


def test_other_settings_change_the_frames(waveform):
    settings = FeatureSettings(n_fft=1024, hop_length=256)
    expected = librosa.feature.melspectrogram(y=waveform, sr=22050, n_fft=1024, hop_length=256)
    np.testing.assert_allclose(mel_power(waveform, settings), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")
def test_a_fifth_of_a_second_gives_finite_arrays():
    rng = np.random.default_rng(0)
    steady = (1e-3 * rng.standard_normal(4096)).astype(np.float32)
    full, beat_synchronous = fused_features(steady, SETTINGS)
    n_beats = len(beat_frames(steady, SETTINGS))
    assert beat_synchronous.shape == (140, n_beats + 1)
    assert np.isfinite(full).all()
    assert np.isfinite(beat_synchronous).all()


def test_decibels_are_below_the_loudest_point_of_the_same_array():
    mel = np.full((128, 3), 1e-6)
    mel[5, 1] = 2.0
    mel[6, 1] = 0.2
    fused = fuse(mel, np.zeros((12, 3)))
    assert fused[5, 1] == 0
    assert fused[6, 1] == pytest.approx(-10)
    assert fused[0, 0] == pytest.approx(-63.0103, abs=1e-3)
    np.testing.assert_array_equal(fuse(mel * 100, np.zeros((12, 3))), fused)


def test_row_slices_split_the_fused_array():
    assert row_slice("fused") == slice(0, 140)
    assert row_slice("mel") == slice(0, 128)
    assert row_slice("chroma") == slice(128, 140)


def test_silence_is_the_floor_in_mel_and_zero_in_chroma():
    silence = silent_rows()
    assert silence.dtype == np.float32
    np.testing.assert_array_equal(silence, [-80.0] * 128 + [0.0] * 12)
