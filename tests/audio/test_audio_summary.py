"""Statistics of a waveform: known signals have the answers one can work out, and librosa's."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.audio.features import FeatureSettings, fused_features
from music_emotion.audio.statistics import (
    audio_statistics,
    autocorrelation,
    fused_statistics,
    mean_and_std,
    spectral_shape,
)
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError

RATE_HZ = 22050
SETTINGS = FeatureSettings()
UNITS = ("dbfs", "db", "bpm", "hz")
RATIOS = ("spectral_flatness", "onset_autocorrelation")


def mel_only(waveform: np.ndarray, features: FeatureSettings = SETTINGS) -> np.ndarray:
    """The fused array with silent chroma, which audio statistics do not read."""
    padded, n_fft = np.pad(waveform, features.n_fft // 2), features.n_fft
    spectrum = librosa.stft(padded, n_fft=n_fft, hop_length=features.hop_length, center=False)
    mel = librosa.feature.melspectrogram(S=np.abs(spectrum) ** 2, sr=features.sample_rate_hz)
    decibels = librosa.power_to_db(mel, ref=np.max)
    return np.concatenate([decibels, np.zeros((12, mel.shape[1]), np.float32)])


def statistics_of(waveform: np.ndarray, features: FeatureSettings = SETTINGS) -> dict[str, float]:
    return audio_statistics(waveform, mel_only(waveform, features), features)


def sine(frequency_hz: float, seconds: float = 3.0, amplitude: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    parameters = Music(0, 0, False, 110.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.4)
    return synthesise(parameters, 10.0, RATE_HZ, np.random.default_rng(0))


@pytest.fixture(scope="module")
def music_statistics(music) -> dict[str, float]:
    return audio_statistics(music, fused_features(music, SETTINGS)[0], SETTINGS)


@pytest.mark.parametrize("n_samples", [1, 100, 511, 512, 2047, 2048, 2049, 22050])
@pytest.mark.parametrize("level", [0.0, 1.0, -0.3, 1e-12])
def test_constant_audio_has_finite_statistics_however_short(level, n_samples):
    statistics = statistics_of(np.full(n_samples, level, np.float32))
    assert np.isfinite(list(statistics.values())).all()
    assert all(type(value) is float for value in statistics.values())
    assert statistics["zero_crossing_rate_mean_hz"] == 0


@given(arrays(np.float32, st.integers(1, 5000), elements=st.floats(-1, 1, width=32)))
@settings(max_examples=60, deadline=None)
def test_statistics_of_any_waveform_are_finite(waveform):
    assert np.isfinite(list(statistics_of(waveform).values())).all()


def test_silence_is_at_the_floor_and_has_no_tempo():
    statistics = statistics_of(np.zeros(3 * RATE_HZ, np.float32))
    for name in ("rms_mean_dbfs", "rms_p50_dbfs", "peak_dbfs", "mel_loudest_db"):
        assert statistics[name] == pytest.approx(-100)
    assert statistics["crest_factor_db"] == 0
    assert statistics["spectral_centroid_mean_hz"] == statistics["spectral_roll_off_mean_hz"] == 0
    assert statistics["tempo_bpm"] == statistics["onset_autocorrelation_at_tempo"] == 0


def test_names_are_the_same_for_every_clip_and_none_is_a_fused_one(music, music_statistics):
    assert list(music_statistics) == list(statistics_of(np.zeros(2048, np.float32)))
    assert len(music_statistics) == 21
    fused = fused_statistics(fused_features(music, SETTINGS)[0], 512 / RATE_HZ)
    assert set(fused).isdisjoint(music_statistics)


def test_names_end_in_a_unit_or_are_of_ratios_that_the_docstring_lists(music_statistics):
    for name in music_statistics:
        assert name.endswith(tuple(f"_{unit}" for unit in UNITS)) != name.startswith(RATIOS), name
    assert all(f"`{word}`" in audio_statistics.__doc__ for word in UNITS + RATIOS)


@pytest.mark.parametrize("frequency_hz", [220.0, 1000.0, 6000.0])
def test_a_sine_is_at_its_frequency(frequency_hz):
    statistics = statistics_of(sine(frequency_hz, seconds=10))
    assert statistics["zero_crossing_rate_mean_hz"] == pytest.approx(2 * frequency_hz, rel=0.005)
    assert statistics["spectral_roll_off_mean_hz"] == pytest.approx(frequency_hz, abs=25)
    assert statistics["spectral_centroid_mean_hz"] == pytest.approx(frequency_hz, rel=0.05)
    assert statistics["spectral_flatness_mean"] < 0.01


def test_a_sine_at_full_scale_is_3_decibels_below_a_square_wave():
    wave = sine(RATE_HZ / 48)  # a sample falls on each peak
    square = np.where(wave >= 0, 1, -1).astype(np.float32)
    assert statistics_of(square)["rms_p50_dbfs"] == pytest.approx(0, abs=1e-6)
    assert statistics_of(square)["crest_factor_db"] == pytest.approx(0, abs=1e-6)
    statistics = statistics_of(wave)
    for name in ("rms_mean_dbfs", "rms_p5_dbfs", "rms_p50_dbfs", "rms_p95_dbfs"):
        assert statistics[name] == pytest.approx(-3.0103, abs=0.02)
    assert statistics["crest_factor_db"] == pytest.approx(3.0103, abs=0.001)
    assert statistics["peak_dbfs"] == pytest.approx(0, abs=0.001)
    assert statistics["rms_std_db"] < 0.02


def test_a_tenth_of_the_amplitude_is_20_decibels_less_and_nothing_else(music, music_statistics):
    softer = statistics_of(music / 10)
    levels = {name for name in softer if name.endswith("dbfs")} | {"mel_loudest_db"}
    for name, value in music_statistics.items():
        if name == "mfcc0_absolute_mean_db":
            assert softer[name] == pytest.approx(value - 20 * 128**0.5, abs=0.05)
        else:
            assert softer[name] == pytest.approx(value - 20 * (name in levels), rel=1e-3, abs=1e-3), name


def test_levels_follow_a_clip_that_grows_louder():
    amplitude = np.repeat(np.float32([0.01, 0.1, 1.0]), np.multiply([0.7, 8.6, 0.7], RATE_HZ).astype(int))
    statistics = statistics_of(sine(RATE_HZ / 48, len(amplitude) / RATE_HZ) * amplitude)
    assert statistics["rms_p5_dbfs"] == pytest.approx(-43.01, abs=0.05)
    assert statistics["rms_p50_dbfs"] == pytest.approx(-23.01, abs=0.05)
    assert statistics["rms_p95_dbfs"] == pytest.approx(-3.01, abs=0.05)
    assert statistics["crest_factor_db"] == pytest.approx(-10 * np.log10(np.mean(amplitude**2) / 2), abs=0.01)


def test_what_is_fainter_than_the_floor_does_not_cross_zero():
    noise = np.random.default_rng(0).choice(np.float32([-1, 1]), RATE_HZ)
    assert statistics_of(noise * np.float32(1e-11))["zero_crossing_rate_mean_hz"] == 0
    assert statistics_of(noise * np.float32(1e-9))["zero_crossing_rate_mean_hz"] > 10000


@pytest.mark.parametrize("features", [SETTINGS, FeatureSettings(16000, 1024, 200)])
def test_spectral_statistics_are_librosas(music, features):
    statistics = statistics_of(music, features)
    frames = {"y": music, "n_fft": features.n_fft, "hop_length": features.hop_length}
    for name, feature in {
        "centroid": librosa.feature.spectral_centroid,
        "bandwidth": librosa.feature.spectral_bandwidth,
        "roll_off": librosa.feature.spectral_rolloff,
    }.items():
        expected = feature(**frames, sr=features.sample_rate_hz)
        assert statistics[f"spectral_{name}_mean_hz"] == pytest.approx(expected.mean(), rel=1e-4), name
        assert statistics[f"spectral_{name}_std_hz"] == pytest.approx(expected.std(), rel=1e-3), name
    flatness = librosa.feature.spectral_flatness(**frames)
    assert statistics["spectral_flatness_mean"] == pytest.approx(flatness.mean(), rel=1e-4)
    assert statistics["spectral_flatness_std"] == pytest.approx(flatness.std(), rel=1e-4)


@pytest.mark.parametrize("features", [SETTINGS, FeatureSettings(16000, 1024, 200)])
def test_crossings_and_levels_are_librosas_over_whole_windows(music, features):
    statistics = statistics_of(music, features)
    windows = {"frame_length": features.n_fft, "hop_length": features.hop_length, "center": False}
    rate_hz = features.sample_rate_hz * librosa.feature.zero_crossing_rate(music, **windows)
    one_crossing = features.sample_rate_hz / features.n_fft  # librosa leaves out the first of a window
    assert statistics["zero_crossing_rate_mean_hz"] == pytest.approx(rate_hz.mean(), abs=one_crossing)
    assert statistics["zero_crossing_rate_std_hz"] == pytest.approx(rate_hz.std(), abs=one_crossing)
    level = 20 * np.log10(librosa.feature.rms(y=music, **windows))
    assert statistics["rms_mean_dbfs"] == pytest.approx(level.mean(), abs=1e-4)
    assert statistics["rms_std_db"] == pytest.approx(level.std(), abs=1e-4)


@pytest.mark.parametrize("features", [SETTINGS, FeatureSettings(16000, 1024, 200)])
def test_the_0th_mfcc_has_its_level_back(music, features):
    statistics = statistics_of(music, features)
    mel = librosa.feature.melspectrogram(
        y=music, sr=features.sample_rate_hz, n_fft=features.n_fft, hop_length=features.hop_length
    )
    expected = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=1).mean()
    assert statistics["mfcc0_absolute_mean_db"] == pytest.approx(expected, abs=0.01)
    assert statistics["mel_loudest_db"] == pytest.approx(10 * np.log10(mel.max()), abs=1e-3)


def test_tempo_is_librosas_of_the_mixture(music, music_statistics):
    assert music_statistics["tempo_bpm"] == pytest.approx(librosa.feature.tempo(y=music, sr=RATE_HZ)[0])
    assert music_statistics["tempo_bpm"] == pytest.approx(110, rel=0.03)


@pytest.mark.parametrize("bpm", [90.0, 120.0, 140.0])
def test_clicks_have_their_tempo_and_repeat_at_it(bpm):
    times = np.arange(0.25, 15, 60 / bpm)
    waveform = librosa.clicks(times=times, sr=RATE_HZ, length=15 * RATE_HZ).astype(np.float32)
    statistics = statistics_of(waveform)
    assert statistics["tempo_bpm"] == pytest.approx(bpm, rel=0.04)
    assert statistics["onset_autocorrelation_at_tempo"] > 0.4
    noise = np.random.default_rng(0).standard_normal(15 * RATE_HZ).astype(np.float32)
    assert statistics_of(noise)["onset_autocorrelation_at_tempo"] < 0.3


@pytest.mark.parametrize(
    "waveform", [np.zeros((2, 4096), np.float32), np.zeros(0, np.float32), np.zeros(4096, np.int16)]
)
def test_what_is_not_one_channel_of_samples_is_refused(waveform):
    with pytest.raises(InputError, match="one channel"):
        audio_statistics(waveform, mel_only(np.zeros(4096, np.float32)), SETTINGS)


@pytest.mark.parametrize("n_samples", [2048, 30000])
def test_the_array_of_another_clip_is_refused(n_samples):
    other = mel_only(sine(441.0, seconds=1))
    with pytest.raises(InputError, match=r"\(140, 44\), but a waveform of"):
        audio_statistics(np.zeros(n_samples, np.float32), other, SETTINGS)


def test_values_that_are_not_finite_are_refused():
    waveform = sine(441.0)
    fused, broken = mel_only(waveform), waveform.copy()
    broken[7] = np.nan
    with pytest.raises(InputError, match="waveform has 1 values that are not finite"):
        audio_statistics(broken, fused, SETTINGS)
    fused[3, 4] = -np.inf
    with pytest.raises(InputError, match="array has 1 values that are not finite"):
        audio_statistics(waveform, fused, SETTINGS)


def test_two_equal_bins_have_their_centre_and_half_their_distance():
    weights = np.array([[1, 0], [0, 0], [1, 0]], np.float32)  # and a silent frame
    shape = spectral_shape(weights, np.array([100.0, 200.0, 300.0]), "", "hz")
    assert shape["centroid_mean_hz"] == pytest.approx(200 / 2)
    assert shape["bandwidth_mean_hz"] == pytest.approx(100 / 2)
    assert shape["roll_off_mean_hz"] == 300 / 2


def test_a_narrow_band_far_up_keeps_its_width():
    positions = np.arange(9990.0, 10011.0)
    shape = spectral_shape(np.ones((21, 1), np.float32), positions, "x_", "hz")
    assert shape["x_bandwidth_mean_hz"] == pytest.approx(positions.std(), rel=1e-4)


def test_one_bin_has_no_width():
    weights = np.eye(50, dtype=np.float32) * np.float32(0.1)
    shape = spectral_shape(weights, np.geomspace(9000.1, 11000.3, 50), "", "hz")
    assert shape["bandwidth_mean_hz"] == pytest.approx(0, abs=1e-2)


def test_autocorrelation_is_1_at_no_lag_and_falls_with_the_overlap():
    correlation = autocorrelation(np.tile([1.0, 0.0], 50))
    assert correlation.shape == (100,)
    assert correlation[[0, 1, 2, 50]] == pytest.approx([1, -0.99, 0.98, 0.5])
    assert not autocorrelation(np.full(1000, 3.3, np.float32)).any()


def test_a_unit_ends_the_name_and_a_ratio_has_none():
    values = np.array([1.0, 3.0])
    assert mean_and_std("level", values, "db") == {"level_mean_db": 2, "level_std_db": 1}
    assert mean_and_std("share", values) == {"share_mean": 2, "share_std": 1}
