"""Families of statistics: known answers on made-up clips, and what does and does not change them."""

import re

import numpy as np
import pytest

from music_emotion.audio.families import statistic_families
from music_emotion.files import InputError

FRAME_SECONDS = 512 / 22050
TONALITY = ("pitch_spectrum", "chord_spectrum", "intervals", "local_key", "harmonic_flux", "harmonic_rhythm")
MAJOR_TRIAD, MINOR_TRIAD = (0, 4, 7), (0, 3, 7)
close = np.testing.assert_allclose


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


def test_level_moves_loud_bands_alone_key_nothing_and_chroma_rows_tonality_alone():
    fused, other = noisy(), noisy(seed=1)
    fused[128:] *= np.linspace(0, 1, 12)[[0, 5, 10, 2, 8, 7, 3, 11, 1, 6, 4, 9], None]
    soft, moved, mixed, sorted_ = fused.copy(), fused.copy(), other.copy(), fused.copy()
    soft[:128] -= 8
    moved[128:] = np.roll(fused[128:], 7, axis=0)
    mixed[:128] = fused[:128]
    sorted_[128:] = np.sort(fused[128:], axis=0)
    soft, moved, mixed, sorted_, other = map(families, (soft, moved, mixed, sorted_, other))
    for name, values in families(fused).items():
        close(soft[name], values - 8 if name == "loud_bands" else values, atol=2e-4, err_msg=name)
        close(moved[name], values, atol=1e-5, err_msg=name)
        np.testing.assert_array_equal(mixed[name], other[name] if name in TONALITY else values)
        assert (abs(sorted_[name] - values).max() > 0.01) == (name in TONALITY)


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
    coarse, fine = at_two_frame_rates(clicks(every=24))
    close(fine["pulse_by_band"], coarse["pulse_by_band"], atol=0.01)
    close(fine["onset_intervals"], coarse["onset_intervals"], rtol=1e-3, atol=1e-9)
    close(fine["onsets_by_band"][:8], coarse["onsets_by_band"][:8], rtol=1e-3)
    close(fine["attack"], coarse["attack"], atol=3)
    bends = steady()
    bends[:128] += 20 * np.sin(np.arange(646, dtype=np.float32) / 90) ** 2
    coarse, fine = at_two_frame_rates(bends)
    close(fine["slow_dynamics"], coarse["slow_dynamics"], rtol=0.1, atol=0.02)


def test_bands_have_their_loud_level_skewness_and_correlation():
    rng = np.random.default_rng(0)
    fused, movement = steady(1000), rng.normal(size=1000)
    fused[:4, ::10], fused[4:8] = -20.0, -20.0
    fused[4:8, ::10] = -60.0
    fused[8:12] = rng.permutation(np.linspace(-60, -10, 1000))
    fused[16:24], fused[24:32], fused[40:48] = (
        -40 + 3 * movement,
        -30 - 5 * movement,
        rng.normal(-40, 1, 1000),
    )
    found = families(fused)
    close(found["loud_bands"][[1, 2, 3, 31]], [-20, -15, -60, -60], atol=0.1)
    expected = (1 - 2 * 0.1) / (0.1 * 0.9) ** 0.5  # of what is 1 in a tenth of the frames
    close(found["band_skewness"][[0, 1, 2, 3, 31]], [expected, -expected, 0, 0, 0], atol=1e-5)
    pairs = zip(*np.triu_indices(16, 1), strict=True)
    correlation = dict(zip(pairs, found["band_correlation"], strict=True))
    assert correlation[2, 3] == pytest.approx(-1, abs=1e-4)
    assert correlation[2, 5] == pytest.approx(-correlation[3, 5], abs=1e-4)
    assert abs(correlation[2, 5]) < 0.15
    assert correlation[2, 4] == correlation[14, 15] == 0


def test_cepstral_flux_is_of_the_coefficient_that_moves():
    fused = steady()
    cosine = np.cos(np.pi * 5 * (np.arange(128) + 0.5) / 128)
    fused[:128] = -40 + 10 * cosine[:, None] * np.resize([0, 1], 646)
    expected = np.where(np.arange(20) == 5, 10 * 64**0.5, 0)  # changes are 10 and -10 in turn
    close(families(fused)["cepstral_flux"], expected, atol=2e-3)


def test_contrast_is_of_the_three_loudest_rows_over_the_four_softest():
    fused = steady()
    fused[16:19, ::2] = -24.0
    expected = np.zeros(16)
    expected[[1, 9]] = 18  # 36 dB in half of the frames
    close(families(fused)["contrast"], expected, atol=1e-4)


def test_peaks_are_of_tones_and_not_of_broad_bands_nor_of_what_is_rare():
    tones, broad, rare = steady(), steady(), steady()
    tones[8:128:16], broad[32:96], rare[8, ::200] = -20.0, -20.0, -20.0
    of_tones, of_broad, of_rare = (families(clip)["peaks"] for clip in (tones, broad, rare))
    height = 40 * (1 - 1 / 9)  # over the mean of nine rows
    close(of_tones[1:16:2], height / 8, rtol=1e-4)  # one row of eight
    close(of_tones[17::2], (height - 4 * 40 / 9) / 8, rtol=1e-4)  # and its neighbours
    close(of_broad[[6, 7, 8, 9]], 0, atol=1e-3)
    close(of_rare[16:], 0, atol=1e-3)


