"""Scores of runs from their files: what is written, what is said, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from music_emotion.config import Experiment
from music_emotion.evaluation.intervals import resampled_measures, resampled_scores, spread_of
from music_emotion.evaluation.metrics import table_scores
from music_emotion.evaluation.scores import read_classes, score_folds, score_run, summary
from music_emotion.files import InputError, read_json, write_predictions


@pytest.fixture
def split(folds):
    """One table as those of its folds."""
    return lambda table: dict(list(table.groupby(folds)))


def test_scores_are_given_pooled_per_seed_and_per_fold(truth, noisy, folds, split):
    # seeds that differ much, so that folds of both together would spread further than those of each
    tables = {2: noisy(0.6, 3), 0: noisy(0.1, 1), 1: noisy(0.6, 2)}
    tables[1].loc[folds == 3, "valence"] = 0.5
    scores = score_folds("emotion", truth, {seed: split(table) for seed, table in tables.items()})
    pooled = sum(tables.values()) / 3
    for name, score in resampled_scores("emotion", truth, pooled).intervals().items():
        assert scores["pooled"][name] == pytest.approx(score)
    assert scores["n"] == 60
    assert scores["per_seed"]["2"] == table_scores("emotion", truth, tables[2])
    row = scores["per_fold"]["scores"][2 * 5 + 3]
    assert (row["seed"], row["fold"], row["n"]) == (2, 3, 12)
    assert row["scores"] == table_scores("emotion", truth, tables[2].loc[folds == 3])
    assert scores["per_fold"]["scores"][1 * 5 + 3]["scores"]["valence"] == 0
    by_fold = np.array([row["scores"]["energy"] for row in scores["per_fold"]["scores"]])
    within = np.sqrt(by_fold.reshape(3, 5).var(axis=1, ddof=1).mean())
    assert within < 0.9 * by_fold.std(ddof=1)
    over = np.std([scores["per_seed"][seed]["energy"] for seed in "012"], ddof=1)
    spread = spread_of(scores, ["energy"])
    assert spread["seeds"] == (3, pytest.approx(over))
    assert spread["folds"] == (5, pytest.approx(within))
    line = next(line for line in summary("run", scores).splitlines() if "energy" in line)
    assert line.endswith(f"n=60  ± {over:.3f} (3 seeds), ± {within:.3f} (5 folds)")


def test_measures_are_of_the_pooled_predictions_and_of_groups(truth, noisy, split, artists):
    tables, scale = {0: noisy(0.3), 1: noisy(0.4, 2)}, {"energy": (1.0, 9.0)}
    scores = score_folds("emotion", truth, {k: split(t) for k, t in tables.items()}, artists, scale)
    pooled = (tables[0] + tables[1]) / 2
    assert scores["groups"] == artists.nunique()
    assert scores["scales"] == scale
    for found, expected in (
        (scores["pooled"], resampled_scores("emotion", truth, pooled, artists).intervals()),
        *(
            (scores["measures"][name], each)
            for name, each in resampled_measures(truth, pooled, artists, scale).items()
        ),
    ):
        assert {name: pytest.approx(score) for name, score in expected.items()} == found
    heading, what, *lines = summary("run", scores).splitlines()
    assert what.strip().startswith("Spearman's correlation [95 % interval]")
    assert heading == f"run (out-of-fold, intervals over {artists.nunique()} groups):"
    assert lines[3].split() == ["R²", "Pearson", "CCC", "RMSE", "RMSE,", "own", "scale"]
    found = scores["measures"]["rmse_own_scale"]["energy"]
    assert lines[5].startswith("  energy ")
    assert lines[5].endswith("{value:.3f} [{low:.3f}, {high:.3f}]".format(**found))


def test_the_spread_of_one_seed_or_one_fold_is_unknown(truth, noisy, split):
    scores = score_folds("emotion", truth, {4: split(noisy(0.3))})
    assert spread_of(scores, ["mean"])["seeds"] == (1, None)
    assert "± unknown (1 seed), ± 0." in summary("run", scores)
    single = score_folds("emotion", truth, {4: {0: split(noisy(0.3))[0]}})
    assert single["pooled"]["mean"]["n"] == 12
    assert summary("run", single).count("± unknown (1 seed), ± unknown (1 fold)") == 3


def test_what_can_not_be_scored_is_refused(truth, noisy, split):
    table = split(noisy(0.2))
    for known, folds, sentence in (
        (truth, {}, "at least one seed"),
        (truth.rename(columns={"energy": "mean"}), {0: table}, "no target named 'mean'"),
        (truth.iloc[3:], {0: table}, r"seed 0 have 3 clips without a label: 100, 101, 102\."),
        (truth.rename(columns={"energy": "x"}), {0: table}, r"differ in their columns \(energy, x\)"),
        (truth, {0: {**table, 5: table[1]}}, "12 ids occur more than once"),
        (truth * 0, {0: table}, "Seed 0, fold 0: valence: The truth is 0 for all"),
    ):
        with pytest.raises(InputError, match=sentence):
            score_folds("emotion", known, folds)


def test_a_genre_run_has_scores_report_confusion_matrix_and_truth(tmp_path):
    ids, known, guessed = pd.Index(range(10), name="Id"), [0] * 8 + [1] * 2, [0] * 5 + [1] * 5
    truth, likely = (pd.DataFrame(np.eye(2)[each], ids, ["Blues", "Folk"]) for each in (known, guessed))
    for fold in range(2):
        write_predictions(tmp_path / "seed0" / f"fold{fold}" / "valid.csv", likely.iloc[fold::2])
    assert "macro_f1" in score_run(tmp_path, Experiment(task="genre"), truth)
    scores, macro = read_json(tmp_path / "scores.json"), f1_score(known, guessed, average="macro")
    assert scores["classes"] == ["Blues", "Folk"]
    assert scores["pooled"]["macro_f1"]["value"] == pytest.approx(macro)
    assert scores["pooled"]["accuracy"]["low"] <= 0.7 <= scores["pooled"]["accuracy"]["high"]
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines if line.strip().startswith(("Blues", "Folk"))] == ["8", "2"]
    table = pd.read_csv(tmp_path / "confusion.csv").set_index("truth")
    assert (table.loc["Blues"].tolist(), table.loc["Folk"].tolist()) == ([5, 3], [0, 2])
    held = tmp_path / "truth.csv"
    pd.testing.assert_frame_equal(read_classes(held, list(truth)), truth)
    with pytest.raises(InputError, match=r"truth\.csv has the classes Folk, which were not predicted"):
        read_classes(held, ["Blues", "Rock"])
    held.unlink()
    with pytest.raises(InputError, match=r"truth\.csv does not exist"):
        read_classes(held, list(truth))
