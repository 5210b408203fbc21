"""The training kernel in a tree like Kaggle's: cut short, gone on with, and then equal to home."""

import itertools
import math
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from command_line import call as script
from kaggle_tree import KaggleTree
from safetensors.torch import load_file

from music_emotion.config import DataSection, Experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.synthesis import write_demo
from music_emotion.evaluation.blend import blend
from music_emotion.evaluation.metrics import spearman
from music_emotion.files import InputError, read_json, read_predictions, write_json
from music_emotion.kaggle import train
from music_emotion.kaggle.plan import Plan, add_plan, plan_training, read_plan
from music_emotion.kaggle.train import _identity, _lay_out, _take_over, train_stages
from music_emotion.training import folds, loop
from music_emotion.training.predict import predict_with

NO_TIME = 1e-4  # hours: over before the imports are
EPOCHS = 30  # of the transfer
EXPERIMENTS = {
    "ridge": """
        [classical]
        kind = "ridge"
        [folds]
        n = 2
    """,
    "genres": """
        task = "genre"
        [excerpt]
        frames = 32
        [model]
        widths = [4, 8]
        [train]
        epochs = 20
        batch_size = 8
        valid_every = 10
    """,
    "transfer": f"""
        [excerpt]
        frames = 32
        [folds]
        n = 2
        groups = "groups.csv"
        [model]
        widths = [4, 8]
        trunk = "runs/genres/seed0/fold0/model.safetensors"
        [train]
        epochs = {EPOCHS}
        batch_size = 8
        valid_every = 15
        frozen_epochs = 1
    """,
}


pytestmark = pytest.mark.usefixtures("own_accelerate")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with the demo's music as the competition's data, and a blend of experiments on it."""
    folder = tmp_path_factory.mktemp("home")
    write_demo(folder / "audio", (24, 6, 16, 8), 4.0, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        for task in ("emotion", "genre"):
            for split in ("train", "test"):
                table = folder / "audio" / f"{task}_{split}.csv"
                flags = ["--out", "data", "--split", split, "--task", task, "--jobs", "1"]
                assert script("extract.py", table, *flags) == 0
        rows = "".join(f"{number},{number % 6}\n" for number in range(1, 25))
        Path("groups.csv").write_text("Id,group\n" + rows)
        for name, text in EXPERIMENTS.items():
            Path(f"{name}.toml").write_text(f'name = "{name}"\n{text}')
            assert script("pretrain.py" if name == "genres" else "train.py", f"{name}.toml") == 0
        assert script("ensemble.py", "runs/ridge", "runs/transfer", "--name", "both") == 0
        assert script("submit.py", "runs/both", "--day", "2026-01-02") == 0
    return folder


def package(home: Path, monkeypatch, hours: float, *more: str) -> Path:
    monkeypatch.chdir(home)
    names = ["--owner", "somebody", "--sources", "lab/arrays"]
    assert script("package.py", "runs/both", *names, "--hours", hours, *more) == 0
    return home / "build" / "both-training"


def run_kernel(home: Path, tree: KaggleTree, build: Path, over_once: str = "never") -> dict:
    """Run a training kernel, look at its submission, and return what it says of itself."""
    tree.mount(home / "data", "datasets/lab/arrays")
    tree.mount(build / "dataset", "datasets/somebody/music-emotion-both-training")
    done = tree.run(build / "kernel" / "kernel.py", over_once)
    assert done.returncode == 0, done.stderr
    facts = read_json(tree.working / "run.json")
    assert facts["finished"] is True
    local = pd.read_csv(home / "submissions" / "both-2026-01-02.csv")
    ours = pd.read_csv(tree.working / "submission.csv")
    assert ours.iloc[:, 0].tolist() == local.iloc[:, 0].tolist()
    assert ours["valence"].nunique() == len(local)
    return facts


def test_a_training_that_is_cut_short_hands_in_and_goes_on_where_it_stopped(home, tmp_path, monkeypatch):
    """Cut before an epoch, then within a network's training, then finished."""
    first, second, last = (KaggleTree(tmp_path / name) for name in ("first", "second", "last"))
    facts = run_kernel(home, first, package(home, monkeypatch, NO_TIME))
    assert (facts["complete"], facts["resumed"], facts["failure"]) == (False, False, None)
    assert facts["folds"] == {"ridge": "2 of 2", "genres": "0 of 1", "transfer": "0 of 2"}
    assert facts["made_of"] == {"ridge": 1.0}

    resume = ["--resume", "somebody/music-emotion-before", "--kernel", "music-emotion-both-two"]
    build = package(home, monkeypatch, 1.0, *resume)
    second.mount(first.working, "music-emotion-before")
    fold = "runs/transfer/seed0/fold0"
    facts = run_kernel(home, second, build, over_once=f"{fold}/state.pt")
    assert (facts["complete"], facts["resumed"]) == (False, True)
    assert facts["folds"] == {"ridge": "2 of 2", "genres": "1 of 1", "transfer": "0 of 2"}
    assert facts["made_of"] == {"ridge": 1.0, "transfer": 1 / EPOCHS / 2}

    last.mount(second.working, "notebooks/somebody/music-emotion-before")
    facts = run_kernel(home, last, build)
    assert (facts["complete"], facts["resumed"]) == (True, True)
    assert facts["folds"] == {"ridge": "2 of 2", "genres": "1 of 1", "transfer": "2 of 2"}
    assert facts["out_of_fold"] == read_json(home / "runs" / "both" / "scores.json")["pooled"]
    began, ended = (pd.read_csv(tree.working / fold / "metrics.csv") for tree in (second, last))
    pd.testing.assert_frame_equal(ended[list(began)][:1], began)  # seconds, too: not trained again
    local = pd.read_csv(home / "submissions" / "both-2026-01-02.csv")
    ours = pd.read_csv(last.working / "submission.csv")
    np.testing.assert_allclose(ours.iloc[:, 1:], local.iloc[:, 1:], rtol=0, atol=1e-6)
    assert not list(last.working.rglob("state.pt"))


