import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata
from sklearn.metrics import f1_score

from music_emotion.evaluation import genre_report as genre_report_module
from music_emotion.evaluation.bootstrap import interval
from music_emotion.evaluation.genre_report import genre_report
from music_emotion.evaluation.metrics import spearman
from music_emotion.evaluation.rank_resampling import resampled_spearman
from music_emotion.evaluation.run_scores import summary
from music_emotion.evaluation.scores import emotion_scores, mean_score, paired_difference
from music_emotion.files import InputError


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


def by_hand(truth, *tables, targets) -> np.ndarray:
    """Mean correlation of every table [shape=(2000, n_tables)] in the draws that all scores share."""
    drawn = np.random.default_rng(0).integers(0, len(truth), (2000, len(truth)))
    ranked = [[rankdata(table[name].to_numpy()[drawn], axis=1) for name in targets] for table in tables]
    known = [rankdata(truth[name].to_numpy()[drawn], axis=1) for name in targets]
    rows = range(len(drawn))
    return np.array(
        [
            [
                np.mean([np.corrcoef(a[k], b[k])[0, 1] for a, b in zip(known, of, strict=True)])
                for of in ranked
            ]
            for k in rows
        ]
    )


def test_a_paired_difference_is_that_of_the_same_draws(truth, noisy):
    one, other = noisy(0.2, 1), noisy(0.5, 2)
    found = paired_difference(truth, one, other.iloc[::-1], ["energy", "valence"])  # joined on the id
    drawn = by_hand(truth, one, other, targets=["valence", "energy"])
    low, high = np.quantile(drawn[:, 0] - drawn[:, 1], [0.025, 0.975])
    value = np.mean([spearman(truth[t].to_numpy(), one[t].to_numpy()) for t in truth])
    value -= np.mean([spearman(truth[t].to_numpy(), other[t].to_numpy()) for t in truth])
    above = (drawn[:, 0] > drawn[:, 1]).mean()
    assert above > 0.9
    assert found == pytest.approx({"value": value, "low": low, "high": high, "n": 60, "above": above})
    turned = paired_difference(truth, other, one, ["valence", "energy"])
    assert turned == pytest.approx({"value": -value, "low": -high, "high": -low, "n": 60, "above": 1 - above})
    same = paired_difference(truth, one, one, ["valence"])
    assert (same["high"], same["above"]) == (0, 0.5)


def test_pairs_are_of_the_clips_that_both_predict(truth, noisy):
    one, other = noisy(0.2, 1), noisy(0.5, 2)
    found = paired_difference(truth, one.iloc[:40], other.iloc[10:], ["energy"])
    assert found["n"] == 30
    common = truth.index[10:40]
    assert found == paired_difference(truth.loc[common], one.loc[common], other.loc[common], ["energy"])


def test_the_interval_of_a_difference_of_like_runs_is_narrower_than_of_each(truth, noisy):
    one = noisy(0.3, 1)
    alike = one + np.random.default_rng(9).normal(0, 0.02, one.shape)
    difference = paired_difference(truth, one, alike, list(truth))
    alone = mean_score(truth, one, list(truth))
    assert difference["high"] - difference["low"] < 0.3 * (alone["high"] - alone["low"])


def test_a_mean_over_all_targets_is_that_of_the_scores(truth, noisy, folds):
    scores = emotion_scores(truth, {0: noisy(0.3)}, {0: folds})
    assert mean_score(truth, noisy(0.3), list(truth)) == pytest.approx(scores["pooled"]["mean"])


def test_what_can_not_be_compared_is_said(truth, noisy):
    with pytest.raises(InputError, match="no 'danceability', so it can't be compared"):
        paired_difference(truth, noisy(0.3), noisy(0.3), ["danceability"])
    with pytest.raises(InputError, match="Only 0 clips are in all tables"):
        paired_difference(truth, noisy(0.3).iloc[:30], noisy(0.3).iloc[30:], ["energy"])


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


def test_spread_is_told_apart_over_seeds_and_over_the_folds_of_each(truth, noisy, folds):
    # seeds that differ much, so that folds of both together would spread further than those of each
    tables = {0: noisy(0.1, 1), 1: noisy(0.6, 2), 2: noisy(0.6, 3)}
    scores = emotion_scores(truth, tables, dict.fromkeys(tables, folds))
    seeds = [scores["per_seed"][seed]["energy"] for seed in "012"]
    by_fold = np.array([row["scores"]["energy"] for row in scores["per_fold"]["scores"]]).reshape(3, 5)
    within = np.sqrt(by_fold.var(axis=1, ddof=1).mean())
    assert within < 0.9 * by_fold.std(ddof=1)
    spread = scores["spread"]
    assert (spread["n_seeds"], spread["n_folds"]) == (3, 5)
    assert spread["over_seeds"]["energy"] == pytest.approx(np.std(seeds, ddof=1))
    assert spread["over_folds"]["energy"] == pytest.approx(within)
    line = next(line for line in summary("run", scores).splitlines() if "energy" in line)
    assert line.endswith(f"n=60  ± {np.std(seeds, ddof=1):.3f} (3 seeds), ± {within:.3f} (5 folds)")


def test_the_spread_of_one_seed_or_one_fold_is_unknown_and_not_none_at_all(truth, noisy, folds):
    scores = emotion_scores(truth, {4: noisy(0.3)}, {4: folds})
    assert scores["spread"]["over_seeds"] == {"valence": None, "energy": None, "mean": None}
    assert scores["spread"]["over_folds"]["mean"] > 0
    assert "± unknown (1 seed), ± 0." in summary("run", scores)
    inside = folds.index[folds == 0]
    single = emotion_scores(truth, {4: noisy(0.3).loc[inside]}, {4: folds.loc[inside]})
    assert summary("run", single).count("± unknown (1 seed), ± unknown (1 fold)") == 3


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


def test_genre_intervals_are_those_of_scikit_learns_scores(tmp_path):
    rng = np.random.default_rng(5)
    truth = pd.Series(rng.integers(0, 6, 80))  # the last class is never guessed, as a rare one may be
    probabilities = rng.random((80, 7))[:, :6] + np.eye(6)[truth] * (truth.to_numpy()[:, None] < 5)
    table = pd.DataFrame(probabilities, pd.Index(range(80), name="Id"), list("abcdef"))
    pooled = genre_report(truth, table, tuple("abcdef"), tmp_path)["pooled"]
    drawn = np.random.default_rng(0).integers(0, 80, (2000, 80))
    guessed, f1 = probabilities.argmax(axis=1), partial(f1_score, labels=range(6), zero_division=0)
    macro = [f1(truth.to_numpy()[rows], guessed[rows], average="macro") for rows in drawn]
    assert (pooled["macro_f1"]["low"], pooled["macro_f1"]["high"]) == pytest.approx(
        tuple(np.quantile(macro, [0.025, 0.975]))
    )


def test_intervals_of_a_thousand_classes_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(genre_report_module, "write_report", lambda *_: None)  # draws a picture of a matrix
    truth = pd.Series(range(1000))
    table = pd.DataFrame(np.eye(1000), pd.Index(truth, name="Id"), [f"c{n:04d}" for n in truth])
    tracemalloc.start()
    genre_report(truth, table, tuple(table), tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e9  # a confusion matrix for each resample would take 16


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
