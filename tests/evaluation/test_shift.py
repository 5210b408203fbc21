"""Telling the test split from the training split: a made shift is noticed and named, none is not."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.evaluation.shift import shift_score

AUC = re.compile(r"AUC (\d\.\d+) \[(\d\.\d+), (\d\.\d+)\], n = (\d+) \+ (\d+)")
TOML = '[data]\nroot = "data"\n[folds]\nn = 3\n[classical]\nkind = "ridge"\n'


@pytest.fixture
def check(tmp_path, monkeypatch, run_script, make_emotion):
    """Write a set, change the arrays of its test split, and check it: `check(40, 40, quieter)`."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(TOML)

    def run(n_train, n_test, change=None, *flags: str) -> tuple[int, str]:
        if not Path("data").exists():
            make_emotion(Path("data"), n_train=n_train, n_test=n_test)
        for path in Path("data/multitask_dataset/test").iterdir() if change else []:
            np.save(path, change(np.load(path)))
        status, out, errors = run_script("train.py", "small.toml", "--check-shift", *flags)
        return status, out + errors

    return run


def quieter(array: np.ndarray) -> np.ndarray:
    array[:128] = np.clip(array[:128] - 6, -80, 0)
    return array


def test_splits_of_one_kind_are_not_told_apart_and_nothing_is_trained(check):
    status, said = check(60, 60)
    value, low, high, n_train, n_test = map(float, AUC.search(said).groups())
    assert (status, n_train, n_test) == (0, 60, 60)
    assert low <= 0.5 < high
    assert low < value < high
    assert "can't be told apart, so the out-of-fold score should carry over" in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (quieter, r"level of .* Hz.*: [\d.]+ deviations lower in the test split"),
        (lambda array: array[:, :45], r"length in frames: [\d.]+ deviations lower"),
    ],
)
def test_a_made_shift_is_noticed_and_named(check, change, named):
    _, said = check(30, 30, change)
    value, low, *_ = map(float, AUC.search(said).groups())
    assert low > 0.8
    assert value > 0.9
    assert "The splits differ, so the out-of-fold score may not carry over" in said
    lines = [line for line in said.splitlines() if line.startswith("  ")]
    assert re.search(named, lines[0]), lines
    sizes = [float(re.search(r": ([\d.]+) deviations", line).group(1)) for line in lines]
    assert len(sizes) == 5
    assert sizes == sorted(sizes, reverse=True)


def test_a_table_of_statistics_is_checked_by_its_columns(check):
    rng = np.random.default_rng(0)
    for split, n, mean in (("train", 40, 0), ("test", 30, 3)):
        columns = {"tempo_bpm": rng.normal(100, 10, n), "flatness_mean": rng.normal(mean, 1, n)}
        pd.DataFrame({"id": range(1000, 1000 + n), **columns}).to_csv(f"{split}.csv", index=False)
    _, said = check(40, 30, None, "--data.statistics", "{split}.csv")
    assert re.search(r"^  flatness_mean: [23]\.\d\d deviations higher", said, re.MULTILINE)
    assert float(AUC.search(said).group(2)) > 0.8


def test_genres_are_checked_by_pretrain(competition, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    Path("genre.toml").write_text(f'task = "genre"\n[data]\nroot = "{competition}"\n')
    status, out, _ = run_script("pretrain.py", "genre.toml", "--check-shift")
    assert status == 0
    assert AUC.search(out).groups()[3:] == ("24", "9")  # one of four classes is left out


def test_without_a_test_split_there_is_nothing_to_compare(check):
    status, said = check(20, 4)
    assert status == 2
    assert "needs 5 clips of each split, but data has 20 training and 4 test clips. Give more" in said
    for path in Path("data/multitask_dataset/test").iterdir():
        path.unlink()
    Path("data/multitask_dataset/test").rmdir()
    assert "data has no test split" in check(20, 0)[1]
    assert "tests on clips of its own" in check(20, 0, None, "--folds.split", "holdout")[1]


def test_what_only_tells_groups_does_not_tell_the_splits():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    is_test = groups >= 10
    statistics = rng.normal(0, 1, (20, 4))[groups] + rng.normal(0, 0.01, (100, 4))
    grouped = shift_score(statistics, is_test, groups)
    alone = shift_score(statistics, is_test, np.arange(100))
    assert alone["low"] > 0.95  # every clip has its like among those that are learnt from
    assert grouped["value"] < 0.8
    assert grouped["n"] == 100
