"""Training with two real processes, started as a user would start them on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
TOML = """
name = "two"
[excerpt]
frames = 32
test = 2
[model]
widths = [8, 16]
[train]
epochs = 2
batch_size = 8
[folds]
n = 3
"""


def start(
    arguments: list[str], environment: dict[str, str], launcher: list[str]
) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, str(SCRIPTS / "train.py"), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def arguments(competition: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "two.toml").write_text(TOML)
    places = ["--data.root", str(competition), "--data.stores", str(tmp_path / "stores")]
    return [str(tmp_path / "two.toml"), *places, "--runs", str(tmp_path / "runs")]


TWO = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617"]


def test_two_processes_give_complete_and_unique_predictions(arguments, tmp_path):
    done = start(arguments, {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}, TWO)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "two"
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    expected = {"oof": range(1000, 1040), "test": range(1000, 1008)}
    for name, ids in expected.items():
        assert pd.read_csv(run / f"{name}.csv")["Id"].tolist() == list(ids)
    # 40 clips in 3 folds: 26 or 27 train, twice each, in global batches of 8: 6 updates an epoch
    metrics = pd.read_csv(run / "seed0" / "fold0" / "metrics.csv")
    assert metrics["updates"].tolist() == [6, 12]
    assert done.stdout.count("two (out-of-fold):") == 1  # only the main process speaks


def test_processes_that_do_not_know_of_each_other_are_refused(arguments):
    done = start(arguments, {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, [])
    assert done.returncode != 0
    assert "2 processes were started, but Accelerate sees 1" in done.stderr
