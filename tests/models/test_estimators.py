"""Classical estimators: what they learn, in which units and with which settings, against references."""

import sys
import warnings
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR
from sklearn.utils.estimator_checks import check_estimator

from music_emotion.config import ClassicalSection, Estimator
from music_emotion.files import InputError
from music_emotion.models.estimators import (
    FamilyProcess,
    FamilyScaler,
    GenreClassifier,
    make_classifier,
    make_regressor,
)

TREES = ("boosting", "xgboost", "lightgbm")
KINDS = ("gp", "ridge", "svr", *TREES)
GENRE_KINDS = ("svm", *TREES)
# a setting's other value, and the kinds it belongs to
SETTINGS = {
    "alpha": (1.0, {"ridge"}),
    "c": (0.1, {"svr", "svm"}),
    "gamma": (0.2, {"svr", "svm"}),
    "rounds": (10, set(TREES)),
    "learning_rate": (0.3, set(TREES)),
    "leaves": (2, set(TREES)),
    "depth": (1, set(TREES)),
    "leaf_clips": (5, set(TREES)),
    "feature_share": (0.9, set(TREES)),
    "clip_share": (0.7, {"xgboost", "lightgbm"}),
    "l2": (5.0, set(TREES)),
}
RNG = np.random.default_rng(0)
STATISTICS, NEW = RNG.normal(size=(120, 6)), RNG.normal(size=(80, 6))
MIX = RNG.normal(size=6)


def line_and_curve(statistics: np.ndarray) -> np.ndarray:
    return np.stack([statistics @ MIX, statistics[:, 0] ** 2], axis=1)


def genres(statistics: np.ndarray) -> np.ndarray:
    """Classes 2, 5 and 9, by a line and a curve."""
    return np.where(statistics[:, 0] > 0.5, 9, np.where(statistics[:, 1] ** 2 > 0.6, 5, 2))


def section(kind: str, **settings) -> ClassicalSection:
    # a split of few statistics may choose from more of them than of many
    return ClassicalSection(kind=kind, **{"alpha": 10.0, "rounds": 60, "feature_share": 0.3, **settings})


def predict(classical, targets, statistics=STATISTICS, new=NEW, seed=0, families=None) -> np.ndarray:
    return make_regressor(classical, seed, families).fit(statistics, targets).predict(new)


def probabilities(classical, classes, statistics=STATISTICS, new=NEW, seed=0, balanced=False) -> np.ndarray:
    classifier = make_classifier(classical, seed, None, balanced)
    return classifier.fit(statistics, classes).predict_proba(new)


BOTH_TASKS = pytest.mark.parametrize(
    ("learn", "truth", "kind"),
    [
        *((predict, line_and_curve(STATISTICS), kind) for kind in KINDS),
        *((probabilities, genres(STATISTICS), kind) for kind in GENRE_KINDS),
    ],
)


def test_every_kind_and_every_setting_is_tried():
    assert {*KINDS, *GENRE_KINDS} == set(get_args(Estimator))
    assert {"kind", *SETTINGS} == set(ClassicalSection.model_fields)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_learnt_by_all_and_a_curve_by_all_but_ridge(kind):
    targets, truth = line_and_curve(STATISTICS), line_and_curve(NEW)
    reached = predict(section(kind), targets)
    of_line, of_curve = (spearmanr(reached[:, k], truth[:, k]).statistic for k in (0, 1))
    assert of_line > 0.7
    assert of_curve > 0.5 if kind != "ridge" else abs(of_curve) < 0.3
    alone = predict(section(kind), targets[:, [1]])
    np.testing.assert_allclose(alone, reached[:, [1]], atol=1e-4 if kind == "gp" else 1e-9)


