"""Families of statistics: known answers on made-up clips, and what does and does not change them."""

import re

import numpy as np
import pytest

from music_emotion.audio.families import statistic_families
from music_emotion.files import InputError

FRAME_SECONDS = 512 / 22050
SIZES = {
    "loud_bands": 32,
    "band_skewness": 32,
    "band_correlation": 120,
    "cepstral_flux": 20,
    "contrast": 16,
    "peaks": 32,
    "unsteadiness": 16,
    "harmonic_percussive": 24,
    "texture": 39,
    "shape_changes": 32,
    "onsets_by_band": 32,
    "pulse_by_band": 16,
    "beat_modulation": 40,
    "onset_intervals": 7,
    "attack": 64,
    "slow_dynamics": 4,
    "pitch_spectrum": 6,
    "chord_spectrum": 12,
    "intervals": 12,
    "local_key": 6,
    "harmonic_flux": 8,
    "harmonic_rhythm": 6,
}
TONALITY = list(SIZES)[-6:]
MAJOR_TRIAD, MINOR_TRIAD = (0, 4, 7), (0, 3, 7)


def steady(n_frames: int = 646, level_db: float = -60.0, chord: tuple[int, ...] = ()) -> np.ndarray:
    """A clip (15 s by default) whose mel rows are all equal, and whose chroma rows are those of a chord."""
    fused = np.full((140, n_frames), level_db, np.float32)
    fused[128:] = np.isin(np.arange(12), chord)[:, None]
    return fused


