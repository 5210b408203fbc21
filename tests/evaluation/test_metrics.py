import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from music_emotion.evaluation.metrics import genre_scores, is_constant, spearman, spearman_per_target
from music_emotion.files import InputError


def test_spearman_without_ties_is_the_textbook_formula():
    truth, prediction = np.array([0.1, 0.4, 0.3, 0.9, 0.7]), np.array([3.0, 1.0, 2.0, 9.0, 8.0])
    differences = np.array([1, 3, 2, 5, 4]) - np.array([3, 1, 2, 5, 4])
    by_hand = 1 - 6 * (differences**2).sum() / (5 * (5**2 - 1))
    assert spearman(truth, prediction) == pytest.approx(by_hand) == pytest.approx(0.6)


def test_tied_values_share_their_mean_rank():
    truth, prediction = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0, 4.0])
    by_hand = np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1]
    assert spearman(truth, prediction) == pytest.approx(by_hand)


@given(arrays(np.int64, st.integers(3, 40), elements=st.integers(-1000, 1000)), st.integers(0, 2**16))
def test_spearman_is_unchanged_by_increasing_maps(prediction, seed):
    truth = np.random.default_rng(seed).permutation(len(prediction)).astype(float)
    score = spearman(truth, prediction)
    assert spearman(truth, prediction.astype(float) ** 3 + 5) == pytest.approx(score, abs=1e-12)
    assert spearman(np.exp(truth / 10), prediction) == pytest.approx(score, abs=1e-12)
    assert spearman(truth, -prediction) == pytest.approx(-score, abs=1e-12)


def test_a_constant_prediction_scores_zero():
    assert spearman(np.array([1.0, 2.0, 3.0]), np.full(3, 0.5)) == 0.0
    assert is_constant(np.full(3, 0.5))
    assert not is_constant(np.array([0.5, 0.5, 0.6]))


def test_nan_is_not_hidden():
    assert np.isnan(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 2.0])))


@pytest.mark.parametrize(
    ("truth", "prediction"), [([1.0, 1.0], [1.0, 2.0]), ([1.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])]
)
def test_a_truth_without_order_is_refused(truth, prediction):
    with pytest.raises(InputError):
        spearman(np.array(truth), np.array(prediction))


def test_scores_per_target_carry_the_targets_names():
    truth = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    assert spearman_per_target(truth, truth[:, ::-1], ("a", "b")) == {
        "a": pytest.approx(-1),
        "b": pytest.approx(-1),
    }


def test_genre_scores_take_truth_first_with_unequal_classes():
    truth, predicted = np.array([0] * 8 + [1] * 2), np.array([0] * 5 + [1] * 5)
    scores = genre_scores(truth, np.eye(3)[predicted], ("a", "b", "c"))
    right = f1_score(truth, predicted, average="weighted", labels=[0, 1, 2], zero_division=0)
    swapped = f1_score(predicted, truth, average="weighted", labels=[0, 1, 2], zero_division=0)
    assert right != pytest.approx(swapped)
    assert scores["weighted_f1"] == pytest.approx(right)
    assert scores["accuracy"] == pytest.approx(0.7)
    # class a: precision 1, recall 5/8; b: precision 2/5, recall 1; c: never there, scores 0
    assert scores["macro_f1"] == pytest.approx((2 * 5 / 13 + 2 * 0.4 / 1.4 + 0) / 3)
