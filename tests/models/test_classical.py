"""Classical estimators: each learns, in the targets' units, whatever the units of the statistics."""

import warnings
from dataclasses import fields
from typing import get_args, get_type_hints

import numpy as np
import pytest
from scipy.stats import spearmanr

from music_emotion.errors import InputError
from music_emotion.models.classical import make_regressor
from music_emotion.sections import ClassicalSection

KINDS = [kind for kind in get_args(get_type_hints(ClassicalSection)["kind"]) if kind != "none"]
LEARNS_CURVES = {"ridge": False, "svr": True, "boosting": True}
# A setting's other value, and the kind it belongs to.
SETTINGS = {
    "alpha": (1.0, "ridge"),
    "c": (0.1, "svr"),
    "epsilon": (0.5, "svr"),
    "rounds": (10, "boosting"),
    "learning_rate": (0.3, "boosting"),
    "leaves": (2, "boosting"),
    "leaf_clips": (5, "boosting"),
    "feature_share": (0.9, "boosting"),
}
RNG = np.random.default_rng(0)
STATISTICS, NEW = RNG.normal(size=(120, 6)), RNG.normal(size=(80, 6))
MIX = RNG.normal(size=(6, 3))


def section(kind: str, **settings) -> ClassicalSection:
    return ClassicalSection(**{"kind": kind, "alpha": 10.0, "rounds": 60, **settings})


def predict(
    classical: ClassicalSection,
    targets: np.ndarray,
    statistics: np.ndarray = STATISTICS,
    new: np.ndarray = NEW,
    seed: int = 0,
) -> np.ndarray:
    return make_regressor(classical, seed).fit(statistics, targets).predict(new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_is_learnt_on_clips_never_seen(kind):
    predictions = predict(section(kind), STATISTICS @ MIX)
    for reached, true in zip(predictions.T, (NEW @ MIX).T, strict=True):
        assert spearmanr(reached, true).statistic > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_is_learnt_by_all_but_ridge(kind):
    reached = predict(section(kind), STATISTICS[:, [0]] ** 2)[:, 0]
    correlation = spearmanr(reached, NEW[:, 0] ** 2).statistic
    assert correlation > 0.5 if LEARNS_CURVES[kind] else abs(correlation) < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_in_each_targets_own_units(kind):
    targets = STATISTICS @ MIX * [0.01, 1, 1000] + [5, 0, -1e5]
    predictions = predict(section(kind), targets)
    spread = targets.std(axis=0)
    assert (abs(predictions.mean(axis=0) - targets.mean(axis=0)) < 0.5 * spread).all()
    assert predictions.std(axis=0) / spread == pytest.approx(1, abs=0.75)


@pytest.mark.parametrize("kind", KINDS)
def test_other_units_of_the_targets_give_the_same_predictions_in_them(kind):
    targets, scale, shift = STATISTICS @ MIX, np.array([0.001, 2, 3000]), np.array([7, 0, -1e4])
    one, other = predict(section(kind), targets), predict(section(kind), targets * scale + shift)
    np.testing.assert_allclose((other - shift) / scale, one, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_other_units_of_the_statistics_change_nothing(kind):
    scale, shift = np.array([1e-3, 1, 22050, 100, 0.5, 3]), np.array([0, 80, -1e4, 0.1, 5, -60])
    one = predict(section(kind), STATISTICS @ MIX)
    other = predict(section(kind), STATISTICS @ MIX, STATISTICS * scale + shift, NEW * scale + shift)
    np.testing.assert_allclose(other, one, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_to_the_bit_and_another_only_changes_boosting(kind):
    one, same, other = (predict(section(kind), STATISTICS @ MIX, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, same)
    assert np.array_equal(one, other) == (kind != "boosting")


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
        np.testing.assert_allclose(alone[:, 0], three[:, number], atol=1e-9)


def test_every_setting_changes_its_own_kind_and_no_other():
    assert {"kind", *SETTINGS} == {field.name for field in fields(ClassicalSection)}
    targets = STATISTICS[:, :2] ** 2
    before = {kind: predict(section(kind), targets) for kind in KINDS}
    for name, (value, owner) in SETTINGS.items():
        changed = {
            kind
            for kind in KINDS
            if not np.array_equal(predict(section(kind, **{name: value}), targets), before[kind])
        }
        assert changed == {owner}, name


def test_none_is_refused():
    with pytest.raises(InputError, match=r"classical\.kind is 'none'\. Give 'ridge', 'svr' or 'boosting'\."):
        make_regressor(ClassicalSection(), 0)