@BOTH_TASKS
def test_units_and_constant_statistics_change_nothing_and_nothing_is_printed(learn, truth, kind, capfd):
    classical = section(kind, feature_share=1.0)  # a share of more statistics is another draw
    scale, shift = np.array([1e-3, 1, 22050, 100, 0.5, 3]), np.array([0, 80, -1e4, 0.1, 5, -60])
    known, new = (
        np.hstack([table * scale + shift, np.tile([0.0, 3.0, 1e9 / 3, -1e-9], (len(table), 1))])
        for table in (STATISTICS, NEW)
    )
    units, origin = (np.array([0.001, 3000]), np.array([7, -1e4])) if learn is predict else (1, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of one package by another
        before, after = learn(classical, truth), learn(classical, truth * units + origin, known, new)
        # LightGBM would tell of every tree that is a leaf
        learn(section(kind, leaf_clips=100, rounds=3), truth)
    # single precision, where splits are nearly as good; a search for the likeliest process may end sooner
    tolerance = {"xgboost": 2e-3, "gp": 1e-4}.get(kind, 1e-6)
    np.testing.assert_allclose((after - origin) / units, before, atol=tolerance)
    assert capfd.readouterr() == ("", "")


@BOTH_TASKS
def test_an_estimator_reads_its_own_settings_and_only_trees_the_seed(learn, truth, kind):
    truth = truth[:, 1:] if learn is predict else truth
    before = learn(section(kind), truth, seed=3)
    np.testing.assert_array_equal(before, learn(section(kind), truth, seed=3))
    assert np.array_equal(before, learn(section(kind), truth, seed=4)) == (kind not in TREES)
    for name, (value, owners) in SETTINGS.items():
        after = learn(section(kind, **{name: value}), truth, seed=3)
        assert np.array_equal(before, after) == (kind not in owners), name


def test_svr_at_gamma_1_is_scikit_learns_own_scale():
    target = StandardScaler().fit_transform(STATISTICS[:, [0]])
    machine = make_pipeline(StandardScaler(), SVR(C=1, epsilon=0.1)).fit(STATISTICS, target[:, 0])
    np.testing.assert_allclose(predict(section("svr"), target)[:, 0], machine.predict(NEW), rtol=1e-10)


def test_boosting_at_its_defaults_has_neither_depth_nor_penalty():
    target = StandardScaler().fit_transform(STATISTICS[:, [0]] ** 2)
    settings = {"learning_rate": 0.03, "max_iter": 60, "max_leaf_nodes": 8, "max_features": 0.1}
    trees = HistGradientBoostingRegressor(early_stopping=False, random_state=4, **settings)
    expected = MultiOutputRegressor(make_pipeline(StandardScaler(), trees)).fit(STATISTICS, target)
    reached = predict(ClassicalSection(kind="boosting", rounds=60), target, seed=4)
    np.testing.assert_allclose(reached, expected.predict(NEW), atol=1e-9)


@pytest.mark.parametrize("kind", TREES)
def test_leaf_clips_counts_clips_of_targets_and_in_the_first_leaves_of_genres(kind):
    for leaf_clips, learns in ((20, True), (21, False)):
        targets, statistics = np.repeat([[0.0], [1.0]], 20, axis=0), np.arange(40.0)[:, None]
        reached = predict(section(kind, leaf_clips=leaf_clips), targets, statistics, statistics)
        assert (np.ptp(reached) > 0.5) == learns
    for n_classes in (2, 3):
        statistics = np.arange(20.0 * n_classes)[:, None]
        for leaf_clips, learns in ((20, True), (10 * n_classes + 1, False)):
            classical = section(kind, rounds=1, leaf_clips=leaf_clips)
            reached = probabilities(classical, np.arange(20 * n_classes) // 20, statistics, statistics)
            assert (np.ptp(reached[:, 0]) > 1e-4) == learns


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_a_missing_package_is_named_before_any_work(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    for make in (make_regressor, lambda *given: make_classifier(*given, balanced=True)):
        with pytest.raises(InputError, match=rf"'{kind}' needs .*pip install 'music-emotion\[classical\]'"):
            make(ClassicalSection(kind=kind), 0, ("a",))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_genres_with_gaps_are_learnt_and_a_single_one_is_refused(kind, balanced):
    classifier = make_classifier(section(kind), 0, None, balanced).fit(STATISTICS, genres(STATISTICS))
    reached = classifier.predict_proba(NEW)
    assert classifier.classes_.tolist() == [2, 5, 9]
    assert reached.shape == (80, 3)
    np.testing.assert_allclose(reached.sum(axis=1), 1, atol=1e-6)
    assert (reached > 0).all()
    likeliest = classifier.classes_[reached.argmax(axis=1)]
    assert (likeliest == genres(NEW)).mean() > 0.75
    np.testing.assert_array_equal(classifier.predict(NEW), likeliest)
    two = probabilities(section(kind), np.where(STATISTICS[:, 0] > 0, 7, 3), balanced=balanced)
    assert ((two[:, 1] > two[:, 0]) == (NEW[:, 0] > 0)).mean() > 0.85
    with pytest.raises(InputError, match=r"All 120 clips to learn from are of one class, 7\."):
        classifier.fit(STATISTICS, np.full(120, 7))


def overlapping(n: int, rare: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Classes 0 and 1 far apart, and a rare class 4 beside class 0."""
    classes = np.repeat([0, 1, 4], [n, n, rare])
    centres = {0: (0, 0), 1: (6, 0), 4: (0, 1.5)}
    return rng.normal(size=(len(classes), 2)) + [centres[number] for number in classes], classes


@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_balancing_moves_predictions_to_the_rare_class_and_where_none_is_rare_nothing(kind):
    rng = np.random.default_rng(1)
    (statistics, classes), (new, truth) = overlapping(150, 30, rng), overlapping(100, 100, rng)
    plain, balanced = (
        probabilities(section(kind), classes, statistics, new, balanced=flag) for flag in (False, True)
    )
    assert balanced[:, 2].mean() > 1.3 * plain[:, 2].mean()
    found = [(reached.argmax(axis=1) == 2)[truth == 4].mean() for reached in (plain, balanced)]
    assert found[1] > found[0] + 0.02
    assert ((balanced.argmax(axis=1) == 1) == (truth == 1)).mean() > 0.97
    if kind != "svm":  # its machines tell one class from the others, which are more
        even, classes = overlapping(40, 40, rng)
        np.testing.assert_array_equal(
            *(probabilities(section(kind), classes, even, new, balanced=flag) for flag in (False, True))
        )


@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_probabilities_are_as_sure_as_they_are_right(kind):
    rng = np.random.default_rng(2)
    (statistics, classes), (new, truth) = overlapping(150, 100, rng), overlapping(300, 200, rng)
    reached = probabilities(section(kind, learning_rate=0.1), classes, statistics, new)
    right = np.array([0, 1, 4])[reached.argmax(axis=1)] == truth
    assert reached.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)
    sure = reached.max(axis=1) > 0.9
    assert 0.3 < sure.mean() < 0.9
    assert right[sure].mean() > right[~sure].mean() + 0.1


@pytest.mark.parametrize("few", [1, 2])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_a_class_of_one_or_two_clips_leaves_the_others_as_good(kind, balanced, few):
    rng = np.random.default_rng(3)
    (statistics, classes), (new, truth) = overlapping(60, few, rng), overlapping(60, few, rng)
    statistics[classes == 4] = [0, 40]
    classifier = make_classifier(section(kind), 0, None, balanced)
    if kind == "svm" and few == 1:
        with pytest.raises(InputError, match="A class has a single clip to learn from"):
            classifier.fit(statistics, classes)
        return
    reached = classifier.fit(statistics, classes).predict_proba(new)
    assert classifier.classes_.tolist() == [0, 1, 4]
    assert np.isfinite(reached).all()
    common = truth != 4
    assert ((reached[:, 0] > reached[:, 1]) == (truth == 0))[common].mean() > 0.95
    if kind == "svm" and balanced:
        assert classifier.predict([[0, 40]]) == 4


def test_a_family_of_many_copies_weighs_as_one_of_a_single():
    columns, families = [0, *[1] * 10], ("a", *["b"] * 10)
    for kind in ("gp", "svr", "svm"):
        found = []
        for part, given in (([0, 1], ("a", "b")), (columns, families), (columns, None)):
            known, new = STATISTICS[:, part], NEW[:, part]
            if kind == "svm":
                classifier = make_classifier(section(kind), 0, given, False)
                found.append(classifier.fit(known, genres(STATISTICS)).predict_proba(new))
            else:
                found.append(predict(section(kind), STATISTICS[:, :2], known, new, families=given))
        np.testing.assert_allclose(found[1], found[0], atol=1e-3)
        assert np.abs(found[2] - found[0]).max() > 0.05  # without families the copies drown the other


@pytest.mark.parametrize("estimator", [FamilyScaler(), FamilyProcess(), GenreClassifier()], ids=repr)
def test_scikit_learn_takes_the_estimators_for_its_own(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(estimator)


FAMILIES = ("timbre",) * 4 + ("rhythm",) * 6 + ("key",) * 2
KNOWN, UNKNOWN = RNG.normal(size=(150, 12)), RNG.normal(size=(100, 12))


def of_key(statistics: np.ndarray) -> np.ndarray:
    """A target that the last family alone decides; its mean is 0."""
    return np.sin(2 * statistics[:, 10]) + 0.5 * (statistics[:, 11] ** 2 - 1)


def noisy(noise: float) -> np.ndarray:
    """A standardised target of the known clips."""
    values = of_key(KNOWN) + noise * np.random.default_rng(1).normal(size=len(KNOWN))
    return (values - values.mean()) / values.std()


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one, other)[0, 1])


def test_families_are_scaled_to_weigh_alike_and_outliers_are_clipped():
    standard, scaler = StandardScaler().fit(KNOWN), FamilyScaler(FAMILIES).fit(KNOWN)
    scale = np.repeat([1.0, np.sqrt(4 / 6), np.sqrt(4 / 2)], [4, 6, 2])
    np.testing.assert_allclose(scaler.transform(UNKNOWN), standard.transform(UNKNOWN).clip(-4, 4) * scale)
    far = np.diag(np.linspace(-30, 30, 12))
    reached = scaler.transform(standard.inverse_transform(far))
    np.testing.assert_allclose(reached, far.clip(-4, 4) * scale, atol=1e-9)
    # a family is known by its name and not by its place
    order = np.random.default_rng(2).permutation(12)
    named = tuple(np.array(FAMILIES)[order])
    scaled = FamilyScaler(FAMILIES).fit_transform(KNOWN)
    np.testing.assert_allclose(FamilyScaler(named).fit_transform(KNOWN[:, order]), scaled[:, order])
    # rounding of a constant is no statistic
    rounded = np.column_stack([KNOWN, 3 + 1e-6 * KNOWN[:, 0], np.zeros(len(KNOWN))])
    more = FamilyScaler((*FAMILIES, "key", "none")).fit_transform(rounded)
    np.testing.assert_allclose(more, np.column_stack([scaled, np.zeros((len(KNOWN), 2))]))
    one = FamilyProcess(FAMILIES).fit(KNOWN, noisy(0)).predict(UNKNOWN)
    other = FamilyProcess(named).fit(KNOWN[:, order], noisy(0)).predict(UNKNOWN[:, order])
    np.testing.assert_allclose(other, one, atol=0.01)


def test_the_family_that_decides_matters_most_the_wider_the_prior_the_more():
    processes = [FamilyProcess(FAMILIES, spread).fit(KNOWN, noisy(0.3)) for spread in (1e-3, 0.3, 1.5, 10.0)]
    ranges = [np.ptp(np.log(list(process.relevance_.values()))) for process in processes]
    assert ranges == sorted(ranges)
    assert ranges[0] < 0.01
    assert ranges[2] > 1.5 * ranges[1] > 1.5
    relevance = processes[2].relevance_
    assert list(relevance) == ["key", "rhythm", "timbre"]
    assert relevance["key"] > 10 * max(relevance["rhythm"], relevance["timbre"])
    of_alike, of_learnt = (correlation(p.predict(UNKNOWN), of_key(UNKNOWN)) for p in processes[::2])
    of_svr = correlation(SVR().fit(KNOWN, noisy(0.3)).predict(UNKNOWN), of_key(UNKNOWN))
    assert of_learnt > max(0.8, of_alike + 0.1, of_svr + 0.1)


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_a_process_is_scikit_learns_at_the_likeliest_settings(noise):
    known, target = KNOWN[:, 10:], noisy(noise)
    process = FamilyProcess(spread=1e3).fit(known, target)  # a prior too wide to pull
    (relevance,) = process.relevance_.values()
    squares = ((known[:, None] - known[None]) ** 2).sum(axis=2)
    signal, scale = float(process.logarithms_[-2].exp()), (squares.mean() / relevance) ** 0.5
    kernel = ConstantKernel(signal) * Matern(scale, nu=0.5)
    reference = GaussianProcessRegressor(kernel, alpha=process.noise_, optimizer=None).fit(known, target)
    new = UNKNOWN[:, 10:]
    np.testing.assert_allclose(process.predict(new), reference.predict(new), atol=1e-4)
    if noise == 0.3:
        theta = reference.kernel_.theta
        best = reference.log_marginal_likelihood(theta)
        for change in ([0.2, 0], [-0.2, 0], [0, 0.2], [0, -0.2]):
            assert reference.log_marginal_likelihood(theta + change) < best - 1e-3
        for factor in (0.8, 1.25):
            other = GaussianProcessRegressor(kernel, alpha=factor * process.noise_, optimizer=None)
            assert other.fit(known, target).log_marginal_likelihood(theta) < best - 1e-3


def test_a_target_without_noise_and_clips_that_come_twice_are_learnt():
    target = StandardScaler().fit_transform(KNOWN[:, [0]])[:, 0]
    process = FamilyProcess(FAMILIES).fit(np.vstack([KNOWN, KNOWN]), np.tile(target, 2))
    np.testing.assert_allclose(process.predict(KNOWN), target, atol=1e-3)
    assert 0 < process.noise_ < 1e-3


@pytest.mark.parametrize("value", [0.0, 1e-9, 3.7])
def test_a_family_that_does_not_vary_never_counts(value):
    known, new = (np.hstack([table, np.full((len(table), 2), value)]) for table in (KNOWN, UNKNOWN))
    process = FamilyProcess((*FAMILIES, "flat", "flat")).fit(known, noisy(0))
    reached = process.predict(new)
    assert correlation(reached, of_key(UNKNOWN)) > 0.8
    new[:, -2:] += 4
    np.testing.assert_array_equal(process.predict(new), reached)
    alike = FamilyProcess(FAMILIES).fit(np.full((150, 12), value), noisy(0))
    np.testing.assert_allclose(alike.predict(UNKNOWN), 0, atol=1e-6)


def test_the_number_of_threads_changes_nothing_and_is_not_changed():
    reached = []
    for n_threads in (2, 1):  # 1 is what other tests have
        torch.set_num_threads(n_threads)
        process = FamilyProcess(FAMILIES).fit(KNOWN, noisy(0.3))
        reached.append(process.predict(UNKNOWN))
        with pytest.raises(ValueError, match="3 features"):
            process.predict(UNKNOWN[:, :3])
        assert torch.get_num_threads() == n_threads
    np.testing.assert_array_equal(*reached)
