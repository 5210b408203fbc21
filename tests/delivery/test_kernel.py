"""The inference kernel in a tree like Kaggle's: offline, read-only inputs, the image's packages alone."""

import os
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState

from music_emotion.delivery import kernel
from music_emotion.errors import InputError
from music_emotion.files import read_json

PROJECT = Path(__file__).parents[2]
SMALL = [
    *("--model.widths", "4", "8", "--excerpt.frames", "32", "--folds.n", "2"),
    *("--train.epochs", "2", "--train.batch-size", "8"),
]
GUARD = Path(__file__).with_name("image_guard.py")
HAS_UNSHARE = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
)


def script(name: str, *arguments: str) -> None:
    """Run a script of the project in this process, with float32 as the kernel has it on a CPU."""
    before, status = sys.argv, 0
    sys.argv = [name, *arguments]
    try:
        runpy.run_path(str(PROJECT / "scripts" / name), run_name="__main__")
    except SystemExit as left:
        status = left.code or 0
    finally:
        sys.argv = before
    assert status == 0


@pytest.fixture(autouse=True, scope="module")
def _own_precision():
    """Accelerate keeps a process's first precision; other tests have another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module", params=[1, 375])
def handed_in(request, tmp_path_factory, make_emotion) -> Path:
    """A folder with a small competition, a blend of two runs of it, its submission and its bundle."""
    folder = tmp_path_factory.mktemp("handed-in")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        make_emotion(folder / "data", n_train=24, n_test=request.param)
        for name, flags in (("one", ["--seeds", "0", "1"]), ("two", ["--model.kind", "lstm"])):
            file = PROJECT / "experiments" / "multitask.toml"
            script("train.py", str(file), "--name", name, *SMALL, *flags)
        script("ensemble.py", "runs/one", "runs/two", "--name", "both")
        script("submit.py", "runs/both", "--day", "2026-01-02")
        script("package.py", "runs/both", "--owner", "somebody")
    return folder


def kaggle_tree(handed_in: Path, root: Path, mounts: dict[str, str]) -> Path:
    """Inputs below `root`, read-only, under one of Kaggle's two layouts."""
    shutil.copytree(handed_in / "data", root / mounts["data"] / "data")
    shutil.copytree(handed_in / "build" / "both" / "dataset", root / mounts["bundle"])
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)
    return root


def run_kernel(handed_in: Path, inputs: Path, working: Path, start: Path) -> subprocess.CompletedProcess:
    """The kernel's script with the two folders put in, started elsewhere and without a network."""
    text = (handed_in / "build" / "both" / "kernel" / "inference.py").read_text()
    text = text.replace("/kaggle/input", str(inputs)).replace("/kaggle/working", str(working))
    source = start / "script.py"
    source.write_text(text)
    (start / "sitecustomize.py").write_text(GUARD.read_text())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(start),
        "PYTHONPATH": str(start),
        "IMAGE": str(PROJECT / "kaggle" / "image.txt"),
        "OMP_NUM_THREADS": "1",
    }
    offline = ["unshare", "-rn"] if HAS_UNSHARE else []
    command = [*offline, sys.executable, str(source)]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


LAYOUTS = {
    "old": {"data": "patreco3-multitask-affective-music", "bundle": "music-emotion-both"},
    "new": {
        "data": "datasets/geoparslp/patreco3-multitask-affective-music",
        "bundle": "datasets/somebody/music-emotion-both",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kernel_gives_the_local_submission(handed_in, tmp_path, layout):
    inputs = kaggle_tree(handed_in, tmp_path / "input", LAYOUTS[layout])
    working, start = tmp_path / "working", tmp_path / "start"
    working.mkdir()
    start.mkdir()
    done = run_kernel(handed_in, inputs, working, start)
    assert done.returncode == 0, done.stderr
    local = pd.read_csv(handed_in / "submissions" / "both-2026-01-02.csv")
    ours = pd.read_csv(working / "submission.csv")
    assert ours.columns.tolist() == local.columns.tolist()
    assert ours.iloc[:, 0].tolist() == local.iloc[:, 0].tolist()
    np.testing.assert_allclose(ours.iloc[:, 1:], local.iloc[:, 1:], rtol=0, atol=1e-6)
    facts = read_json(working / "run.json")
    assert facts["finished"] is True
    assert facts["rows"] == len(local)
    assert facts["models"] == 6
    assert facts["bundle"] == read_json(handed_in / "build/both/dataset/manifest.json")["bundle"]
    assert sorted(path.name for path in working.iterdir()) == ["run.json", "submission.csv"]


def test_the_guard_refuses_what_the_image_lacks_and_the_network(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(GUARD.read_text())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    environment["IMAGE"] = str(PROJECT / "kaggle" / "image.txt")
    for module in ("cyclopts", "distributed", "pytest"):
        command = [sys.executable, "-c", f"import {module}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert f"No module named '{module}'" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        command = [sys.executable, "-c", call]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "there is no network" in done.stderr


@pytest.mark.parametrize("handed_in", [1], indirect=True)
def test_another_bundle_or_a_damaged_one_is_not_run(handed_in, tmp_path):
    inputs = kaggle_tree(handed_in, tmp_path / "input", LAYOUTS["new"])
    bundle = inputs / LAYOUTS["new"]["bundle"]
    working, start = tmp_path / "working", tmp_path / "start"
    working.mkdir()
    start.mkdir()
    model = bundle / "one-seed0-fold0.safetensors"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-4] + b"\\1\\2\\3\\4")
    done = run_kernel(handed_in, inputs, working, start)
    assert done.returncode != 0
    assert "1 files are missing or damaged: one-seed0-fold0.safetensors" in done.stderr
    (bundle / "manifest.json").chmod(0o644)
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(
        text.replace(read_json(bundle / "manifest.json")["bundle"], "f" * 64)
    )
    done = run_kernel(handed_in, inputs, working, start)
    assert done.returncode != 0
    assert "only ['ffffffffffff']. Kaggle mounts the latest version that was ready" in done.stderr
    assert not list(working.iterdir())


@pytest.mark.parametrize("handed_in", [1], indirect=True)
def test_two_gpus_share_the_models(handed_in, tmp_path, monkeypatch):
    """The processes are real; without GPUs they predict on the CPU."""
    folder, inputs = handed_in / "build" / "both" / "dataset", handed_in / "data"
    names = [name for models in read_json(folder / "manifest.json")["models"].values() for name in models]
    for place in ("shared", "alone"):
        (tmp_path / place).mkdir()
        kernel._pack(folder, names, inputs, tmp_path / place)
    kernel.predict_share(folder, names, inputs, tmp_path / "alone")
    monkeypatch.setattr(kernel.torch.cuda, "device_count", lambda: 2)
    kernel._predict_all(folder, names, inputs, tmp_path / "shared")
    for name in names:
        texts = [(tmp_path / place / f"{name}.csv").read_text() for place in ("shared", "alone")]
        assert texts[0] == texts[1]
    with pytest.raises(InputError, match=r"The processes of GPUs \[0, 1\] failed"):
        kernel._predict_all(tmp_path, names, inputs, tmp_path / "shared")
