"""Conformal intervals on simulated errors, which are largest in the middle of the scale."""

import math

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.conformal import Intervals, coverage


def simulated(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and predictions of n clips."""
    rng = np.random.default_rng(n)
    predicted = rng.uniform(0.1, 0.9, n)
    return predicted + rng.normal(0, np.where(np.abs(predicted - 0.5) < 0.13, 0.2, 0.08)), predicted


def test_intervals_hold_four_in_five_in_each_third_and_are_narrower_than_those_of_the_mean():
    truth, predicted = (pd.DataFrame({"valence": values}) for values in simulated(3000))
    rows = coverage(truth, predicted, pd.Series(np.arange(3000) % 5)).set_index("third")
    assert rows.index.tolist() == ["overall", "low", "middle", "high"]
    assert rows["n"].tolist() == pytest.approx([3000, 1000, 1000, 1000], abs=1)
    np.testing.assert_allclose(rows["value"], 0.8, atol=0.03)
    assert (rows["low"] < rows["value"]).all()
    assert (rows["value"] < rows["high"]).all()
    assert (rows["width"] < rows["width_of_mean"]).all()
    assert rows["width"]["middle"] > 2 * rows["width"][["low", "high"]].max()


def test_intervals_hold_four_in_five_of_new_clips_in_each_third():
    intervals, (truth, predicted) = Intervals.fit(*simulated(600)), simulated(6000)
    held = np.abs(truth - predicted) <= intervals.half_width(predicted)
    thirds = np.searchsorted(intervals.edges, predicted)
    for third in range(3):
        assert held[thirds == third].mean() == pytest.approx(0.8, abs=0.06)


def test_few_clips_promise_nothing():
    truth, predicted = simulated(12)
    assert Intervals.fit(truth[:9], predicted[:9]).half_widths == (math.inf,) * 3
    largest = np.sort(predicted)[[3, 7, 11]]
    intervals = Intervals.fit(truth, predicted)
    thirds = np.split(np.argsort(predicted), 3)
    assert intervals.half_widths == tuple(np.abs(truth - predicted)[third].max() for third in thirds)
    np.testing.assert_array_equal(intervals.half_width(largest), intervals.half_widths)


def test_the_errors_of_a_fold_do_not_set_its_own_widths():
    folds = pd.Series(np.arange(60) % 2)
    predicted = pd.DataFrame({"energy": np.linspace(0, 1, 60)})
    truth = predicted.add(np.where(folds == 0, 0.1, 1.0), axis=0)
    overall = coverage(truth, predicted, folds).iloc[0]
    assert overall["value"] == 0.5  # all of the first fold, none of the second
    assert overall["width"] == pytest.approx(2 * (1.0 + 0.1) / 2)
