"""Training with two real processes, started as a user would start them on a CPU."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from script_process import ScriptProcess

from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.excerpts import EvenExcerpts
from music_emotion.files import alone_at, prediction_table, read_predictions
from music_emotion.models.network import load_model

FOLD = Path("seed0", "fold0")
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


EXACT = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}


@pytest.fixture
def arguments(competition: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "two.toml").write_text(TOML)
    places = ["--data.root", str(competition), "--data.stores", str(tmp_path / "stores")]
    return [str(tmp_path / "two.toml"), *places, "--runs", str(tmp_path / "runs")]


def free_port() -> str:
    with socket.socket() as free:  # a port that nothing else on this machine listens to
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launcher() -> list[str]:
    return ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]


def train(folder: Path, arguments: list[str], n_processes: int) -> None:
    """Train in processes that know of each other as the launcher tells them."""
    for process in begin(folder, arguments, n_processes):
        status, said = process.end()
        assert status == 0, said


def begin(folder: Path, arguments: list[str], n_processes: int) -> list[ScriptProcess]:
    port = free_port()
    processes = []
    for rank in map(str, range(n_processes)):
        (folder / rank).mkdir(parents=True)
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(n_processes)}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        environment = EXACT | (told | where if n_processes > 1 else {})
        processes.append(ScriptProcess(folder / rank, "train.py", *arguments, environment=environment))
    return processes


def test_two_processes_give_complete_and_unique_predictions(arguments, competition, tmp_path):
    done = start(arguments, EXACT, launcher())
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs" / "two"
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    expected = {"oof": range(1000, 1040), "test": range(1000, 1008)}
    for name, ids in expected.items():
        assert pd.read_csv(run / f"{name}.csv")["Id"].tolist() == list(ids)
    # 40 clips in 3 folds: 26 or 27 train, twice each, in global batches of 8: 6 updates an epoch
    metrics = pd.read_csv(run / FOLD / "metrics.csv")
    assert metrics["updates"].tolist() == [6, 12]
    cost = json.loads((run / FOLD / "cost.json").read_text())
    assert (cost["processes"], cost["updates"], cost["precision"]) == (2, 12, "no")
    assert cost["peak_memory_bytes"] > 100e6
    assert done.stdout.count("two (out-of-fold):") == 1  # only the main process speaks
    # Every process predicted with the weights that were saved, batch statistics among them.
    clips = load_clip_set(
        DataSection(root=str(competition), stores=str(tmp_path / "stores")), "emotion", "train"
    )
    valid = read_predictions(run / FOLD / "valid.csv")
    network = load_model(run / FOLD / "model.safetensors")
    held_out = clips.select(np.isin(clips.ids, valid.index))
    excerpts = EvenExcerpts(held_out, network.card.experiment.data, network.card.experiment.excerpt)
    batch = excerpts.__getitems__(list(range(len(held_out))))
    with torch.inference_mode():
        per_clip = network.predict(batch["frames"], batch["lengths"]).unflatten(0, (-1, 2)).mean(dim=1)
    alone = prediction_table(held_out.ids, per_clip.numpy(), held_out.outputs)
    pd.testing.assert_frame_equal(alone, valid, rtol=1e-5)


PLAIN = """
[augment]
equaliser = false
frequency_masks = false
time_masks = false
mixup = false
"""


@pytest.mark.parametrize("beside", [[], ["--loss.genre", "0.5"]], ids=["emotion", "genres-beside"])
def test_two_processes_train_as_one_does(arguments, tmp_path, beside):
    toml = TOML.replace("widths", "norm = false\ndropout = 0\nwidths") + PLAIN
    (tmp_path / "two.toml").write_text(toml)
    runs = {}
    for name, n_processes in (("one", 1), ("two", 2)):
        runs[name] = tmp_path / "runs" / name
        train(tmp_path / name, [*arguments, "--name", name, "--only-fold", "0", *beside], n_processes)
        recorded = json.loads((runs[name] / "environment.json").read_text())["processes"]
        assert recorded == {"one": 1, "two": 2}[name]
    one, two = (pd.read_csv(run / FOLD / "metrics.csv") for run in runs.values())
    assert one["updates"].tolist() == two["updates"].tolist() == [6, 12]
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"), rtol=1e-5)
    for table in ("valid.csv", "test.csv"):
        alone, together = (read_predictions(run / FOLD / table) for run in runs.values())
        pd.testing.assert_frame_equal(alone, together, rtol=0, atol=1e-5)
    assert one["train_loss"].diff().abs().min() > 1e-3  # it has learnt something
    assert ("genre_loss" in one) == bool(beside)
    assert not any(
        "genre" in name for name in load_model(runs["two"] / FOLD / "model.safetensors").state_dict()
    )


def test_the_default_recipe_scores_in_two_processes_as_other_seeds_do_in_one(arguments, tmp_path):
    longer = [*arguments, "--only-fold", "0", "--train.epochs", "20"]
    train(tmp_path / "one", [*longer, "--name", "one", "--seeds", "0", "1", "2", "3"], 1)
    train(tmp_path / "two", [*longer, "--name", "two"], 2)
    alone = np.array([score(tmp_path / "runs" / "one" / f"seed{seed}") for seed in range(4)])
    assert alone.min() > 0.5  # labels can be learnt here
    assert abs(score(tmp_path / "runs" / "two" / "seed0") - alone.mean()) < 2 * alone.std(ddof=1)


def score(seed: Path) -> float:
    return pd.read_csv(seed / "fold0" / "metrics.csv")["score"].iloc[-1]


def test_both_of_two_processes_are_refused_where_another_is_at_work(arguments, tmp_path):
    with alone_at(tmp_path / "runs" / "two", ""):
        ends = [process.end() for process in begin(tmp_path, arguments, 2)]
    for status, said in ends:
        assert status == 2, said
        assert "error: Another process is at work on" in said
    assert not (tmp_path / "runs" / "two").exists()


def test_processes_that_do_not_know_of_each_other_are_refused(arguments):
    done = start(arguments, {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}, [])
    assert done.returncode != 0
    assert "2 processes were started, but Accelerate sees 1" in done.stderr
