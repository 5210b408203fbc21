"""Around a training: trackers, waiting threads, what is imported, which commit is recorded."""

import os
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import TensorBoardTracker
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import music_emotion
from music_emotion import runs
from music_emotion.files import InputError, read_json
from music_emotion.plots import draw_scores
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment

FOLD = """
import sys
from pathlib import Path
from music_emotion.config import build_experiment
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment
root, stores, runs = sys.argv[1:]
sections = {"excerpt": {"frames": 32}, "folds": {"n": 3}, "model": {"widths": [4]}, "train": {"epochs": 1}}
experiment = build_experiment({"data": {"root": root, "stores": stores}, **sections}, "tiny")
run_experiment(experiment, make_accelerator(), Path(runs) / "tiny", only_fold=0)
print(*sorted(name for name in sys.modules if name.split(".")[0] == "music_emotion"))
"""


def test_a_training_imports_few_files_of_ours(competition, tmp_path):
    command = [sys.executable, "-c", FOLD, str(competition), str(tmp_path / "stores"), str(tmp_path / "runs")]
    imported = subprocess.check_output(command, text=True).splitlines()[-1].split()
    assert 20 < len(imported) <= 45, imported


@pytest.mark.usefixtures("own_accelerate")
def test_every_epoch_is_logged_to_tensorboard_in_the_runs_directory(small, tmp_path, monkeypatch, capsys):
    accelerator = make_accelerator("tensorboard", tmp_path)
    experiment = small(train={"valid_every": 1}, excerpt={"per_clip": 1})
    for name in ("one", "two"):  # a study trains several runs in one process
        run_experiment(experiment, accelerator, tmp_path / name, only_fold=1, draw=draw_scores)
        events = EventAccumulator(str(tmp_path / name))
        events.Reload()
        assert [event.step for event in events.Scalars("seed0/fold1/train_loss")] == [1, 2]
        assert {"seed0/fold1/score", "seed0/fold1/learning_rate"} <= set(events.Tags()["scalars"])
        score = read_json(tmp_path / name / "scores.json")["pooled"]["valence"]["value"]
        assert events.Scalars("pooled/valence")[0].value == pytest.approx(score)
        width, height = (events.Images("oof")[0].width, events.Images("oof")[0].height)
        assert imread(tmp_path / name / "oof.png").shape[:2] == (height, width)
        settings = next((tmp_path / name).rglob("hparams.yml")).read_text()
        assert "train.epochs: 2\n" in settings
    assert accelerator.trackers == []
    monkeypatch.setattr(TensorBoardTracker, "log_images", lambda *_, **__: 1 / 0)
    assert "valence" in run_experiment(experiment, accelerator, tmp_path / "one", only_fold=1)
    assert "warning: logging pictures to tensorboard failed (ZeroDivisionError" in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_gets_a_sentence():
    with pytest.raises(InputError, match=r"There is no tracker 'tensorbord'; did you mean 'tensorboard'"):
        make_accelerator("tensorbord")
    with pytest.raises(InputError, match=r"tracker 'comet_ml' is not installed\. Try pip install comet_ml"):
        make_accelerator("comet_ml")


@pytest.mark.usefixtures("own_accelerate")
def test_an_accelerator_of_other_code_keeps_its_precision(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    AcceleratorState._reset_state(reset_partial_state=True)
    Accelerator(mixed_precision="no")
    assert make_accelerator().mixed_precision == "no"


def test_threads_that_wait_sleep_unless_the_user_says_otherwise():
    """The variable counts only if it is set before torch is imported."""
    code = "import os, sys, music_emotion; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for policy, said in (({}, "PASSIVE False\n"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE False\n")):
        assert (
            subprocess.check_output([sys.executable, "-c", code], env=inherited | policy, text=True) == said
        )


def test_the_commit_is_that_of_a_repository_which_tracks_the_package(tmp_path, monkeypatch):
    """A virtual environment usually lies inside the repository of another project."""

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    installed = tmp_path / ".venv" / "runs.py"
    installed.parent.mkdir()
    installed.touch()
    monkeypatch.setattr(runs, "__file__", str(installed))
    assert runs.commit() == music_emotion.__version__
    git("init")
    git("commit", "--allow-empty", "-m", "theirs")
    assert runs.commit() == music_emotion.__version__
    git("add", "-f", ".venv")
    git("commit", "-m", "vendored")
    assert runs.commit() == git("rev-parse", "--short=12", "HEAD")
