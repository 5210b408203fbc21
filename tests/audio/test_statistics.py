"""Statistics of arrays and of audio: always finite, known signals have known answers, and librosa's."""

import re

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.audio import statistics
from music_emotion.audio.families import statistic_families
from music_emotion.audio.features import FeatureSettings, full_features, silent_rows
from music_emotion.audio.statistics import audio_statistics, fused_statistics
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError

RATE_HZ = 22050
FRAME_SECONDS = 512 / RATE_HZ
SETTINGS = FeatureSettings()
UNITS = ("_dbfs", "_db", "_rows", "_bpm", "_hz")
RATIOS = ("chroma", "key", "major", "minor", "mode", "pulse_strength", "onset_auto", "spectral_flatness")


def of_array(fused: np.ndarray, **options: float) -> dict[str, float]:
    return fused_statistics(fused, **{"frame_seconds": FRAME_SECONDS, **options})


def of_audio(waveform: np.ndarray, features: FeatureSettings = SETTINGS) -> dict[str, float]:
    return audio_statistics(waveform, full_features(waveform, features), features)


def sine(frequency_hz: float, seconds: float = 2.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ).astype(np.float32)


def quiet(n_frames: int) -> np.ndarray:
    return np.repeat(silent_rows()[:, None], n_frames, axis=1)