class Room:
    """A folder to train in, as the kernel lays it out, with a clock that ticks once an epoch."""

    def __init__(self, home: Path, place: Path, monkeypatch, *what: str) -> None:
        self.monkeypatch, self.scratch, dataset = monkeypatch, place / "scratch", place / "dataset"
        for folder in (self.scratch, dataset, place / "working" / "runs"):
            folder.mkdir(parents=True)
        monkeypatch.chdir(home)
        self.plan = plan_training([Path(name) for name in what], "both", 1.0, None)
        described = add_plan(self.plan, dataset)
        manifest = described | {"files": {path.name: {} for path in dataset.iterdir()}, "competition": None}
        _lay_out(self.scratch, dataset, manifest, home / "data", place / "working")
        self.plan = read_plan(manifest["plan"])

    def train(self, epochs: float = math.inf) -> dict:
        """Train until so many epochs are over; return how far that is."""
        ticks = itertools.count()
        clock = SimpleNamespace(time=lambda: 1000 * next(ticks), perf_counter=time.perf_counter)
        self.monkeypatch.setattr(loop, "time", clock)
        self.monkeypatch.chdir(self.scratch)
        self.predictions, progress = train_stages(self.plan, 1000 * epochs - 500)
        return progress


def test_a_training_cut_anywhere_ends_like_one_that_was_not(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "runs/both")
    cuts = [(7, "0 of 1", "0 of 2"), (20, "1 of 1", "0 of 2"), (EPOCHS, "1 of 1", "1 of 2")]
    for epochs, genres, transfer in cuts:
        progress = room.train(epochs)
        assert progress["complete"] is False
        assert progress["folds"] == {"ridge": "2 of 2", "genres": genres, "transfer": transfer}
        assert len(room.predictions) == 6
    assert room.train()["complete"] is True
    expected = read_predictions(home / "runs" / "both" / "test.csv")
    np.testing.assert_allclose(room.predictions, expected, rtol=0, atol=1e-6)
    for model in ("genres/seed0/fold0", "transfer/seed0/fold0", "transfer/seed0/fold1"):
        name = Path("runs", model, "model.safetensors")
        ours, theirs = (load_file(folder / name) for folder in (room.scratch, home))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_what_is_handed_in_early_is_the_best_there_is(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "genres.toml", "transfer.toml")
    room.train(5)
    ridge = room.predictions
    assert not list(Path("runs").glob("*/*/*/test.csv"))
    assert ridge["energy"].nunique() == 6
    room.train(15 + 10)  # the rest of the genres, and a part of the first fold
    (unfinished,) = Path("runs").glob("*/*/*/unfinished.safetensors")
    assert unfinished.parent.parent.parent.name == "transfer"
    clips = load_clip_set(DataSection(), "emotion", "test", ("valence", "energy", "danceability"))
    alone = predict_with(unfinished, clips, Accelerator(mixed_precision="no"))
    assert spearman(room.predictions["energy"].to_numpy(), alone["energy"].to_numpy()) == 1
    assert not room.predictions.equals(ridge)
    room.train(EPOCHS)  # the rest of the fold, and a part of the second
    (finished,) = Path("runs").glob("transfer/*/*/test.csv")
    alone = read_predictions(finished)
    assert spearman(room.predictions["valence"].to_numpy(), alone["valence"].to_numpy()) == 1


