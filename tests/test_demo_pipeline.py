"""The demo in a small size, as its own process: real audio, real extraction, a real submission."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "demo.py"
SIZE = ["--clips", "20", "--seconds", "4", "--genre-epochs", "2", "--epochs", "2"]


def demo(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("demo") / "with a space"
    done = demo("--out", str(place), *SIZE)
    assert done.returncode == 0, done.stderr
    assert "every rule checked" in done.stdout
    assert "best single statistic" in done.stdout
    return place


def test_the_demo_goes_from_audio_to_a_submission(folder):
    arrays = list((folder / "data").rglob("*.npy"))
    assert len(arrays) == 20 + 5 + 15 + 5
    submission = pd.read_csv(next((folder / "submissions").glob("*.csv")))
    assert len(submission) == 5
    assert submission["valence"].nunique() == 5
    bundle = folder / "build" / "demo-blend" / "dataset"
    assert len(list(bundle.glob("*.safetensors"))) == 5
    oof = pd.read_csv(folder / "runs" / "demo-multitask" / "oof.csv")
    assert sorted(oof["Id"]) == list(range(1, 21))


def test_the_demo_again_makes_nothing_again(folder):
    made = {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.suffix in {".npy", ".safetensors"} and folder / "build" not in path.parents  # packaged anew
    }
    assert len(made) > 50
    done = demo("--out", str(folder), *SIZE)
    assert done.returncode == 0, done.stderr
    assert "0 done, 20 already there" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_demo_of_another_size_is_refused_in_the_same_folder(folder):
    done = demo("--out", str(folder), "--clips", "30")
    assert done.returncode == 2
    assert "Give another --out, or delete it" in done.stderr
    assert "Traceback" not in done.stderr
