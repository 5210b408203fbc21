"""Scores of runs from their files: what is written, what is said, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from music_emotion.config import Experiment
from music_emotion.evaluation.intervals import pooled_scores
from music_emotion.evaluation.metrics import spearman, target_scores
from music_emotion.evaluation.scores import (
    emotion_scores,
    genre_scores_of_folds,
    read_classes,
    score_run,
    summary,
)
from music_emotion.files import InputError, read_json, read_predictions, write_predictions

ROOT = Path(__file__).parents[2]
TRACKED = sorted(
    path.parent for path in [*ROOT.glob("runs/*/truth.csv"), *ROOT.glob("research/runs/*/truth.csv")]
)


@pytest.fixture
def split(folds):
    """One table as those of its folds."""
    return lambda table: dict(list(table.groupby(folds)))


def test_scores_are_given_pooled_per_seed_and_per_fold(truth, noisy, folds, split):
    one, other = noisy(0.2, 1), noisy(0.2, 2)
    scores = emotion_scores(truth, {1: split(other), 0: split(one)})
    assert scores["pooled"] == pooled_scores(truth, (one + other) / 2)
    assert scores["pooled"]["valence"]["value"] == pytest.approx(
        spearman(truth["valence"].to_numpy(), ((one + other) / 2)["valence"].to_numpy())
    )
    assert scores["n"] == scores["pooled"]["mean"]["n"] == 60
    for seed, table in {"0": one, "1": other}.items():
        assert scores["per_seed"][seed] == pytest.approx(target_scores(truth, table))
    assert scores["folds"] == {"0": [0, 1, 2, 3, 4], "1": [0, 1, 2, 3, 4]}
    assert len(scores["per_fold"]["scores"]) == 10
    row = next(r for r in scores["per_fold"]["scores"] if (r["seed"], r["fold"]) == (1, 3))
    assert row["scores"] == target_scores(truth, other.loc[folds == 3])
    assert scores["constant"] == []
    each = [row["scores"]["energy"] for row in scores["per_fold"]["scores"]]
    assert scores["per_fold"]["mean"]["energy"] == pytest.approx(np.mean(each))


def test_spread_is_told_apart_over_seeds_and_over_the_folds_of_each(truth, noisy, split):
    # seeds that differ much, so that folds of both together would spread further than those of each
    tables = {0: noisy(0.1, 1), 1: noisy(0.6, 2), 2: noisy(0.6, 3)}
    scores = emotion_scores(truth, {seed: split(table) for seed, table in tables.items()})
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


def test_the_spread_of_one_seed_or_one_fold_is_unknown(truth, noisy, split):
    scores = emotion_scores(truth, {4: split(noisy(0.3))})
    assert scores["spread"]["over_seeds"] == {"valence": None, "energy": None, "mean": None}
    assert scores["spread"]["over_folds"]["mean"] > 0
    assert "± unknown (1 seed), ± 0." in summary("run", scores)
    single = emotion_scores(truth, {4: {0: split(noisy(0.3))[0]}})
    assert (single["folds"], single["pooled"]["mean"]["n"]) == ({"4": [0]}, 12)
    assert summary("run", single).count("± unknown (1 seed), ± unknown (1 fold)") == 3


def test_a_constant_fold_is_named_and_scores_zero(truth, noisy, folds, split):
    predictions = noisy(0.2)
    predictions.loc[folds == 2, "energy"] = 0.5
    scores = emotion_scores(truth, {0: split(predictions)})
    assert scores["constant"] == [{"seed": 0, "fold": 2, "target": "energy"}]
    assert scores["per_fold"]["scores"][2]["scores"]["energy"] == 0.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda truth, _: (truth, {}), "at least one seed"),
        (
            lambda truth, folds: (truth.rename(columns={"energy": "mean"}), {0: folds}),
            "no target named 'mean'",
        ),
        (
            lambda truth, folds: (truth.iloc[3:], {0: folds}),
            r"seed 0: 3 clips have no truth: 100, 101, 102\.",
        ),
        (
            lambda truth, folds: (truth.rename(columns={"energy": "x"}), {0: folds}),
            "the truth is of valence, x",
        ),
        (lambda truth, folds: (truth, {0: {**folds, 5: folds[1]}}), "12 ids occur more than once"),
        (lambda truth, folds: (truth * 0, {0: folds}), "Seed 0, fold 0: valence: The truth is 0 for all"),
    ],
)
def test_what_can_not_be_scored_is_refused(truth, noisy, split, change, sentence):
    with pytest.raises(InputError, match=sentence):
        emotion_scores(*change(truth, split(noisy(0.2))))


@pytest.fixture
def genres(tmp_path):
    """A scored run of unequal classes, so that truth and prediction can't be swapped unseen."""
    ids = pd.Index(range(10), name="Id")
    truth = pd.DataFrame(np.eye(2)[[0] * 8 + [1] * 2], ids, ["Blues", "Folk"])
    probabilities = pd.DataFrame(np.eye(2)[[0] * 5 + [1] * 5], ids, ["Folk", "Blues"])[["Blues", "Folk"]]
    probabilities = 1 - probabilities
    for fold in range(2):
        write_predictions(tmp_path / "seed0" / f"fold{fold}" / "valid.csv", probabilities.iloc[fold::2])
    assert "macro_f1" in score_run(tmp_path, Experiment(task="genre"), truth)
    return truth, tmp_path


def test_a_genre_run_has_scores_report_confusion_matrix_and_truth(genres):
    truth, folder = genres
    scores, predicted = read_json(folder / "scores.json"), [0] * 5 + [1] * 5
    macro = f1_score([0] * 8 + [1] * 2, predicted, average="macro")
    assert (
        scores["pooled"]["macro_f1"]["value"] == scores["per_seed"]["0"]["macro_f1"] == pytest.approx(macro)
    )
    assert scores["pooled"]["accuracy"]["low"] <= 0.7 <= scores["pooled"]["accuracy"]["high"]
    lines = (folder / "report.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines if line.strip().startswith(("Blues", "Folk"))] == ["8", "2"]
    table = pd.read_csv(folder / "confusion.csv").set_index("truth")
    assert (table.loc["Blues"].tolist(), table.loc["Folk"].tolist()) == ([5, 3], [0, 2])
    pd.testing.assert_frame_equal(read_classes(folder / "truth.csv", list(truth)), truth)


def test_classes_that_differ_from_the_truths_are_refused(genres):
    truth, folder = genres
    with pytest.raises(InputError, match=r"truth\.csv has the classes Folk, which were not predicted"):
        read_classes(folder / "truth.csv", ["Blues", "Rock"])
    with pytest.raises(InputError, match="are of Blues, Folk, but the truth is of Blues, Rock"):
        genre_scores_of_folds(truth.rename(columns={"Folk": "Rock"}), {0: {0: truth}})
    (folder / "truth.csv").write_text("Id,valence\n1,0.5\n")
    with pytest.raises(InputError, match=r"truth\.csv has the classes 0\.5, which were not"):
        read_classes(folder / "truth.csv", list(truth))
    (folder / "truth.csv").unlink()
    with pytest.raises(InputError, match=r"truth\.csv does not exist"):
        read_classes(folder / "truth.csv", list(truth))


@pytest.mark.parametrize("run", TRACKED, ids=lambda path: path.name)
def test_scores_of_tracked_runs_are_what_they_were(run):
    tables = [read_predictions(run / name) for name in ("truth.csv", "oof.csv")]
    found, held = pooled_scores(*tables), read_json(run / "scores.json")["pooled"]
    assert {name: pytest.approx(each, abs=1e-9) for name, each in held.items()} == found
