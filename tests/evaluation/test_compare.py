"""Two runs compared in pairs from their files: against numbers computed otherwise, and what is refused."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import accuracy_score, f1_score

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.evaluation.compare import compare_runs
from music_emotion.evaluation.compare_text import comparison_text
from music_emotion.evaluation.scores import score_run
from music_emotion.files import InputError, read_json, write_json, write_predictions

GENRES = ["Blues", "Folk", "Jazz"]


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def leave(runs, folds):
    """Leave a scored run: `leave("one", truth, predictions, {"seeds": [0, 1]})`."""

    def scored(name, truth, predictions, settings=None, only=range(5)):
        experiment = build_experiment({"name": name, **(settings or {})}, name)
        write_json(runs / name / "experiment.json", experiment_to_dict(experiment))
        for seed in experiment.seeds:
            noise = np.random.default_rng(seed).normal(0, 0.02 * seed, predictions.shape)
            for fold in only:
                inside = (predictions + noise).loc[folds.loc[predictions.index] == fold]
                write_predictions(runs / name / f"seed{seed}" / f"fold{fold}" / "valid.csv", inside)
        score_run(runs / name, experiment, truth)
        return runs / name

    return scored


def genre_tables(seed, index):
    random = np.random.default_rng(seed)
    known = np.random.default_rng(0).integers(0, 3, len(index))
    truth = pd.DataFrame(np.eye(3)[known], index, GENRES)
    return truth, truth + random.random((len(index), 3)) * 1.5


def test_scores_differences_and_shares_are_those_by_hand(leave, truth, noisy):
    one, other = noisy(0.25, 1), noisy(0.35, 2)
    found = compare_runs(leave("one", truth, one), leave("two", truth, other), ["energy"])
    assert [row.name for row in found.rows] == ["valence", "mean of valence and energy", "energy"]
    drawn = np.random.default_rng(0).integers(0, 60, (2000, 60))
    ranks = [rankdata(table["energy"].to_numpy()[drawn], axis=1) for table in (truth, one, other)]
    scores = np.array([[np.corrcoef(a, b)[0, 1] for b in (c, d)] for a, c, d in zip(*ranks, strict=True)])
    apart = scores[:, 0] - scores[:, 1]
    row = found.rows[-1]
    assert (row.difference["low"], row.difference["high"]) == pytest.approx(
        tuple(np.quantile(apart, [0.025, 0.975]))
    )
    assert 0.5 < row.difference["above"] == (apart > 0).mean() < 1
    assert row.one["value"] == pytest.approx(spearmanr(truth["energy"], one["energy"])[0])
    assert row.other["high"] == pytest.approx(np.quantile(scores[:, 1], 0.975))


def test_the_text_says_whether_it_is_beyond_chance_and_what_to_keep_in_mind(leave, truth, noisy):
    good = leave("good", truth, noisy(0.1), {"seeds": [0, 1]})
    bad = leave("bad", truth, noisy(0.8, 3), {"train": {"select": "best-score"}})
    alike = leave("alike", truth, noisy(0.1) + 1e-3 * noisy(0.5, 7))
    text = comparison_text(compare_runs(good, bad))
    assert text.startswith("good less bad, out of fold, n=60:\n")
    difference = re.search(
        r"mean of valence and energy .*? (\+0\.\d+) \[\+0\.\d+, \+0\.\d+\]\s+100\.0 %", text
    )
    assert difference is not None
    assert f"good is above bad in the mean of valence and energy by {difference[1]} [+" in text
    assert "bad was selected on validation" in text
    assert "good is of 2 seeds and bad of 1 seed" in text
    seeds = [scores["mean"] for scores in read_json(good / "scores.json")["per_seed"].values()]
    assert f"good score {np.mean(seeds):.3f} ± {np.std(seeds, ddof=1):.3f} (deviation over 2)" in text
    assert "another training of bad would differ is not known" in text
    turned = comparison_text(compare_runs(bad, good))
    assert "bad is below good in the mean of valence and energy by -0." in turned
    close = comparison_text(compare_runs(leave("same", truth, noisy(0.1)), alike))
    assert "is not beyond the chance of which clips there are" in close
    assert "selected" not in close
    assert "usually scores higher" not in close


def test_genres_are_compared_by_their_measures(leave, truth):
    known, one = genre_tables(1, truth.index)
    other = genre_tables(2, truth.index)[1]
    genre = {"task": "genre"}
    found = compare_runs(leave("one", known, one, genre), leave("two", known, other, genre))
    assert [row.name for row in found.rows] == ["accuracy", "weighted_f1", "macro_f1"]
    labels, guesses = known.to_numpy().argmax(1), [t.to_numpy().argmax(1) for t in (one, other)]
    accuracy, macro = found.rows[0], found.rows[-1]
    assert accuracy.one["value"] == accuracy_score(labels, guesses[0])
    assert macro.difference["value"] == pytest.approx(
        f1_score(labels, guesses[0], average="macro") - f1_score(labels, guesses[1], average="macro")
    )
    drawn = np.random.default_rng(0).integers(0, 60, (2000, 60))
    right = [(guess == labels)[drawn].sum(axis=1) for guess in guesses]
    above = (right[0] > right[1]).mean() + (right[0] == right[1]).mean() / 2
    assert accuracy.difference["above"] == pytest.approx(above)
    assert "in macro_f1" in comparison_text(found)


def test_other_clips_are_refused_or_left_out(leave, truth, noisy):
    whole = leave("whole", truth, noisy(0.2))
    part = leave("part", truth, noisy(0.3, 2).iloc[7:])
    sentence = r"part lacks 7 clips of whole \(100, 101, 102, 103, 104, \.\.\.\) and has 0 others \(none\)"
    with pytest.raises(InputError, match=sentence):
        compare_runs(whole, part)
    found = compare_runs(whole, part, common=True).rows[-1]
    assert found.one["n"] == found.difference["n"] == 53
    ids = truth.index[7:]
    expected = np.mean([spearmanr(truth.loc[ids, t], noisy(0.2).loc[ids, t])[0] for t in truth])
    assert found.one["value"] == pytest.approx(expected)


def test_an_unfinished_run_is_refused(leave, truth, noisy):
    pair = leave("one", truth, noisy(0.2)), leave("half", truth, noisy(0.3), only=range(2))
    with pytest.raises(InputError, match="half is not finished: 2 of 5 folds are scored"):
        compare_runs(*pair)
    assert compare_runs(*pair, common=True).rows[-1].difference["n"] == 24
    (pair[1] / "scores.json").unlink()
    with pytest.raises(InputError, match=r"half is not finished: it has no scores\.json"):
        compare_runs(*pair, common=True)


def test_what_can_not_be_compared_is_said(leave, runs, truth, noisy):
    one = leave("one", truth, noisy(0.2))
    with pytest.raises(InputError, match="Both runs are"):
        compare_runs(one, runs / "one")
    with pytest.raises(InputError, match=r"The run .*none does not exist"):
        compare_runs(one, runs / "none")
    known, guessed = genre_tables(1, truth.index)
    genres = leave("genres", known, guessed, {"task": "genre"})
    with pytest.raises(InputError, match="genres predicts genres and one targets"):
        compare_runs(one, genres)
    with pytest.raises(InputError, match=r"--headline names 'danceability'.* are valence, energy"):
        compare_runs(one, leave("two", truth, noisy(0.3)), ["danceability"])
    changed = truth.copy()
    changed.iloc[[3, 8], 1] += 0.01
    with pytest.raises(InputError, match="one and three differ in the truth of 2 clips: 103, 108"):
        compare_runs(one, leave("three", changed, noisy(0.3)))
    (one / "truth.csv").unlink()
    with pytest.raises(InputError, match=r"has no truth\.csv"):
        compare_runs(one, runs / "two")


def test_runs_of_other_clips_than_the_folds_are_not_compared(runs, leave, truth, noisy):
    one = leave("one", truth, noisy(0.2))
    write_json(runs / "split" / "scores.json", {"pooled": {"accuracy": {"value": 0.5}}, "classes": GENRES})
    with pytest.raises(InputError, match="split is scored on a test split"):
        compare_runs(one, runs / "split")
    repeated = {"repeats": [{"n_test": 9}], "repeated": {"test": {"energy": {"value": 0.5}}}}
    write_json(runs / "repeats" / "scores.json", repeated)
    with pytest.raises(InputError, match="repeats is scored on repeated splits"):
        compare_runs(one, runs / "repeats")
