"""Two at once in one place: the second is refused, or waits, and nothing of the first is lost."""

import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from command_line import call
from script_process import TOML, ScriptProcess

from music_emotion.audio.features import compile_ahead
from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets.layout import split_files
from music_emotion.datasets.store import open_store
from music_emotion.files import alone_at, in_turn


@pytest.fixture(scope="module")
def folder(competition, tmp_path_factory) -> Path:
    """A folder in which `short` is trained, and `long` is not."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "data").symlink_to(competition)
    for name, epochs in (("long", 4000), ("short", 1)):
        (folder / f"{name}.toml").write_text(TOML.format(name=name, task="emotion", epochs=epochs))
    (folder / "clips.csv").write_text("path,label\nsong.wav,a\n")
    (folder / "song.wav").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call("train.py", "short.toml") == 0
    return folder


def test_a_second_run_in_one_directory_is_refused_and_ctrl_c_tells_what_the_first_keeps(folder):
    first = ScriptProcess(folder, "train.py", "long.toml")
    first.wait_until((folder / "runs/long/seed0/fold0/state.pt").exists)
    before = (folder / "runs/long/experiment.json").read_bytes()
    beside = folder / "beside"  # where the second says what it says
    beside.mkdir()
    for name in ("data", "runs", "stores"):
        (beside / name).symlink_to(folder / name)
    shutil.copy(folder / "long.toml", beside)
    status, said = ScriptProcess(beside, "train.py", "long.toml", "--train.epochs", "1").end()
    assert status == 2
    assert said.splitlines()[-1] == (
        "error: Another process is at work on runs/long. Wait until it ends and give the same command, or "
        "give another --name."
    )
    assert (folder / "runs/long/experiment.json").read_bytes() == before
    os.kill(first.process.pid, signal.SIGINT)
    status, said = first.end()
    assert status == 130
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    n_epochs = len(pd.read_csv(folder / "runs/long/seed0/fold0/metrics.csv"))
    assert last.endswith(
        f"interrupted: runs/long: 0 of 3 folds are finished, seed0/fold0 has {n_epochs} of 4000 epochs; "
        f"the same command goes on."
    )


@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("runs/blend", ("ensemble.py", "runs/short")),
        ("submissions/short-2026-01-02.csv", ("submit.py", "runs/short", "--day", "2026-01-02")),
        ("build/short", ("package.py", "runs/short", "--owner", "me", "--sources", "me/d")),
        ("layout/fma_genre_spectrograms", ("extract.py", "clips.csv", "--out", "layout")),
        ("table.csv", ("summarise.py", "audio", "clips.csv", "--out", "table.csv")),
        ("demo", ("demo.py", "--clips", "8")),
        ("predictions/record.csv", ("predict.py", "song.wav", "--model", "runs/short")),
    ],
)
def test_other_commands_refuse_to_work_where_another_does(folder, monkeypatch, run_script, place, command):
    monkeypatch.chdir(folder)
    with alone_at(folder / place, ""):
        status, _, errors = run_script(*command)
    assert status == 2
    said = errors.splitlines()[-1]
    assert said.startswith("error: Another process is at work on ")
    assert f"{place}. Wait until it ends and give the same command, or give another --" in said
    assert not (folder / place).exists()


def test_a_blend_is_not_written_over_a_run_nor_a_run_over_a_blend(folder, monkeypatch, run_script):
    monkeypatch.chdir(folder)
    assert run_script("ensemble.py", "runs/short", "--name", "both")[0] == 0
    files = {path: path.read_bytes() for path in Path("runs").rglob("*.csv")}
    status, _, errors = run_script("ensemble.py", "runs/short", "--name", "short")
    assert status == 2
    assert "error: runs/short holds something else (experiment.json). Give another --name." in errors
    status, _, errors = run_script("train.py", "short.toml", "--name", "both")
    assert status == 2
    assert "error: runs/both holds something else (blend.json). Give another --name." in errors
    assert {path: path.read_bytes() for path in Path("runs").rglob("*.csv")} == files


def test_who_packs_what_another_packs_waits_and_packs_nothing_again(competition, tmp_path, capsys):
    files, stores = split_files(competition / "multitask_dataset", "train"), tmp_path / "stores"
    elsewhere = open_store(files, tmp_path / "elsewhere").frames.path.parent
    place, opened = stores / elsewhere.name, []
    with in_turn(place, "packs"):
        other = threading.Thread(target=lambda: opened.append(open_store(files, stores)))
        other.start()
        while "waiting for another process that packs" not in capsys.readouterr().out:
            assert other.is_alive()
            time.sleep(0.01)
        shutil.copytree(elsewhere, place)  # what the other will find when its turn comes
        made = (place / "frames.npy").stat().st_mtime_ns
    other.join(timeout=60)
    assert opened[0].frames.path.stat().st_mtime_ns == made
    assert len(opened[0].index) == 40
    left = tmp_path / "new" / place.name / ".writing-abc-source.json"  # by a packing that was killed
    left.mkdir(parents=True)
    open_store(files, tmp_path / "new")
    assert not left.exists()


def test_who_compiles_what_another_compiles_waits(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with in_turn(tmp_path / f"music-emotion-{os.getuid()}", "compiles"):
        other = threading.Thread(target=compile_ahead, args=[FeatureSettings()])
        other.start()
        while "waiting for another process that compiles functions ..." not in capsys.readouterr().out:
            assert other.is_alive()
            time.sleep(0.01)
        other.join(timeout=1)
        assert other.is_alive()
    other.join(timeout=120)
    assert not other.is_alive()
