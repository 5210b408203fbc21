"""A disk that takes no more: a sentence that says where, nothing half, nothing old lost, and going on."""

import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call as run_command
from mistakes import SMALL, contents
from scipy.io import wavfile

TRAIN = ["train.py", "one.toml", "--folds.n", "2"]
BLEND = ["ensemble.py", "runs/one", "--name", "both"]
SUBMIT = ["submit.py", "runs/both", "--day", "2026-01-02", "--overwrite"]
PACKAGE = ["package.py", "runs/both", "--owner", "tester", "--competition", "music"]
EXTRACT = ["extract.py", "clips.csv", "--out", "set", "--jobs", "1"]
PREDICT = ["predict.py", "a.wav", "--model", "runs/one", "--timeline", "--jobs", "1"]


def results() -> dict[Path, bytes]:
    """What does not depend on the time and the place it was made at."""
    lasting = {".csv", ".npy", ".safetensors"}
    passing = {"metrics.csv", "extract-train.csv", "ids-train.csv", "record.csv", "predictions.csv"}
    return {p: c for p, c in contents().items() if p.suffix in lasting and p.name not in passing}


@pytest.fixture(scope="module")
def finished(competition, tmp_path_factory):
    """A folder in which all commands were called with room enough."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "data").symlink_to(competition)
    (folder / "one.toml").write_text(SMALL.replace("small", "one"))
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.wav"):
        wavfile.write(folder / name, 22050, rng.normal(0, 0.1, 22050).astype(np.float32))
    (folder / "clips.csv").write_text("path,mood\na.wav,0.5\nb.wav,0.25\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (TRAIN, BLEND, SUBMIT, PACKAGE, EXTRACT, PREDICT):
            assert run_command(*command) == 0
    return folder


CASES = {  # with the folders that the command makes
    "store": (TRAIN, ["stores", "runs/one"], 100_000, r"stores/\S+/frames.npy"),
    "fold": (TRAIN, ["runs/one/seed0"], 5_000, "runs/one/seed0/fold0/state.pt"),
    "blend": (BLEND, ["runs/both"], 200, "runs/both/oof.csv"),
    "submission": (SUBMIT, ["submissions"], 50, "submissions/both-2026-01-02.csv"),
    "bundle": (PACKAGE, ["build"], 2_000, "safetensors"),
    "arrays": (EXTRACT, ["set"], 5_000, r"set/multitask_dataset\S*/train/1.fused.full.npy"),
    "predictions": (PREDICT, ["predictions"], 20, "predictions/"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_disk_that_takes_nothing_loses_nothing_and_the_same_command_goes_on(
    name, finished, tmp_path, monkeypatch, run_script
):
    command, folders, n_bytes, place = CASES[name]
    shutil.copytree(finished, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")

    def refused() -> str:
        before = contents()
        status, _, errors = run_script(*command)
        assert status == 2, errors
        assert "Traceback" not in errors
        after = contents()
        assert {path: after.get(path) for path in before} == before
        assert not [path for path in Path().rglob(".*") if path.name.startswith((".writing-", ".packing-"))]
        return errors.strip().splitlines()[-1]

    if name not in {"blend", "submission"}:  # which replace what was made before
        for folder in folders:
            shutil.rmtree(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))  # as a full disk does, without rights
    try:
        said = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert re.match(rf"error: File too large \(\S*{place}\S*\)\. Free some space", said), said
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    # a file where a folder should be refuses writers of every right, as a read-only disk does
    Path(folders[0]).write_text("in the way")
    assert re.match(f"error: .*{folders[0]}", refused())
    Path(folders[0]).unlink()
    assert run_script(*command)[0] == 0
    made = results()
    monkeypatch.chdir(finished)
    assert made == results()


DRIVER = """
import gc, resource, subprocess, sys
import music_emotion.commands.training
tests, place, *mounted = sys.argv[1:]
sys.path.append(tests)
from command_line import call
gc.freeze()
def allow(options, n_bytes):
    if mounted:
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
folders = ["--data.stores", f"{place}/stores", "--runs", f"{place}/runs"]
statuses = []
for name, options, n_bytes in (("one", "size=400k", 400_000), ("one", "size=64m", 10**9), ("two", "ro", 0)):
    allow(options, n_bytes)
    statuses.append(call("train.py", "one.toml", "--folds.n", "2", "--name", name, *folders))
    if name == "one" and statuses[-1] == 0:
        files = [f"{place}/runs/one/{each}.csv" for each in ("oof", "test")]
        subprocess.run(["cp", *files, "."], check=True)  # what is mounted here is seen here alone
print("statuses", *statuses)
"""


def test_a_disk_that_is_really_full_and_one_that_is_read_only(finished, tmp_path, monkeypatch):
    """On a tmpfs of its own where this machine allows it, else on files of at most so many bytes."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished / "one.toml", ".")
    Path("data").symlink_to((finished / "data").resolve())
    Path("small disk").mkdir()
    mount = 'mount -t tmpfs -o size=400k tmpfs "small disk"'
    call = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), "small disk"]
    on_disk = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *call, "mounted"]
    may_mount = subprocess.run([*on_disk[:4], mount], capture_output=True).returncode == 0
    done = subprocess.run(on_disk if may_mount else call, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "statuses 2 0 2", done.stderr
    assert "Traceback" not in done.stderr
    full, read_only = re.findall("^error: .*", done.stderr, re.MULTILINE)
    reasons = ("No space left on device", "Read-only file system") if may_mount else 2 * ("File too large",)
    assert re.match(rf"error: {reasons[0]} \(small disk/stores/\S+/frames.npy\)\. Free some space", full)
    assert re.match(
        rf"error: {reasons[1]} \(.*small disk/runs/\.two\.lock\)\. .* can be written to", read_only
    )
    for name in ("oof.csv", "test.csv"):
        assert Path(name).read_bytes() == (finished / "runs/one" / name).read_bytes()
