"""Estimators that know families: their scales, what they learn to matter, and the kernel that they claim."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from music_emotion.config import ClassicalSection
from music_emotion.models.estimators import FamilyProcess, FamilyScaler, make_regressor

FAMILIES = ("timbre",) * 4 + ("rhythm",) * 6 + ("key",) * 2
RNG = np.random.default_rng(0)
KNOWN, NEW = RNG.normal(size=(200, 12)), RNG.normal(size=(100, 12))


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def of_key(statistics: np.ndarray) -> np.ndarray:
    """A target that the last family alone decides; its mean is 0."""
    return np.sin(2 * statistics[:, 10]) + 0.5 * (statistics[:, 11] ** 2 - 1)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def fitted(families: tuple[str, ...] = FAMILIES, spread: float = 1.5, noise: float = 0.3) -> FamilyProcess:
    noisy = of_key(KNOWN) + noise * np.random.default_rng(1).normal(size=200)
    return FamilyProcess(families, spread).fit(KNOWN, standardised(noisy))


def test_one_family_is_scaled_as_a_standard_scaler_does_but_for_outliers():
    statistics = KNOWN * np.arange(1, 13) + 5
    scaler = FamilyScaler(("one",) * 12).fit(statistics)
    np.testing.assert_allclose(scaler.transform(statistics), StandardScaler().fit_transform(statistics))
    standard = StandardScaler().fit(statistics)
    far = standard.inverse_transform(np.diag(np.linspace(-30, 30, 12)))
    np.testing.assert_allclose(
        scaler.transform(far), np.diag(np.linspace(-30, 30, 12).clip(-4, 4)), atol=1e-9
    )


def test_every_family_weighs_alike_however_many_it_has():
    scaled = FamilyScaler(FAMILIES).fit(KNOWN).transform(KNOWN)
    assert abs(scaled.mean(axis=0)).max() < 0.02  # but for what is cut off
    for family in set(FAMILIES):
        columns = [number for number, name in enumerate(FAMILIES) if name == family]
        assert (scaled[:, columns] ** 2).sum(axis=1).mean() == pytest.approx(12 / 3, rel=0.02)


def test_a_family_is_known_by_its_name_and_not_by_its_place():
    order = np.random.default_rng(2).permutation(12)
    families = tuple(np.array(FAMILIES)[order])
    scaled = FamilyScaler(FAMILIES).fit(KNOWN).transform(KNOWN)
    np.testing.assert_allclose(
        FamilyScaler(families).fit(KNOWN[:, order]).transform(KNOWN[:, order]), scaled[:, order]
    )
    target = standardised(of_key(KNOWN))
    one = FamilyProcess(FAMILIES, 1.5).fit(KNOWN, target).predict(NEW)
    other = FamilyProcess(families, 1.5).fit(KNOWN[:, order], target).predict(NEW[:, order])
    np.testing.assert_allclose(other, one, atol=0.01)


def test_the_family_that_decides_matters_most():
    process = fitted()
    assert list(process.relevance_) == ["key", "rhythm", "timbre"]
    assert process.relevance_["key"] > 10 * max(process.relevance_["rhythm"], process.relevance_["timbre"])
    of_learnt = correlation(process.predict(NEW), of_key(NEW))
    of_alike = correlation(fitted(spread=1e-3).predict(NEW), of_key(NEW))
    svr = SVR().fit(KNOWN, standardised(of_key(KNOWN) + 0.3 * np.random.default_rng(1).normal(size=200)))
    assert of_learnt > 0.8
    assert of_learnt > max(of_alike, correlation(svr.predict(NEW), of_key(NEW))) + 0.1


def test_the_wider_the_spread_the_less_alike_are_families():
    spreads = (1e-3, 0.3, 1.5, 10.0)
    ranges = [np.ptp(np.log(list(fitted(spread=spread).relevance_.values()))) for spread in spreads]
    assert ranges == sorted(ranges)
    assert ranges[0] < 0.01
    assert ranges[2] > 1.5 * ranges[1] > 1.5


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0])
def test_noise_is_estimated(noise):
    rng = np.random.default_rng(3)
    statistics = rng.normal(size=(500, 4))
    target = statistics[:, 0] + noise * rng.normal(size=500)
    process = FamilyProcess(("a", "a", "b", "b"), 1.5).fit(statistics, standardised(target))
    assert process.noise_ == pytest.approx(noise**2 / (1 + noise**2), abs=0.15)


def reference(process: FamilyProcess, known: np.ndarray, target: np.ndarray) -> GaussianProcessRegressor:
    """Scikit-learn's, with the settings that the process of one family learnt."""
    (relevance,) = process.relevance_.values()
    signal = float(process.logarithms_[-2].exp())
    squares = ((known[:, None] - known[None]) ** 2).sum(axis=2)
    kernel = ConstantKernel(signal) * Matern((squares.mean() / relevance) ** 0.5, nu=0.5)
    return GaussianProcessRegressor(kernel, alpha=process.noise_, optimizer=None).fit(known, target)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_predictions_are_those_of_scikit_learns_process_at_the_settings_learnt(noise):
    known = KNOWN[:, 10:]
    target = standardised(of_key(KNOWN) + noise * np.random.default_rng(1).normal(size=200))
    process = FamilyProcess(("one",) * 2, 1.5).fit(known, target)
    expected = reference(process, known, target)
    np.testing.assert_allclose(process.predict(NEW[:, 10:]), expected.predict(NEW[:, 10:]), atol=1e-5)


