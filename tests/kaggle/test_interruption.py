"""A push killed at every step: the same command goes on, and sends nothing twice."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

from conftest import DATASET, KERNEL, write_build

SCRIPT = Path(__file__).parents[2] / "scripts" / "push.py"
QUICK = ("--poll-seconds", "0.02", "--grace-minutes", "0.5")
SUBMIT = ("--competition", "music-feels", "--message", "first")
BIG = 80_000  # a hundred times so much does not fit into the buffers of a connection


def start(build: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(build), *QUICK, *SUBMIT],
        env={**environment, "PYTHONPATH": str(SCRIPT.parents[1] / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_killed_at_every_step_a_push_ends_the_same_and_sends_nothing_twice(stub, environment, tmp_path):
    build = write_build(tmp_path / "feels", b"0123456789" * (BIG // 10))
    for hook, end in (
        ("PUT fold1.safetensors begins", os.killpg),  # the child dies too, in the middle of a file
        ("CreateDataset", os.kill),  # the child lives on and ends its work
        ("SaveKernel", os.killpg),  # the kernel is saved, the answer is lost
        ("GetKernelSessionStatus", os.killpg),
        ("GET submission.csv", os.killpg),
        ("CreateSubmission", os.killpg),
    ):
        process = start(build, environment)
        stub.hooks[hook] = partial(end, process.pid, signal.SIGKILL)  # before the answer
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
        assert hook not in stub.hooks
    process = start(build, environment)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Submitted to music-feels: public score 0.61803." in out
    for method in ("CreateDataset", "SaveKernel", "CreateSubmission"):
        assert stub.requests.count(method) == 1, stub.requests
    assert "CreateDatasetVersion" not in stub.requests
    puts = [name for name in stub.requests if name.startswith("PUT") and "submission" not in name]
    assert sorted(set(puts)) == sorted(f"PUT {name}" for name in stub.datasets[DATASET].versions[0])
    assert len(puts) - len(set(puts)) <= 1  # the file that was cut
    assert "RESUME fold1.safetensors" in stub.requests
    assert stub.requests.count("ListDatasetFiles") == 1  # the upload that went on alone was looked at
    for name, data in stub.datasets[DATASET].versions[0].items():
        assert data == (build / "dataset" / name).read_bytes()
    assert (build / "output" / "submission.csv").read_bytes() == stub.kernels[KERNEL].output["submission.csv"]
    assert sorted(path.name for path in build.iterdir()) == ["dataset", "kernel", "output", "push.json"]


def test_a_dry_run_prints_the_commands_and_asks_kaggle_nothing(build, stub, run_script):
    status, out, _ = run_script("push.py", build, *SUBMIT, "--dry-run", "--submit", "kernel")
    assert status == 0
    assert out.startswith(f"cd '{build}'\nkaggle datasets status tester/feels-weights\n")
    assert "-k tester/feels-kernel -v VERSION -f submission.csv" in out
    status, _, errors = run_script("push.py", build, "--message", "lost")
    assert (status, "--message is given without --competition" in errors) == (2, True)
    assert stub.requests == []
    assert sorted(path.name for path in build.iterdir()) == ["dataset", "kernel"]
