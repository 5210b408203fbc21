"""Blends of tables: weights, the choice of members, and that no clip chooses what it is blended with."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from music_emotion.evaluation.blend import blend, choose_weights, chosen_weights, nested_blend, standardise
from music_emotion.evaluation.metrics import table_scores
from music_emotion.files import InputError

EQUAL = {"method": "z-score", "shrinkage": 1.0}  # equal weights can't leave a bad run out by themselves


def table(values: np.ndarray) -> pd.DataFrame:
    index = pd.Index(range(len(values)), name="Id")
    return pd.DataFrame(values, index, [f"t{n}" for n in range(values.shape[1])], dtype=float)


@settings(max_examples=25)
@given(arrays(np.int64, st.tuples(st.integers(2, 30), st.just(2)), elements=st.integers(-1000, 1000)))
def test_a_rank_blend_is_unchanged_by_increasing_maps_and_by_the_order_of_tables_and_rows(values):
    other = table(np.random.default_rng(0).random(values.shape))
    one, mapped = table(values), table(values.astype(float) ** 3 + 7)
    blended = blend([one, other], "rank")
    pd.testing.assert_frame_equal(blended, blend([mapped, other], "rank"))
    shuffled = [each.sample(frac=1, random_state=3) for each in (other, one)]
    pd.testing.assert_frame_equal(blended, blend(shuffled, "rank"), rtol=1e-9)


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
    harmful = choose_weights(truth, {"a": -truth, "b": -2 * truth}, "z-score", shrinkage=0)
    assert (harmful == 0.5).all(axis=None)


def test_tables_that_do_not_belong_together_are_refused(truth):
    for other, sentence in (
        (truth.iloc[1:], r"table 2 and table 1 differ in 1 clips \(100\)"),
        (truth.rename(columns={"energy": "arousal"}), r"differ in 2 columns \(arousal, energy\)"),
        (truth * np.nan, "table 2: 60 clips .* not finite"),
    ):
        with pytest.raises(InputError, match=sentence):
            blend([truth, other], "z-score")
    with pytest.raises(InputError, match=r"expected 0 .* to 1"):
        choose_weights(truth, {"a": truth}, "z-score", shrinkage=2)
    with pytest.raises(InputError, match="Leave out --choose"):
        nested_blend(
            truth, {"a": truth}, pd.Series(range(len(truth)), truth.index) % 2, "rank", 0.5, choose=True
        )


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


def test_members_are_chosen_by_the_score_of_the_blend_up_to_each(truth, noisy, folds):
    noise = pd.DataFrame(np.random.default_rng(9).random(truth.shape), truth.index, truth.columns)
    members = {"noise": noise, "fair": noisy(0.3, 1), "good": noisy(0.2, 2)}
    weights, order = chosen_weights(truth, members, folds, **EQUAL)
    assert list(weights.index) == list(members)
    assert (weights.loc["noise"] == 0).all()
    np.testing.assert_allclose(weights.sum(), 1)
    for target, ranked in order.groupby("target"):
        names, known = list(ranked["run"]), truth[[target]]
        assert (names[0], names[-1]) == ("good", "noise")
        n_taken = int(ranked["score"].to_numpy().argmax()) + 1
        assert set(names[:n_taken]) == set(weights.index[weights[target] > 0])
        assert weights[target].max() == pytest.approx(1 / n_taken)
        for n, score in enumerate(ranked["score"], start=1):
            taken = {name: members[name][[target]] for name in names[:n]}
            blended = nested_blend(known, taken, folds, **EQUAL)
            assert score == pytest.approx(table_scores("emotion", known, blended)["mean"])
