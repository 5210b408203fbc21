"""Statistics of a clip: always finite, and each says what its name says."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.audio.features import FeatureSettings, fused_features, silent_rows
from music_emotion.audio.statistics import fused_statistics
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError

FRAME_SECONDS = 512 / 22050
UNITS = ("db", "rows", "bpm", "hz")
RATIOS = ("chroma", "key", "major", "minor", "mode", "pulse_strength", "onset_autocorrelation")


def clip_statistics(
    minor: bool = False,
    tempo_bpm: float = 110.0,
    brightness: float = 0.5,
    density: float = 0.5,
    tonic: int = 0,
) -> dict[str, float]:
    music = Music(tonic, 0, minor, tempo_bpm, brightness, density, 0.5, 0.5, 1.0, 0.4)
    waveform = synthesise(music, 8.0, 22050, np.random.default_rng(0))
    full, _ = fused_features(waveform, FeatureSettings())
    return fused_statistics(full, FRAME_SECONDS)


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


@given(st.data(), st.integers(1, 40), st.floats(1e-3, 1.0))
@settings(max_examples=60, deadline=None)
def test_statistics_of_any_array_are_finite(data, n_frames, frame_seconds):
    mel = data.draw(arrays(np.float32, (128, n_frames), elements=st.floats(-80, 0, width=32)))
    chroma = data.draw(arrays(np.float32, (12, n_frames), elements=st.floats(0, 1, width=32)))
    statistics = fused_statistics(np.concatenate([mel, chroma]), frame_seconds)
    assert np.isfinite(list(statistics.values())).all()


def test_names_are_the_same_for_every_clip():
    names = list(fused_statistics(quiet(2), FRAME_SECONDS))
    assert names == list(fused_statistics(noisy(50), FRAME_SECONDS))
    assert len(names) == 146


def test_names_end_in_a_unit_or_are_of_ratios_that_the_docstring_lists():
    for name in fused_statistics(noisy(50), FRAME_SECONDS):
        is_ratio = name.removeprefix("low_").startswith(RATIOS)
        assert name.endswith(tuple(f"_{unit}" for unit in UNITS)) != is_ratio, name
    assert all(f"`{word}`" in fused_statistics.__doc__ for word in UNITS + RATIOS)


def test_a_transposed_clip_of_a_store_has_the_same_statistics():
    fused = noisy(50).astype(np.float32)
    stored = np.ascontiguousarray(fused.T)
    assert fused_statistics(stored.T, FRAME_SECONDS) == fused_statistics(fused, FRAME_SECONDS)


def test_digital_silence_at_zero_decibels_is_finite():
    flat = np.zeros((140, 20), dtype=np.float32)  # what power_to_db makes of a clip of zeros
    assert np.isfinite(list(fused_statistics(flat, FRAME_SECONDS).values())).all()


@pytest.mark.parametrize("shape", [(128, 10), (140,), (140, 0), (1, 140, 10), (10, 140)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="140"):
        fused_statistics(np.zeros(shape), FRAME_SECONDS)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("argument", ["frame_seconds", "sample_rate_hz"])
def test_a_frame_must_last_and_a_rate_must_be_positive(argument, value):
    given_values = {"frame_seconds": FRAME_SECONDS, "sample_rate_hz": 22050.0, argument: value}
    with pytest.raises(InputError, match=f"{argument} is .*positive"):
        fused_statistics(quiet(5), **given_values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    fused = quiet(5)
    fused[130, 2] = value
    with pytest.raises(InputError, match="has 1 values that are not finite"):
        fused_statistics(fused, FRAME_SECONDS)


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
    assert statistics["flatness_mean_db"] == pytest.approx(0, abs=1e-5)
    assert statistics["level_mean_db"] == pytest.approx(-20, abs=1e-5)
    assert statistics["dynamic_range_db"] == pytest.approx(0, abs=1e-9)
    assert statistics["centroid_mean_rows"] == pytest.approx(63.5)


@pytest.mark.parametrize("row", [5, 40, 100])
@pytest.mark.parametrize("sample_rate_hz", [22050, 44100])
def test_in_hertz_a_row_is_at_its_filters_peak(row, sample_rate_hz):
    filters = librosa.filters.mel(sr=sample_rate_hz, n_fft=2**16, n_mels=128)
    peak_hz = filters[row].argmax() * sample_rate_hz / 2**16
    fused = quiet(10)
    fused[row] = 0.0
    statistics = fused_statistics(fused, FRAME_SECONDS, sample_rate_hz)
    assert statistics["mel_centroid_mean_hz"] == pytest.approx(peak_hz, rel=0.02)
    assert statistics["mel_roll_off_mean_hz"] == pytest.approx(peak_hz, rel=0.01)
    assert statistics["mel_bandwidth_mean_hz"] < 0.01 * sample_rate_hz


def test_white_noise_is_centred_at_a_quarter_of_the_sample_rate():
    noise = np.random.default_rng(0).standard_normal(5 * 22050).astype(np.float32)
    full, _ = fused_features(noise, FeatureSettings())
    statistics = fused_statistics(full, FRAME_SECONDS)
    assert statistics["mel_centroid_mean_hz"] == pytest.approx(22050 / 4, rel=0.01)
    assert statistics["mel_bandwidth_mean_hz"] == pytest.approx(11025 / 12**0.5, rel=0.02)
    assert statistics["mel_roll_off_mean_hz"] == pytest.approx(0.85 * 11025, rel=0.02)


def test_percentiles_of_a_band_are_of_its_frames():
    fused = quiet(101)
    fused[32:48] = np.random.default_rng(0).permutation(np.linspace(-60, -10, 101))
    statistics = fused_statistics(fused, FRAME_SECONDS)
    assert statistics["band3_p10_db"] == pytest.approx(-55, abs=1e-4)
    assert statistics["band3_p50_db"] == pytest.approx(-35, abs=1e-4)
    assert statistics["band3_p90_db"] == pytest.approx(-15, abs=1e-4)
    assert statistics["band4_p90_db"] == -80


@pytest.mark.parametrize("order", [1, 4, 12])
def test_a_cosine_over_the_mel_rows_is_one_mfcc(order):
    fused = quiet(8)
    cosine = np.cos(np.pi * order * (np.arange(128) + 0.5) / 128)
    fused[:128] = -40 + 10 * cosine[:, None] * np.tile([1, 0.5], 4)
    statistics = fused_statistics(fused, FRAME_SECONDS)
    assert statistics["mfcc0_mean_db"] == pytest.approx(-40 * 128**0.5, abs=1e-3)
    assert statistics[f"mfcc{order}_mean_db"] == pytest.approx(7.5 * 64**0.5, abs=1e-3)
    assert statistics[f"mfcc{order}_std_db"] == pytest.approx(2.5 * 64**0.5, abs=1e-3)
    others = [statistics[f"mfcc{number}_mean_db"] for number in range(1, 13) if number != order]
    np.testing.assert_allclose(others, 0, atol=1e-3)


def test_mfccs_are_librosas_but_for_the_level_of_the_0th():
    music = Music(0, 0, False, 110.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.4)
    waveform = synthesise(music, 4.0, 22050, np.random.default_rng(0))
    statistics = fused_statistics(fused_features(waveform, FeatureSettings())[0], FRAME_SECONDS)
    expected = librosa.feature.mfcc(y=waveform, sr=22050, n_mfcc=13)
    means = [statistics[f"mfcc{number}_mean_db"] for number in range(13)]
    deviations = [statistics[f"mfcc{number}_std_db"] for number in range(13)]
    np.testing.assert_allclose(means[1:], expected[1:].mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(deviations, expected.std(axis=1), atol=1e-3)
    assert abs(means[0] - expected[0].mean()) > 10


def test_each_pitch_class_has_its_mean_and_deviation():
    fused = quiet(4)
    fused[128 + 6] = [0, 0, 1, 1]  # f sharp
    fused[128 + 11] = 0.25
    statistics = fused_statistics(fused, FRAME_SECONDS)
    assert statistics["chroma_f_sharp_mean"] == 0.5
    assert statistics["chroma_f_sharp_std"] == 0.5
    assert statistics["chroma_b_mean"] == 0.25
    assert statistics["chroma_b_std"] == 0
    assert statistics["chroma_f_mean"] == statistics["chroma_g_mean"] == 0
    assert clip_statistics(tonic=2)["chroma_d_mean"] > clip_statistics(tonic=0)["chroma_d_mean"]


def clicks(bpm: float, levels_db: tuple[float, ...]) -> np.ndarray:
    """Ten seconds of clicks, their levels in turn."""
    fused = quiet(431)
    beats = np.round(np.arange(0.1, 9.9, 60 / bpm) / FRAME_SECONDS).astype(int)
    fused[:128, beats] = np.resize(levels_db, len(beats))
    return fused


@pytest.mark.parametrize("bpm", [80.0, 120.0, 150.0])
def test_pulse_of_clicks_has_their_tempo_up_to_an_octave(bpm):
    statistics = fused_statistics(clicks(bpm, (-5.0,)), FRAME_SECONDS)
    octaves = np.log2(statistics["pulse_tempo_bpm"] / bpm)
    assert abs(octaves - round(octaves)) < 0.08
    assert statistics["pulse_strength"] > 0.3
    assert statistics["onset_rate_hz"] == pytest.approx(bpm / 60, rel=0.1)


def test_a_waltz_repeats_after_three_beats_and_a_march_after_two_and_four():
    bpm = 60 / (22 * FRAME_SECONDS)  # 117: a whole number of frames
    strong, weak = -5.0, -50.0
    waltz = fused_statistics(clicks(bpm, (strong, weak, weak)), FRAME_SECONDS)
    march = fused_statistics(clicks(bpm, (strong, weak)), FRAME_SECONDS)
    beat = "onset_autocorrelation_{}_beats".format
    assert waltz["pulse_tempo_bpm"] == march["pulse_tempo_bpm"] == pytest.approx(bpm)
    assert waltz[beat("three")] > 1.2 * max(waltz[beat("two")], waltz[beat("four")])
    assert march[beat("three")] < 0.8 * min(march[beat("two")], march[beat("four")])


def test_clicks_between_the_beats_show_half_a_beat_later():
    between = fused_statistics(clicks(240.0, (-5.0, -40.0)), FRAME_SECONDS)
    beats_only = fused_statistics(clicks(120.0, (-5.0,)), FRAME_SECONDS)
    assert between["pulse_tempo_bpm"] == pytest.approx(120, rel=0.03)
    assert between["onset_autocorrelation_half_beat"] > beats_only["onset_autocorrelation_half_beat"] + 0.3


def test_a_bar_longer_than_the_clip_has_no_autocorrelation():
    statistics = fused_statistics(clicks(60.0, (-5.0,))[:, :100], FRAME_SECONDS)  # 2.3 seconds
    assert statistics["pulse_strength"] > 0
    assert statistics["onset_autocorrelation_four_beats"] == 0


def test_clicks_slower_than_any_beat_have_no_beat_of_their_tempo():
    statistics = fused_statistics(clicks(24.0, (-5.0,)), FRAME_SECONDS)
    assert 40 <= statistics["pulse_tempo_bpm"] <= 240
    assert statistics["pulse_strength"] < 0.1


def test_a_steady_clip_has_no_pulse():
    statistics = fused_statistics(quiet(431), FRAME_SECONDS)
    assert statistics["pulse_tempo_bpm"] == statistics["low_pulse_tempo_bpm"] == 0
    assert statistics["pulse_strength"] == statistics["onset_autocorrelation_half_beat"] == 0


def test_a_clip_too_short_to_repeat_has_no_pulse():
    statistics = fused_statistics(noisy(2), FRAME_SECONDS)
    assert statistics["pulse_tempo_bpm"] == 0
    assert statistics["pulse_strength"] == 0
    assert statistics["onset_autocorrelation_two_beats"] == 0


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


def test_pitch_classes_used_alike_are_in_no_key():
    fused = quiet(7)
    fused[128:] = 0.1
    assert abs(fused_statistics(fused, FRAME_SECONDS)["key_strength"]) < 1e-3


def test_brighter_music_has_a_higher_centroid():
    dark, middle, bright = (clip_statistics(brightness=level) for level in (0.1, 0.5, 0.9))
    assert dark["centroid_mean_rows"] < middle["centroid_mean_rows"] < bright["centroid_mean_rows"]
    assert dark["band8_mean_db"] < bright["band8_mean_db"]


def test_denser_music_has_more_onsets():
    assert clip_statistics(density=0.9)["flux_mean_db"] > clip_statistics(density=0.1)["flux_mean_db"]