def noisy(n_frames: int = 646, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mel = rng.uniform(-60, -10, (128, n_frames))
    return np.concatenate([mel, rng.uniform(0, 1, (12, n_frames))]).astype(np.float32)


def clicks(every: int = 22, n_frames: int = 646, fall_db: float = 3.0) -> np.ndarray:
    """Struck at once every so many frames, falling to -60 dB."""
    fused = steady(n_frames)
    fused[:128] = np.maximum(-60.0, -10 - fall_db * (np.arange(n_frames) % every))
    return fused


def families(fused: np.ndarray, frame_seconds: float = FRAME_SECONDS) -> dict[str, np.ndarray]:
    return statistic_families(fused, frame_seconds)


@pytest.mark.parametrize("n_frames", [1, 2, 259])
@pytest.mark.parametrize("frame_seconds", [0.005, FRAME_SECONDS, 0.5, 3.0, 20.0])
@pytest.mark.parametrize("clip", [noisy, steady, lambda n: np.zeros((140, n)), lambda n: np.ones((140, n))])
@pytest.mark.filterwarnings("error")
def test_every_clip_has_the_same_families_all_finite(clip, frame_seconds, n_frames):
    found = families(clip(n_frames), frame_seconds)
    assert {name: len(values) for name, values in found.items()} == SIZES
    assert list(found) == list(SIZES)
    for name, values in found.items():
        assert values.dtype == np.float64
        assert np.isfinite(values).all(), name


def test_a_transposed_clip_of_a_store_has_the_same_families_to_the_bit():
    fused = noisy()
    stored = np.ascontiguousarray(fused.T)
    for name, values in families(fused).items():
        np.testing.assert_array_equal(families(stored.T)[name], values)
        np.testing.assert_array_equal(families(fused.astype(np.float64))[name], values)


def test_a_short_clip_is_repeated():
    whole = families(np.tile(clicks(n_frames=88), 3))
    for name, values in families(clicks(n_frames=88)).items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize(
    ("fused", "frame_seconds", "sentence"),
    [
        (np.zeros((128, 10)), FRAME_SECONDS, "need (140, n_frames)"),
        (np.full((140, 1), np.nan), FRAME_SECONDS, "has 140 values that are not finite"),
        (np.zeros((140, 5)), -1.0, "frame_seconds is -1.0; it must be positive"),
    ],
)
def test_what_is_no_clip_is_refused(fused, frame_seconds, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        families(fused, frame_seconds)


def test_a_change_of_level_moves_the_levels_and_nothing_else():
    loud, soft = noisy(), noisy()
    soft[:128] -= 8
    soft = families(soft)
    for name, values in families(loud).items():
        expected = values - 8 if name == "loud_bands" else values
        np.testing.assert_allclose(soft[name], expected, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("semitones", [1, 7])
def test_another_key_changes_no_family(semitones):
    fused = noisy()
    fused[128:] *= np.linspace(0, 1, 12)[[0, 5, 10, 2, 8, 7, 3, 11, 1, 6, 4, 9], None]
    moved = fused.copy()
    moved[128:] = np.roll(fused[128:], semitones, axis=0)
    before, after = families(fused), families(moved)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, atol=1e-5, err_msg=name)
    fused[128:] = np.sort(fused[128:], axis=0)
    assert all(abs(families(fused)[name] - before[name]).max() > 0.01 for name in TONALITY)


def test_mel_rows_set_timbre_and_rhythm_and_chroma_rows_tonality():
    one, other = noisy(seed=0), noisy(seed=1)
    mixed = families(np.concatenate([one[:128], other[128:]]))
    for name in SIZES:
        expected = families(other if name in TONALITY else one)[name]
        np.testing.assert_array_equal(mixed[name], expected)


def at_two_frame_rates(clip: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """As it is, and with frames that come twice and last half as long."""
    return families(clip), families(np.repeat(clip, 2, axis=1), FRAME_SECONDS / 2)


def test_timbre_and_tonality_are_in_seconds_whatever_the_frame_rate():
    coarse, fine = at_two_frame_rates(np.repeat(noisy(162), 4, axis=1))
    for name in ("loud_bands", "band_skewness", "band_correlation", "contrast", "peaks"):
        np.testing.assert_allclose(fine[name], coarse[name], atol=1e-3, err_msg=name)
    for name in ("pitch_spectrum", "chord_spectrum", "intervals"):
        np.testing.assert_allclose(fine[name], coarse[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(fine["unsteadiness"], coarse["unsteadiness"], rtol=0.03)
    np.testing.assert_allclose(fine["texture"], coarse["texture"], rtol=0.1, atol=1)
    np.testing.assert_allclose(fine["harmonic_percussive"], coarse["harmonic_percussive"], rtol=0.2, atol=1)
    np.testing.assert_allclose(fine["local_key"], coarse["local_key"], atol=0.1)
    np.testing.assert_allclose(fine["harmonic_rhythm"][:3], coarse["harmonic_rhythm"][:3], atol=0.3)
    slow = slice(8, None)  # changes of rows of four frames come at fewer times of these
    np.testing.assert_allclose(fine["shape_changes"][slow], coarse["shape_changes"][slow], rtol=0.1)


def test_rhythm_is_in_seconds_whatever_the_frame_rate():
    coarse, fine = at_two_frame_rates(clicks(every=24))
    np.testing.assert_allclose(fine["pulse_by_band"], coarse["pulse_by_band"], atol=0.01)
    np.testing.assert_allclose(fine["onset_intervals"], coarse["onset_intervals"], rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(fine["onsets_by_band"][:8], coarse["onsets_by_band"][:8], rtol=1e-3)
    np.testing.assert_allclose(fine["attack"], coarse["attack"], atol=3)
    bends = steady()
    bends[:128] += 20 * np.sin(np.arange(646, dtype=np.float32) / 90) ** 2
    coarse, fine = at_two_frame_rates(bends)
    np.testing.assert_allclose(fine["slow_dynamics"], coarse["slow_dynamics"], rtol=0.1, atol=0.02)


def test_loud_bands_are_the_level_that_a_tenth_of_the_frames_exceeds():
    fused = steady(1001)
    fused[8:12] = np.random.default_rng(0).permutation(np.linspace(-60, -10, 1001))
    loud = families(fused)["loud_bands"]
    assert loud[2] == pytest.approx(-15, abs=1e-3)
    assert (np.delete(loud, 2) == -60).all()


def test_a_band_that_is_seldom_loud_is_skewed_and_one_that_is_seldom_silent_the_other_way():
    fused = steady(600)
    fused[:4, ::10], fused[4:8] = -20.0, -20.0
    fused[4:8, ::10] = -60.0
    skewness = families(fused)["band_skewness"]
    expected = (1 - 2 * 0.1) / (0.1 * 0.9) ** 0.5  # of what is 1 in a tenth of the frames
    np.testing.assert_allclose(skewness, [expected, -expected, *[0] * 30], atol=1e-5)


def test_bands_that_move_together_are_correlated():
    rng = np.random.default_rng(0)
    fused = steady()
    movement = rng.normal(size=646)
    fused[:8], fused[8:16], fused[24:32] = -40 + 3 * movement, -30 - 5 * movement, -40 + rng.normal(size=646)
    found = families(fused)["band_correlation"]
    pairs = dict(zip(zip(*np.triu_indices(16, 1), strict=True), found, strict=True))
    assert pairs[0, 1] == pytest.approx(-1, abs=1e-4)
    assert pairs[0, 3] == pytest.approx(-pairs[1, 3], abs=1e-4)
    assert abs(pairs[0, 3]) < 0.15
    assert pairs[0, 2] == pairs[14, 15] == 0


def test_cepstral_flux_is_of_the_coefficient_that_moves():
    fused = steady()
    cosine = np.cos(np.pi * 5 * (np.arange(128) + 0.5) / 128)
    fused[:128] = -40 + 10 * cosine[:, None] * np.resize([0, 1], 646)
    flux = families(fused)["cepstral_flux"]
    assert flux[5] == pytest.approx(10 * 64**0.5, rel=1e-4)  # changes are 10 and -10 in turn
    np.testing.assert_allclose(np.delete(flux, 5), 0, atol=1e-4)


def test_contrast_is_of_the_three_loudest_rows_over_the_four_softest():
    fused = steady()
    fused[16:19, ::2] = -24.0
    expected = np.zeros(16)
    expected[1] = expected[9] = 18  # 36 dB in half of the frames
    np.testing.assert_allclose(families(fused)["contrast"], expected, atol=1e-4)


def test_peaks_are_of_tones_and_not_of_broad_bands():
    tones, broad = steady(), steady()
    tones[8:128:16] = -20.0
    broad[32:96] = -20.0
    of_tones, of_broad = families(tones)["peaks"], families(broad)["peaks"]
    height = 40 * (1 - 1 / 9)  # over the mean of nine rows
    np.testing.assert_allclose(of_tones[1:16:2], height / 8, rtol=1e-4)  # one row of eight
    np.testing.assert_allclose(of_tones[17::2], (height - 4 * 40 / 9) / 8, rtol=1e-4)  # and its neighbours
    assert of_tones[:16].mean() > 2 * of_broad[:16].mean()
    assert (of_broad[[6, 7, 8, 9]] < 1e-3).all()
    fused = steady()
    fused[8, ::200] = -20.0  # less than a hundredth of the frames
    np.testing.assert_allclose(families(fused)["peaks"][16:], 0, atol=1e-3)


def test_unsteadiness_is_how_far_a_band_is_from_its_mean_over_a_second():
    fused = steady()
    fused[:8] += np.resize([4, -4], 646)
    fused[8:16] += np.linspace(0, 30, 646)  # slow
    found = families(fused)["unsteadiness"]
    assert found[0] == pytest.approx(4, rel=0.03)
    assert found[1] < 0.1
    assert (found[2:] < 1e-4).all()


def test_what_lasts_is_harmonic_and_what_is_struck_percussive():
    lasting, struck = steady(), steady()
    lasting[4:128:16] = -20.0
    struck[:128, ::40] = -20.0
    of_lasting, of_struck = (families(clip)["harmonic_percussive"] for clip in (lasting, struck))
    assert (of_lasting[:8] > 1).all()
    assert (of_struck[:8] < -0.5).all()
    np.testing.assert_allclose(of_lasting[8:16], 0, atol=1e-4)  # nothing but what lasts
    np.testing.assert_allclose(of_struck[16:], 0, atol=1e-4)
    np.testing.assert_allclose(of_lasting[16:], 40 / 16, rtol=1e-4)  # one row of 16
    np.testing.assert_allclose(of_struck[8:16], 40 * 17 / 646, rtol=1e-4)  # 17 frames


def test_texture_tells_change_within_seconds_from_change_between_them():
    second = 43
    within, between = steady(14 * second), steady(14 * second)
    within[:128] += 8 * np.resize([1, -1], 14 * second)
    between[:128] += 8 * np.repeat(np.resize([1, -1], 14), second)
    scale = 8 * 128**0.5  # of the coefficient of the mean
    of_within, of_between = (families(clip)["texture"].reshape(3, 13)[:, 0] for clip in (within, between))
    np.testing.assert_allclose(of_within / scale, [1, 0, 0], atol=0.03)
    np.testing.assert_allclose(of_between / scale, [0, 1, 0], atol=0.03)
    within[:128, : 7 * second] = -60.0
    of_half = families(within)["texture"].reshape(3, 13)[:, 0]
    np.testing.assert_allclose(of_half / scale, [0.5, 0, 0.5], atol=0.03)


def test_shape_changes_are_by_the_time_that_a_change_takes():
    fused = steady(1290)
    fused[:128] += 6 * np.repeat(np.resize([1, -1], 10), 129)[None]  # every 3 seconds
    changes = families(fused)["shape_changes"].reshape(8, 4)
    np.testing.assert_allclose(changes[:, :3], 0, atol=1e-2)  # centroid, roll-off and flatness stay
    lags = np.array([1, 2, 4, 8, 16, 32, 65, 129])
    np.testing.assert_allclose(changes[:, 3], [12 * 9 * lag / (1290 - lag) for lag in lags], rtol=1e-3)


def test_rows_that_sound_in_turn_move_centroid_and_roll_off():
    fused = steady(level_db=-80.0)
    fused[20, ::2], fused[50, 1::2] = 0.0, 0.0
    changes = families(fused)["shape_changes"].reshape(8, 4)
    assert changes[0, :2] == pytest.approx([30, 30], rel=1e-3)
    assert changes[1, :2] == pytest.approx([0, 0], abs=1e-3)  # two frames later


@pytest.mark.parametrize("every", [18, 30])
def test_pulse_and_onsets_of_clicks_have_their_rate(every):
    found = families(clicks(every))
    seconds = every * FRAME_SECONDS
    clarity, period = found["pulse_by_band"].reshape(8, 2).T
    np.testing.assert_allclose(period, seconds)
    assert (clarity > 0.9).all()
    n_clicks = len(range(every, 646, every))  # the first has no frame before it
    rate = n_clicks / (645 * FRAME_SECONDS)
    np.testing.assert_allclose(found["onsets_by_band"][:8], rate)
    mean, deviation, strong = found["onsets_by_band"][8:].reshape(3, 8)
    rise = 3 * (every - 1) if every < 18 else 50
    np.testing.assert_allclose(mean, rise * n_clicks / 645, rtol=1e-4)
    share = n_clicks / 645
    np.testing.assert_allclose(deviation, rise * (share * (1 - share)) ** 0.5, rtol=1e-4)
    np.testing.assert_allclose(strong, share)
    np.testing.assert_allclose(found["onset_intervals"], [rate, *[seconds] * 5, 0], atol=1e-9)


def test_quantiles_of_uneven_intervals():
    fused = steady()
    onsets = np.cumsum(np.resize([10, 30], 32)) - 5
    fused[:128, onsets] = -10.0
    rate, *quantiles, unevenness = families(fused)["onset_intervals"]
    assert rate == pytest.approx(32 / (645 * FRAME_SECONDS))
    np.testing.assert_allclose(np.array(quantiles) / FRAME_SECONDS, [10, 10, 30, 30, 30], atol=1e-6)
    assert unevenness == pytest.approx(0.5, abs=0.01)  # 10 about 20


@pytest.mark.parametrize("every", [20, 26])
def test_modulation_is_strongest_at_the_beat_whatever_the_tempo(every):
    fused = steady(1290)
    beat = 2 * np.pi * np.arange(1290) / every
    fused[:128] += 10 * np.sin(beat)  # at the beat alone
    modulation = families(fused)["beat_modulation"].reshape(8, 5)
    assert (modulation.argmax(axis=1) == 2).all()
    assert (modulation[:, 2] > modulation[:, :2].max(axis=1) + 2).all()
    fused[:16] = -60 + 10 * np.sin(beat / 2)[None]
    modulation = families(fused)["beat_modulation"].reshape(8, 5)
    assert modulation[0, 1] > modulation[0, 2] + 1
    assert modulation[1, 2] > modulation[1, 1] + 2


def test_without_onsets_there_is_no_pulse_no_interval_and_no_attack():
    found = families(steady())
    assert (found["onset_intervals"] == 0).all()
    assert (found["attack"] == 0).all()
    assert (found["pulse_by_band"].reshape(8, 2)[:, 0] == 0).all()
    assert (found["onsets_by_band"] == 0).all()
    np.testing.assert_allclose(found["beat_modulation"], np.log(1e-4))


def test_attack_rises_at_the_onset_and_falls_after_it():
    fused = clicks(every=43, fall_db=2.0)
    fused[:16] = -60.0  # a band that takes no part
    attack = families(fused)["attack"].reshape(8, 8)
    frames = 43 + np.rint(np.linspace(-0.1, 0.45, 8) / FRAME_SECONDS).astype(int)
    course = fused[64, frames]
    np.testing.assert_allclose(attack[0], 0, atol=1e-5)
    for band in attack[1:]:
        np.testing.assert_allclose(band, course - course.mean(), atol=1e-3)
    assert attack[4].argmax() == 2  # 0.06 s after
    assert attack[4, 2] - attack[4, 1] > 30
    assert (np.diff(attack[4, 2:]) < 0).all()


def test_slow_dynamics_are_of_the_level_over_seconds():
    rising, falling, trembling = steady(), steady(), steady()
    rising[:128] += np.linspace(0, 30, 646, dtype=np.float32)
    falling[:128] += np.linspace(30, 0, 646, dtype=np.float32)
    trembling[:128] += np.resize([5, -5], 646)
    spread, step, rise, skewness = families(rising)["slow_dynamics"]
    assert spread == pytest.approx(30 / 12**0.5, rel=0.1)
    assert step == pytest.approx(30 * 21 / 646, rel=0.1)  # half a second
    assert rise == pytest.approx(20, rel=0.1)
    assert skewness == pytest.approx(0, abs=1e-2)
    assert families(falling)["slow_dynamics"][2] == pytest.approx(-20, rel=0.1)
    np.testing.assert_allclose(families(trembling)["slow_dynamics"][:3], 0, atol=0.3)
    assert families(clicks(43))["slow_dynamics"][3] > 0.5  # mostly soft


@pytest.mark.parametrize(
    ("chord", "expected"),
    [((0,), [0, 0, 0, 0, 0, 0]), (MAJOR_TRIAD, [0, 0, 1, 1, 1, 0]), ((0, 6), [0, 0, 0, 0, 0, 3])],
)
def test_intervals_of_a_steady_chord_are_those_between_its_notes(chord, expected):
    found = families(steady(chord=chord))["intervals"]
    np.testing.assert_allclose(found[:6], np.array(expected) / 3, atol=1e-6)
    np.testing.assert_allclose(found[6:], 0, atol=1e-6)


def test_intervals_vary_where_chords_do():
    fused = steady(chord=(0,))
    fused[128 + 7, ::2] = 1.0
    found = families(fused)["intervals"]
    assert found[4] == found[10] == pytest.approx(0.25)  # half, in half of the frames


@pytest.mark.parametrize(
    ("chord", "coefficient"),
    [((0, 6), 2), ((0, 4, 8), 3), ((0, 3, 6, 9), 4), ((0, 2, 4, 7, 9), 5), ((0, 2, 4, 6, 8, 10), 6)],
)
def test_a_spectrum_of_pitch_classes_shows_into_what_they_divide_the_octave(chord, coefficient):
    found = families(steady(chord=chord))
    spectrum = found["pitch_spectrum"]
    by_hand = [abs(np.exp(-2j * np.pi * order * np.array(chord) / 12).mean()) for order in range(1, 7)]
    np.testing.assert_allclose(spectrum, by_hand, atol=1e-6)
    assert spectrum[coefficient - 1] == pytest.approx(max(spectrum), abs=1e-6)
    np.testing.assert_allclose(found["chord_spectrum"], [*spectrum, *[0] * 6], atol=1e-6)


def test_chords_in_turn_have_their_own_spectra_and_the_clip_that_of_their_sum():
    fused = steady()
    fused[128, ::2], fused[128 + 6, 1::2] = 1.0, 1.0
    found = families(fused)
    np.testing.assert_allclose(found["chord_spectrum"], [*[1] * 6, *[0] * 6], atol=1e-6)
    np.testing.assert_allclose(found["pitch_spectrum"], [0, 1] * 3, atol=1e-6)


@pytest.mark.parametrize("tonic", [0, 5])
def test_a_major_triad_is_major_and_a_minor_one_minor(tonic):
    for chord, sign in ((MAJOR_TRIAD, 1), (MINOR_TRIAD, -1)):
        notes = tuple((tonic + note) % 12 for note in chord)
        major, minor, mode, share, changes, deviation = families(steady(chord=notes))["local_key"]
        assert mode == pytest.approx(major - minor, abs=1e-6)
        assert sign * mode > 0.01
        assert share == (sign > 0)
        assert changes == 0
        assert deviation == pytest.approx(0, abs=1e-5)
        assert 0.7 < max(major, minor) <= 1


def test_a_key_that_changes_once_is_found_to():
    fused = steady(1290, chord=MAJOR_TRIAD)
    fused[128:, 645:] = np.isin(np.arange(12), [(6 + note) % 12 for note in MAJOR_TRIAD])[:, None]
    *_, changes, _ = families(fused)["local_key"]
    assert 1 / 30 < changes < 6 / 30  # a second each, and windows of 4 s across the change


def test_a_steady_chord_has_no_harmonic_flux_and_no_harmonic_rhythm():
    found = families(steady(chord=MAJOR_TRIAD))
    assert (found["harmonic_flux"] == 0).all()
    np.testing.assert_allclose(found["harmonic_rhythm"], np.log(1e-8), atol=1e-3)


def test_harmonic_flux_is_the_sum_of_the_changes():
    fused = steady(641)
    fused[128, np.arange(641) // 20 % 2 == 0] = 0.8
    *quantiles, skewness, large = families(fused)["harmonic_flux"]
    np.testing.assert_allclose(quantiles, [0, 0, 0, 0, 0, 0.8], atol=1e-6)  # one in twenty
    assert large == pytest.approx(1 / 20)
    assert skewness == pytest.approx((1 - 2 / 20) / (19 / 400) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(("hertz", "band"), [(0.5, 0), (1.0, 1), (2.0, 2), (4.0, 3), (8.0, 4), (15.0, 5)])
def test_harmonic_rhythm_is_highest_where_chords_come_and_go(hertz, band):
    fused = steady(1290)
    fused[128 + 3] = 0.5 + 0.5 * np.sin(2 * np.pi * hertz * np.arange(1290) * FRAME_SECONDS)
    rhythm = families(fused)["harmonic_rhythm"]
    assert rhythm.argmax() == band
    assert np.sort(rhythm)[-1] > np.sort(rhythm)[-2] + 2
