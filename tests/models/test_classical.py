"""Classical estimators: each learns targets, in their units, or genres, whatever the statistics' units."""

import sys
import warnings
from typing import get_args

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
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
    GaussianSvr,
    GenreClassifier,
    make_classifier,
    make_regressor,
)

TREES = ("boosting", "xgboost", "lightgbm")
KINDS = ("gp", "ridge", "svr", *TREES)
GENRE_KINDS = ("svm", *TREES)
# A setting's other value, and the kinds it belongs to.
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
MIX = RNG.normal(size=(6, 3))
# How far sums that round otherwise carry: a search for the likeliest process may end a bit sooner.
ROUNDING = dict.fromkeys(KINDS, 1e-6) | {"gp": 1e-4}
FAMILIES = ("level", "level", "level", "level", "pulse", "pulse")


def one_family(statistics: np.ndarray) -> tuple[str, ...]:
    return ("one",) * statistics.shape[1]


def section(kind: str, **settings) -> ClassicalSection:
    # a split of few statistics may choose from more of them than of many
    settings = {"alpha": 10.0, "rounds": 60, "feature_share": 0.3, **settings}
    return ClassicalSection(kind=kind, **settings)


def predict(
    classical: ClassicalSection,
    targets: np.ndarray,
    statistics: np.ndarray = STATISTICS,
    new: np.ndarray = NEW,
    seed: int = 0,
    families: tuple[str, ...] = (),
) -> np.ndarray:
    regressor = make_regressor(classical, seed, families or one_family(statistics))
    return regressor.fit(statistics, targets).predict(new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_learnt_on_clips_never_seen(kind):
    predictions = predict(section(kind), STATISTICS @ MIX)
    for reached, true in zip(predictions.T, (NEW @ MIX).T, strict=True):
        assert spearmanr(reached, true).statistic > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_is_learnt_by_all_but_ridge(kind):
    reached = predict(section(kind), STATISTICS[:, [0]] ** 2)[:, 0]
    correlation = spearmanr(reached, NEW[:, 0] ** 2).statistic
    assert correlation > 0.5 if kind != "ridge" else abs(correlation) < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_other_units_of_the_targets_give_the_same_predictions_in_them(kind):
    targets, scale, shift = STATISTICS @ MIX, np.array([0.001, 2, 3000]), np.array([7, 0, -1e4])
    one, other = predict(section(kind), targets), predict(section(kind), targets * scale + shift)
    # single precision, where splits are nearly as good
    np.testing.assert_allclose(
        (other - shift) / scale, one, atol=2e-3 if kind == "xgboost" else ROUNDING[kind]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_that_never_vary_change_nothing(kind):
    classical = section(kind, feature_share=1.0)  # a share of more of them is another draw
    constants = np.array([0.0, 3.0, 1e9 / 3, -1e-9])
    with_constants, new = (
        np.hstack([table, np.tile(constants, (len(table), 1))]) for table in (STATISTICS, NEW)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reached = predict(classical, STATISTICS @ MIX, with_constants, new)
    np.testing.assert_allclose(reached, predict(classical, STATISTICS @ MIX), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_one_target_is_predicted_as_it_is_among_three(kind):
    three = predict(section(kind), STATISTICS @ MIX)
    assert three.shape == (80, 3)
    for number in range(3):
        alone = predict(section(kind), STATISTICS @ MIX[:, [number]])
        assert alone.shape == (80, 1)
        np.testing.assert_allclose(alone[:, 0], three[:, number], atol=1e-4 if kind == "gp" else 1e-9)


def test_every_kind_and_every_setting_is_tried():
    assert {*KINDS, *GENRE_KINDS} == set(get_args(Estimator))
    assert {"kind", *SETTINGS} == set(ClassicalSection.model_fields)


@pytest.mark.parametrize("n_constant", [0, 3])
def test_svr_at_gamma_1_is_scikit_learns_own_scale(n_constant):
    statistics, new = (np.hstack([table, np.ones((len(table), n_constant))]) for table in (STATISTICS, NEW))
    target = STATISTICS[:, 0]
    target = (target - target.mean()) / target.std()
    expected = make_pipeline(StandardScaler(), SVR(C=1, epsilon=0.1)).fit(statistics, target).predict(new)
    np.testing.assert_allclose(
        predict(section("svr"), target[:, None], statistics, new)[:, 0], expected, rtol=1e-10
    )


def test_boosting_at_its_defaults_has_neither_depth_nor_penalty():
    target = STATISTICS[:, [0]] ** 2
    target = (target - target.mean()) / target.std()
    trees = HistGradientBoostingRegressor(
        learning_rate=0.03,
        max_iter=60,
        max_leaf_nodes=8,
        max_features=0.1,
        early_stopping=False,
        random_state=4,
    )
    expected = MultiOutputRegressor(make_pipeline(StandardScaler(), trees)).fit(STATISTICS, target)
    reached = predict(ClassicalSection(kind="boosting", rounds=60), target, seed=4)
    np.testing.assert_allclose(reached, expected.predict(NEW), atol=1e-9)


@pytest.mark.parametrize("kind", TREES)
def test_leaf_clips_counts_clips_where_targets_are_learnt(kind):
    targets = np.sort(STATISTICS[:40, [0]], axis=0)  # in halves of 20
    statistics = np.arange(40.0)[:, None]
    for leaf_clips, learns in ((20, True), (21, False)):
        reached = predict(section(kind, leaf_clips=leaf_clips), targets, statistics, statistics)
        assert (np.ptp(reached) > 0.5) == learns


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_a_missing_package_is_named_before_any_work(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, kind, None)
    for make in (make_regressor, lambda *given: make_classifier(*given, balanced=True)):
        with pytest.raises(InputError, match=rf"'{kind}' needs .*pip install 'music-emotion\[classical\]'"):
            make(ClassicalSection(kind=kind), 0, FAMILIES)


def genres(statistics: np.ndarray) -> np.ndarray:
    """Classes 2, 5 and 9, by a line and a curve."""
    return np.where(statistics[:, 0] > 0.5, 9, np.where(statistics[:, 1] ** 2 > 0.6, 5, 2))


def probabilities(
    classical: ClassicalSection,
    classes: np.ndarray,
    statistics: np.ndarray = STATISTICS,
    new: np.ndarray = NEW,
    seed: int = 0,
    balanced: bool = False,
) -> np.ndarray:
    classifier = make_classifier(classical, seed, one_family(statistics), balanced)
    return classifier.fit(statistics, classes).predict_proba(new)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_genres_with_gaps_are_learnt_on_clips_never_seen(kind, balanced):
    classifier = make_classifier(section(kind), 0, one_family(STATISTICS), balanced).fit(
        STATISTICS, genres(STATISTICS)
    )
    reached = classifier.predict_proba(NEW)
    assert classifier.classes_.tolist() == [2, 5, 9]
    assert reached.shape == (80, 3)
    np.testing.assert_allclose(reached.sum(axis=1), 1, atol=1e-6)
    assert (reached > 0).all()
    likeliest = classifier.classes_[reached.argmax(axis=1)]
    assert (likeliest == genres(NEW)).mean() > 0.75
    np.testing.assert_array_equal(classifier.predict(NEW), likeliest)


@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_two_genres_are_enough_and_one_is_refused(kind):
    two = np.where(STATISTICS[:, 0] > 0, 7, 3)
    reached = probabilities(section(kind), two)
    assert ((reached[:, 1] > reached[:, 0]) == (NEW[:, 0] > 0)).mean() > 0.85
    np.testing.assert_allclose(reached.sum(axis=1), 1, atol=1e-6)
    with pytest.raises(InputError, match=r"All 120 clips to learn from are of one class, 7\."):
        probabilities(section(kind), np.full(120, 7))


def overlapping(n: int, rare: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Classes 0 and 1 far apart, and a rare class 4 beside class 0."""
    classes = np.repeat([0, 1, 4], [n, n, rare])
    centres = {0: (0, 0), 1: (6, 0), 4: (0, 1.5)}
    return rng.normal(size=(len(classes), 2)) + [centres[number] for number in classes], classes


@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_balancing_moves_predictions_to_the_rare_class_and_where_none_is_rare_nothing(kind):
    rng = np.random.default_rng(1)
    statistics, classes = overlapping(150, 30, rng)
    new, truth = overlapping(100, 100, rng)
    plain, balanced = (
        probabilities(section(kind), classes, statistics, new, balanced=flag) for flag in (False, True)
    )
    assert balanced[:, 2].mean() > 1.3 * plain[:, 2].mean()
    found = [(reached.argmax(axis=1) == 2)[truth == 4].mean() for reached in (plain, balanced)]
    assert found[1] > found[0] + 0.02
    assert ((balanced.argmax(axis=1) == 1) == (truth == 1)).mean() > 0.97
    even, even_classes = overlapping(40, 40, rng)
    one, other = (
        probabilities(section(kind), even_classes, even, new, balanced=flag) for flag in (False, True)
    )
    if kind == "svm":  # its machines tell one class from the others, which are more
        return
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_probabilities_are_as_sure_as_they_are_right(kind):
    rng = np.random.default_rng(2)
    statistics, classes = overlapping(150, 100, rng)
    new, truth = overlapping(300, 200, rng)
    reached = probabilities(section(kind, learning_rate=0.1), classes, statistics, new)
    right = np.array([0, 1, 4])[reached.argmax(axis=1)] == truth
    assert reached.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)
    sure = reached.max(axis=1) > 0.9
    assert 0.3 < sure.mean() < 0.9
    assert right[sure].mean() > right[~sure].mean() + 0.1


BOTH_TASKS = pytest.mark.parametrize(
    ("learn", "truth", "kind"),
    [
        *((predict, STATISTICS @ MIX, kind) for kind in KINDS),
        *((probabilities, genres(STATISTICS), kind) for kind in GENRE_KINDS),
    ],
)


@BOTH_TASKS
def test_the_same_seed_gives_the_same_to_the_bit_and_another_only_changes_trees(learn, truth, kind):
    one, same, other = (learn(section(kind), truth, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.array_equal(one, other) == (kind not in TREES)


@BOTH_TASKS
def test_other_units_of_the_statistics_change_nothing(learn, truth, kind):
    scale, shift = np.array([1e-3, 1, 22050, 100, 0.5, 3]), np.array([0, 80, -1e4, 0.1, 5, -60])
    other = learn(section(kind), truth, STATISTICS * scale + shift, NEW * scale + shift)
    np.testing.assert_allclose(other, learn(section(kind), truth), atol=1e-4 if kind == "gp" else 1e-6)


@BOTH_TASKS
def test_an_estimator_reads_its_own_settings_and_no_other(learn, truth, kind):
    truth = STATISTICS[:, :1] ** 2 if learn is predict else truth
    before = learn(section(kind), truth)
    for name, (value, owners) in SETTINGS.items():
        after = learn(section(kind, **{name: value}), truth)
        assert np.array_equal(before, after) == (kind not in owners), name


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("kind", TREES)
def test_the_first_leaves_of_genres_hold_leaf_clips(kind, n_classes):
    statistics = np.arange(20.0 * n_classes)[:, None]
    classes = np.arange(20 * n_classes) // 20
    for leaf_clips, learns in ((20, True), (10 * n_classes + 1, False)):
        classical = section(kind, rounds=1, leaf_clips=leaf_clips)
        reached = probabilities(classical, classes, statistics, statistics)
        assert (np.ptp(reached[:, 0]) > 1e-4) == learns


@pytest.mark.parametrize("few", [1, 2])
@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("kind", [kind for kind in GENRE_KINDS if kind != "svm"])
def test_a_class_of_one_or_two_clips_leaves_the_others_as_good(kind, balanced, few):
    rng = np.random.default_rng(3)
    statistics, classes = overlapping(60, few, rng)
    statistics[classes == 4] = [0, 40]
    new, truth = overlapping(60, few, rng)
    classifier = make_classifier(section(kind), 0, one_family(statistics), balanced).fit(statistics, classes)
    reached = classifier.predict_proba(new)
    assert classifier.classes_.tolist() == [0, 1, 4]
    assert np.isfinite(reached).all()
    common = truth != 4
    assert ((reached[:, 0] > reached[:, 1]) == (truth == 0))[common].mean() > 0.95


def test_the_svm_learns_a_class_of_two_clips_and_refuses_one_of_a_single():
    rng = np.random.default_rng(3)
    statistics, classes = overlapping(60, 2, rng)
    statistics[classes == 4] = [0, 40]
    classifier = make_classifier(section("svm"), 0, one_family(statistics), True).fit(statistics, classes)
    assert classifier.predict([[0, 40]]) == 4
    with pytest.raises(InputError, match="A class has a single clip to learn from"):
        make_classifier(section("svm"), 0, one_family(statistics), True).fit(statistics[:-1], classes[:-1])


@pytest.mark.parametrize("kind", GENRE_KINDS)
def test_nothing_is_printed_or_warned_of(kind, capfd):
    few = section(kind, leaf_clips=100, rounds=3)  # LightGBM would tell of every tree that is a leaf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeprecationWarning)  # of one package by another
        for classical in (few, section(kind)):
            probabilities(classical, genres(STATISTICS))
            if kind != "svm":
                predict(classical, STATISTICS @ MIX)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["gp", "ridge", "svr"])
def test_a_family_of_many_copies_weighs_as_one_of_a_single(kind):
    """Of ten copies each counts as a tenth; without families they drown the other."""
    few, many = STATISTICS[:, :2], np.hstack([STATISTICS[:, :1], np.tile(STATISTICS[:, 1:2], 10)])
    new, new_many = NEW[:, :2], np.hstack([NEW[:, :1], np.tile(NEW[:, 1:2], 10)])
    targets = STATISTICS[:, :1] + 0.3 * STATISTICS[:, 2:3]
    classical = section(kind, gamma=1.0)
    one = predict(classical, targets, few, new, families=("a", "b"))
    copies = predict(classical, targets, many, new_many, families=("a", *["b"] * 10))
    drowned = predict(classical, targets, many, new_many)
    # ridge and SVR see all statistics grow by the root of 11 / 2, the process only parts of distances
    if kind == "gp":
        np.testing.assert_allclose(copies, one, atol=1e-3)
    errors = [np.sqrt(np.mean((reached - NEW[:, :1]) ** 2)) for reached in (copies, drowned)]
    assert errors[0] < errors[1]


def test_the_svm_weighs_families_alike():
    classes = genres(STATISTICS[:, [0, 3]])
    padded, new = (
        np.hstack([table[:, :1], table[:, 3:4], np.tile(table[:, 2:3], 30)]) for table in (STATISTICS, NEW)
    )
    truth = genres(NEW[:, [0, 3]])
    found = [
        (
            make_classifier(section("svm"), 0, families, False).fit(padded, classes).predict(new) == truth
        ).mean()
        for families in (("a", "b", *["c"] * 30), ("one",) * 32)
    ]
    assert found[0] > found[1] + 0.05


@pytest.mark.parametrize(
    "estimator", [FamilyScaler(), FamilyProcess(), GaussianSvr(), GenreClassifier()], ids=repr
)
def test_scikit_learn_takes_the_estimators_for_its_own(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(estimator)
