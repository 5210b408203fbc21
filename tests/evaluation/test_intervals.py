"""Intervals and paired differences against ones computed otherwise, from the same draws."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import f1_score

from music_emotion.evaluation.intervals import (
    class_intervals,
    mean_score,
    paired_difference,
    resampled_spearman,
)
from music_emotion.evaluation.metrics import spearman, target_scores
from music_emotion.files import InputError


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "no ties"])
def test_resampled_scores_are_scipys_on_the_same_draws(truth, noisy, decimals):
    one, other = truth.to_numpy().round(decimals), noisy(0.3).to_numpy().round(decimals)
    drawn = np.random.default_rng(3).integers(0, len(one), (20, len(one)))
    by_hand = [[spearman(one[rows, k], other[rows, k]) for k in range(2)] for rows in drawn]
    np.testing.assert_allclose(resampled_spearman(one, other, n_resamples=20, seed=3), by_hand)


def by_hand(truth, *tables) -> np.ndarray:
    """Mean correlation of every table [shape=(2000, n_tables)] in the draws that all scores share."""
    drawn = np.random.default_rng(0).integers(0, len(truth), (2000, len(truth)))
    ranks = [[rankdata(each[name].to_numpy()[drawn], axis=1) for name in truth] for each in (truth, *tables)]
    z = [[(r - r.mean(1, keepdims=True)) / r.std(1, keepdims=True) for r in ranked] for ranked in ranks]
    means = [np.mean([(a * b).mean(axis=1) for a, b in zip(z[0], of, strict=True)], axis=0) for of in z[1:]]
    return np.stack(means, axis=1)


def test_a_paired_difference_is_that_of_the_same_draws(truth, noisy):
    one, other = noisy(0.2, 1), noisy(0.5, 2)
    found = paired_difference(truth, one, other.iloc[::-1], ["energy", "valence"])  # joined on the id
    drawn = by_hand(truth, one, other)
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    value = target_scores(truth, one)["mean"] - target_scores(truth, other)["mean"]
    above = (drawn[:, 0] > drawn[:, 1]).mean()
    assert above > 0.9
    assert found == pytest.approx({"value": value, "low": low, "high": high, "n": 60, "above": above})
    turned = paired_difference(truth, other, one, ["valence", "energy"])
    assert turned == pytest.approx({"value": -value, "low": -high, "high": -low, "n": 60, "above": 1 - above})
    same = paired_difference(truth, one, one, ["valence"])
    assert (same["high"], same["above"]) == (0, 0.5)
    low, high = np.quantile(drawn[:, 0], [0.025, 0.975])
    value = target_scores(truth, one)["mean"]
    assert mean_score(truth, one, list(truth)) == pytest.approx(
        {"value": value, "low": low, "high": high, "n": 60}
    )


def test_pairs_are_of_the_clips_that_both_predict(truth, noisy):
    one, other = noisy(0.2, 1), noisy(0.5, 2)
    found = paired_difference(truth, one.iloc[:40], other.iloc[10:], ["energy"])
    assert found["n"] == 30
    ids = truth.index[10:40]
    assert found == paired_difference(truth.loc[ids], one.loc[ids], other.loc[ids], ["energy"])


def test_tables_that_can_not_be_compared_are_refused(truth, noisy):
    one = noisy(0.3)
    with pytest.raises(InputError, match="A table has no 'tempo'"):
        paired_difference(truth, one, one, ["tempo"])
    with pytest.raises(InputError, match="Only 0 clips are in all tables"):
        paired_difference(truth, one.iloc[:30], one.iloc[30:], ["energy"])


def test_genre_intervals_are_those_of_scikit_learns_scores():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 6, 80)  # the last class is never guessed, as a rare one may be
    probabilities = rng.random((80, 7))[:, :6] + np.eye(6)[truth] * (truth[:, None] < 5)
    found = class_intervals(truth, probabilities, "abcdef")
    drawn = np.random.default_rng(0).integers(0, 80, (2000, 80))
    known, guessed = truth[drawn], probabilities.argmax(axis=1)[drawn]
    of_classes = []
    for label in range(6):
        n_found = ((known == label).sum(axis=1) + (guessed == label).sum(axis=1)).clip(1)
        of_classes.append(2 * ((known == label) & (guessed == label)).sum(axis=1) / n_found)
    macro = np.mean(of_classes, axis=0)
    right = f1_score(known[0], guessed[0], labels=range(6), average="macro", zero_division=0)
    assert macro[0] == pytest.approx(right)
    assert [found["macro_f1"][end] for end in ("low", "high")] == pytest.approx(
        np.quantile(macro, [0.025, 0.975])
    )


def test_intervals_of_a_thousand_classes_fit_into_memory():
    tracemalloc.start()
    class_intervals(np.arange(1000), np.eye(1000), [f"c{n}" for n in range(1000)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9  # a confusion matrix for each resample would take 16