def test_unsteadiness_is_how_far_a_band_is_from_its_mean_over_a_second():
    fused = steady()
    fused[:8] += np.resize([4, -4], 646)
    fused[8:16] += np.linspace(0, 30, 646)  # slow
    close(families(fused)["unsteadiness"], [4, *[0] * 15], atol=0.12)


def test_what_lasts_is_harmonic_and_what_is_struck_percussive():
    lasting, struck = steady(), steady()
    lasting[4:128:16] = -20.0
    struck[:128, ::40] = -20.0
    lasting, struck = (families(clip)["harmonic_percussive"] for clip in (lasting, struck))
    close(lasting[8:16], 0, atol=1e-4)  # nothing but what lasts
    close(lasting[16:], 40 / 16, rtol=1e-4)  # one row of 16
    close(struck[16:], 0, atol=1e-4)
    close(struck[8:16], 40 * 17 / 646, rtol=1e-4)  # 17 frames
    close(lasting[:8], lasting[16:], rtol=1e-4)
    close(struck[:8], -struck[8:16], rtol=1e-4)


def test_texture_tells_change_within_seconds_from_change_between_them():
    second = 43
    within, between = steady(14 * second), steady(14 * second)
    within[:128] += 8 * np.resize([1, -1], 14 * second)
    between[:128] += 8 * np.repeat(np.resize([1, -1], 14), second)
    half = within.copy()
    half[:128, : 7 * second] = -60.0
    for clip, expected in ((within, [1, 0, 0]), (between, [0, 1, 0]), (half, [0.5, 0, 0.5])):
        of_the_mean = families(clip)["texture"].reshape(3, 13)[:, 0]
        close(of_the_mean / (8 * 128**0.5), expected, atol=0.03)


def test_shape_changes_are_by_the_time_that_a_change_takes():
    fused, turns = steady(1290), steady(level_db=-80.0)
    fused[:128] += 6 * np.repeat(np.resize([1, -1], 10), 129)[None]  # every 3 seconds
    changes = families(fused)["shape_changes"].reshape(8, 4)
    close(changes[:, :3], 0, atol=1e-2)  # centroid, roll-off and flatness stay
    lags = np.array([1, 2, 4, 8, 16, 32, 65, 129])
    close(changes[:, 3], [12 * 9 * lag / (1290 - lag) for lag in lags], rtol=1e-3)
    turns[20, ::2], turns[50, 1::2] = 0.0, 0.0
    changes = families(turns)["shape_changes"].reshape(8, 4)
    close(changes[:2, :2], [[30, 30], [0, 0]], atol=0.03)  # one frame later, and two


@pytest.mark.parametrize("every", [18, 30])
def test_pulse_and_onsets_of_clicks_have_their_rate(every):
    found = families(clicks(every))
    seconds = every * FRAME_SECONDS
    clarity, period = found["pulse_by_band"].reshape(8, 2).T
    close(period, seconds)
    assert (clarity > 0.9).all()
    n_clicks = len(range(every, 646, every))  # the first has no frame before it
    rate, share = n_clicks / (645 * FRAME_SECONDS), n_clicks / 645
    for band in found["onsets_by_band"].reshape(4, 8).T:
        close(band, [rate, 50 * share, 50 * (share * (1 - share)) ** 0.5, share], rtol=1e-4)
    close(found["onset_intervals"], [rate, *[seconds] * 5, 0], atol=1e-9)


def test_quantiles_of_uneven_intervals():
    fused = steady()
    fused[:128, np.cumsum(np.resize([10, 30], 32)) - 5] = -10.0
    rate, *quantiles, variation = families(fused)["onset_intervals"]
    assert rate == pytest.approx(32 / (645 * FRAME_SECONDS))
    close(np.array(quantiles) / FRAME_SECONDS, [10, 10, 30, 30, 30], atol=1e-6)
    assert variation == pytest.approx(0.5, abs=0.01)  # 10 about 20


@pytest.mark.parametrize("every", [20, 26])
def test_modulation_is_strongest_at_the_beat_whatever_the_tempo(every):
    fused, beat = steady(1290), 2 * np.pi * np.arange(1290) / every
    fused[:128] += 10 * np.sin(beat)
    fused[:16] = -60 + 10 * np.sin(beat / 2)  # a band at every other beat
    modulation = families(fused)["beat_modulation"].reshape(8, 5)
    assert modulation.argmax(axis=1).tolist() == [1, *[2] * 7]
    assert modulation[0, 1] > modulation[0, 2] + 1
    assert modulation[1, 2] > modulation[1, :2].max() + 2


def test_without_onsets_there_is_no_pulse_no_interval_and_no_attack():
    found = families(steady())
    for name in ("onset_intervals", "attack", "onsets_by_band"):
        assert not found[name].any()
    assert not found["pulse_by_band"][::2].any()
    close(found["beat_modulation"], np.log(1e-4))


