"""Blends of tables: weights, the choice of members, and that no clip chooses what it is blended with."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.evaluation.blend import (
    blend,
    choose_weights,
    chosen_weights,
    nested_blend,
    rank_members,
    standardise,
)
from music_emotion.evaluation.metrics import target_scores
from music_emotion.files import InputError

EQUAL = {"method": "z-score", "shrinkage": 1.0}  # equal weights can't leave a bad run out by themselves


def table(values: np.ndarray) -> pd.DataFrame:
    index = pd.Index(range(len(values)), name="Id")
    return pd.DataFrame(values, index, [f"t{n}" for n in range(values.shape[1])], dtype=float)


@given(arrays(np.int64, st.tuples(st.integers(2, 30), st.just(2)), elements=st.integers(-1000, 1000)))
def test_a_rank_blend_is_unchanged_by_increasing_maps(values):
    other = table(np.random.default_rng(0).random(values.shape))
    one, mapped = table(values), table(values.astype(float) ** 3 + 7)
    pd.testing.assert_frame_equal(blend([one, other], "rank"), blend([mapped, other], "rank"))


@given(st.permutations(range(4)))
def test_a_blend_does_not_depend_on_the_order_of_its_tables(order):
    tables = [table(np.random.default_rng(seed).random((9, 2))) for seed in range(4)]
    shuffled = [tables[number].sample(frac=1, random_state=number) for number in order]  # nor of their rows
    pd.testing.assert_frame_equal(blend(tables, "z-score"), blend(shuffled, "z-score"), rtol=1e-9)


def test_z_scores_have_mean_zero_and_deviation_one_and_a_constant_gives_zeros():
    scaled = standardise(table(np.column_stack([[1.0, 2.0, 6.0], [0.1, 0.1, 0.1]])), "z-score")
    assert scaled["t0"].mean() == pytest.approx(0)
    assert scaled["t0"].std(ddof=0) == pytest.approx(1)
    assert scaled["t1"].tolist() == [0, 0, 0]


def test_the_better_run_gets_the_larger_weight_and_shrinkage_evens_it_out(truth, noisy):
    members = {"good": noisy(0.1, 1), "bad": noisy(2.0, 2)}
    fitted = choose_weights(truth, members, "z-score", shrinkage=0)
    assert (fitted.loc["good"] > 0.8).all()
    np.testing.assert_allclose(fitted.sum(), 1)
    np.testing.assert_allclose(choose_weights(truth, members, "z-score", 0.5), 0.5 * fitted + 0.25)
    assert (choose_weights(truth, members, "rank", shrinkage=1) == 0.5).all(axis=None)


def test_runs_that_only_harm_get_equal_weights(truth):
    weights = choose_weights(truth, {"a": -truth, "b": -2 * truth}, "z-score", shrinkage=0)
    assert (weights == 0.5).all(axis=None)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.iloc[1:], "table 2 lacks 1 ids of table 1"),
        (lambda t: t.rename(columns={"energy": "arousal"}), "arousal"),
        (lambda t: t * np.nan, "not finite"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(truth, change, sentence):
    with pytest.raises(InputError, match=sentence):
        blend([truth, change(truth)], "z-score")


def test_a_shrinkage_out_of_range_is_refused(truth):
    with pytest.raises(InputError, match=r"expected 0 .* to 1"):
        choose_weights(truth, {"a": truth}, "z-score", shrinkage=2)


@pytest.mark.parametrize(
    ("method", "choose"), [("z-score", False), ("rank", False), ("z-score", True)], ids=str
)
def test_what_a_fold_is_blended_with_does_not_depend_on_its_truth_to_the_bit(
    truth, noisy, folds, method, choose
):
    members = {f"run{n}": noisy(deviation, n) for n, deviation in enumerate((0.2, 0.6, 3.0))}
    folds = folds % 3
    inside, outside = folds.index[folds == 2], folds.index[folds != 2]
    changed = truth.copy()
    changed.loc[inside] = np.random.default_rng(9).normal(40, 90, (len(inside), 2))
    before, after = (nested_blend(known, members, folds, method, 0.3, choose) for known in (truth, changed))
    pd.testing.assert_frame_equal(before.loc[inside], after.loc[inside], check_exact=True)
    assert not np.allclose(before.loc[outside], after.loc[outside])  # were blended by the changed clips


@pytest.fixture
def members(noisy, truth) -> dict[str, pd.DataFrame]:
    noise = np.random.default_rng(9).random(truth.shape)
    return {
        "noise": pd.DataFrame(noise, truth.index, truth.columns),
        "fair": noisy(0.3, seed=1),
        "good": noisy(0.2, seed=2),
        "other": noisy(0.25, seed=3),
    }


def test_members_are_taken_by_the_score_of_the_blend_up_to_each(truth, members, folds):
    ranked = rank_members(truth, members, folds, **EQUAL)
    names = list(ranked.index)
    assert (names[0], names[-1]) == ("good", "noise")
    for n, score in enumerate(ranked, start=1):
        blended = nested_blend(truth, {name: members[name] for name in names[:n]}, folds, **EQUAL)
        assert score == pytest.approx(target_scores(truth, blended)["mean"])


def test_a_run_that_harms_gets_no_weight_and_the_others_sum_to_one(truth, members, folds):
    weights, order = chosen_weights(truth, members, folds, **EQUAL)
    assert list(weights.index) == list(members)
    assert (weights.loc["noise"] == 0).all()
    np.testing.assert_allclose(weights.sum(), 1)
    for target, ranked in order.groupby("target"):
        n_taken = int(ranked["score"].to_numpy().argmax()) + 1
        assert set(ranked["run"][:n_taken]) == set(weights.index[weights[target] > 0])
        assert weights[target].max() == pytest.approx(1 / n_taken)
