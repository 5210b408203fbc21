"""Processes around a training: trackers, waiting threads, what is imported, which commit is recorded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import music_emotion
from music_emotion.files import InputError
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment

PACKAGE = Path(music_emotion.__file__).parent
MOST_IMPORTED = 45
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
WATCH = """
import os, sys
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            sys.exit(print(os.environ.get("OMP_WAIT_POLICY")))
sys.meta_path.insert(0, Watch())
import music_emotion.training.folds
"""


def python(code: str, *arguments: object, path: Path = PACKAGE.parent, **environment: str) -> str:
    """What a Python process prints."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**inherited, "PYTHONPATH": str(path), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.usefixtures("own_accelerate")
def test_every_epoch_is_logged_to_tensorboard_in_the_runs_directory(small, tmp_path):
    accelerator = make_accelerator("tensorboard", tmp_path)
    for name in ("one", "two"):  # a study trains several runs in one process
        run_experiment(small(train={"valid_every": 1}), accelerator, tmp_path / name, only_fold=1)
        events = EventAccumulator(str(tmp_path / name))
        events.Reload()
        assert [event.step for event in events.Scalars("seed0/fold1/train_loss")] == [1, 2]
        assert {"seed0/fold1/score", "seed0/fold1/learning_rate"} <= set(events.Tags()["scalars"])
    assert accelerator.trackers == []


def test_a_tracker_that_is_not_installed_gets_a_sentence():
    with pytest.raises(InputError, match=r"tracker 'tensorbord' is not installed\. .*\[tensorboard\]"):
        make_accelerator("tensorbord")


def test_threads_that_wait_sleep_unless_the_user_says_otherwise():
    assert python(WATCH) == "PASSIVE"
    assert python(WATCH, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_a_training_imports_few_files_of_ours(competition, tmp_path):
    imported = python(FOLD, competition, tmp_path / "stores", tmp_path / "runs").splitlines()[-1].split()
    assert len(imported) <= MOST_IMPORTED, imported


def test_the_commit_is_that_of_a_repository_which_tracks_the_package(tmp_path):
    """A virtual environment usually lies inside the repository of another project."""

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    installed = tmp_path / ".venv"
    shutil.copytree(PACKAGE, installed / "music_emotion", ignore=shutil.ignore_patterns("__pycache__"))
    git("init")
    (tmp_path / "theirs.txt").touch()
    git("add", "theirs.txt")
    git("commit", "-m", "theirs")
    say = "from music_emotion.runs import commit; print(commit())"
    assert python(say, path=installed) == music_emotion.__version__
    git("add", "-f", ".venv")
    git("commit", "-m", "vendored")
    assert python(say, path=installed).startswith(git("rev-parse", "--short=12", "HEAD"))
