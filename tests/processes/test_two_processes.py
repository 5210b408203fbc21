"""Training with two real processes, which know of each other as the launcher tells them."""

import json
import socket
from pathlib import Path

import pandas as pd
import pytest
from script_process import TOML, ScriptProcess

from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.files import alone_at, read_predictions
from music_emotion.models.network import load_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.predict import predict_with

FOLD = Path("seed0", "fold0")
PLAIN = """
model.norm = false
model.dropout = 0
augment = { equaliser = false, frequency_masks = false, time_masks = false, mixup = false }
"""
EXACT = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_MIXED_PRECISION": "no"}


@pytest.fixture
def arguments(competition: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "two.toml").write_text(TOML.format(name="two", task="emotion", epochs=2))
    places = ["--data.root", str(competition), "--data.stores", str(tmp_path / "stores")]
    return [str(tmp_path / "two.toml"), *places, "--runs", str(tmp_path / "runs")]


def train(
    folder: Path, arguments: list[str], n_processes: int, script: str = "train.py"
) -> list[tuple[int, str]]:
    """Train in so many processes; returns the status of each and what it has printed."""
    with socket.socket() as free:  # a port that nothing else on this machine listens to
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = []
    for rank in map(str, range(n_processes)):
        (folder / rank).mkdir(parents=True)
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": str(n_processes)} | where
        environment = EXACT | (told if n_processes > 1 else {})
        processes.append(ScriptProcess(folder / rank, script, *arguments, environment=environment))
    return [process.end() for process in processes]


def said_by(ends: list[tuple[int, str]]) -> list[str]:
    assert [status for status, _ in ends] == [0] * len(ends), ends
    return [said for _, said in ends]


@pytest.mark.parametrize("beside", [[], ["--loss.genre", "0.5"]], ids=["emotion", "genres-beside"])
def test_two_processes_train_as_one_does(arguments, tmp_path, beside):
    toml, runs = tmp_path / "two.toml", [tmp_path / "runs" / name for name in ("one", "two")]
    toml.write_text(toml.read_text() + PLAIN)
    for n_processes, run in enumerate(runs, start=1):
        said_by(train(tmp_path / run.name, [*arguments, "--name", run.name, *beside], n_processes))
        assert json.loads((run / "environment.json").read_text())["processes"] == n_processes
    one, two = (pd.read_csv(run / FOLD / "metrics.csv") for run in runs)
    assert one["updates"].tolist() == two["updates"].tolist() == [3, 6]  # of 26 clips, twice each
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"), rtol=1e-5)
    for table, n in (("oof.csv", 40), ("test.csv", 8)):
        alone, together = (read_predictions(run / table) for run in runs)
        assert together.index.tolist() == list(range(1000, 1000 + n))
        pd.testing.assert_frame_equal(alone, together, rtol=0, atol=1e-5)
    assert one["train_loss"].diff().abs().min() > 1e-3  # it has learnt something
    assert ("genre_loss" in one) == bool(beside)
    assert not any("genre" in name for name in load_model(runs[1] / FOLD / "model.safetensors").state_dict())


def test_two_processes_predict_with_the_weights_that_are_saved(arguments, competition, tmp_path):
    """Batch statistics among them, which differ between the processes while they train."""
    said = said_by(train(tmp_path, [*arguments, "--only-fold", "0"], 2))
    assert [each.count("two (out-of-fold") for each in said] == [1, 0]  # only the main process speaks
    place = tmp_path / "runs" / "two" / FOLD
    cost = json.loads((place / "cost.json").read_text())
    assert (cost["processes"], cost["updates"], cost["precision"]) == (2, 6, "no")
    data = DataSection(root=str(competition), stores=str(tmp_path / "stores"))
    clips, valid = load_clip_set(data, "emotion", "train"), read_predictions(place / "valid.csv")
    held_out = clips.select(clips.truth.index.isin(valid.index))
    alone = predict_with(place / "model.safetensors", held_out, make_accelerator())
    pd.testing.assert_frame_equal(alone, valid, rtol=1e-5)


def test_two_processes_of_a_study_go_on_after_a_row_that_diverged(arguments, tmp_path):
    toml, study = Path(arguments[0]), tmp_path / "study.toml"
    toml.write_text(f"{toml.read_text()}optim.clip_norm = false\n")
    study.write_text('name = "rates"\nbase = "two.toml"\n[[grid]]\n"optim.learning_rate" = [1e30, 1e-3]\n')
    said = said_by(train(tmp_path, [str(study), *arguments[1:]], 2, "study.py"))
    assert [each.count("1 of 2: 1e+30: ") for each in said] == [1, 0]
    assert ["the loss is nan in epoch 1." in each for each in said] == [True, False]
    assert pd.read_csv(tmp_path / "runs/rates/table.csv")["score"].isna().tolist() == [True, False]


def test_both_of_two_processes_are_refused_where_another_is_at_work(arguments, tmp_path):
    with alone_at(tmp_path / "runs" / "two", ""):
        ends = train(tmp_path, arguments, 2)
    for status, said in ends:
        assert status == 2, said
        assert "error: Another process is at work on" in said
    assert not (tmp_path / "runs" / "two").exists()


@pytest.mark.usefixtures("own_accelerate")
def test_processes_that_do_not_know_of_each_other_are_refused(arguments, monkeypatch, run_script):
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, errors = run_script("train.py", *arguments)
    assert status == 2
    assert "error: 2 processes were started, but Accelerate sees 1: each would train alone." in errors
