"""What every training refuses and warns of: clips, groups and recordings both learnt from and scored."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.datasets import duplicates
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_run
from music_emotion.datasets.store import Store
from music_emotion.files import InputError
from music_emotion.models.network import save_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import load_sets, make_network, run_experiment, train_folds
from music_emotion.training.leaks import check_folds, check_trunk, find_leaks

N_FRAMES = 1292
TOML = 'name = "small"\n[data]\nroot = "."\n[folds]\nn = 3\n[classical]\nkind = "ridge"\n'


def recording(seed: int) -> np.ndarray:
    """An array of 30 s in which every mel band moves on its own."""
    rng = np.random.default_rng(seed)
    moves = np.repeat(rng.normal(-30, 8, (35, N_FRAMES // 10 + 1)), 10, axis=1)[:, :N_FRAMES]
    return np.clip(np.repeat(moves, 4, axis=0), -80, 0).astype(np.float32)


def disturbed(array: np.ndarray) -> np.ndarray:
    """The recording cut a second later, 5 dB louder, with some noise."""
    cut = array[:, 43:]
    return np.clip(cut + np.random.default_rng(0).normal(5, 2, cut.shape), -80, 0).astype(np.float32)


def write(split: str, clip_id: int, array: np.ndarray) -> None:
    Path("multitask_dataset", split).mkdir(parents=True, exist_ok=True)
    np.save(Path("multitask_dataset", split, f"{clip_id}.fused.full.npy"), array)


def fold_of(name: str = "small") -> dict[int, int]:
    tables = Path("runs", name).glob("seed0/fold*/valid.csv")
    return {int(i): int(path.parent.name[4:]) for path in tables for i in pd.read_csv(path)["Id"]}


def test_near_duplicates_across_a_border_are_named_and_a_group_mends_it(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    for split, seeds in (("train", range(12)), ("test", range(100, 104))):
        for clip_id, seed in enumerate(seeds):
            write(split, clip_id, recording(seed))
    labels = pd.DataFrame({"Id": range(12), "valence": np.random.default_rng(0).random(12).round(3)})
    labels.to_csv("multitask_dataset/train_labels.txt", index=False)
    Path("small.toml").write_text(TOML)
    train = partial(run_script, "train.py", "small.toml")
    status, out, _ = train()
    assert status == 0
    assert "warning" not in out
    other = next(clip_id for clip_id, fold in fold_of().items() if fold != fold_of()[0])
    write("train", other, disturbed(recording(0)))
    tested = next(clip_id for clip_id in range(1, 12) if clip_id != other)
    write("test", 2, recording(tested))
    status, out, _ = train()
    assert status == 0
    assert "warning: Pairs of clips seem to share a recording (all are in runs/small/leaks.csv)." in out
    assert f"1 (fold border): 0 and {other} (0." in out
    assert "--folds.groups" in out
    assert f"1 (train and test): {tested} and 2 (1." in out
    assert "out-of-fold score does not estimate their test score" in out
    table = pd.read_csv("runs/small/leaks.csv")
    assert table["similarity"].between(0.7, 1.001).all()
    assert table.drop(columns="similarity").to_dict("records") == [
        {"Id": tested, "duplicate": 2, "where": "train and test"},
        {"Id": 0, "duplicate": other, "where": "fold border"},
    ]
    write("test", 2, recording(102))
    groups = pd.DataFrame({"Id": range(12), "group": range(12)}).replace({"group": {other: 0}})
    groups.to_csv("groups.csv", index=False)
    assert "warning" not in train("--name", "mended", "--folds.groups", "groups.csv")[1]
    assert fold_of("mended")[0] == fold_of("mended")[other]
    write("train", other, recording(other))
    train()
    assert not Path("runs/small/leaks.csv").exists()


def rows(values: np.ndarray) -> ClipSet:
    """Clips that are rows of a table of statistics."""
    store = Store.in_memory(values.astype(np.float32), np.ones(len(values), int), is_fused=False)
    return ClipSet.unlabelled(store, ("t",))


@pytest.fixture
def as_fingerprints(monkeypatch):
    """Frames of clips are their fingerprints."""
    monkeypatch.setattr(duplicates, "fingerprint", lambda frames, _: frames)


def recordings(n: int, copies: dict[int, int] | None = None, seed: int = 0) -> ClipSet:
    """Clips with unlike fingerprints, but for some copies of others."""
    made = np.random.default_rng(seed).normal(0, 1, (n, 64, 16))
    fingerprints = (made / np.linalg.norm(made, axis=(1, 2), keepdims=True)).astype(np.float16)
    for copy, original in (copies or {}).items():
        fingerprints[copy] = fingerprints[original]
    return ClipSet.unlabelled(Store.in_memory(fingerprints.reshape(-1, 16), [64] * n), ("t",))


def in_three_folds(clips: ClipSet) -> list[Fold]:
    fold_of = np.arange(len(clips)) // 4
    return [Fold(0, k, clips.select(fold_of != k), clips.select(fold_of == k)) for k in range(3)]


def found(folds: list[Fold], test: ClipSet) -> list[tuple[int, int, str]]:
    pairs, n = find_leaks(folds, test)
    assert n == len(pairs)
    return sorted(pairs[["Id", "duplicate", "where"]].itertuples(index=False, name=None))


@pytest.mark.usefixtures("as_fingerprints")
def test_copies_count_across_the_borders_of_any_fold_and_not_within_a_fold_or_the_test_split():
    clips, test = recordings(12, {1: 0, 10: 9}), recordings(4, {3: 1}, seed=1)
    assert found(in_three_folds(clips), test) == []
    borders = [(0, 5, "fold border"), (1, 5, "fold border")]
    assert found(in_three_folds(recordings(12, {1: 0, 5: 0})), test) == borders
    folds = [Fold(0, k, clips.select(np.array([0, 1])), clips.select(np.array([2]))) for k in range(15)]
    folds[12] = Fold(0, 12, clips.select(np.array([0, 2])), clips.select(np.array([1])))
    assert found(folds, test) == [(0, 1, "fold border")]


@pytest.mark.usefixtures("as_fingerprints")
def test_copies_between_train_and_test_name_the_clip_of_the_test_split_second():
    clips, test = recordings(12, {11: 4}), recordings(4, seed=1)
    test.store.frames[128:192] = clips.store.frames_of(7)
    expected = [(4, 11, "fold border"), (7, 2, "train and test")]
    assert found(in_three_folds(clips), test) == expected
    assert found([Fold(0, 0, clips, test)], test) == expected[1:]  # as in pretraining
    clips = recordings(12, {5: 1, 9: 2, 10: 6})
    holdout = Fold(0, 0, *(clips.select(np.arange(12) // 4 == number) for number in range(3)))
    expected = [(1, 5, "fold border"), (2, 9, "train and test")]
    assert found([holdout], clips.select(np.zeros(0, np.int64))) == expected


def test_rows_of_statistics_count_when_they_are_equal():
    values = np.random.default_rng(0).random((8, 5))
    values[6], values[3] = values[1], values[2]
    clips, test = rows(values), rows(values[[5, 7]] + np.array([[0.0], [1e-3]]))
    fold = Fold(0, 0, clips.select(np.arange(4)), clips.select(np.arange(4, 8)))
    pairs, n = find_leaks([fold], test)
    assert n == 1  # 2 and 3 are on one side; 5, alike a test clip, is not trained on in any fold
    assert pairs.values.tolist() == [[1, 6, 1.0, "fold border"]]
    other = Fold(0, 1, clips.select(np.arange(4, 8)), clips.select(np.arange(4)))
    assert find_leaks([fold, other], test)[0].values.tolist() == [
        [1, 6, 1.0, "fold border"],
        [5, 0, 1.0, "train and test"],
    ]


@pytest.mark.usefixtures("as_fingerprints")
def test_of_very_many_clips_equal_fingerprints_alone_are_found(monkeypatch):
    clips = recordings(6, {4: 0, 5: 1})
    clips.store.frames_of(5)[:] *= np.float16(0.9)
    fold = Fold(0, 0, clips.select(np.arange(3)), clips.select(np.arange(3, 6)))
    nothing = clips.select(np.zeros(0, np.int64))
    assert found([fold], nothing) == [(0, 4, "fold border"), (1, 5, "fold border")]
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 2)
    assert found([fold], nothing) == [(0, 4, "fold border")]


def folds_and_clips(experiment):
    clips, _ = load_sets(experiment, make_accelerator())
    return folds_of_run(experiment, clips), clips


def test_a_clip_in_two_of_training_validation_and_test_is_refused(small):
    experiment = small(folds={"split": "holdout"})
    (fold,), clips = folds_and_clips(experiment)
    for one, other in (("training", "valid"), ("training", "test"), ("valid", "test")):
        ids = getattr(fold, one).ids
        both = clips.select(np.isin(clips.ids, [*getattr(fold, other).ids, ids[0], ids[1]]))
        with pytest.raises(InputError, match=rf"seed0/fold0: 2 clips are in two of .*: {ids[0]}, {ids[1]}\."):
            check_folds(experiment, [replace(fold, **{other: both})])
    elsewhere = replace(fold.training, store=replace(clips.store))  # clips of other arrays
    check_folds(experiment, [replace(fold, test=elsewhere)])


@pytest.mark.parametrize("split", ["folds", "holdout"])
def test_a_group_in_two_of_training_validation_and_test_is_refused(small, tmp_path, split):
    path = tmp_path / "groups.csv"
    experiment = small(folds={"split": split, "groups": str(path)}, seeds=[0, 1])
    pd.DataFrame({"Id": range(1000, 1040), "group": [n // 3 for n in range(40)]}).to_csv(path, index=False)
    folds, clips = folds_and_clips(experiment)
    check_folds(experiment, folds)
    two = [folds[0].training.ids[0], folds[0].sets[-1].ids[0]]
    groups = ["band" if i in two else str(i) for i in clips.ids]
    pd.DataFrame({"Id": clips.ids, "group": groups}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"seed0/fold0: 1 groups of .*groups\.csv are in two of .*: band\."):
        check_folds(experiment, folds)


def test_a_run_from_such_a_trunk_leaves_no_directory(small, tmp_path):
    """A trunk that has learnt the task from clips which are scored; not one that held them out."""

    def trunk_of(experiment, clips, held_out) -> str:
        place = tmp_path / f"trunk-of-{experiment.task}"
        network = make_network(experiment, clips, 0)
        save_model(place / "model.safetensors", network, network.state_dict())
        if held_out is not None:
            held_out.truth.to_csv(place / "valid.csv")
        return str(place / "model.safetensors")

    experiment = small()
    folds, clips = folds_and_clips(experiment)
    for held_out in (None, folds[0].valid):
        started = small(model={"trunk": trunk_of(experiment, clips, held_out)})
        seen = f"seed0/fold1 is scored on {len(folds[1].valid)} clips that may have trained"
        with pytest.raises(InputError, match=seen):
            check_trunk(started, folds[1:])
        with pytest.raises(InputError, match="may have trained"):
            run_experiment(started, make_accelerator(), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    check_trunk(started, folds[:1])
    genres = small(task="genre")
    check_trunk(small(model={"trunk": trunk_of(genres, *load_sets(genres, make_accelerator()))}), folds)


def test_a_fold_does_not_go_on_with_other_clips_or_labels(small, tmp_path, monkeypatch):
    experiment = small(train={"epochs": 2}, excerpt={"per_clip": 1})
    folds, clips = folds_and_clips(experiment)
    nothing = clips.select(np.zeros(0, np.int64))

    def train(fold) -> bool:
        return train_folds(experiment, [fold], nothing, make_accelerator(), tmp_path / "run")

    ends = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.training.loop.Trainer._ends_after", lambda *_: next(ends))
        assert not train(folds[0])
    assert (tmp_path / "run/seed0/fold0" / STATE).exists()
    labels = folds[0].training.values.copy()
    labels[3, 1] += 0.01
    swapped = replace(folds[1], number=0)
    for changed in (replace(folds[0], training=replace(folds[0].training, values=labels)), swapped):
        with pytest.raises(InputError, match=r"state\.pt is of a training on other clips or labels"):
            train(changed)
    assert train(folds[0])
    with pytest.raises(InputError, match=r"fold0/valid\.csv holds predictions of other clips"):
        train(swapped)
