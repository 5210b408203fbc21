"""Statistics of arrays and of audio: always finite, known signals have known answers, and librosa's."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.audio.constant_q import short_time_spectrum
from music_emotion.audio.features import FeatureSettings, full_features, silent_rows
from music_emotion.audio.statistics import (
    audio_statistics,
    autocorrelation,
    fused_statistics,
    spectral_shape,
)
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError

RATE_HZ = 22050
FRAME_SECONDS = 512 / RATE_HZ
SETTINGS = FeatureSettings()
OTHER_SETTINGS = FeatureSettings(16000, 1024, 200)
UNITS = ("dbfs", "db", "rows", "bpm", "hz")
FUSED_RATIOS = ("chroma", "key", "major", "minor", "mode", "pulse_strength", "onset_autocorrelation")
AUDIO_RATIOS = ("spectral_flatness", "onset_autocorrelation")


def played(seconds: float = 4.0, tonic: int = 0, minor: bool = False) -> np.ndarray:
    music = Music(tonic, 0, minor, 110.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.4)
    return synthesise(music, seconds, RATE_HZ, np.random.default_rng(0))


def of_played(**changes: float) -> dict[str, float]:
    return fused_statistics(full_features(played(**changes), SETTINGS), FRAME_SECONDS)


def mel_only(waveform: np.ndarray, features: FeatureSettings = SETTINGS) -> np.ndarray:
    """The fused array with silent chroma, which audio statistics do not read."""
    magnitude = np.abs(short_time_spectrum(waveform, features.n_fft, features.hop_length))
    mel = librosa.feature.melspectrogram(S=magnitude**2, sr=features.sample_rate_hz)
    decibels = librosa.power_to_db(mel, ref=np.max)
    return np.concatenate([decibels, np.zeros((12, mel.shape[1]), np.float32)])


def of_audio(waveform: np.ndarray, features: FeatureSettings = SETTINGS) -> dict[str, float]:
    return audio_statistics(waveform, mel_only(waveform, features), features)


def of_array(fused: np.ndarray, **options: float) -> dict[str, float]:
    return fused_statistics(fused, FRAME_SECONDS, **options)


def sine(frequency_hz: float, seconds: float = 3.0) -> np.ndarray:
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
    return played(8.0)


@pytest.fixture(scope="module")
def music_statistics(music) -> dict[str, float]:
    return of_audio(music)


@given(st.data(), st.integers(1, 40), st.floats(1e-3, 1.0))
@settings(max_examples=40, deadline=None)
def test_statistics_of_any_array_are_finite(data, n_frames, frame_seconds):
    mel = data.draw(arrays(np.float32, (128, n_frames), elements=st.floats(-80, 0, width=32)))
    chroma = data.draw(arrays(np.float32, (12, n_frames), elements=st.floats(0, 1, width=32)))
    statistics = fused_statistics(np.concatenate([mel, chroma]), frame_seconds)
    assert np.isfinite(list(statistics.values())).all()


@pytest.mark.parametrize("n_samples", [1, 100, 512, 2047, 2048, 22050])
@pytest.mark.parametrize("level", [0.0, 1.0, -0.3, 1e-12])
def test_constant_audio_has_finite_statistics_however_short(level, n_samples):
    statistics = of_audio(np.full(n_samples, level, np.float32))
    assert np.isfinite(list(statistics.values())).all()
    assert all(type(value) is float for value in statistics.values())
    assert statistics["zero_crossing_rate_mean_hz"] == 0


@given(arrays(np.float32, st.integers(1, 5000), elements=st.floats(-1, 1, width=32)))
@settings(max_examples=40, deadline=None)
def test_statistics_of_any_waveform_are_finite(waveform):
    assert np.isfinite(list(of_audio(waveform).values())).all()


def test_names_are_the_same_for_every_clip_and_tell_units_and_ratios(music_statistics):
    of_fused = of_array(noisy(50))
    assert list(of_fused) == list(of_array(quiet(2)))
    assert list(music_statistics) == list(of_audio(np.zeros(2048, np.float32)))
    assert (len(of_fused), len(music_statistics)) == (146, 21)
    assert set(of_fused).isdisjoint(music_statistics)
    for names, ratios, function in (
        (of_fused, FUSED_RATIOS, fused_statistics),
        (music_statistics, AUDIO_RATIOS, audio_statistics),
    ):
        units = [unit for unit in UNITS if f"`{unit}`" in function.__doc__]
        assert all(f"`{ratio}`" in function.__doc__ for ratio in ratios)
        for name in names:
            has_unit = name.endswith(tuple(f"_{unit}" for unit in units))
            assert has_unit != name.removeprefix("low_").startswith(ratios), name


def test_a_transposed_clip_of_a_store_has_the_same_statistics():
    fused = noisy(50).astype(np.float32)
    assert of_array(np.ascontiguousarray(fused.T).T) == of_array(fused)


@pytest.mark.parametrize("shape", [(128, 10), (140,), (140, 0), (1, 140, 10), (10, 140)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="140"):
        of_array(np.zeros(shape))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("argument", ["frame_seconds", "sample_rate_hz"])
def test_a_frame_must_last_and_a_rate_must_be_positive(argument, value):
    given_values = {"frame_seconds": FRAME_SECONDS, "sample_rate_hz": 22050.0, argument: value}
    with pytest.raises(InputError, match=f"{argument} is .*positive"):
        fused_statistics(quiet(5), **given_values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value):
    fused, waveform = quiet(5), sine(441.0, 0.1)
    fused[130, 2] = value
    with pytest.raises(InputError, match="array has 1 values that are not finite"):
        of_array(fused)
    with pytest.raises(InputError, match="array has 1 values that are not finite"):
        audio_statistics(waveform, fused, SETTINGS)
    fused[130, 2], waveform[7] = 0, value
    with pytest.raises(InputError, match="waveform has 1 values that are not finite"):
        audio_statistics(waveform, fused, SETTINGS)


@pytest.mark.parametrize(
    "waveform", [np.zeros((2, 4096), np.float32), np.zeros(0, np.float32), np.zeros(4096, np.int16)]
)
def test_what_is_not_one_channel_of_samples_is_refused(waveform):
    with pytest.raises(InputError, match="one channel"):
        audio_statistics(waveform, quiet(9), SETTINGS)


@pytest.mark.parametrize("n_samples", [2048, 30000])
def test_the_array_of_another_clip_is_refused(n_samples):
    with pytest.raises(InputError, match=r"\(140, 44\), but a waveform of"):
        audio_statistics(np.zeros(n_samples, np.float32), quiet(44), SETTINGS)


def test_one_row_sets_centroid_and_roll_off():
    fused = quiet(10)
    fused[40] = 0.0
    statistics = of_array(fused)
    assert statistics["centroid_mean_rows"] == pytest.approx(40, abs=0.01)
    assert statistics["roll_off_mean_rows"] == 40
    assert statistics["bandwidth_mean_rows"] < 0.5
    assert statistics["band3_mean_db"] == pytest.approx(-80 * 15 / 16)


def test_equal_rows_are_flat_and_wide():
    fused = quiet(10)
    fused[:128] = -20.0
    statistics = of_array(fused)
    assert statistics["flatness_mean_db"] == pytest.approx(0, abs=1e-5)
    assert statistics["level_mean_db"] == pytest.approx(-20, abs=1e-5)
    assert statistics["dynamic_range_db"] == pytest.approx(0, abs=1e-9)
    assert statistics["centroid_mean_rows"] == pytest.approx(63.5)


@pytest.mark.parametrize(("row", "sample_rate_hz"), [(5, 22050), (40, 44100), (100, 22050)])
def test_in_hertz_a_row_is_at_its_filters_peak(row, sample_rate_hz):
    filters = librosa.filters.mel(sr=sample_rate_hz, n_fft=2**16, n_mels=128)
    peak_hz = filters[row].argmax() * sample_rate_hz / 2**16
    fused = quiet(10)
    fused[row] = 0.0
    statistics = of_array(fused, sample_rate_hz=sample_rate_hz)
    assert statistics["mel_centroid_mean_hz"] == pytest.approx(peak_hz, rel=0.02)
    assert statistics["mel_roll_off_mean_hz"] == pytest.approx(peak_hz, rel=0.01)
    assert statistics["mel_bandwidth_mean_hz"] < 0.01 * sample_rate_hz


def test_percentiles_are_of_the_frames():
    fused = quiet(101)
    fused[32:48] = np.random.default_rng(0).permutation(np.linspace(-60, -10, 101))
    statistics = of_array(fused)
    for percent, level in ((10, -55), (50, -35), (90, -15)):
        assert statistics[f"band3_p{percent}_db"] == pytest.approx(level, abs=1e-4)
        # an eighth of the rows sounds, so the level is 9 dB lower
        assert statistics[f"level_p{percent}_db"] == pytest.approx(level - 10 * np.log10(8), abs=0.2)
    assert statistics["dynamic_range_db"] == pytest.approx(45, abs=0.5)
    assert statistics["band4_p90_db"] == -80


def test_mfccs_are_librosas_but_for_the_level_of_the_0th(music):
    statistics = of_array(mel_only(music))
    expected = librosa.feature.mfcc(y=music, sr=RATE_HZ, n_mfcc=13)
    means = [statistics[f"mfcc{number}_mean_db"] for number in range(13)]
    deviations = [statistics[f"mfcc{number}_std_db"] for number in range(13)]
    np.testing.assert_allclose(means[1:], expected[1:].mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(deviations, expected.std(axis=1), atol=1e-3)
    loudest = librosa.power_to_db(librosa.feature.melspectrogram(y=music, sr=RATE_HZ)).max()
    assert means[0] == pytest.approx(expected[0].mean() - loudest * 128**0.5, abs=0.01)


def test_each_pitch_class_has_its_mean_and_deviation():
    fused = quiet(4)
    fused[128 + 6] = [0, 0, 1, 1]  # f sharp
    fused[128 + 11] = 0.25
    statistics = of_array(fused)
    assert statistics["chroma_f_sharp_mean"] == statistics["chroma_f_sharp_std"] == 0.5
    assert statistics["chroma_b_mean"] == statistics["chroma_rank2"] == 0.25
    assert statistics["chroma_b_std"] == 0
    assert statistics["chroma_f_mean"] == statistics["chroma_g_mean"] == 0
    assert statistics["chroma_entropy"] == pytest.approx(np.log(3 / 2 ** (2 / 3)) / np.log(12), abs=1e-6)
    assert statistics["chroma_change"] == pytest.approx(1 / 48)


@pytest.mark.parametrize("bpm", [80.0, 120.0, 150.0])
def test_pulse_of_clicks_has_their_tempo_up_to_an_octave(bpm):
    statistics = of_array(clicks(bpm, -5.0))
    octaves = np.log2(statistics["pulse_tempo_bpm"] / bpm)
    assert abs(octaves - round(octaves)) < 0.08
    assert statistics["pulse_strength"] > 0.3
    assert statistics["onset_rate_hz"] == pytest.approx(bpm / 60, rel=0.1)


def test_a_waltz_repeats_after_three_beats_and_a_march_after_two_and_four():
    bpm = 60 / (22 * FRAME_SECONDS)  # 117: a whole number of frames
    waltz, march = of_array(clicks(bpm, -5.0, -50.0, -50.0)), of_array(clicks(bpm, -5.0, -50.0))
    beat = "onset_autocorrelation_{}_beats".format
    assert waltz["pulse_tempo_bpm"] == march["pulse_tempo_bpm"] == pytest.approx(bpm)
    assert waltz[beat("three")] > 1.2 * max(waltz[beat("two")], waltz[beat("four")])
    assert march[beat("three")] < 0.8 * min(march[beat("two")], march[beat("four")])


def test_clicks_between_the_beats_show_half_a_beat_later():
    between, beats_only = of_array(clicks(240.0, -5.0, -40.0)), of_array(clicks(120.0, -5.0))
    assert between["pulse_tempo_bpm"] == pytest.approx(120, rel=0.03)
    assert between["onset_autocorrelation_half_beat"] > beats_only["onset_autocorrelation_half_beat"] + 0.3


def test_what_does_not_repeat_has_no_pulse():
    short = of_array(clicks(60.0, -5.0)[:, :100])  # 2.3 seconds, shorter than a bar
    assert short["pulse_strength"] > 0
    assert short["onset_autocorrelation_four_beats"] == 0
    slow = of_array(clicks(24.0, -5.0))
    assert 40 <= slow["pulse_tempo_bpm"] <= 240
    assert slow["pulse_strength"] < 0.1
    for clip in (quiet(431), noisy(2)):
        statistics = of_array(clip)
        assert statistics["pulse_tempo_bpm"] == statistics["low_pulse_tempo_bpm"] == 0
        assert statistics["pulse_strength"] == statistics["onset_autocorrelation_half_beat"] == 0


@pytest.mark.parametrize("tonic", [0, 7])
def test_mode_difference_tells_major_from_minor(tonic):
    assert of_played(minor=False, tonic=tonic)["mode_difference"] > 0
    assert of_played(minor=True, tonic=tonic)["mode_difference"] < 0


def test_a_key_profile_fits_its_own_key_whatever_the_tonic():
    fused = quiet(4)
    scale = 1.0 * np.isin(np.arange(12), [0, 2, 4, 5, 7, 9, 11]) + np.isin(np.arange(12), [0, 4, 7])
    strengths = []
    for tonic in (0, 5):
        fused[128:] = np.roll(scale, tonic)[:, None] / 2
        strengths.append(of_array(fused)["key_strength"])
    assert strengths[0] == pytest.approx(strengths[1])
    assert 0.8 < strengths[0] <= 1
    fused[128:] = 0.1
    assert abs(of_array(fused)["key_strength"]) < 1e-3


def test_silence_is_at_the_floor_and_has_no_tempo():
    statistics = of_audio(np.zeros(3 * RATE_HZ, np.float32))
    for name in ("rms_mean_dbfs", "rms_p50_dbfs", "peak_dbfs", "mel_loudest_db"):
        assert statistics[name] == pytest.approx(-100)
    assert statistics["crest_factor_db"] == 0
    assert statistics["spectral_centroid_mean_hz"] == statistics["spectral_roll_off_mean_hz"] == 0
    assert statistics["tempo_bpm"] == statistics["onset_autocorrelation_at_tempo"] == 0


def test_a_sine_at_full_scale_is_3_decibels_below_a_square_wave():
    wave = sine(RATE_HZ / 48)  # a sample falls on each peak
    square = np.where(wave >= 0, 1, -1).astype(np.float32)
    assert of_audio(square)["rms_p50_dbfs"] == pytest.approx(0, abs=1e-6)
    assert of_audio(square)["crest_factor_db"] == pytest.approx(0, abs=1e-6)
    statistics = of_audio(wave)
    for name in ("rms_mean_dbfs", "rms_p5_dbfs", "rms_p50_dbfs", "rms_p95_dbfs"):
        assert statistics[name] == pytest.approx(-3.0103, abs=0.02)
    assert statistics["crest_factor_db"] == pytest.approx(3.0103, abs=0.001)
    assert statistics["peak_dbfs"] == pytest.approx(0, abs=0.001)
    assert statistics["rms_std_db"] < 0.02


def test_a_tenth_of_the_amplitude_is_20_decibels_less_and_nothing_else(music, music_statistics):
    softer = of_audio(music / 10)
    levels = {name for name in softer if name.endswith("dbfs")} | {"mel_loudest_db"}
    for name, value in music_statistics.items():
        if name == "mfcc0_absolute_mean_db":
            assert softer[name] == pytest.approx(value - 20 * 128**0.5, abs=0.05)
        else:
            assert softer[name] == pytest.approx(value - 20 * (name in levels), rel=1e-3, abs=1e-3), name


def test_levels_follow_a_clip_that_grows_louder():
    amplitude = np.repeat(np.float32([0.01, 0.1, 1.0]), np.multiply([0.7, 8.6, 0.7], RATE_HZ).astype(int))
    statistics = of_audio(sine(RATE_HZ / 48, len(amplitude) / RATE_HZ) * amplitude)
    assert statistics["rms_p5_dbfs"] == pytest.approx(-43.01, abs=0.05)
    assert statistics["rms_p50_dbfs"] == pytest.approx(-23.01, abs=0.05)
    assert statistics["rms_p95_dbfs"] == pytest.approx(-3.01, abs=0.05)
    assert statistics["crest_factor_db"] == pytest.approx(-10 * np.log10(np.mean(amplitude**2) / 2), abs=0.01)


def test_what_is_fainter_than_the_floor_does_not_cross_zero():
    noise = np.random.default_rng(0).choice(np.float32([-1, 1]), RATE_HZ)
    assert of_audio(noise * np.float32(1e-11))["zero_crossing_rate_mean_hz"] == 0
    assert of_audio(noise * np.float32(1e-9))["zero_crossing_rate_mean_hz"] > 10000


@pytest.mark.parametrize("features", [SETTINGS, OTHER_SETTINGS])
def test_audio_statistics_are_librosas(music, features):
    statistics = of_audio(music, features)
    rate_hz, frames = features.sample_rate_hz, {"n_fft": features.n_fft, "hop_length": features.hop_length}
    for name, feature in {
        "centroid": librosa.feature.spectral_centroid,
        "bandwidth": librosa.feature.spectral_bandwidth,
        "roll_off": librosa.feature.spectral_rolloff,
    }.items():
        expected = feature(y=music, **frames, sr=rate_hz)
        assert statistics[f"spectral_{name}_mean_hz"] == pytest.approx(expected.mean(), rel=1e-4), name
        assert statistics[f"spectral_{name}_std_hz"] == pytest.approx(expected.std(), rel=1e-3), name
    flatness = librosa.feature.spectral_flatness(y=music, **frames)
    assert statistics["spectral_flatness_mean"] == pytest.approx(flatness.mean(), rel=1e-4)
    assert statistics["spectral_flatness_std"] == pytest.approx(flatness.std(), rel=1e-4)
    windows = {"frame_length": features.n_fft, "hop_length": features.hop_length, "center": False}
    crossings_hz = rate_hz * librosa.feature.zero_crossing_rate(music, **windows)
    one_crossing = rate_hz / features.n_fft  # librosa leaves out the first of a window
    assert statistics["zero_crossing_rate_mean_hz"] == pytest.approx(crossings_hz.mean(), abs=one_crossing)
    assert statistics["zero_crossing_rate_std_hz"] == pytest.approx(crossings_hz.std(), abs=one_crossing)
    level = 20 * np.log10(librosa.feature.rms(y=music, **windows))
    assert statistics["rms_mean_dbfs"] == pytest.approx(level.mean(), abs=1e-4)
    assert statistics["rms_std_db"] == pytest.approx(level.std(), abs=1e-4)
    mel = librosa.feature.melspectrogram(y=music, sr=rate_hz, **frames)
    expected = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=1).mean()
    assert statistics["mfcc0_absolute_mean_db"] == pytest.approx(expected, abs=0.01)
    assert statistics["mel_loudest_db"] == pytest.approx(10 * np.log10(mel.max()), abs=1e-3)


def test_tempo_is_librosas_of_the_mixture(music, music_statistics):
    assert music_statistics["tempo_bpm"] == pytest.approx(librosa.feature.tempo(y=music, sr=RATE_HZ)[0])
    assert music_statistics["tempo_bpm"] == pytest.approx(110, rel=0.03)


@pytest.mark.parametrize("bpm", [90.0, 140.0])
def test_clicks_have_their_tempo_and_repeat_at_it(bpm):
    times = np.arange(0.25, 10, 60 / bpm)
    waveform = librosa.clicks(times=times, sr=RATE_HZ, length=10 * RATE_HZ).astype(np.float32)
    statistics = of_audio(waveform)
    assert statistics["tempo_bpm"] == pytest.approx(bpm, rel=0.04)
    assert statistics["onset_autocorrelation_at_tempo"] > 0.4
    noise = np.random.default_rng(0).standard_normal(10 * RATE_HZ).astype(np.float32)
    assert of_audio(noise)["onset_autocorrelation_at_tempo"] < 0.3


def test_a_narrow_band_far_up_keeps_its_width():
    positions = np.arange(9990.0, 10011.0)
    shape = spectral_shape(np.ones((21, 1), np.float32), positions, "x_", "hz")
    assert shape["x_bandwidth_mean_hz"] == pytest.approx(positions.std(), rel=1e-4)
    one_bin = spectral_shape(np.eye(50, dtype=np.float32) / 10, np.geomspace(9000.1, 11000.3, 50), "", "hz")
    assert one_bin["bandwidth_mean_hz"] == pytest.approx(0, abs=1e-2)


def test_autocorrelation_is_1_at_no_lag_and_falls_with_the_overlap():
    correlation = autocorrelation(np.tile([1.0, 0.0], 50))
    assert correlation.shape == (100,)
    assert correlation[[0, 1, 2, 50]] == pytest.approx([1, -0.99, 0.98, 0.5])
    assert not autocorrelation(np.full(1000, 3.3, np.float32)).any()
