"""Statistics and families of statistics: finite for every clip, known answers, and librosa's."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.audio import statistics
from music_emotion.audio.families import statistic_families
from music_emotion.audio.features import full_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.statistics import audio_statistics, fused_statistics
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError

RATE_HZ = 22050
FRAME_SECONDS = 512 / RATE_HZ
SETTINGS = FeatureSettings()
UNITS = ("_dbfs", "_db", "_rows", "_bpm", "_hz")
RATIOS = ("chroma", "key", "major", "minor", "mode", "pulse_strength", "onset_auto", "spectral_flatness")
TONALITY = ("pitch_spectrum", "chord_spectrum", "intervals", "local_key", "harmonic_flux", "harmonic_rhythm")
MAJOR_TRIAD, MINOR_TRIAD = (0, 4, 7), (0, 3, 7)
close = np.testing.assert_allclose


def of_array(fused: np.ndarray, frame_seconds: float = FRAME_SECONDS, **options: float) -> dict[str, float]:
    return fused_statistics(fused, frame_seconds, **options)


def families(fused: np.ndarray, frame_seconds: float = FRAME_SECONDS) -> dict[str, np.ndarray]:
    return statistic_families(fused, frame_seconds)


def of_audio(waveform: np.ndarray, features: FeatureSettings = SETTINGS) -> dict[str, float]:
    return audio_statistics(waveform, full_features(waveform, features), features)


def steady(n_frames: int = 646, level_db: float = -60.0, chord: tuple[int, ...] = ()) -> np.ndarray:
    """A clip (15 s by default) whose mel rows are all equal, and whose chroma rows are those of a chord."""
    fused = np.full((140, n_frames), level_db, np.float32)
    fused[128:] = np.isin(np.arange(12), chord)[:, None]
    return fused


def quiet(n_frames: int) -> np.ndarray:
    return steady(n_frames, -80.0)


def noisy(n_frames: int = 646, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mel = rng.uniform(-60, -10, (128, n_frames))
    return np.concatenate([mel, rng.uniform(0, 1, (12, n_frames))]).astype(np.float32)


def clicks(bpm: float, *levels_db: float) -> np.ndarray:
    """Ten seconds of clicks, their levels in turn."""
    fused = quiet(431)
    beats = np.round(np.arange(0.1, 9.9, 60 / bpm) / FRAME_SECONDS).astype(int)
    fused[:128, beats] = np.resize(levels_db, len(beats))
    return fused


def strokes(every: int = 22, n_frames: int = 646, fall_db: float = 3.0) -> np.ndarray:
    """Struck at once every so many frames, falling to -60 dB."""
    fused = steady(n_frames)
    fused[:128] = np.maximum(-60.0, -10 - fall_db * (np.arange(n_frames) % every))
    return fused


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    of_a_minor = Music(0, True, 110.0, 0.5, 0.5, 0.5, 0.5, 1.0, 0.4)
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
    arrays(np.float32, st.integers(1, 3000), elements=st.floats(-1, 1, width=32))
    | st.builds(np.full, st.sampled_from([1, 512, 2047, 2048]), st.sampled_from(np.float32([0, 1, 1e-12])))
)
@settings(max_examples=25, deadline=None)
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


@pytest.mark.parametrize(
    ("frame_seconds", "n_frames"),
    [(0.005, 1), (FRAME_SECONDS, 2), (FRAME_SECONDS, 259), (3.0, 259), (20.0, 1)],
)
@pytest.mark.parametrize("clip", [noisy, steady, lambda n: np.zeros((140, n)), lambda n: np.ones((140, n))])
@pytest.mark.filterwarnings("error")
def test_every_clip_has_the_same_families_all_finite(clip, frame_seconds, n_frames):
    found, other = families(clip(n_frames), frame_seconds), families(noisy(300))
    sizes = {name: len(values) for name, values in found.items()}
    assert list(sizes.items()) == [(name, len(values)) for name, values in other.items()]
    assert (len(sizes), sum(sizes.values())) == (22, 576)
    for name, values in found.items():
        assert values.dtype == np.float64
        assert np.isfinite(values).all(), name


def test_families_do_not_depend_on_layout_and_a_short_clip_is_repeated():
    fused = noisy(88)
    for other in (np.ascontiguousarray(fused.T).T, fused.astype(np.float64), np.tile(fused, 3)):
        for name, values in families(other).items():
            np.testing.assert_array_equal(families(fused)[name], values)


@pytest.mark.parametrize("describe", [of_array, families])
def test_what_is_no_clip_gets_a_sentence(describe):
    with pytest.raises(InputError, match=r"shape \(128, 5\); clip statistics need \(140, n_frames\)"):
        describe(quiet(5)[:128])
    for value in (np.nan, -np.inf):
        with pytest.raises(InputError, match="has 700 values that are not finite"):
            describe(steady(5, value, range(12)) * value)
    with pytest.raises(InputError, match=r"shape \(140, 0\)"):
        describe(quiet(0))


def test_numbers_stay_those_that_models_and_tables_hold():
    """Weighted sums of statistics, in which a change of one number or of their order shows."""
    fused = noisy(seed=2)
    fused[:128] = np.maximum(fused[:128] - 30, strokes(every=25)[:128])
    fused[128:] = np.roll(steady(chord=MAJOR_TRIAD)[128:], np.arange(646) // 60, axis=0) + fused[128:] / 9
    found = [*families(fused).values(), *np.array_split([*of_array(fused).values()], 10)]
    sums = [np.arcsinh(values) @ np.linspace(1, 2, len(values)) / len(values) for values in found]
    timbre = [-5.200067, 0.7425945, 1.314371, 3.708246, 3.828057]
    timbre += [3.395311, 5.151827, 1.918011, 1.743343, 3.479218]
    rhythm = [2.153789, 1.044065, 2.225462, 0.7750503, -0.882634, 0.7618657]
    tonality = [0.5741125, 0.2552685, 0.1823615, 0.5196735, 0.5235777, -4.490664]
    named = [1.919917, 1.003409, -4.134186, -4.134337, 1.051712]
    named += [1.990768, 2.645743, 0.1615638, 0.5624898, 0.4137701]
    close(sums, timbre + rhythm + tonality + named, rtol=1e-4, atol=1e-5)


def test_one_row_sets_centroid_and_roll_off_in_rows_and_in_hertz():
    row, sample_rate_hz = 40, 44100
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


def test_pulse_has_the_tempo_of_clicks_and_a_waltz_repeats_after_three_beats():
    bpm = 60 / (22 * FRAME_SECONDS)  # 117: a whole number of frames
    waltz = of_array(clicks(bpm, -5.0, -50.0, -50.0))
    assert waltz["pulse_tempo_bpm"] == pytest.approx(bpm)
    assert waltz["onset_rate_hz"] == pytest.approx(bpm / 60, rel=0.1)
    three, *others = (waltz[f"onset_autocorrelation_{n}_beats"] for n in ("three", "two", "four"))
    assert three > 1.2 * max(others)


def test_what_does_not_repeat_has_no_pulse():
    short = of_array(clicks(60.0, -5.0)[:, :100])  # 2.3 seconds, shorter than a bar
    assert short["pulse_strength"] > 0 == short["onset_autocorrelation_four_beats"]
    slow = of_array(clicks(24.0, -5.0))
    assert 40 <= slow["pulse_tempo_bpm"] <= 240
    assert slow["pulse_strength"] < 0.1
    pulse = ("pulse_strength", "pulse_tempo_bpm", "low_pulse_tempo_bpm", "onset_autocorrelation_half_beat")
    for clip in (quiet(431), noisy(2)):
        assert [of_array(clip)[name] for name in pulse] == [0, 0, 0, 0]
    assert of_array(steady(chord=range(12)))["key_strength"] == pytest.approx(0, abs=1e-3)


def test_silence_is_at_the_floor_and_has_no_tempo():
    found = of_audio(np.zeros(RATE_HZ, np.float32))
    floors = ("rms_mean_dbfs", "rms_p50_dbfs", "peak_dbfs", "mel_loudest_db")
    zeros = ("crest_factor_db", "tempo_bpm", "onset_autocorrelation_at_tempo", "spectral_centroid_mean_hz")
    assert [found[name] for name in floors + zeros] == pytest.approx([-100] * 4 + [0] * 4)


def test_levels_are_those_of_a_sine_that_grows_to_full_scale():
    amplitude = np.repeat(np.float32([0.01, 0.1, 1.0]), np.multiply([0.7, 8.6, 0.7], RATE_HZ).astype(int))
    wave = np.sin(np.arange(len(amplitude)) * np.pi / 24)  # a sample falls on each peak
    growing = of_audio((wave * amplitude).astype(np.float32))
    for percent, level in ((5, -43.01), (50, -23.01), (95, -3.01)):
        assert growing[f"rms_p{percent}_dbfs"] == pytest.approx(level, abs=0.05)
    assert growing["peak_dbfs"] == pytest.approx(0, abs=0.001)
    assert growing["crest_factor_db"] == pytest.approx(-10 * np.log10(np.mean(amplitude**2) / 2), abs=0.01)


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


def test_level_moves_loud_bands_alone_key_nothing_and_chroma_rows_tonality_alone():
    fused, other = noisy(), noisy(seed=1)
    soft = np.concatenate([fused[:128] - 8, np.roll(fused[128:], 7, axis=0)])
    mixed = np.concatenate([fused[:128], other[128:]])
    soft, mixed, other = map(families, (soft, mixed, other))
    for name, values in families(fused).items():
        close(soft[name], values - 8 if name == "loud_bands" else values, atol=2e-4, err_msg=name)
        np.testing.assert_array_equal(mixed[name], other[name] if name in TONALITY else values)


def at_two_frame_rates(clip: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """As it is, and with frames that come twice and last half as long."""
    return families(clip), families(np.repeat(clip, 2, axis=1), FRAME_SECONDS / 2)


def test_families_are_in_seconds_whatever_the_frame_rate():
    coarse, fine = at_two_frame_rates(np.repeat(noisy(162), 4, axis=1))
    for name in ("loud_bands", "band_skewness", "band_correlation", "contrast", "peaks", *TONALITY[:3]):
        close(fine[name], coarse[name], atol=1e-3, err_msg=name)
    close(fine["unsteadiness"], coarse["unsteadiness"], rtol=0.03)
    close(fine["texture"], coarse["texture"], rtol=0.1, atol=1)
    close(fine["harmonic_percussive"], coarse["harmonic_percussive"], rtol=0.2, atol=1)
    close(fine["local_key"], coarse["local_key"], atol=0.1)
    close(fine["harmonic_rhythm"][:3], coarse["harmonic_rhythm"][:3], atol=0.3)
    close(fine["shape_changes"][8:], coarse["shape_changes"][8:], rtol=0.1)  # without the shortest times
    coarse, fine = at_two_frame_rates(strokes(every=24))
    close(fine["pulse_by_band"], coarse["pulse_by_band"], atol=0.01)
    close(fine["onset_intervals"], coarse["onset_intervals"], rtol=1e-3, atol=1e-9)
    close(fine["onsets_by_band"][:8], coarse["onsets_by_band"][:8], rtol=1e-3)
    close(fine["attack"], coarse["attack"], atol=3)
    close(fine["beat_modulation"] + np.log(2), coarse["beat_modulation"], atol=0.2)  # per frame
    bends = steady()
    bends[:128] += 20 * np.sin(np.arange(646, dtype=np.float32) / 90) ** 2
    coarse, fine = at_two_frame_rates(bends)
    close(fine["slow_dynamics"], coarse["slow_dynamics"], rtol=0.1, atol=0.02)


def test_without_onsets_there_is_no_pulse_no_interval_and_no_attack():
    found = families(steady())
    for name in ("onset_intervals", "attack", "onsets_by_band"):
        assert not found[name].any()
    assert not found["pulse_by_band"][::2].any()
    close(found["beat_modulation"], np.log(1e-4))


@pytest.mark.parametrize(("chord", "is_major"), [(MAJOR_TRIAD, True), (MINOR_TRIAD, False)])
def test_intervals_spectra_and_key_of_a_steady_chord_are_those_of_its_notes(chord, is_major):
    found = families(steady(chord=chord))
    close(found["intervals"], [*np.array([0, 0, 1, 1, 1, 0]) / 3, *[0] * 6], atol=1e-6)
    spectrum = [abs(np.exp(-2j * np.pi * order * np.array(chord) / 12).mean()) for order in range(1, 7)]
    close(found["pitch_spectrum"], spectrum, atol=1e-6)
    close(found["chord_spectrum"], [*spectrum, *[0] * 6], atol=1e-6)
    close(found["harmonic_rhythm"], np.log(1e-8), atol=1e-3)
    major, minor, mode, share, changes, deviation = found["local_key"]
    close([mode, share, changes, deviation], [major - minor, is_major, 0, 0], atol=1e-5)
    assert (mode > 0.01) == is_major == (mode > -0.01)
    assert 0.7 < max(major, minor) <= 1
