"""The demo in a small size: real audio, real extraction, a real submission."""

from pathlib import Path

import pandas as pd
import pytest
from command_line import call

SIZE = ("--clips", "20", "--seconds", "3", "--genre-epochs", "1", "--epochs", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("demo") / "with a space"
    assert call("demo.py", "--out", place, *SIZE) == 0
    return place


def test_the_demo_goes_from_audio_to_a_submission(folder):
    assert len(list((folder / "data").rglob("*.npy"))) == 20 + 5 + 15 + 5
    (path,) = (folder / "submissions").glob("*.csv")
    submission = pd.read_csv(path)
    assert len(submission) == submission["valence"].nunique() == 5
    assert len(list((folder / "build/demo-blend/dataset").glob("*.safetensors"))) == 5
    assert sorted(pd.read_csv(folder / "runs/demo-multitask/oof.csv")["Id"]) == list(range(1, 21))


def test_the_demo_again_makes_nothing_again_and_another_size_needs_another_folder(folder, run_script):
    def made() -> dict[Path, int]:
        paths = [*folder.rglob("*.npy"), *(folder / "runs").rglob("*.safetensors")]
        return {path: path.stat().st_mtime_ns for path in paths}

    before = made()
    assert len(before) == 45 + 4 + 6  # arrays, a file per store, models
    status, out, _ = run_script("demo.py", "--out", str(folder), *SIZE)
    assert status == 0
    assert all(
        said in out for said in ("0 done, 20 already there", "every rule checked", "best single statistic")
    )
    assert made() == before
    status, _, errors = run_script("demo.py", "--out", str(folder), "--clips", "30")
    assert status == 2
    assert "Give another --out, or delete it" in errors
    assert "Traceback" not in errors
