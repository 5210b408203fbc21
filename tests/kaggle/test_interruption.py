"""A push killed at every step: the same command goes on, and sends nothing twice."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from conftest import DATASET, KERNEL, write_build
from kaggle_stub import KaggleStub

SCRIPT = Path(__file__).parents[2] / "scripts" / "push.py"
QUICK = ("--poll-seconds", "0.02", "--grace-minutes", "0.5")
SUBMIT = ("--competition", "music-feels", "--message", "first")
BIG = 80_000  # a hundred times so much does not fit into the buffers of a connection


def start(build: Path, environment: dict[str, str], *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(build), *QUICK, *SUBMIT, *flags],
        env={**environment, "PYTHONPATH": str(SCRIPT.parents[1] / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what is started in the background inherits that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def kill_at(stub: KaggleStub, hook: str, build: Path, environment: dict[str, str], end: Callable) -> None:
    """Push until a request comes, and kill the process before the answer to it."""
    process = start(build, environment)
    stub.hooks[hook] = lambda: end(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert hook not in stub.hooks


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
        kill_at(stub, hook, build, environment, end)
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
    commands = out.splitlines()
    assert commands[0] == f"cd '{build}'"
    assert [" ".join(command.split(" ")[1:3]) for command in commands[1:]] == [
        *("datasets status", "datasets create", "datasets version", "datasets status", "kernels push"),
        *("kernels status", "kernels output"),
        *("competitions submissions", "competitions submit", "competitions submissions"),
    ]
    assert "-k tester/feels-kernel -v VERSION -f submission.csv" in out
    assert stub.requests == []
    assert sorted(path.name for path in build.iterdir()) == ["dataset", "kernel"]


def test_an_error_is_a_sentence_and_status_2(build, stub, run_script):
    (build / "dataset" / ".env").write_text("TOKEN=x")
    status, _, errors = run_script("push.py", build, *SUBMIT)
    assert status == 2
    assert errors.startswith("error: ")
    assert "holds unlisted files: .env. Remove them." in errors
    _, _, errors = run_script("push.py", build, "--message", "lost")
    assert "--message is given without --competition" in errors
    assert stub.requests == []


def test_ctrl_c_says_how_to_go_on(build, environment, stub):
    process = start(build, environment)
    stub.hooks["GetDatasetStatus"] = lambda: os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
