"""Families of statistics: known answers on made-up clips, and what does and does not change them."""

import numpy as np
import pytest

from music_emotion.audio.families import statistic_families

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


def test_numbers_stay_those_that_models_were_trained_on():
    """Means of the families, weighted so that a change of one number or of their order shows."""
    fused = noisy(seed=2)
    fused[:128] = np.maximum(fused[:128] - 30, clicks(every=25)[:128])
    fused[128:] = np.roll(steady(chord=MAJOR_TRIAD)[128:], np.arange(646) // 60, axis=0) + fused[128:] / 9
    found = [values @ np.linspace(1, 2, len(values)) / len(values) for values in families(fused).values()]
    timbre = [-24.0, 0.77331, 1.4891, 13.018, 9.5902, 12.111, 23.239, 4.4397, 7.6091, 10.007]
    rhythm = [5.052, 1.1428, 6.0412, 0.86043, -0.097419, 0.96155]
    tonality = [0.59426, 0.2634, 0.18574, 0.57563, 0.54449, -14.933]
    close(found, timbre + rhythm + tonality, rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize(("hertz", "band"), [(0.5, 0), (1.0, 1), (4.0, 3), (15.0, 5)])
def test_harmonic_rhythm_is_highest_where_chords_come_and_go(hertz, band):
    fused = steady(1290)
    close(families(fused)["harmonic_rhythm"], np.log(1e-8), atol=1e-3)
    fused[128 + 3] = 0.5 + 0.5 * np.sin(2 * np.pi * hertz * np.arange(1290) * FRAME_SECONDS)
    rhythm = families(fused)["harmonic_rhythm"]
    assert rhythm.argmax() == band
    assert np.sort(rhythm)[-1] > np.sort(rhythm)[-2] + 2
