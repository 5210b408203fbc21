"""What every training refuses and warns of: clips, groups and recordings on two sides of a fold."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.datasets import duplicates
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run
from music_emotion.datasets.store import Store
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets
from music_emotion.training.leaks import find_leaks

N_FRAMES = 1292
TOML = 'name = "small"\n[data]\nroot = "."\n[folds]\nn = 3\n[classical]\nkind = "ridge"\n'


def recording(seed: int) -> np.ndarray:
    """An array of 30 s in which every mel band moves on its own."""
    rng = np.random.default_rng(seed)
    moves = np.repeat(rng.normal(-30, 8, (32, N_FRAMES // 10 + 1)), 10, axis=1)[:, :N_FRAMES]
    array = np.concatenate([np.repeat(moves, 4, axis=0), rng.random((12, N_FRAMES))])
    array[:128] = np.clip(array[:128], -80, 0)
    return array.astype(np.float32)


def disturbed(array: np.ndarray, seed: int = 0) -> np.ndarray:
    """The recording cut a second later, 5 dB louder, with some noise."""
    cut = array[:, 43:].copy()
    cut[:128] = np.clip(cut[:128] + 5 + np.random.default_rng(seed).normal(0, 2, cut[:128].shape), -80, 0)
    return cut


def write(split: str, clip_id: int, array: np.ndarray) -> None:
    Path("multitask_dataset", split).mkdir(parents=True, exist_ok=True)
    np.save(Path("multitask_dataset", split, f"{clip_id}.fused.full.npy"), array)


@pytest.fixture
def train(tmp_path, monkeypatch, run_script):
    """Train a ridge regression on 12 recordings, 0 to 11, and 4 to test on: `train("--name", "x")`."""
    monkeypatch.chdir(tmp_path)
    labels = np.random.default_rng(0).random(12)
    for clip_id in range(12):
        write("train", clip_id, recording(clip_id))
    for clip_id in range(4):
        write("test", clip_id, recording(100 + clip_id))
    lines = ["Id,valence", *(f"{clip_id},{label:.3f}" for clip_id, label in enumerate(labels))]
    Path("multitask_dataset/train_labels.txt").write_text("\n".join(lines) + "\n")
    Path("small.toml").write_text(TOML)
    return lambda *flags: run_script("train.py", "small.toml", *flags)


def fold_of(name: str = "small") -> dict[int, int]:
    tables = Path("runs", name).glob("seed0/fold*/valid.csv")
    return {int(i): int(path.parent.name[4:]) for path in tables for i in pd.read_csv(path)["Id"]}


def pairs_of(name: str) -> list[tuple[int, int, str]]:
    table = pd.read_csv(f"runs/{name}/leaks.csv")
    assert table.columns.tolist() == ["Id", "duplicate", "similarity", "where"]
    assert table["similarity"].between(0.7, 1.001).all()
    return [tuple(row) for row in table[["Id", "duplicate", "where"]].itertuples(index=False)]


def test_unrelated_clips_are_trained_without_a_word(train):
    status, out, _ = train()
    assert status == 0
    assert "warning" not in out
    assert not Path("runs/small/leaks.csv").exists()


def test_near_duplicates_across_a_border_are_named_and_a_group_mends_it(train):
    train()
    one = 0
    other = next(clip_id for clip_id, fold in fold_of().items() if fold != fold_of()[one])
    write("train", other, disturbed(recording(one)))
    status, out, _ = train("--name", "leaky")
    assert status == 0
    assert "warning: 1 pairs of clips seem to be one recording, but are trained on and validated" in out
    assert f"in the same fold: {one} and {other} (0." in out
    assert "--folds.groups" in out
    assert "runs/leaky/leaks.csv" in out
    assert pairs_of("leaky") == [(one, other, "fold border")]

    groups = [f"{clip_id},{one if clip_id == other else clip_id}" for clip_id in range(12)]
    Path("groups.csv").write_text("Id,group\n" + "\n".join(groups) + "\n")
    status, out, _ = train("--name", "mended", "--folds.groups", "groups.csv")
    assert status == 0
    assert "warning" not in out
    assert fold_of("mended")[one] == fold_of("mended")[other]


def test_a_list_of_pairs_that_are_gone_is_removed(train):
    train()
    other = next(clip_id for clip_id, fold in fold_of().items() if fold != fold_of()[0])
    write("train", other, recording(0))
    train()
    assert pairs_of("small") == [(0, other, "fold border")]
    write("train", other, recording(other))
    train()
    assert not Path("runs/small/leaks.csv").exists()


def test_near_duplicates_of_one_fold_are_fine(train):
    train()
    other = next(clip_id for clip_id, fold in fold_of().items() if clip_id and fold == fold_of()[0])
    write("train", other, disturbed(recording(0)))
    assert "warning" not in train("--name", "again")[1]


def test_of_three_copies_all_pairs_across_borders_count(train):
    train()
    before = fold_of()
    same = next(clip_id for clip_id in range(1, 12) if before[clip_id] == before[0])
    other = next(clip_id for clip_id in range(1, 12) if before[clip_id] != before[0])
    write("train", same, recording(0))
    write("train", other, recording(0))
    train("--name", "three")
    borders = {tuple(sorted((0, other))), tuple(sorted((same, other)))}
    assert {pair[:2] for pair in pairs_of("three")} == borders


def test_near_duplicates_in_the_test_split_are_named_beside_those_across_borders(train):
    train()
    other = next(clip_id for clip_id, fold in fold_of().items() if fold != fold_of()[0])
    write("train", other, recording(0))
    write("test", 2, disturbed(recording(7)))
    write("test", 3, recording(102))  # two test clips alike are nothing learnt from
    write("test", 1, recording(102))
    _, out, _ = train("--name", "leaky")
    assert set(pairs_of("leaky")) == {(0, other, "fold border"), (7, 2, "train and test")}
    assert "1 clips of the training split seem to be clips of the test split, too: 7 and 2 (0." in out
    assert "the out-of-fold score is no estimate" in out


def test_a_holdout_is_looked_at_too(train):
    write("train", 1, disturbed(recording(0)))
    shares = ("--folds.valid-share", "0.3", "--folds.test-share", "0.3")
    seen = set()
    for seed in range(4):
        name, place = f"h{seed}", Path(f"runs/h{seed}")
        assert train("--folds.split", "holdout", "--seeds", str(seed), "--name", name, *shares)[0] == 0
        parts = {p: set(pd.read_csv(place / f"seed{seed}/fold0/{p}.csv")["Id"]) for p in ("valid", "test")}
        sides = [next((p for p, ids in parts.items() if i in ids), "train") for i in (0, 1)]
        where = {"train valid": "fold border", "test train": "train and test"}
        expected = where.get(" ".join(sorted(sides)))
        seen.add(expected)
        assert (place / "leaks.csv").exists() == (expected is not None), sides
        if expected:
            assert [pair[2] for pair in pairs_of(name)] == [expected]
    assert len(seen) > 1


def test_a_pretraining_is_warned_of_training_clips_in_the_test_split(small, competition, tmp_path):
    folder = tmp_path / "fma_genre_spectrograms"
    for name in ("train", "test", "train_labels.txt", "test_labels.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(competition / folder.name / name)
    experiment = small(task="genre", data={"root": str(tmp_path), "stores": str(tmp_path / "stores")})
    clips, test = load_sets(experiment, make_accelerator())
    prints = scaled_noise(len(test.store.index))
    test = replace(test, store=replace(test.store, fingerprints=prints))
    alike = scaled_noise(len(clips.store.index), seed=1)
    alike[clips.store.index.index.get_loc(clips.ids[4])] = prints[test.store.index.index.get_loc(test.ids[2])]
    clips = replace(clips, store=replace(clips.store, fingerprints=alike))
    pairs, _ = find_leaks(folds_of_pretraining(experiment, clips, test), test)
    (pair,) = pairs.itertuples(index=False)
    assert tuple(pair)[::3] == (clips.ids[4], "train and test")
    assert pair.duplicate == test.ids[2]


def scaled_noise(n: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(0, 1, (n, 64, 16))
    return (made / np.linalg.norm(made, axis=(1, 2), keepdims=True)).astype(np.float16)


def rows(values: np.ndarray) -> ClipSet:
    """Clips that are rows of a table of statistics."""
    index = pd.DataFrame({"start": range(len(values)), "length": 1}, pd.Index(range(len(values)), name="Id"))
    store = Store(values.astype(np.float32), index, is_fused=False)
    return ClipSet(index.index.to_numpy(), store, ("t",), np.zeros((len(values), 1), np.float32))


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


def test_of_very_many_clips_equal_fingerprints_alone_are_found(monkeypatch):
    prints = scaled_noise(6)
    prints[4], prints[5] = prints[0], (prints[1] * np.float16(0.9))
    clips = rows(np.random.default_rng(0).random((6, 5)))
    clips = replace(clips, store=replace(clips.store, fingerprints=prints))
    fold = Fold(0, 0, clips.select(np.arange(3)), clips.select(np.arange(3, 6)))
    nothing = clips.select(np.zeros(0, np.int64))
    assert find_leaks([fold], nothing)[0]["Id"].tolist() == [0, 1]
    monkeypatch.setattr(duplicates, "MOST_COMPARED", 5)
    assert find_leaks([fold], nothing)[0]["Id"].tolist() == [0]


def test_many_folds_are_told_apart(small):
    experiment = small(seeds=[0, 1, 2, 3, 4])
    clips, test = load_sets(experiment, make_accelerator())
    prints = scaled_noise(40)
    prints[7] = prints[2]
    clips = replace(clips, store=replace(clips.store, fingerprints=prints))
    test = replace(test, store=replace(test.store, fingerprints=scaled_noise(8, seed=3)))
    for fold in folds_of_run(experiment, clips):
        in_training = [i in fold.training.ids for i in clips.ids[[2, 7]]]
        assert find_leaks([fold], test)[1] == (in_training[0] != in_training[1])
