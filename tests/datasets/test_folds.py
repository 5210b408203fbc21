"""Folds: disjoint, complete, even, and a group never split."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_emotion.datasets.folds import assign_folds, groups_of, target_strata
from music_emotion.files import InputError


@st.composite
def problems(draw):
    """Strata, number of folds and seed: at least as many clips as folds."""
    n_folds = draw(st.integers(2, 6))
    strata = draw(st.lists(st.integers(0, 4), min_size=n_folds, max_size=60))
    return np.array(strata), n_folds, draw(st.integers(0, 1000))


@given(problems())
@settings(max_examples=100, deadline=None)
def test_every_clip_has_one_fold_and_every_fold_nearly_as_many(problem):
    strata, n_folds, seed = problem
    folds = assign_folds(strata, n_folds, seed)
    assert folds.shape == strata.shape
    sizes = np.bincount(folds, minlength=n_folds)
    assert len(sizes) == n_folds
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


@given(problems())
@settings(max_examples=100, deadline=None)
def test_strata_are_spread_evenly(problem):
    strata, n_folds, seed = problem
    folds = assign_folds(strata, n_folds, seed)
    for stratum, size in zip(*np.unique(strata, return_counts=True), strict=True):
        shares = np.bincount(folds[strata == stratum], minlength=n_folds)
        if size >= n_folds:  # rarer ones are put together first
            assert shares.max() - shares.min() <= 1


@given(problems())
@settings(max_examples=30, deadline=None)
def test_the_same_seed_gives_the_same_folds(problem):
    np.testing.assert_array_equal(assign_folds(*problem), assign_folds(*problem))


def test_another_seed_gives_other_folds():
    strata = np.arange(60) % 5
    folds = [tuple(assign_folds(strata, 5, seed)) for seed in range(10)]
    assert len(set(folds)) == 10


@given(problems(), st.data())
@settings(max_examples=150, deadline=None)
def test_groups_are_not_split_and_no_fold_is_empty(problem, data):
    strata, n_folds, seed = problem
    n_groups = data.draw(st.integers(n_folds, len(strata)))
    rest = data.draw(
        st.lists(
            st.integers(0, n_groups - 1), min_size=len(strata) - n_groups, max_size=len(strata) - n_groups
        )
    )
    groups = np.array([f"artist {number}" for number in [*range(n_groups), *rest]])
    folds = assign_folds(strata, n_folds, seed, groups)
    assert set(folds) == set(range(n_folds))
    for group in set(groups):
        assert len(set(folds[groups == group])) == 1


def test_groups_of_like_size_still_spread_strata():
    rng = np.random.default_rng(0)
    strata, groups = rng.integers(0, 3, 300), np.repeat(np.arange(100), 3)
    folds = assign_folds(strata, 5, 0, groups)
    shares = np.stack([np.bincount(folds[strata == stratum], minlength=5) for stratum in range(3)])
    even = shares.mean(axis=1, keepdims=True)
    assert (abs(shares - even) <= 0.35 * even).all()  # releases of scikit-learn draw other folds


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (None, r"There are 4 clips for 5 folds\. Lower --folds\.n"),
        (np.array([1, 1, 2, 3]), r"There are 3 groups for 5 folds\. Lower --folds\.n"),
    ],
)
def test_too_few_clips_or_groups_get_a_sentence(groups, sentence):
    with pytest.raises(InputError, match=sentence):
        assign_folds(np.zeros(4, int), 5, 0, groups)


@pytest.mark.parametrize(("n_targets", "n_strata"), [(1, 10), (2, 9), (3, 8)])
def test_targets_are_binned_into_about_ten_strata(n_targets, n_strata):
    values = np.random.default_rng(0).random((2000, n_targets))
    strata = target_strata(values)
    sizes = np.bincount(strata)
    assert len(sizes) == n_strata
    assert sizes.min() > 0.7 * 2000 / n_strata


def test_strata_follow_ranks_so_that_a_skewed_target_is_spread_too():
    values = np.random.default_rng(0).random((500, 2))
    np.testing.assert_array_equal(target_strata(values), target_strata(np.exp(9 * values)))


def test_folds_of_targets_have_like_means():
    values = np.random.default_rng(0).random((300, 3))
    folds = assign_folds(target_strata(values), 5, 0)
    means = np.stack([values[folds == fold].mean(axis=0) for fold in range(5)])
    assert np.abs(means - values.mean(axis=0)).max() < 0.06


def test_a_constant_target_is_one_stratum():
    assert len(set(target_strata(np.full((20, 1), 0.5)))) == 1


def test_groups_are_looked_up_by_id():
    groups = pd.Series({3: "a", 1: "b", 2: "a"})
    assert groups_of(np.array([1, 2, 3]), groups).tolist() == ["b", "a", "a"]


def test_clips_without_a_group_are_counted_and_named():
    with pytest.raises(
        InputError, match=r"7 clips have no group in the group file \(2, 3, 4, 5, 6, \.\.\.\)"
    ):
        groups_of(np.arange(1, 9), pd.Series({1: "a"}))
