"""Telling the test split from the training split: a made shift is noticed and named, none is not."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.shift import shift_score

AUC = re.compile(r"AUC (\d\.\d+) \[(\d\.\d+), (\d\.\d+)\], n = (\d+) \+ (\d+)")
TOML = '[data]\nroot = "{root}"\n[folds]\nn = 3\n[classical]\nkind = "ridge"\n'


@pytest.fixture
def check(tmp_path, monkeypatch, run_script):
    """Check an emotion set below a root for a shift: `check("data", "--folds.groups", "g.csv")`."""
    monkeypatch.chdir(tmp_path)

    def run(root: str, *flags: str) -> str:
        Path("small.toml").write_text(TOML.format(root=root))
        status, out, errors = run_script("train.py", "small.toml", "--check-shift", *flags)
        assert status == 0, errors
        return out

    return run


def change_test(root: Path, change) -> None:
    for path in (root / "multitask_dataset" / "test").iterdir():
        np.save(path, change(np.load(path)))


def quieter(array: np.ndarray) -> np.ndarray:
    array[:128] = np.clip(array[:128] - 6, -80, 0)
    return array


def without_heights(array: np.ndarray) -> np.ndarray:
    array[96:128] = -80
    return array


def shorter(array: np.ndarray) -> np.ndarray:
    return array[:, :45]


def test_splits_of_one_kind_are_not_told_apart_and_nothing_is_trained(check, tmp_path, make_emotion):
    make_emotion(tmp_path / "data", n_train=60, n_test=60)
    out = check("data")
    value, low, high, n_train, n_test = map(float, AUC.search(out).groups())
    assert low <= 0.5 < high
    assert low < value < high
    assert (n_train, n_test) == (60, 60)
    assert "can't be told apart, so the out-of-fold score should carry over" in out
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (quieter, r"level of .* Hz.*: [\d.]+ deviations lower in the test split"),
        (without_heights, r"level of [3-9],\d00 to [\d,]+ Hz.*: [\d.]+ deviations lower"),
        (shorter, r"length in frames: [\d.]+ deviations lower"),
    ],
)
def test_a_made_shift_is_noticed_and_named(check, tmp_path, make_emotion, change, named):
    make_emotion(tmp_path / "data", n_train=40, n_test=40)
    change_test(tmp_path / "data", change)
    out = check("data")
    value, low, *_ = map(float, AUC.search(out).groups())
    assert low > 0.8
    assert value > 0.9
    assert "The splits differ, so the out-of-fold score may not carry over" in out
    lines = [line for line in out.splitlines() if line.startswith("  ")]
    assert len(lines) == 5
    assert re.search(named, lines[0]), lines
    sizes = [float(re.search(r": ([\d.]+) deviations", line).group(1)) for line in lines]
    assert sizes == sorted(sizes, reverse=True)


def test_a_table_of_statistics_is_checked_by_its_columns(check, tmp_path, make_emotion):
    make_emotion(tmp_path / "data", n_train=40, n_test=30)
    rng = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 30)):
        table = pd.DataFrame({"id": range(1000, 1000 + n), "tempo_bpm": rng.normal(100, 10, n)})
        table["flatness_mean"] = rng.normal(3 if split == "test" else 0, 1, n)
        table.to_csv(f"{split}.csv", index=False)
    out = check("data", "--data.statistics", "{split}.csv")
    assert re.search(r"^  flatness_mean: [23]\.\d\d deviations higher", out, re.MULTILINE)
    assert float(AUC.search(out).group(2)) > 0.8


def test_genres_are_checked_by_pretrain(competition, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    Path("genre.toml").write_text(f'task = "genre"\n[data]\nroot = "{competition}"\n')
    status, out, _ = run_script("pretrain.py", "genre.toml", "--check-shift")
    assert status == 0
    assert AUC.search(out).groups()[3:] == ("24", "9")  # one of four classes is left out


def test_without_a_test_split_there_is_nothing_to_compare(tmp_path, monkeypatch, make_emotion, run_script):
    monkeypatch.chdir(tmp_path)
    make_emotion(tmp_path / "data", n_train=20, n_test=4)
    Path("small.toml").write_text(TOML.format(root="data"))
    status, _, errors = run_script("train.py", "small.toml", "--check-shift")
    assert status == 2
    assert "data has 20 training and 4 test clips. Give 5 clips of each or more." in errors
    for path in Path("data/multitask_dataset/test").iterdir():
        path.unlink()
    Path("data/multitask_dataset/test").rmdir()
    status, _, errors = run_script("train.py", "small.toml", "--check-shift")
    assert status == 2
    assert "data has no test split" in errors
    status, _, errors = run_script("train.py", "small.toml", "--check-shift", "--folds.split", "holdout")
    assert status == 2
    assert "tests on clips of its own" in errors


def test_what_only_tells_groups_does_not_tell_the_splits():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    is_test = groups >= 10
    statistics = rng.normal(0, 1, (20, 4))[groups] + rng.normal(0, 0.01, (200, 4))
    grouped = shift_score(statistics, is_test, groups)
    alone = shift_score(statistics, is_test, np.arange(200))
    assert alone["low"] > 0.95  # every clip has its like among those that are learnt from
    assert grouped["value"] < 0.8
    assert grouped["n"] == 200


def test_the_area_is_scikit_learns():
    from sklearn.metrics import roc_auc_score

    from music_emotion.evaluation import shift

    rng = np.random.default_rng(1)
    is_test, probability = rng.random((3, 30)) < 0.4, rng.integers(0, 9, (3, 30)) / 9
    expected = [roc_auc_score(a, b) for a, b in zip(is_test, probability, strict=True)]
    np.testing.assert_allclose(shift._area(is_test, probability), expected)
    assert shift._area(np.zeros((1, 5), bool), np.arange(5.0)[None]).tolist() == [0.5]
