"""Moments over the frames of a clip, by other hands' code and by hand."""

import numpy as np
import pytest
from scipy.stats import skew

from music_emotion.audio.statistics import correlations, lag_changes, skewness, whole_frames

ROWS = np.random.default_rng(0).exponential(size=(5, 300)).astype(np.float32) * [[1], [5], [10], [0.1], [3]]


def test_skewness_is_scipys_and_0_of_a_constant():
    np.testing.assert_allclose(skewness(ROWS), skew(ROWS.astype(np.float64), axis=1), rtol=1e-10)
    np.testing.assert_allclose(skewness(-ROWS + 7), -skewness(ROWS), rtol=1e-6)
    assert skewness(np.full((2, 9), -80 / 3, np.float32)).tolist() == [0, 0]


def test_correlations_are_numpys_and_0_with_a_constant():
    rows = np.vstack([ROWS, ROWS[:1] - 2 * ROWS[1:2]])
    expected = np.corrcoef(rows)[np.triu_indices(6, 1)]
    np.testing.assert_allclose(correlations(rows), expected, atol=1e-10)
    rows[2] = -80 / 3
    pairs = zip(*np.triu_indices(6, 1), strict=True)
    flat = np.array([2 in pair for pair in pairs])
    np.testing.assert_allclose(correlations(rows)[flat], 0, atol=1e-8)
    np.testing.assert_allclose(correlations(rows)[~flat], expected[~flat], atol=1e-10)


def test_lag_changes_of_a_line_are_its_slope_times_the_lag():
    line = np.array([np.arange(50.0), -3 * np.arange(50.0)])
    lags = np.array([1, 1, 1, 2, 4, 8, 15, 30])  # 3 s and its halves, of frames of 0.1 s; 0.75 s is 7.5
    np.testing.assert_allclose(lag_changes(line, 0.1), np.stack([lags, 3 * lags], axis=1))


def test_lag_changes_of_a_few_frames_by_hand():
    changes = lag_changes(np.array([[0.0, 1, 3, 3, 8]]), 1.0)
    assert changes[-3:, 0].tolist() == [8 / 4, (3 + 2 + 5) / 3, (3 + 7) / 2]  # after 0.75 s, 1.5 s, 3 s
    assert changes[:, 0].tolist()[:5] == [8 / 4] * 5


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 1), (0.1, 1), (0.26, 3), (6.0, 60)])
def test_a_time_is_at_least_one_frame(seconds, frames):
    assert whole_frames(seconds, 0.1) == frames