def test_runs_count_by_the_share_of_their_training(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "runs/both")
    room.train(20 + 12)  # the genres, and a part of the first of two folds
    (metrics,) = Path("runs/transfer").glob("*/*/metrics.csv")
    share = len(pd.read_csv(metrics)) / EPOCHS / 2
    assert 0 < share < 0.5
    clips = load_clip_set(DataSection(), "emotion", "test", ("valence", "energy", "danceability"))
    network = predict_with(
        metrics.with_name("unfinished.safetensors"), clips, Accelerator(mixed_precision="no")
    )
    ridge = blend([read_predictions(path) for path in Path("runs/ridge").glob("*/*/test.csv")], "z-score")
    weights = pd.DataFrame([dict.fromkeys(ridge, 1.0), dict.fromkeys(ridge, share)])
    expected = blend([ridge, blend([network], "z-score")], "z-score", weights)
    for target in ridge:
        assert np.corrcoef(expected[target], room.predictions[target])[0, 1] == pytest.approx(1)


def test_a_failure_hands_in_what_there_is_and_says_so(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "runs/both")

    def fail(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(folds, "train_fold", fail)
    progress = room.train()
    assert progress["complete"] is False
    assert progress["failure"] == "genres: CUDA out of memory"
    assert progress["folds"] == {"ridge": "2 of 2", "genres": "0 of 1", "transfer": "0 of 2"}
    assert room.predictions["valence"].nunique() == 6


def test_two_gpus_share_the_folds(home, tmp_path, monkeypatch):
    """The processes are real; without GPUs they train on the CPU."""
    room = Room(home, tmp_path, monkeypatch, "runs/both")
    monkeypatch.setattr(train.torch.cuda, "device_count", lambda: 2)
    started, popen = [], subprocess.Popen

    def start(command, **how):
        if "music_emotion.kaggle.train" in command:
            started.append((how["env"]["CUDA_VISIBLE_DEVICES"], *command[3:6]))
        return popen(command, **how)

    monkeypatch.setattr(train.subprocess, "Popen", start)
    assert room.train()["complete"] is True
    both = [("0", "0", "2"), ("1", "1", "2")]
    assert started == [(gpu, name, *share) for name in ("genres", "transfer") for gpu, *share in both]
    expected = read_predictions(home / "runs" / "both" / "test.csv")
    np.testing.assert_allclose(room.predictions, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["{}", "notebooks/somebody/{}"])
def test_the_output_of_an_earlier_run_is_told_from_others(tmp_path, layout, capsys):
    inputs, working = tmp_path / "input", tmp_path / "working"
    inputs.mkdir()
    assert _take_over("this", None, inputs, working) is False
    assert _take_over("this", None, inputs, working) is True  # begun here already
    with pytest.raises(InputError, match="working/runs is of other experiments"):
        _take_over("that", None, inputs, working)
    begun, other = (inputs / layout.format(name) / "runs" for name in ("before", "other"))
    with pytest.raises(InputError, match="nothing of somebody/before is attached"):
        _take_over("this", "somebody/before", inputs, tmp_path / "two")
    write_json(other / "plan.json", {"hash": "another"})
    with pytest.raises(InputError, match=r"attached are others: .*other/runs\. Package the same"):
        _take_over("this", None, inputs, tmp_path / "two")
    write_json(begun / "plan.json", {"hash": "this"})
    whole, damaged = begun / "x" / "seed0" / "fold0", begun / "x" / "seed0" / "fold1"
    for place in (whole, damaged):
        place.mkdir(parents=True)
        torch.save({"epoch": 3}, place / "state.pt")
    (damaged / "state.pt").write_bytes((whole / "state.pt").read_bytes()[:50])
    assert _take_over("this", None, inputs, tmp_path / "two") is True
    copied = tmp_path / "two/runs/x/seed0"
    assert (copied / "fold0/state.pt").read_bytes() == (whole / "state.pt").read_bytes()
    assert not (copied / "fold1/state.pt").exists()
    assert "fold1/state.pt is damaged, so its fold begins anew" in capsys.readouterr().out
    write_json(other / "plan.json", {"hash": "this"})
    with pytest.raises(InputError, match=r"Several outputs of this plan are attached: .*Attach one"):
        _take_over("this", None, inputs, tmp_path / "three")


def test_a_training_is_known_by_its_experiments_and_the_files_they_name():
    plan = Plan("kaggle", 8.0, (Experiment(),))
    groups = {"x-groups.csv": {"sha256": "a"}, "m-1.whl": {"sha256": "b"}}
    same = _identity(plan, {"files": groups})
    assert _identity(replace(plan, hours=1.0), {"files": groups | {"m-1.whl": {"sha256": "c"}}}) == same
    assert _identity(plan, {"files": groups | {"x-groups.csv": {"sha256": "c"}}}) != same
    assert _identity(replace(plan, experiments=(Experiment(seeds=(1,)),)), {"files": groups}) != same
