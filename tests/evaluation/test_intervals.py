"""Intervals and paired differences against ones computed otherwise, from the same draws."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.intervals import resampled_scores
from music_emotion.evaluation.metrics import genre_scores, table_scores


def draws(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, n, (2000, n))


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "no ties"])
def test_resampled_scores_are_scipys_on_the_same_draws(truth, noisy, decimals):
    one, other = truth.round(decimals), noisy(0.3).round(decimals)
    found = resampled_scores("emotion", one, other)
    by_hand = [
        table_scores(
            "emotion", one.iloc[rows].reset_index(drop=True), other.iloc[rows].reset_index(drop=True)
        )
        for rows in draws(60)[:20]
    ]
    np.testing.assert_allclose(found.drawn[:20], pd.DataFrame(by_hand))
    assert dict(found.values) == table_scores("emotion", one, other)
    low, high = np.quantile(found.drawn["mean"], [0.025, 0.975])
    value = found.values["mean"]
    assert found.intervals()["mean"] == {"value": value, "low": low, "high": high, "n": 60}
    assert found.interval(["valence", "energy"]) == pytest.approx(found.intervals()["mean"])


def test_a_paired_difference_is_that_of_the_same_draws(truth, noisy):
    one, other = (resampled_scores("emotion", truth, noisy(*noise)) for noise in ((0.2, 1), (0.5, 2)))
    found = one.difference(other, ["energy"])
    apart = one.drawn["energy"] - other.drawn["energy"]
    low, high = np.quantile(apart, [0.025, 0.975])
    value, above = one.values["energy"] - other.values["energy"], (apart > 0).mean()
    assert above > 0.9
    assert found == pytest.approx({"value": value, "low": low, "high": high, "n": 60, "above": above})
    turned = other.difference(one, ["energy"])
    assert turned == pytest.approx({"value": -value, "low": -high, "high": -low, "n": 60, "above": 1 - above})
    same = one.difference(one, ["valence", "energy"])
    assert (same["high"], same["above"]) == (0, 0.5)


def test_resampled_genre_scores_are_those_of_the_same_draws():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 6, 80)  # the last class is never guessed, as a rare one may be
    likely = rng.random((80, 7))[:, :6] + np.eye(6)[truth] * (truth[:, None] < 5)
    found = resampled_scores("genre", pd.DataFrame(np.eye(6)[truth]), pd.DataFrame(likely))
    by_hand = [genre_scores(truth[rows], likely[rows], range(6)) for rows in draws(80)[:20]]
    np.testing.assert_allclose(found.drawn[:20], pd.DataFrame(by_hand))


def test_intervals_of_a_thousand_classes_fit_into_memory():
    table = pd.DataFrame(np.eye(1000))
    tracemalloc.start()
    resampled_scores("genre", table, table)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9  # a confusion matrix for each resample would take 16
