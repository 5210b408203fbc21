"""The memory that data take, measured on real trainings of tiny sets."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from music_emotion.bench import memory
from music_emotion.datasets.labels import read_targets
from music_emotion.datasets.layout import find_set, split_files
from music_emotion.files import InputError

ALLOCATING = "block = bytearray(300_000_000); del block; print('ready', flush=True); input()"


def test_the_peak_of_another_process_is_seen_after_it():
    with subprocess.Popen(
        [sys.executable, "-c", ALLOCATING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert 300 < memory.peak_mb(process.pid) < 400
        process.communicate("\n")
    assert memory.peak_mb(process.pid) == 0
    assert memory.peak_mb(os.getpid()) > 50


def test_the_simulated_set_is_one_of_the_competition(tmp_path):
    memory.write_set(tmp_path, arrays=20, frames=50)
    folder = find_set(tmp_path, "emotion")
    train, test = split_files(folder, "train"), split_files(folder, "test")
    assert (len(train.arrays), len(test.arrays)) == (15, 5)
    lengths = set()
    for path in (*train.arrays.values(), *test.arrays.values()):
        array = np.load(path)
        assert array.shape[0] == 140
        assert -80 <= array[:128].min() < -70 < -10 < array[:128].max() <= 0
        assert 0 <= array[128:].min() < 0.1 < 0.9 < array[128:].max() <= 1
        lengths.add(array.shape[1])
    assert lengths == {48, 49, 50}
    assert train.label_file is not None
    assert read_targets(train.label_file, (), (0.0, 1.0)).index.tolist() == list(train.arrays)


def test_the_process_that_is_measured_trains_and_predicts_the_test_split(tmp_path):
    memory.write_set(tmp_path, arrays=20, frames=40)
    assert memory.training_peak_mb(tmp_path) > 200  # torch alone
    (metrics,) = tmp_path.rglob("metrics.csv")
    assert len(pd.read_csv(metrics)) == 1
    assert len(pd.read_csv(tmp_path / "runs" / "memory" / "test.csv")) == 5


def test_the_difference_of_a_large_set_and_a_small_one_is_printed(tmp_path, capsys, monkeypatch):
    def measure(root: Path) -> float:
        return 100 + 3 * len(list(root.rglob("*.npy")))

    monkeypatch.setattr(memory, "training_peak_mb", measure)
    memory.memory(arrays=32, frames=40, few=20, folder=tmp_path)
    printed = capsys.readouterr().out
    assert re.findall(r"(\d+) arrays: (\d+) MB at most", printed) == [("20", "160"), ("32", "196")]
    assert printed.splitlines()[-1] == "data_memory_mb 36 arrays 32"
    assert list(tmp_path.iterdir()) == []


def test_a_set_that_does_not_fit_on_the_disk_is_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3.9e9))
    with pytest.raises(InputError, match=r"5300 arrays and its store take 3\.8 GB, but .* has 3\.9 GB free"):
        memory._check_space(tmp_path, 5300, 1293)
    memory._check_space(tmp_path, 5000, 1293)
