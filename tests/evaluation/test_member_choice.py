"""Which runs a blend needs: those that help clips that did not choose them."""

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.ensemble import choose_weights, nested_blend
from music_emotion.evaluation.member_choice import best_members, chosen_weights, rank_members
from music_emotion.evaluation.scores import target_scores

SETTINGS = {"method": "z-score", "shrinkage": 1.0}  # equal weights can't leave a bad run out by themselves


@pytest.fixture
def members(noisy, truth) -> dict[str, pd.DataFrame]:
    noise = np.random.default_rng(9).random(truth.shape)
    return {
        "noise": pd.DataFrame(noise, truth.index, truth.columns),
        "fair": noisy(0.3, seed=1),
        "good": noisy(0.2, seed=2),
        "other": noisy(0.25, seed=3),
    }


def test_the_best_run_comes_first_and_noise_last(truth, members, folds):
    ranked = rank_members(truth, members, folds, **SETTINGS)
    assert (ranked.index[0], ranked.index[-1]) == ("good", "noise")
    alone = nested_blend(truth, {"good": members["good"]}, folds, "z-score", equal)
    assert ranked["good"] == pytest.approx(target_scores(truth, alone)["mean"])


def test_every_score_is_that_of_the_blend_up_to_the_run(truth, members, folds):
    ranked = rank_members(truth, members, folds, **SETTINGS)
    names = list(ranked.index)
    for n, score in enumerate(ranked, start=1):
        blended = nested_blend(truth, {name: members[name] for name in names[:n]}, folds, "z-score", equal)
        assert score == pytest.approx(target_scores(truth, blended)["mean"])


def test_runs_after_the_best_score_are_left_out():
    ranked = pd.Series({"a": 0.5, "b": 0.7, "c": 0.6, "d": 0.69})
    assert best_members(ranked) == ["a", "b"]


def test_a_run_that_harms_gets_no_weight_and_the_others_sum_to_one(truth, members, folds):
    weights = chosen_weights(truth, members, folds, **SETTINGS)
    assert list(weights.index) == list(members)
    assert (weights.loc["noise"] == 0).all()
    np.testing.assert_allclose(weights.sum(), 1)


def test_no_clip_takes_part_in_the_choice_that_it_is_blended_with(truth, members, folds):
    def nested(truth: pd.DataFrame) -> pd.DataFrame:
        def weigh(truth, known, folds):
            return chosen_weights(truth, known, folds, **SETTINGS)

        return nested_blend(truth, members, folds, "z-score", weigh)

    before, changed = nested(truth), truth.copy()
    changed.loc[folds == 0] = 1 - changed.loc[folds == 0]  # now noise would be the better run there
    after = nested(changed)
    pd.testing.assert_frame_equal(before.loc[folds == 0], after.loc[folds == 0])
    assert not np.allclose(before.loc[folds == 1], after.loc[folds == 1])


def equal(truth, known, _folds) -> pd.DataFrame:
    return choose_weights(truth, known, **SETTINGS)
