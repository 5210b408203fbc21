"""Statistics of a clip: always finite, and each says what its name says."""

import numpy as np
import pytest

from music_emotion.data.demo import Music, synthesise
from music_emotion.errors import InputError
from music_emotion.sound.spectrogram import FeatureSettings, chroma, fuse, mel_power, silent_rows
from music_emotion.sound.summary import fused_statistics

FRAME_SECONDS = 512 / 22050


def clip_statistics(
    minor: bool = False,
    tempo_bpm: float = 110.0,
    brightness: float = 0.5,
    density: float = 0.5,
    tonic: int = 0,
) -> dict[str, float]:
    settings = FeatureSettings()
    music = Music(tonic, 0, minor, tempo_bpm, brightness, density, 0.5, 0.5, 1.0, 0.4)
    waveform = synthesise(music, 8.0, settings.sample_rate_hz, np.random.default_rng(0))
    fused = fuse(mel_power(waveform, settings), chroma(waveform, settings))
    return fused_statistics(fused, FRAME_SECONDS)


def quiet(n_frames: int) -> np.ndarray:
    return np.repeat(silent_rows()[:, None], n_frames, axis=1)


def noisy(n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(n_frames)
    return np.concatenate([rng.uniform(-80, 0, (128, n_frames)), rng.uniform(0, 1, (12, n_frames))])


@pytest.mark.parametrize("n_frames", [1, 2, 3, 10, 431])
@pytest.mark.parametrize("clip", [quiet, noisy])
def test_statistics_are_finite_however_short_the_clip(clip, n_frames):
    statistics = fused_statistics(clip(n_frames), FRAME_SECONDS)
    assert np.isfinite(list(statistics.values())).all()
    assert all(type(value) is float for value in statistics.values())


def test_names_are_the_same_for_every_clip_and_few():
    names = list(fused_statistics(quiet(2), FRAME_SECONDS))
    assert names == list(fused_statistics(noisy(50), FRAME_SECONDS))
    assert 40 < len(names) < 150


def test_digital_silence_at_zero_decibels_is_finite():
    flat = np.zeros((140, 20), dtype=np.float32)  # what power_to_db makes of a clip of zeros
    assert np.isfinite(list(fused_statistics(flat, FRAME_SECONDS).values())).all()


@pytest.mark.parametrize("shape", [(128, 10), (140,), (140, 0), (1, 140, 10), (10, 140)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="140"):
        fused_statistics(np.zeros(shape), FRAME_SECONDS)


@pytest.mark.parametrize("frame_seconds", [0.0, -1.0, float("nan")])
def test_a_frame_must_last(frame_seconds):
    with pytest.raises(InputError, match="positive"):
        fused_statistics(quiet(5), frame_seconds)


def test_one_row_sets_centroid_and_roll_off():
    fused = quiet(10)
    fused[40] = 0.0
    statistics = fused_statistics(fused, FRAME_SECONDS)
    assert statistics["centroid_mean_rows"] == pytest.approx(40, abs=0.01)
    assert statistics["roll_off_mean_rows"] == 40
    assert statistics["bandwidth_mean_rows"] < 0.5
    assert statistics["band3_mean_db"] == pytest.approx(-80 * 15 / 16)


def test_equal_rows_are_flat_and_wide():
    fused = quiet(10)
    fused[:128] = -20.0
    statistics = fused_statistics(fused, FRAME_SECONDS)
    assert statistics["flatness_mean_db"] == pytest.approx(0, abs=1e-6)
    assert statistics["level_mean_db"] == pytest.approx(-20, abs=1e-6)
    assert statistics["dynamic_range_db"] == pytest.approx(0, abs=1e-9)
    assert statistics["centroid_mean_rows"] == pytest.approx(63.5)


@pytest.mark.parametrize("bpm", [80.0, 120.0, 150.0])
def test_pulse_of_clicks_has_their_tempo_up_to_an_octave(bpm):
    fused = quiet(431)
    fused[:128, np.round(np.arange(0.1, 9.9, 60 / bpm) / FRAME_SECONDS).astype(int)] = -5.0
    statistics = fused_statistics(fused, FRAME_SECONDS)
    octaves = np.log2(statistics["pulse_tempo_bpm"] / bpm)
    assert abs(octaves - round(octaves)) < 0.08
    assert statistics["pulse_strength"] > 0.3
    assert statistics["onset_rate_hz"] == pytest.approx(bpm / 60, rel=0.1)


def test_a_clip_too_short_to_repeat_has_no_pulse():
    statistics = fused_statistics(noisy(2), FRAME_SECONDS)
    assert statistics["pulse_tempo_bpm"] == 0
    assert statistics["pulse_strength"] == 0


@pytest.mark.parametrize("tonic", [0, 2, 7, 10])
def test_mode_difference_tells_major_from_minor(tonic):
    assert clip_statistics(minor=False, tonic=tonic)["mode_difference"] > 0
    assert clip_statistics(minor=True, tonic=tonic)["mode_difference"] < 0


def test_a_key_profile_fits_its_own_key_whatever_the_tonic():
    fused = quiet(4)
    scale = 1.0 * np.isin(np.arange(12), [0, 2, 4, 5, 7, 9, 11]) + np.isin(np.arange(12), [0, 4, 7])
    strengths = []
    for tonic in (0, 5):
        fused[128:] = np.roll(scale, tonic)[:, None] / 2
        strengths.append(fused_statistics(fused, FRAME_SECONDS)["key_strength"])
    assert strengths[0] == pytest.approx(strengths[1])
    assert 0.8 < strengths[0] <= 1


def test_brighter_music_has_a_higher_centroid():
    dark, middle, bright = (clip_statistics(brightness=level) for level in (0.1, 0.5, 0.9))
    assert dark["centroid_mean_rows"] < middle["centroid_mean_rows"] < bright["centroid_mean_rows"]
    assert dark["band8_mean_db"] < bright["band8_mean_db"]


def test_denser_music_has_more_onsets():
    assert clip_statistics(density=0.9)["flux_mean_db"] > clip_statistics(density=0.1)["flux_mean_db"]
