import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from music_emotion.evaluation.metrics import genre_scores, spearman, table_scores
from music_emotion.files import InputError


@pytest.mark.parametrize(
    ("truth", "prediction", "score"),
    [
        ([0.1, 0.4, 0.3, 0.9, 0.7], [3, 1, 2, 9, 8], 1 - 6 * (2**2 + 2**2) / (5 * (5**2 - 1))),
        ([1, 2, 2, 3], [1, 3, 2, 4], np.corrcoef([1, 2.5, 2.5, 4], [1, 3, 2, 4])[0, 1]),
        ([1, 2, 3], [0.5, 0.5, 0.5], 0),
        ([1, 2, 3], [1, np.nan, 2], np.nan),
    ],
    ids=["textbook", "ties", "constant", "NaN is not hidden"],
)
def test_spearman_by_hand(truth, prediction, score):
    assert spearman(np.array(truth), np.array(prediction)) == pytest.approx(score, nan_ok=True)


@settings(max_examples=25)
@given(arrays(np.int64, st.integers(3, 40), elements=st.integers(-1000, 1000)), st.integers(0, 2**16))
def test_spearman_is_unchanged_by_increasing_maps(prediction, seed):
    truth = np.random.default_rng(seed).permutation(len(prediction)).astype(float)
    score = spearman(truth, prediction)
    assert spearman(truth, prediction.astype(float) ** 3 + 5) == pytest.approx(score, abs=1e-12)
    assert spearman(np.exp(truth / 10), prediction) == pytest.approx(score, abs=1e-12)
    assert spearman(truth, -prediction) == pytest.approx(-score, abs=1e-12)


@pytest.mark.parametrize(
    ("truth", "prediction", "sentence"),
    [
        ([1, 1], [1, 2], "The truth is 1 for all 2 clips"),
        ([1], [1], "at least 2 clips, given 1"),
        ([1, np.inf], [1, 2], "not finite"),
        ([1, 2], [1, 2, 3], r"the shapes \(2,\) and \(3,\)"),
    ],
)
def test_a_truth_without_order_is_refused(truth, prediction, sentence):
    with pytest.raises(InputError, match=sentence):
        spearman(np.array(truth), np.array(prediction))


def test_tables_are_joined_on_ids_and_columns(truth, noisy):
    table = noisy(0.3).iloc[7:40].sample(frac=1, random_state=0)[["energy", "valence"]]
    scores = table_scores("emotion", truth, table)
    by_hand = truth.iloc[7:40].corrwith(table, method="spearman")
    assert scores == pytest.approx({**by_hand, "mean": by_hand.mean()})
    with pytest.raises(InputError, match="energy: The truth is 1 for all 33"):
        table_scores("emotion", truth.assign(energy=1), table)
    with pytest.raises(InputError, match="no clips to score"):
        table_scores("genre", truth, truth.iloc[:0])


def test_genre_scores_take_truth_first_with_unequal_classes():
    truth, predicted = np.array([0] * 8 + [1] * 2), np.array([0] * 5 + [1] * 5)
    scores = genre_scores(truth, np.eye(3)[predicted], ("a", "b", "c"))
    right = f1_score(truth, predicted, average="weighted", labels=[0, 1, 2], zero_division=0)
    swapped = f1_score(predicted, truth, average="weighted", labels=[0, 1, 2], zero_division=0)
    assert right != pytest.approx(swapped)
    # class a: precision 1, recall 5/8; b: precision 2/5, recall 1; c: never there, scores 0
    macro = (2 * 5 / 13 + 2 * 0.4 / 1.4 + 0) / 3
    assert scores == pytest.approx({"accuracy": 0.7, "macro_f1": macro, "weighted_f1": right})
    one_hot = pd.DataFrame(np.eye(3)[truth], columns=list("abc"))
    assert table_scores("genre", one_hot, pd.DataFrame(np.eye(3)[predicted], columns=list("abc"))) == scores
