"""Runs of repeats, where every seed trains, validates and tests on parts of its own, and runs of genres."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from music_emotion.datasets.splits import folds_of_run
from music_emotion.evaluation.metrics import genre_scores
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_tables import make_page
from music_emotion.files import InputError, read_json, read_predictions
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, run_experiment
from music_emotion.training.loop import Trainer

MLP = {
    "augment": {"equaliser": None, "frequency_masks": None, "time_masks": None, "mixup": None},
    "task": "genre",
    "excerpt": {"frames": 1, "per_clip": 1, "test": 1},
    "model": {"kind": "mlp", "widths": [16, 8], "dropout": 0.0},
    "optim": {"learning_rate": 0.05},
    "train": {"epochs": 7, "valid_every": 1, "select": "best-score", "keep_last": True, "ema": None},
}


def run(experiment, directory: Path) -> dict:
    run_experiment(experiment, make_accelerator(), directory)
    return read_json(directory / "scores.json")


def test_given_windows_are_trained_validated_and_tested_in_their_own_splits(small, tmp_path, monkeypatch):
    validate = Trainer._validate  # the last epoch but one is the best
    monkeypatch.setattr(
        Trainer, "_validate", lambda trainer: validate(trainer) | {"score": trainer.progress.epoch % 7 / 7}
    )
    rng, classes = np.random.default_rng(0), np.array(["blues", "jazz", "rock"])
    for split, n in (("train", 120), ("val", 30), ("test", 45)):
        features = rng.normal(0, 1, (n, 26))
        features[:, 0] += 4 * (np.arange(n) % 3)  # tells the class
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "X.npy", features.astype(np.float32))
        np.save(tmp_path / split / "labels.npy", classes[np.arange(n) % 3])
    data = {"windows": str(tmp_path / "{split}"), "genres": {}, "root": str(tmp_path / "nowhere")}
    experiment = small(**MLP, seeds=[0, 1], data=data)
    scores = run(experiment, tmp_path / "run")
    assert [(r["n_train"], r["n_valid"], r["n_test"]) for r in scores["repeats"]] == [(120, 30, 45)] * 2
    assert scores["repeated"]["test"]["macro_f1"]["value"] > 0.7
    assert set(scores["repeated"]) == {"test", "last", "valid"}
    place = tmp_path / "run" / "seed1" / "fold0"
    truth = np.arange(45) % 3
    tables = [read_predictions(place / name) for name in ("test.csv", "test-last.csv")]
    assert not tables[0].equals(tables[1])
    for table, part in zip(tables, ("test", "last"), strict=True):
        by_hand = genre_scores(truth, table.to_numpy(), list(table))
        loss = -np.log(table.to_numpy()[np.arange(45), truth]).mean()
        assert scores["repeats"][1][part] == pytest.approx({**by_hand, "loss": loss}, rel=1e-4)
    for mark in ("", "-last"):
        counts = pd.read_csv(tmp_path / "run" / f"confusion{mark}.csv", index_col="truth")
        assert counts.to_numpy().sum() == 90


def test_groups_of_a_set_are_those_the_extraction_left(small, competition, tmp_path):
    """Without its record, it is not known whether clips share a recording."""
    folder = tmp_path / "own" / "multitask_dataset"
    folder.mkdir(parents=True)
    for name in ("train", "test", "train_labels.txt"):
        (folder / name).symlink_to(competition / "multitask_dataset" / name)
    experiment = small(folds={"split": "holdout", "groups": "set"}, data={"root": str(folder.parent)})
    clips, _ = load_sets(experiment, make_accelerator())
    ids = pd.DataFrame({"id": clips.ids, "path": [f"{n}.wav" for n in range(40)]})
    ids.to_csv(folder / "ids-train.csv", index=False)
    assert 5 <= len(folds_of_run(experiment, clips)[0].test) <= 7
    ids.assign(path="long.wav").to_csv(folder / "ids-train.csv", index=False)
    with pytest.raises(InputError, match=r"has no groups-train\.csv, so which clips share a recording"):
        folds_of_run(experiment, clips)
    pairs = pd.DataFrame({"Id": clips.ids, "group": np.arange(40) // 2})
    pairs.to_csv(folder / "groups-train.csv", index=False)
    (fold,) = folds_of_run(experiment, clips)
    assert not set((fold.test.ids - 1000) // 2) & set((fold.training.ids - 1000) // 2)


def test_emotion_repeats_are_scored_on_their_own_test_clips(small, tmp_path):
    experiment = small(seeds=[0, 1], folds={"split": "holdout"}, classical={"kind": "ridge", "alpha": 10.0})
    scores = run(experiment, tmp_path / "run")
    assert set(scores["repeated"]["test"]) == {"valence", "energy", "danceability", "mean"}
    clips, _ = load_sets(experiment, make_accelerator())
    for fold in folds_of_run(experiment, clips):
        table = read_predictions(tmp_path / "run" / fold.folder / "test.csv")
        assert table.index.tolist() == sorted(fold.test.ids)
    assert "measures" not in scores  # of other clips each
    measures = run(experiment.model_copy(update={"seeds": (1,)}), tmp_path / "runs" / "one")["measures"]
    known = fold.test.truth["energy"]
    assert measures["r2"]["energy"]["value"] == pytest.approx(
        r2_score(known, table.loc[known.index, "energy"])
    )
    assert measures["r2"]["energy"]["n"] == len(table)
    page = make_page(read_report(tmp_path / "runs", tmp_path), "report", tmp_path)
    shown = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**measures["r2"]["energy"])
    assert shown in page.partition("Other measures")[2]


@pytest.mark.parametrize("settings", [{"classical": {"kind": "svm"}}, {"train": {"epochs": 1}}])
def test_genres_without_a_test_split_are_scored(small, competition, tmp_path, capsys, settings):
    root = tmp_path / "own"
    (root / "fma_genre_spectrograms").mkdir(parents=True)
    for name in ("train", "train_labels.txt"):
        (root / "fma_genre_spectrograms" / name).symlink_to(competition / "fma_genre_spectrograms" / name)
    scores = run(small(task="genre", folds={"n": 2}, data={"root": str(root)}, **settings), tmp_path / "run")
    assert scores["n"] == 24
    assert "classical" not in settings or scores["pooled"]["macro_f1"]["value"] > 0.8
    assert "Blues" in (tmp_path / "run" / "report.txt").read_text()
    assert not list((tmp_path / "run").rglob("test.csv"))
    assert "has no test split" in capsys.readouterr().out
