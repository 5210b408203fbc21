import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.evaluation.ensemble import (
    blend,
    choose_weights,
    nested_blend,
    standardise,
    to_target_units,
    weights_of_all,
)
from music_emotion.evaluation.member_choice import chosen_weights
from music_emotion.evaluation.metrics import spearman
from music_emotion.files import InputError


def fitted(truth, members, _folds) -> pd.DataFrame:
    return choose_weights(truth, members, "z-score", shrinkage=0)


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
    shuffled = [tables[number] for number in order]
    pd.testing.assert_frame_equal(blend(tables, "z-score"), blend(shuffled, "z-score"), rtol=1e-9)


def test_a_blend_joins_on_the_id_and_not_on_the_row():
    one = table(np.random.default_rng(0).random((9, 2)))
    pd.testing.assert_frame_equal(blend([one, one.iloc[::-1]], "z-score"), blend([one, one], "z-score"))


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
    half = choose_weights(truth, members, "z-score", shrinkage=0.5)
    np.testing.assert_allclose(half, 0.5 * fitted + 0.25)
    assert (choose_weights(truth, members, "rank", shrinkage=1) == 0.5).all(axis=None)


def test_runs_that_only_harm_get_equal_weights(truth):
    weights = choose_weights(truth, {"a": -truth, "b": -2 * truth}, "z-score", shrinkage=0)
    assert (weights == 0.5).all(axis=None)


def test_no_clip_is_blended_with_weights_chosen_on_it(truth, noisy, folds):
    members = {"good": noisy(0.2, 1), "bad": noisy(0.6, 2)}
    before = nested_blend(truth, members, folds, "z-score", fitted)
    inside, outside = folds.index[folds == 1], folds.index[folds != 1]
    changed = truth.copy()
    changed.loc[inside] = np.random.default_rng(9).random((len(inside), 2))
    after = nested_blend(changed, members, folds, "z-score", fitted)
    pd.testing.assert_frame_equal(before.loc[inside], after.loc[inside])
    assert not np.allclose(before.loc[outside], after.loc[outside])


def test_a_blend_of_two_runs_ranks_better_than_either(truth, noisy, folds):
    members = {"one": noisy(0.4, 1), "two": noisy(0.4, 2)}
    nested = nested_blend(truth, members, folds, "z-score", fitted)
    score = {
        name: spearman(truth["valence"].to_numpy(), m["valence"].to_numpy()) for name, m in members.items()
    }
    assert spearman(truth["valence"].to_numpy(), nested["valence"].to_numpy()) > max(score.values())


def test_target_units_keep_the_order(truth, noisy):
    scaled = to_target_units(blend([noisy(0.1)], "z-score"), truth)
    np.testing.assert_allclose(scaled.mean(), truth.mean())
    assert spearman(truth["energy"].to_numpy(), scaled["energy"].to_numpy()) > 0.8


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.iloc[1:], "1 "),
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


def test_one_fold_alone_can_not_be_nested(truth, folds):
    with pytest.raises(InputError, match="Train another fold"):
        nested_blend(truth, {"a": truth}, folds * 0, "z-score", fitted)


@pytest.mark.parametrize(
    ("weigh", "method"),
    [(weights_of_all, "z-score"), (weights_of_all, "rank"), (chosen_weights, "z-score")],
    ids=["all", "all-ranked", "chosen"],
)
def test_the_weights_of_a_fold_do_not_depend_on_its_truth_to_the_bit(truth, noisy, folds, weigh, method):
    members = {f"run{n}": noisy(deviation, n) for n, deviation in enumerate((0.2, 0.6, 3.0))}
    folds = folds % 3
    inside = folds.index[folds == 2]
    changed = truth.copy()
    changed.loc[inside] = np.random.default_rng(9).normal(40, 90, (len(inside), 2))

    def weights_by_fold(known: pd.DataFrame) -> list[pd.DataFrame]:
        kept = []

        def keep(*arguments) -> pd.DataFrame:
            kept.append(weigh(*arguments, method=method, shrinkage=0.3))
            return kept[-1]

        blended = nested_blend(known, members, folds, method, keep)
        return [*kept, blended.loc[inside]]

    before, after = weights_by_fold(truth), weights_by_fold(changed)
    pd.testing.assert_frame_equal(before[2], after[2], check_exact=True)
    pd.testing.assert_frame_equal(before[-1], after[-1], check_exact=True)
    assert not before[0].equals(after[0])  # those of other folds were chosen on the clips that changed