def test_attack_rises_at_the_onset_and_falls_after_it():
    fused = clicks(every=43, fall_db=2.0)
    fused[:16] = -60.0  # a band that takes no part
    attack = families(fused)["attack"].reshape(8, 8)
    course = fused[64, 43 + np.rint(np.linspace(-0.1, 0.45, 8) / FRAME_SECONDS).astype(int)]
    close(attack[0], 0, atol=1e-5)
    close(attack[1:], np.tile(course - course.mean(), (7, 1)), atol=1e-3)
    assert attack[4].argmax() == 2  # 0.06 s after


def test_slow_dynamics_are_of_the_level_over_seconds():
    rising, trembling = steady(), steady()
    rising[:128] += np.linspace(0, 30, 646, dtype=np.float32)
    trembling[:128] += np.resize([5, -5], 646)
    found = families(rising)["slow_dynamics"]
    close(found[:3], [30 / 12**0.5, 30 * 21 / 646, 20], rtol=0.1)  # a step is half a second
    assert found[3] == pytest.approx(0, abs=1e-2)
    assert families(rising[:, ::-1])["slow_dynamics"][2] == pytest.approx(-20, rel=0.1)
    close(families(trembling)["slow_dynamics"][:3], 0, atol=0.3)
    assert families(clicks(43))["slow_dynamics"][3] > 0.5  # mostly soft


@pytest.mark.parametrize(
    ("chord", "expected"),
    [((0,), [0, 0, 0, 0, 0, 0]), (MAJOR_TRIAD, [0, 0, 1, 1, 1, 0]), ((0, 6), [0, 0, 0, 0, 0, 3])],
)
def test_intervals_and_spectra_of_a_steady_chord_are_those_of_its_notes(chord, expected):
    found = families(steady(chord=chord))
    close(found["intervals"], [*np.array(expected) / 3, *[0] * 6], atol=1e-6)
    spectrum = [abs(np.exp(-2j * np.pi * order * np.array(chord) / 12).mean()) for order in range(1, 7)]
    close(found["pitch_spectrum"], spectrum, atol=1e-6)
    close(found["chord_spectrum"], [*spectrum, *[0] * 6], atol=1e-6)


def test_chords_in_turn_have_their_own_spectra_and_the_clip_that_of_their_sum():
    fused, fifths = steady(), steady(chord=(0,))
    fused[128, ::2], fused[128 + 6, 1::2], fifths[128 + 7, ::2] = 1.0, 1.0, 1.0
    found = families(fused)
    close(found["chord_spectrum"], [*[1] * 6, *[0] * 6], atol=1e-6)
    close(found["pitch_spectrum"], [0, 1] * 3, atol=1e-6)
    assert families(fifths)["intervals"][[4, 10]] == pytest.approx(0.25)  # half, in half of the frames


@pytest.mark.parametrize("tonic", [0, 5])
@pytest.mark.parametrize(("chord", "is_major"), [(MAJOR_TRIAD, True), (MINOR_TRIAD, False)])
def test_a_major_triad_is_major_and_a_minor_one_minor(chord, is_major, tonic):
    notes = tuple((tonic + note) % 12 for note in chord)
    major, minor, mode, share, changes, deviation = families(steady(chord=notes))["local_key"]
    close([mode, share, changes, deviation], [major - minor, is_major, 0, 0], atol=1e-5)
    assert (mode > 0.01) == is_major == (mode > -0.01)
    assert 0.7 < max(major, minor) <= 1


def test_a_key_that_changes_once_is_found_to():
    fused = steady(1290, chord=MAJOR_TRIAD)
    fused[128:, 645:] = np.roll(fused[128:, 645:], 6, axis=0)
    *_, changes, _ = families(fused)["local_key"]
    assert 1 / 30 < changes < 6 / 30  # a second each, and windows of 4 s across the change


def test_harmonic_flux_is_the_sum_of_the_changes():
    fused = steady(641)
    assert not families(fused)["harmonic_flux"].any()
    fused[128, np.arange(641) // 20 % 2 == 0] = 0.8
    *quantiles, skewness, large = families(fused)["harmonic_flux"]
    close(quantiles, [0, 0, 0, 0, 0, 0.8], atol=1e-6)  # one in twenty
    assert large == pytest.approx(1 / 20)
    assert skewness == pytest.approx((1 - 2 / 20) / (19 / 400) ** 0.5, rel=1e-3)


@pytest.mark.parametrize(("hertz", "band"), [(0.5, 0), (1.0, 1), (4.0, 3), (15.0, 5)])
def test_harmonic_rhythm_is_highest_where_chords_come_and_go(hertz, band):
    fused = steady(1290)
    close(families(fused)["harmonic_rhythm"], np.log(1e-8), atol=1e-3)
    fused[128 + 3] = 0.5 + 0.5 * np.sin(2 * np.pi * hertz * np.arange(1290) * FRAME_SECONDS)
    rhythm = families(fused)["harmonic_rhythm"]
    assert rhythm.argmax() == band
    assert np.sort(rhythm)[-1] > np.sort(rhythm)[-2] + 2
