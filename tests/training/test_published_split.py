"""Training, validation and test clips as the set was published with them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.metrics import table_scores
from music_emotion.files import InputError, read_json, read_predictions
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, run_experiment

SETS = {"emotion": "multitask_dataset", "genre": "fma_genre_spectrograms"}


def published(competition: Path, root: Path, task: str, n_valid: int = 8) -> Path:
    """A copy of a set with labels of its test clips, whose first training clips are for validation."""
    own = competition / SETS[task]
    folder = root / own.name
    folder.mkdir(parents=True)
    for path in own.iterdir():
        (folder / path.name).symlink_to(path)
    ids = {s: sorted(int(path.name.split(".")[0]) for path in (own / s).iterdir()) for s in ("train", "test")}
    if task == "emotion":  # ids of the fixture's test clips are also those of training clips
        (folder / "test").unlink()
        (folder / "test").mkdir()
        for clip_id in ids["test"]:
            name = f"{clip_id}.fused.full.npy"
            (folder / "test" / name.replace("1", "9", 1)).symlink_to(own / "test" / name)
        ids["test"] = [clip_id + 8000 for clip_id in ids["test"]]
        labels = np.random.default_rng(0).random((len(ids["test"]), 3)).round(3)
        table = pd.DataFrame(labels, pd.Index(ids["test"], name="Id"), ["valence", "energy", "danceability"])
        table.to_csv(folder / "test_labels.txt")
    parts = ["validation"] * n_valid + ["train"] * (len(ids["train"]) - n_valid) + ["test"] * len(ids["test"])
    splits = pd.DataFrame({"Id": ids["train"] + ids["test"], "split": parts})
    splits.to_csv(folder / "splits.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("task", "settings", "sizes"),
    [
        ("emotion", {"train": {"select": "best-score", "valid_every": 1}}, (32, 8, 8)),
        ("emotion", {"classical": {"kind": "ridge"}}, (32, 8, 8)),
        ("genre", {"classical": {"kind": "svm"}}, (16, 8, 9)),
        ("genre", {"train": {"epochs": 1}}, (16, 8, 9)),
    ],
)
def test_each_seed_is_scored_on_the_published_test_clips(small, competition, tmp_path, task, settings, sizes):
    folder = published(competition, tmp_path / "set", task, n_valid=8 if task == "emotion" else 11)
    experiment = small(
        task=task,
        seeds=[0, 1],
        folds={"split": "published"},
        data={"root": str(tmp_path / "set")},
        **settings,
    )
    run_experiment(experiment, make_accelerator(), tmp_path / "run")
    scores = read_json(tmp_path / "run" / "scores.json")
    repeats = scores["repeats"]
    tables = [read_predictions(tmp_path / "run" / f"seed{seed}/fold0/test.csv") for seed in (0, 1)]
    truth = pd.read_csv(tmp_path / "run" / "truth-test.csv", index_col="Id")
    if task == "genre":
        truth = pd.get_dummies(truth.iloc[:, 0])
    expected = table_scores(task, truth.reindex(columns=tables[0].columns).astype(float), sum(tables) / 2)
    for name, value in expected.items():
        assert scores["pooled"][str(name)]["value"] == pytest.approx(value), name
        assert scores["pooled"][str(name)]["low"] <= value <= scores["pooled"][str(name)]["high"]
        assert scores["pooled"][str(name)]["n"] == sizes[2]
    assert [(r["n_train"], r["n_valid"], r["n_test"]) for r in repeats] == [sizes] * 2
    splits = pd.read_csv(folder / "splits.csv", index_col="Id")["split"]
    for name, split in (("valid", "validation"), ("test", "test")):
        tables = [read_predictions(tmp_path / "run" / f"seed{seed}/fold0/{name}.csv") for seed in (0, 1)]
        assert all((splits.loc[table.index] == split).all() for table in tables)


def test_without_validation_clips_each_seed_holds_out_a_tenth_by_group_and_shared_groups_are_told(
    small, competition, tmp_path, capsys
):
    from music_emotion.datasets.splits import folds_of_run

    folder = published(competition, tmp_path / "set", "emotion", n_valid=0)
    for split, first, n in (("train", 1000, 40), ("test", 9000, 8)):
        groups = pd.DataFrame({"Id": range(first, first + n), "group": [f"band {k // 2}" for k in range(n)]})
        groups.to_csv(folder / f"groups-{split}.csv", index=False)
    data = {"root": str(tmp_path / "set")}
    experiment = small(seeds=[0, 1], folds={"split": "published", "groups": "set"}, data=data)
    clips, _ = load_sets(experiment, make_accelerator())
    folds = folds_of_run(experiment, clips)
    assert [(len(f.training), len(f.valid), len(f.test)) for f in folds] == [(36, 4, 8)] * 2
    assert set(folds[0].valid.ids) != set(folds[1].valid.ids)
    for fold in folds:
        assert not set((fold.valid.ids - 1000) // 2) & set((fold.training.ids - 1000) // 2)
    said = capsys.readouterr().out
    assert "each seed holds out one in 10 training clips" in said
    assert "8 of 8 test clips share a group" in said


def test_a_set_without_a_published_split_gets_a_sentence(small, competition, tmp_path):
    from music_emotion.datasets.splits import folds_of_run

    folder = published(competition, tmp_path / "set", "emotion")
    experiment = small(folds={"split": "published"}, data={"root": str(tmp_path / "set")})
    clips, _ = load_sets(experiment, make_accelerator())
    splits = (folder / "splits.csv").read_text()
    faults = {
        "1000,validation": ("1000,dev", r"splits\.csv: dev is none of train, validation, test\. Correct it"),
        "1001,validation": ("1001,test", r"1 clips of .*train are not train or validation: 1001\. Extract"),
        "1002,validation\n": ("", r"1 clips of .*train are not train or validation: 1002\. Extract"),
    }
    for right, (wrong, sentence) in faults.items():
        (folder / "splits.csv").write_text(splits.replace(right, wrong))
        with pytest.raises(InputError, match=sentence):
            folds_of_run(experiment, clips)
    (folder / "splits.csv").write_text(splits)
    (folder / "test_labels.txt").unlink()
    with pytest.raises(InputError, match=r"has no test_labels\.txt, so its published test clips can't be sc"):
        folds_of_run(experiment, clips)
    (folder / "splits.csv").unlink()
    with pytest.raises(InputError, match=r"table of the published split .*splits\.csv .*column 'split'"):
        folds_of_run(experiment, clips)


def test_tags_that_no_clip_of_a_part_has_are_told_with_the_flag_that_leaves_them_out(
    small, competition, tmp_path
):
    folder = published(competition, tmp_path / "set", "emotion")
    parts = pd.read_csv(folder / "splits.csv", index_col="Id")["split"]
    tags = pd.DataFrame(np.random.default_rng(0).integers(0, 2, (len(parts), 4)), parts.index, list("abcd"))
    tags.loc[parts == "validation", "b"] = 0
    tags.loc[parts == "test", "d"] = 1
    for split in ("train", "test"):
        (folder / f"{split}_labels.txt").unlink()
        tags[(parts == "test") == (split == "test")].to_csv(folder / f"{split}_labels.txt")
    experiment = small(folds={"split": "published"}, data={"root": str(tmp_path / "set")})
    sentence = (
        r"b is the same for all 8 clips that seed0/fold0 is scored on, so they have no order \(likewise d\)\."
        r" .* add --data\.targets a c\.$"
    )
    with pytest.raises(InputError, match=sentence):
        run_experiment(experiment, make_accelerator(), tmp_path / "run")
    data = {"root": str(tmp_path / "set"), "targets": ["a", "c"]}
    experiment = small(folds={"split": "published"}, data=data)
    run_experiment(experiment, make_accelerator(), tmp_path / "run")
    assert set(read_json(tmp_path / "run" / "scores.json")["repeats"][0]["test"]) == {"a", "c", "mean"}


def test_one_table_of_statistics_serves_all_splits(small, competition, tmp_path):
    folder = published(competition, tmp_path / "set", "emotion")
    splits = pd.read_csv(folder / "splits.csv")
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((len(splits), 3)), columns=list("abc"))
    table.insert(0, "id", splits["Id"])
    table.to_csv(tmp_path / "statistics.csv", index=False)
    data = {"root": str(tmp_path / "set"), "statistics": str(tmp_path / "statistics.csv")}
    experiment = small(folds={"split": "published"}, data=data, classical={"kind": "ridge"})
    run_experiment(experiment, make_accelerator(), tmp_path / "run")
    (repeat,) = read_json(tmp_path / "run" / "scores.json")["repeats"]
    assert (repeat["n_train"], repeat["n_valid"], repeat["n_test"]) == (32, 8, 8)