def test_the_settings_learnt_are_the_likeliest():
    """By scikit-learn's likelihood, with a prior too wide to pull."""
    known = KNOWN[:, 10:]
    target = standardised(of_key(KNOWN) + 0.3 * np.random.default_rng(1).normal(size=200))
    process = FamilyProcess(("one",) * 2, 1e3).fit(known, target)
    machine = reference(process, known, target)
    best = machine.log_marginal_likelihood(machine.kernel_.theta)
    for change in ([0.2, 0], [-0.2, 0], [0, 0.2], [0, -0.2]):
        assert machine.log_marginal_likelihood(machine.kernel_.theta + change) < best - 1e-3
    for factor in (0.8, 1.25):
        other = GaussianProcessRegressor(machine.kernel_, alpha=factor * process.noise_, optimizer=None)
        assert other.fit(known, target).log_marginal_likelihood(machine.kernel_.theta) < best - 1e-3


def test_a_target_without_noise_and_clips_that_come_twice_are_learnt():
    twice, target = np.vstack([KNOWN, KNOWN]), np.tile(standardised(KNOWN[:, 0]), 2)
    process = FamilyProcess(FAMILIES, 1.5).fit(twice, target)
    np.testing.assert_allclose(process.predict(KNOWN), target[:200], atol=1e-3)
    assert 0 < process.noise_ < 1e-3


@pytest.mark.parametrize("value", [0.0, 1e-9, 3.7])
def test_a_family_that_does_not_vary_never_counts(value):
    target = standardised(of_key(KNOWN))
    known, new = (np.hstack([table, np.full((len(table), 2), value)]) for table in (KNOWN, NEW))
    process = FamilyProcess((*FAMILIES, "flat", "flat"), 1.5).fit(known, target)
    reached = process.predict(new)
    assert correlation(reached, of_key(NEW)) > 0.8
    new[:, -2:] += 4
    np.testing.assert_array_equal(process.predict(new), reached)


def test_clips_that_are_all_alike_have_their_mean():
    target = standardised(KNOWN[:, 0])
    process = FamilyProcess(FAMILIES, 1.5).fit(np.zeros((200, 12)), target)
    np.testing.assert_allclose(process.predict(NEW), 0, atol=1e-6)


def test_single_precision_is_as_good():
    target = standardised(of_key(KNOWN) + 0.3 * np.random.default_rng(1).normal(size=200))
    known, new = KNOWN.astype(np.float32), NEW.astype(np.float32)
    reached = FamilyProcess(FAMILIES, 1.5).fit(known, target.astype(np.float32)).predict(new)
    assert reached.dtype == np.float64
    np.testing.assert_allclose(reached, fitted().predict(NEW), atol=1e-3)
    doubled = FamilyProcess(FAMILIES, 1.5).fit(known.astype(np.float64), target.astype(np.float32))
    np.testing.assert_array_equal(reached, doubled.predict(new.astype(np.float64)))


@pytest.fixture
def threads():
    """Set how many threads PyTorch has: `threads(2)`."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_number_of_threads_changes_nothing_and_is_not_changed(threads):
    reached = []
    for n_threads in (1, 2):
        threads(n_threads)
        process = fitted()
        assert torch.get_num_threads() == n_threads
        reached.append(process.predict(NEW))
        with pytest.raises(ValueError, match="3 features"):
            process.predict(NEW[:, :3])
        assert torch.get_num_threads() == n_threads
    np.testing.assert_array_equal(*reached)


def test_as_make_regressor_builds_it_every_target_has_its_own_relevances():
    targets = np.stack([1000 + 50 * of_key(KNOWN), KNOWN[:, 0]], axis=1)
    units = np.array([1e-3, 1, 1e4] * 4)
    regressor = clone(make_regressor(ClassicalSection(kind="gp"), 0, FAMILIES)).fit(KNOWN * units, targets)
    reached = regressor.predict(NEW * units)
    assert correlation(reached[:, 0], of_key(NEW)) > 0.8
    assert reached[:, 0].mean() == pytest.approx(1000, abs=20)
    assert correlation(reached[:, 1], NEW[:, 0]) > 0.8
    processes = [estimator.regressor_[-1] for estimator in regressor.estimators_]
    most = [max(process.relevance_, key=process.relevance_.get) for process in processes]
    assert most == ["key", "timbre"]
