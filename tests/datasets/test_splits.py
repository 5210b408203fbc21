"""Folds and holdouts: disjoint, complete, stratified, and a group never split."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from music_emotion.datasets.splits import assign_folds, assign_holdout, target_strata
from music_emotion.files import InputError

SHARES = (0.7, 0.15, 0.15)


@st.composite
def problems(draw):
    """Strata, number of folds and seed: at least as many clips as folds."""
    n_folds = draw(st.integers(2, 6))
    strata = draw(st.lists(st.integers(0, 4), min_size=n_folds, max_size=60))
    return np.array(strata), n_folds, draw(st.integers(0, 1000))


@given(problems())
@settings(max_examples=50, deadline=None)
def test_every_clip_has_one_fold_and_clips_and_strata_are_spread_evenly(problem):
    strata, n_folds, seed = problem
    folds = assign_folds(strata, n_folds, seed)
    assert folds.shape == strata.shape
    sizes = np.bincount(folds, minlength=n_folds)
    assert len(sizes) == n_folds
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
    for stratum, size in zip(*np.unique(strata, return_counts=True), strict=True):
        shares = np.bincount(folds[strata == stratum], minlength=n_folds)
        if size >= n_folds:  # rarer ones are put together first
            assert shares.max() - shares.min() <= 1


@pytest.mark.parametrize("assign", [partial(assign_folds, n_folds=5), assign_holdout])
def test_the_same_seed_gives_the_same_parts_and_another_one_others(assign):
    strata = np.arange(60) % 5
    np.testing.assert_array_equal(assign(strata, seed=3), assign(strata, seed=3))
    assert len({tuple(assign(strata, seed=seed)) for seed in range(10)}) == 10


@given(st.lists(st.integers(1, 9), min_size=8, max_size=40), st.integers(2, 8), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_groups_are_not_split_and_no_part_is_empty(sizes, n_folds, seed):
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    groups = np.char.add("artist ", numbers.astype(str))
    for parts, n_parts in (
        (assign_folds(np.arange(len(groups)) % 3, n_folds, seed, groups), n_folds),
        (assign_holdout(numbers % 2, seed, groups), 3),
    ):
        assert set(parts) == set(range(n_parts))
        assert all(len(set(parts[groups == group])) == 1 for group in set(groups))


def test_groups_of_like_size_still_spread_strata():
    rng = np.random.default_rng(0)
    strata, groups = rng.integers(0, 3, 300), np.repeat(np.arange(100), 3)
    folds = assign_folds(strata, 5, 0, groups)
    shares = np.stack([np.bincount(folds[strata == stratum], minlength=5) for stratum in range(3)])
    even = shares.mean(axis=1, keepdims=True)
    assert (abs(shares - even) <= 0.35 * even).all()  # releases of scikit-learn draw other folds


def test_targets_are_binned_into_about_ten_strata():
    for n_targets, n_strata in ((1, 10), (2, 9), (3, 8), (4, 10)):
        values = np.random.default_rng(0).random((2000, n_targets))
        sizes = np.bincount(target_strata(values))
        assert len(sizes) == n_strata
        assert sizes.min() > 0.7 * 2000 / n_strata
        # strata follow ranks, so a skewed target is spread too
        np.testing.assert_array_equal(target_strata(values), target_strata(np.exp(9 * values)))
    assert len(set(target_strata(np.full((20, 1), 0.5)))) == 1


@given(st.lists(st.integers(0, 3), min_size=30, max_size=120), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_single_clips_are_spread_by_the_shares_in_every_class(strata, seed):
    strata = np.array([*strata, 4, 4])
    parts = assign_holdout(strata, seed)
    assert 0 in parts[-2:]  # a class of two clips is trained on before it is tested
    assert np.bincount(parts, minlength=3).min() >= 1
    for stratum, size in zip(*np.unique(strata, return_counts=True), strict=True):
        counts = np.bincount(parts[strata == stratum], minlength=3)
        assert np.abs(counts - size * np.array(SHARES)).max() < 2


def test_many_groups_come_close_to_the_shares():
    """The issue's own set: 1,305 clips of some hundred tracks in five classes."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 13, 174)
    groups, strata = np.repeat(np.arange(174), sizes), np.repeat(np.arange(174) % 5, sizes)
    for seed in range(5):
        parts = assign_holdout(strata, seed, groups)
        assert np.abs(np.bincount(parts) / len(parts) - SHARES).max() < 0.01
        for stratum in range(5):
            shares = np.bincount(parts[strata == stratum], minlength=3) / (strata == stratum).sum()
            assert np.abs(shares - SHARES).max() < 0.03


def test_seeds_differ_though_every_group_has_another_size():
    """Else repeats would be one split, and their deviation nothing."""
    sizes = np.arange(20, 60)
    groups, strata = np.repeat(np.arange(40), sizes), np.repeat(np.arange(40) % 4, sizes)
    tested = []
    for seed in range(10):
        parts = assign_holdout(strata, seed, groups)
        assert np.abs(np.bincount(parts) / len(parts) - SHARES).max() < 0.06
        tested.append(set(groups[parts == 2]))
    shared = [len(one & other) for number, one in enumerate(tested) for other in tested[:number]]
    assert np.mean(shared) < 0.4 * np.mean([len(each) for each in tested])


@pytest.mark.parametrize("groups", [None, np.array([1, 1, 2, 2])])
def test_too_few_are_refused(groups):
    strata = np.zeros(2 if groups is None else 4, np.int64)
    with pytest.raises(InputError, match=r"There are 2 (clips|groups), too few to be split into 3 parts"):
        assign_holdout(strata, 0, groups)
