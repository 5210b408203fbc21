"""Every stage killed at eight random moments: the same command goes on, and ends with the same files."""

import json
import os
import shutil
import signal
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from script_process import TOML, ScriptProcess

KILLED = -9
N_KILLS = 8
START = ("emotion.toml", "--model.trunk", "runs/genre/seed0/fold0/model.safetensors")


@dataclass(frozen=True)
class Stage:
    """A command of the pipeline, what it needs of earlier ones, patterns of what it writes, and its steps."""

    script: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...]
    writes: tuple[str, ...]
    share: float = 1.0  # of all its steps, at most so many before each kill; less where it resumes half-way


STAGES = (
    Stage("extract.py", ("clips.csv", "--out", "layout", "--jobs", "1"), (), ("layout",), 0.3),
    Stage("pretrain.py", ("genre.toml",), (), ("runs/genre", "stores/fma*"), 0.3),
    Stage("train.py", START, ("runs/genre",), ("runs/emotion", "stores/multitask*"), 0.3),
    Stage("ensemble.py", ("runs/emotion", "--choose"), ("runs/emotion", "stores"), ("runs/blend",)),
    Stage("submit.py", ("runs/blend", "--day", "2026-01-02"), ("runs",), ("submissions",)),
    Stage("package.py", ("runs/blend", "--owner", "me", "--sources", "me/data"), ("runs",), ("build",)),
)


@pytest.fixture(scope="module")
def begun(competition, tmp_path_factory) -> Path:
    """A folder with data, audio and experiments; stages are run in copies of it."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "data").symlink_to(competition)
    for task in ("emotion", "genre"):
        (folder / f"{task}.toml").write_text(TOML.format(name=task, task=task, epochs=2))
    rng = np.random.default_rng(0)
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, 22050), 22050)
    table = pd.DataFrame({"path": [f"{number}.wav" for number in range(4)], "label": list("abab")})
    table.to_csv(folder / "clips.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def whole(begun, tmp_path_factory) -> tuple[Path, dict[str, int]]:
    """A folder in which all stages were run undisturbed, and the steps on disk that each took."""
    folder = tmp_path_factory.mktemp("whole") / "folder"
    shutil.copytree(begun, folder, symlinks=True)
    steps = {}
    for stage in STAGES:
        process = ScriptProcess(folder, stage.script, *stage.arguments)
        status, said = process.end()
        assert status == 0, said
        steps[stage.script] = process.steps.value
    return folder, steps


def contents(folder: Path, parts: tuple[str, ...]) -> dict[str, object]:
    """All files of some parts of a folder, unfinished ones too, without the times in them."""
    places = [place for part in parts for place in folder.glob(part)]
    paths = [path for place in places for path in place.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): content(path, folder) for path in paths if path.suffix != ".lock"}


def content(path: Path, folder: Path) -> object:
    text = path.read_bytes().replace(bytes(folder), b"")
    if path.name == "cost.json":
        held = json.loads(text)
        return {name: held[name] for name in held if name in ("updates", "parameters")}
    if path.name in ("metrics.csv", "extract-train.csv"):
        return pd.read_csv(StringIO(text.decode())).drop(columns="seconds").to_csv()
    return text


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.script)
def test_killed_at_random_moments_it_ends_with_the_same_files(stage, begun, whole, tmp_path):
    reference, steps = whole
    folder = tmp_path / "folder"
    shutil.copytree(begun, folder, symlinks=True)
    for need in stage.needs:
        shutil.copytree(reference / need, folder / need, symlinks=True)
    longest = round(stage.share * steps[stage.script])
    n_killed = 0
    for moment in np.random.default_rng(7).integers(longest, size=N_KILLS).tolist():
        status, said = ScriptProcess(folder, stage.script, *stage.arguments, kill_at=moment).end()
        assert status in {KILLED, 0}, said
        n_killed += status == KILLED
    assert n_killed >= N_KILLS / 2
    assert any(folder.rglob(".*.lock"))  # which a killed process held
    status, said = ScriptProcess(folder, stage.script, *stage.arguments).end()
    assert status == 0, said
    assert contents(folder, stage.writes) == contents(reference, stage.writes)


SEARCH = """
name = "small"
base = "emotion.toml"
[fixed]
"folds.split" = "holdout"
"train.epochs" = 100
"train.valid_every" = 100
[search]
trials = 2
space = { "model.dropout" = { low = 0.0, high = 0.5 } }
"""


def test_a_killed_search_goes_on_in_the_same_directories(begun, tmp_path, request):
    folder = tmp_path / "folder"
    shutil.copytree(begun, folder, symlinks=True)
    (folder / "study.toml").write_text(SEARCH)
    first = ScriptProcess(folder, "study.py", "study.toml")
    request.addfinalizer(first.process.kill)
    rows = folder / "runs/small"
    first.wait_until(lambda: any(len(pd.read_csv(path)) > 2 for path in rows.rglob("metrics.csv")))
    os.kill(first.process.pid, signal.SIGSTOP)  # it holds its row, as if it trained
    (epochs,) = rows.rglob("metrics.csv")
    before = pd.read_csv(epochs)
    assert len(before) < 100
    second = ScriptProcess(folder, "study.py", "study.toml")
    second.wait_until(lambda: "waiting for rows that other processes train" in second.said)
    assert "1 of 2: " in second.said  # it has trained the other row
    first.process.kill()
    status, said = second.end()
    assert status == 0, said
    table = pd.read_csv(rows / "table.csv", dtype={"row": str}).set_index("trial")
    assert table["row"][0] == epochs.parents[2].name
    assert table["searched"].notna().tolist() == [True, True]
    after = pd.read_csv(epochs)
    assert len(after) == 100
    assert after["seconds"].head(2).tolist() == before["seconds"].head(2).tolist()  # not trained again
