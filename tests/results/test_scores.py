import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from music_emotion.results.bootstrap import interval
from music_emotion.results.genre_report import genre_report
from music_emotion.results.scores import emotion_scores, resampled_spearman
from music_emotion.training.metrics import spearman


def test_resampled_scores_are_scipys_on_the_same_draws(truth, noisy):
    one, other = truth.to_numpy(), noisy(0.3).to_numpy()
    drawn = np.random.default_rng(3).integers(0, len(one), (20, len(one)))
    by_hand = [[spearman(one[rows, k], other[rows, k]) for k in range(2)] for rows in drawn]
    np.testing.assert_allclose(resampled_spearman(one, other, n_resamples=20, seed=3), by_hand)


def test_the_interval_holds_the_score_and_narrows_with_more_clips():
    rng = np.random.default_rng(0)
    widths = []
    for n in (50, 800):
        truth = rng.random((n, 1))
        prediction = truth + rng.normal(0, 0.3, (n, 1))
        low, high = interval(resampled_spearman(truth, prediction, 500)[:, 0])
        assert low < spearman(truth[:, 0], prediction[:, 0]) < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_scores_are_given_pooled_per_seed_and_per_fold(truth, noisy, folds):
    one, other = noisy(0.2, 1), noisy(0.2, 2)
    scores = emotion_scores(truth, {0: one, 1: other}, {0: folds, 1: folds})
    mean = (one + other) / 2
    assert scores["pooled"]["valence"]["value"] == pytest.approx(
        spearman(truth["valence"].to_numpy(), mean["valence"].to_numpy())
    )
    assert scores["pooled"]["mean"]["n"] == 60
    assert (
        scores["pooled"]["mean"]["low"] < scores["pooled"]["mean"]["value"] < scores["pooled"]["mean"]["high"]
    )
    assert list(scores["per_seed"]) == ["0", "1"]
    assert len(scores["per_fold"]["scores"]) == 10
    inside = folds.index[folds == 3]
    row = next(r for r in scores["per_fold"]["scores"] if (r["seed"], r["fold"]) == (1, 3))
    assert row["scores"]["energy"] == pytest.approx(
        spearman(truth.loc[inside, "energy"].to_numpy(), other.loc[inside, "energy"].to_numpy())
    )
    assert scores["constant"] == []


def test_a_constant_fold_is_named_and_scores_zero(truth, noisy, folds):
    predictions = noisy(0.2)
    predictions.loc[folds.index[folds == 2], "energy"] = 0.5
    scores = emotion_scores(truth, {0: predictions}, {0: folds})
    assert scores["constant"] == [{"seed": 0, "fold": 2, "target": "energy"}]
    assert scores["per_fold"]["scores"][2]["scores"]["energy"] == 0.0


def test_a_run_with_one_fold_is_scored_on_its_clips(truth, noisy, folds):
    inside = folds.index[folds == 0]
    scores = emotion_scores(truth, {0: noisy(0.2).loc[inside]}, {0: folds.loc[inside]})
    assert scores["pooled"]["mean"]["n"] == len(inside)
    assert scores["folds"] == {"0": [0]}


@pytest.fixture
def genres(tmp_path):
    """Unequal classes, so that truth and prediction can't be swapped unseen."""
    ids = pd.Index(range(10), name="Id")
    truth = pd.Series([0] * 8 + [1] * 2, ids)
    predicted = np.array([0] * 5 + [1] * 5)
    classes = ("Blues", "Folk")
    probabilities = pd.DataFrame(np.eye(2)[predicted], ids, list(classes))
    return truth, predicted, genre_report(truth, probabilities, classes, tmp_path), tmp_path


def test_the_genre_report_has_the_truths_supports(genres):
    truth, predicted, scores, folder = genres
    lines = (folder / "report.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines if line.strip().startswith(("Blues", "Folk"))] == ["8", "2"]
    assert scores["pooled"]["macro_f1"]["value"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert scores["pooled"]["accuracy"]["low"] <= 0.7 <= scores["pooled"]["accuracy"]["high"]


def test_the_confusion_matrix_has_truth_in_its_rows(genres):
    folder = genres[3]
    table = pd.read_csv(folder / "confusion.csv").set_index("truth")
    assert table.loc["Blues"].tolist() == [5, 3]
    assert table.loc["Folk"].tolist() == [0, 2]
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