def noisy(n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(n_frames)
    return np.concatenate([rng.uniform(-80, 0, (128, n_frames)), rng.uniform(0, 1, (12, n_frames))])


def clicks(bpm: float, *levels_db: float) -> np.ndarray:
    """Ten seconds of clicks, their levels in turn."""
    fused = quiet(431)
    beats = np.round(np.arange(0.1, 9.9, 60 / bpm) / FRAME_SECONDS).astype(int)
    fused[:128, beats] = np.resize(levels_db, len(beats))
    return fused


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    of_a_minor = Music(0, 0, True, 110.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.4)
    return synthesise(of_a_minor, 6.0, RATE_HZ, np.random.default_rng(0))


@given(st.data(), st.integers(1, 40), st.floats(1e-3, 1.0))
@settings(max_examples=25, deadline=None)
def test_statistics_of_any_array_are_finite_and_the_same_for_a_transposed_clip_of_a_store(
    data, n_frames, frame_seconds
):
    mel = data.draw(arrays(np.float32, (128, n_frames), elements=st.floats(-80, 0, width=32)))
    chroma = data.draw(arrays(np.float32, (12, n_frames), elements=st.floats(0, 1, width=32)))
    fused = np.concatenate([mel, chroma])
    found = of_array(fused, frame_seconds=frame_seconds)
    assert of_array(np.ascontiguousarray(fused.T).T, frame_seconds=frame_seconds) == found
    assert np.isfinite(list(found.values())).all()


@given(
    arrays(np.float32, st.integers(1, 5000), elements=st.floats(-1, 1, width=32))
    | st.builds(np.full, st.sampled_from([1, 512, 2047, 2048]), st.sampled_from(np.float32([0, 1, 1e-12])))
)
@settings(max_examples=40, deadline=None)
def test_statistics_of_any_waveform_are_finite_floats(waveform):
    values = of_audio(waveform).values()
    assert np.isfinite(list(values)).all()
    assert all(type(value) is float for value in values)


def test_names_are_the_same_for_every_clip_and_tell_units_and_ratios(music):
    of_fused, of_music = of_array(noisy(50)), of_audio(music)
    assert list(of_fused) == list(of_array(quiet(2)))
    assert list(of_music) == list(of_audio(np.zeros(2048, np.float32)))
    assert (len(of_fused), len(of_music), len(of_fused | of_music)) == (146, 21, 167)
    for name in of_fused | of_music:
        assert name.endswith(UNITS) != name.removeprefix("low_").startswith(RATIOS), name


SUMS = [-47.77, 19.627, -23.977, -239.64, -209.05, 48.406, 278.52, 19.166, 5.0887, 25.673]
BROKEN = np.where(np.arange(140)[:, None] == 130, np.nan, np.zeros((140, 5), np.float32))
SHORT = np.zeros(2205, np.float32)


@pytest.mark.parametrize(
    ("statistics", "arguments", "sentence"),
    [
        (fused_statistics, (quiet(5)[:128], 1), "shape (128, 5); clip statistics need (140, n_frames)"),
        (fused_statistics, (quiet(0), 1), "shape (140, 0)"),
        (fused_statistics, (BROKEN, 1), "array has 5 values that are not finite"),
        (fused_statistics, (quiet(5), 0.0), "frame_seconds is 0.0; it must be positive"),
        (fused_statistics, (quiet(5), 1, np.nan), "sample_rate_hz is nan; it must be positive"),
        (statistic_families, (BROKEN, 1), "array has 5 values that are not finite"),
        (statistic_families, (quiet(5), -1.0), "frame_seconds is -1.0; it must be positive"),
        (audio_statistics, (np.ones((2, 99)), quiet(1), SETTINGS), "is float64 of shape (2, 99)"),
        (audio_statistics, (np.ones(99, np.int16), quiet(1), SETTINGS), "is int16 of shape (99,)"),
        (audio_statistics, (SHORT, quiet(44), SETTINGS), "(140, 44), but a waveform of 2205 samples makes"),
        (audio_statistics, (SHORT - np.inf, quiet(5), SETTINGS), "waveform has 2205 values that are not"),
        (audio_statistics, (SHORT, BROKEN, SETTINGS), "array has 5 values that are not finite"),
    ],
)
def test_what_is_no_clip_gets_a_sentence(statistics, arguments, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        statistics(*arguments)


@pytest.mark.parametrize(("row", "sample_rate_hz"), [(5, 22050), (40, 44100)])
def test_one_row_sets_centroid_and_roll_off_in_rows_and_in_hertz(row, sample_rate_hz):
    filters = librosa.filters.mel(sr=sample_rate_hz, n_fft=2**15, n_mels=128)
    peak_hz = filters[row].argmax() * sample_rate_hz / 2**15
    fused = quiet(10)
    fused[row] = 0.0
    found = of_array(fused, sample_rate_hz=sample_rate_hz)
    assert found["centroid_mean_rows"] == pytest.approx(row, abs=0.01)
    assert found["roll_off_mean_rows"] == row
    assert found["bandwidth_mean_rows"] < 0.5
    assert found[f"band{row // 16 + 1}_mean_db"] == pytest.approx(-80 * 15 / 16)
    assert found["mel_centroid_mean_hz"] == pytest.approx(peak_hz, rel=0.02)
    assert found["mel_roll_off_mean_hz"] == pytest.approx(peak_hz, rel=0.01)
    assert found["mel_bandwidth_mean_hz"] < 0.01 * sample_rate_hz


def test_mfccs_are_librosas_but_for_the_level_of_the_0th(music):
    found = of_array(full_features(music, SETTINGS))
    expected = librosa.feature.mfcc(y=music, sr=RATE_HZ, n_mfcc=13)
    means = [found[f"mfcc{number}_mean_db"] for number in range(13)]
    deviations = [found[f"mfcc{number}_std_db"] for number in range(13)]
    np.testing.assert_allclose(means[1:], expected[1:].mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(deviations, expected.std(axis=1), atol=1e-3)
    loudest = librosa.power_to_db(librosa.feature.melspectrogram(y=music, sr=RATE_HZ)).max()
    assert means[0] == pytest.approx(expected[0].mean() - loudest * 128**0.5, abs=0.01)
    assert found["mode_difference"] < 0  # the music is in a minor key


def test_numbers_stay_those_that_tables_on_disk_hold():
    """Sums of the statistics of every kind, weighted so that a change of one or of their order shows."""
    fused, sums = noisy(60), []
    fused[:128] += 20 * np.sin(np.arange(60) / 4) * np.linspace(0, 1, 128)[:, None]
    found = of_array(np.clip(fused, -80, None))
    for kind in (
        "level",
        "dynamic",
        "flatness",
        "band1_",
        "band8_",
        "flux",
        "low_",
        "high_",
        "onset",
        "chroma_",
    ):
        values = np.array([value for name, value in found.items() if name.startswith(kind)])
        sums.append(float(values @ np.linspace(1, 2, len(values))))
    assert sums == pytest.approx(SUMS, rel=1e-3)


def test_pulse_has_the_tempo_of_clicks_and_tells_a_waltz_from_a_march_and_notes_between_the_beats():
    for bpm in (80.0, 150.0):
        found = of_array(clicks(bpm, -5.0))
        octaves = np.log2(found["pulse_tempo_bpm"] / bpm)
        assert abs(octaves - round(octaves)) < 0.08
        assert found["pulse_strength"] > 0.3
        assert found["onset_rate_hz"] == pytest.approx(bpm / 60, rel=0.1)
    bpm = 60 / (22 * FRAME_SECONDS)  # 117: a whole number of frames
    waltz, march = of_array(clicks(bpm, -5.0, -50.0, -50.0)), of_array(clicks(bpm, -5.0, -50.0))
    beat = "onset_autocorrelation_{}".format
    assert waltz["pulse_tempo_bpm"] == march["pulse_tempo_bpm"] == pytest.approx(bpm)
    assert waltz[beat("three_beats")] > 1.2 * max(waltz[beat("two_beats")], waltz[beat("four_beats")])
    assert march[beat("three_beats")] < 0.8 * min(march[beat("two_beats")], march[beat("four_beats")])
    between, beats_only = of_array(clicks(240.0, -5.0, -40.0)), of_array(clicks(120.0, -5.0))
    assert between["pulse_tempo_bpm"] == pytest.approx(120, rel=0.03)
    assert between[beat("half_beat")] > beats_only[beat("half_beat")] + 0.3


def test_what_does_not_repeat_has_no_pulse():
    short = of_array(clicks(60.0, -5.0)[:, :100])  # 2.3 seconds, shorter than a bar
    assert short["pulse_strength"] > 0 == short["onset_autocorrelation_four_beats"]
    slow = of_array(clicks(24.0, -5.0))
    assert 40 <= slow["pulse_tempo_bpm"] <= 240
    assert slow["pulse_strength"] < 0.1
    pulse = ("pulse_strength", "pulse_tempo_bpm", "low_pulse_tempo_bpm", "onset_autocorrelation_half_beat")
    for clip in (quiet(431), noisy(2)):
        assert [of_array(clip)[name] for name in pulse] == [0, 0, 0, 0]


def test_a_scale_fits_its_own_key_whatever_the_tonic():
    scale = 1.0 * np.isin(np.arange(12), [0, 2, 4, 5, 7, 9, 11]) + np.isin(np.arange(12), [0, 4, 7])
    fused, key = quiet(4), ("key_strength", "major_strength", "minor_strength", "mode_difference")
    fused[128:] = scale[:, None] / 2
    strength, major, minor, difference = found = [of_array(fused)[name] for name in key]
    assert 0.8 < strength == major <= 1
    assert difference == major - minor > 0
    fused[128:] = np.roll(scale, 5)[:, None] / 2
    assert [of_array(fused)[name] for name in key] == pytest.approx(found)
    fused[128:] = 0.1
    assert abs(of_array(fused)["key_strength"]) < 1e-3


def test_silence_is_at_the_floor_and_has_no_tempo():
    found = of_audio(np.zeros(RATE_HZ, np.float32))
    floors = ("rms_mean_dbfs", "rms_p50_dbfs", "peak_dbfs", "mel_loudest_db")
    zeros = ("crest_factor_db", "tempo_bpm", "onset_autocorrelation_at_tempo", "spectral_centroid_mean_hz")
    assert [found[name] for name in floors + zeros] == pytest.approx([-100] * 4 + [0] * 4)


def test_a_sine_at_full_scale_is_3_decibels_below_a_square_wave():
    wave = sine(RATE_HZ / 48)  # a sample falls on each peak
    square = of_audio(np.where(wave >= 0, 1, -1).astype(np.float32))
    assert square["rms_p50_dbfs"] == pytest.approx(0, abs=1e-6)
    assert square["crest_factor_db"] == pytest.approx(0, abs=1e-6)
    amplitude = np.repeat(np.float32([0.01, 0.1, 1.0]), np.multiply([0.7, 8.6, 0.7], RATE_HZ).astype(int))
    growing = of_audio(sine(RATE_HZ / 48, len(amplitude) / RATE_HZ) * amplitude)
    for percent, level in ((5, -43.01), (50, -23.01), (95, -3.01)):
        assert growing[f"rms_p{percent}_dbfs"] == pytest.approx(level, abs=0.05)
    assert growing["peak_dbfs"] == pytest.approx(0, abs=0.001)
    assert growing["crest_factor_db"] == pytest.approx(-10 * np.log10(np.mean(amplitude**2) / 2), abs=0.01)


def test_a_tenth_of_the_amplitude_is_20_decibels_less_and_nothing_else(music):
    loud, soft = of_audio(music), of_audio(music / 10)
    for name, value in loud.items():
        fall = 20 * (name.endswith("dbfs") or name == "mel_loudest_db")
        if name == "mfcc0_absolute_mean_db":
            fall = 20 * 128**0.5
        assert soft[name] == pytest.approx(value - fall, rel=1e-3, abs=0.05 if fall > 20 else 1e-3), name


def test_what_is_fainter_than_the_floor_does_not_cross_zero():
    noise = np.random.default_rng(0).choice(np.float32([-1, 1]), RATE_HZ)
    assert of_audio(noise * np.float32(1e-11))["zero_crossing_rate_mean_hz"] == 0
    assert of_audio(noise * np.float32(1e-9))["zero_crossing_rate_mean_hz"] > 10000


@pytest.mark.parametrize("features", [SETTINGS, FeatureSettings(16000, 1024, 200)])
def test_audio_statistics_are_librosas(music, features):
    found = of_audio(music, features)
    rate_hz, frames = features.sample_rate_hz, {"n_fft": features.n_fft, "hop_length": features.hop_length}
    windows = {"frame_length": features.n_fft, "hop_length": features.hop_length, "center": False}
    mel = librosa.feature.melspectrogram(y=music, sr=rate_hz, **frames)
    per_frame = {
        "spectral_centroid_{}_hz": librosa.feature.spectral_centroid(y=music, **frames, sr=rate_hz),
        "spectral_bandwidth_{}_hz": librosa.feature.spectral_bandwidth(y=music, **frames, sr=rate_hz),
        "spectral_roll_off_{}_hz": librosa.feature.spectral_rolloff(y=music, **frames, sr=rate_hz),
        "spectral_flatness_{}": librosa.feature.spectral_flatness(y=music, **frames),
    }
    for name, expected in per_frame.items():
        assert found[name.format("mean")] == pytest.approx(expected.mean(), rel=1e-4), name
        assert found[name.format("std")] == pytest.approx(expected.std(), rel=1e-3), name
    crossings_hz = rate_hz * librosa.feature.zero_crossing_rate(music, **windows)
    one_crossing = rate_hz / features.n_fft  # librosa leaves out the first of a window
    assert found["zero_crossing_rate_mean_hz"] == pytest.approx(crossings_hz.mean(), abs=one_crossing)
    assert found["zero_crossing_rate_std_hz"] == pytest.approx(crossings_hz.std(), abs=one_crossing)
    level = 20 * np.log10(librosa.feature.rms(y=music, **windows))
    assert found["rms_mean_dbfs"] == pytest.approx(level.mean(), abs=1e-4)
    assert found["rms_std_db"] == pytest.approx(level.std(), abs=1e-4)
    mfcc0 = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=1).mean()
    assert found["mfcc0_absolute_mean_db"] == pytest.approx(mfcc0, abs=0.01)
    assert found["mel_loudest_db"] == pytest.approx(10 * np.log10(mel.max()), abs=1e-3)
    if features == SETTINGS:
        assert found["tempo_bpm"] == pytest.approx(librosa.feature.tempo(y=music, sr=RATE_HZ)[0])
        noise = np.random.default_rng(0).standard_normal(6 * RATE_HZ).astype(np.float32)
        at_tempo = "onset_autocorrelation_at_tempo"
        assert found[at_tempo] > 0.4 > 0.3 > of_audio(noise)[at_tempo]


def test_a_narrow_band_far_up_keeps_its_width():
    positions = np.arange(9990.0, 10011.0)
    shape = statistics.spectral_shape(np.ones((21, 1), np.float32), positions, "x_", "hz")
    assert shape["x_bandwidth_mean_hz"] == pytest.approx(positions.std(), rel=1e-4)
    one_bin = statistics.spectral_shape(
        np.eye(50, dtype=np.float32) / 10, np.geomspace(9000.1, 11000.3, 50), "", "hz"
    )
    assert one_bin["bandwidth_mean_hz"] == pytest.approx(0, abs=1e-2)
