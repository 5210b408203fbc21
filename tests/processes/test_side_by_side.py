"""Folds that train side by side in processes of their own end like folds one after the other."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import psutil
import pytest
import torch
from command_line import call
from script_process import TOML
from test_killed import contents

from music_emotion.files import InputError
from music_emotion.training.folds import run_experiment

TRAIN = ("train.py", "small.toml", "--runs")


@pytest.fixture(scope="module", autouse=True)
def whole(competition, tmp_path_factory) -> Iterator[Path]:
    """The working directory; its folder `whole` has the folds trained one after the other."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "data").symlink_to(competition)
    (folder / "small.toml").write_text(TOML.format(name="small", task="emotion", epochs=20))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert call(*TRAIN, "whole") == 0
        yield folder / "whole"


def states(runs: str) -> list[Path]:
    return [Path(runs, "small", f"seed0/fold{number}/state.pt") for number in range(3)]


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers(process: psutil.Process) -> list[psutil.Process]:
    """Processes that train, of a command that does."""
    children = filter(is_running, process.children())  # a killed worker stays a zombie for a while
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


def send_when_trained(runs: str, number: int) -> None:
    """Signal the workers when two folds are trained for an epoch; Ctrl-C reaches this process too."""

    def send() -> None:
        wait_until(lambda: all(path.exists() for path in states(runs)[:2]))
        for process in workers(psutil.Process()):
            process.send_signal(number)
        if number == signal.SIGINT:
            os.kill(os.getpid(), number)

    threading.Thread(target=send).start()


@pytest.mark.parametrize(("device", "launched"), [("cuda", "NO"), ("cpu", "MULTI_CPU")])
def test_a_gpu_and_a_launcher_are_refused(small, device, launched):
    accelerator = Mock(log_with=[], device=torch.device(device), distributed_type=launched)
    with pytest.raises(InputError, match="--jobs is for a CPU, without a launcher"):
        run_experiment(small(), accelerator, Path("refused"), jobs=2)


def test_a_fold_that_fails_leaves_the_others_to_finish(run_script):
    one = states("damaged")[1]
    one.parent.mkdir(parents=True)
    one.write_bytes(b"damaged")
    status, _, errors = run_script(*TRAIN, "damaged", "--jobs", "2")
    assert status == 2
    assert f"error: {one} is damaged (" in errors.splitlines()[-1]
    assert [(path.parent / "test.csv").exists() for path in states("damaged")] == [True, False, True]
    _, said, errors = run_script(*TRAIN, "wild", "--jobs", "2", "--optim.learning-rate", "1e30")
    assert re.search(r"error: wild/small/seed0/fold\d: the loss is nan in epoch 1\. Lower", errors)
    assert said.count(": the loss is nan in epoch 1.") == 3


def test_where_workers_are_killed_the_folds_go_on_and_end_with_the_same_files(whole, run_script):
    send_when_trained("killed", signal.SIGKILL)
    status, said, errors = run_script(*TRAIN, "killed", "--jobs", "2")
    assert status == 0, errors
    assert "A worker was lost; what was running is tried again alone." in errors
    assert sorted(re.findall("killed/small/seed0/fold(.): trained", said)) == ["0", "1", "2"]
    assert contents(whole.with_name("killed"), ("small",)) == contents(whole, ("small",))


def test_ctrl_c_tells_what_is_kept(run_script):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
    send_when_trained("left", signal.SIGINT)
    status, _, errors = run_script(*TRAIN, "left", "--jobs", "2", "--train.epochs", "4000")
    signal.signal(signal.SIGINT, before)
    assert status == 130
    kept = r"interrupted: left/small: 0 of 3 folds are finished(, seed0/fold[01] has \d+ of 4000 epochs){2}; "
    assert re.search(f"{kept}the same command goes on", errors.splitlines()[-1])
    assert not workers(psutil.Process())


def test_no_worker_outlives_a_killed_command():
    command = [sys.executable, "-m", "music_emotion", "train", *TRAIN[1:], "ended", "--jobs", "2"]
    with subprocess.Popen([*command, "--train.epochs", "4000"], stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: all(path.exists() for path in states("ended")[:2]))
        started = workers(psutil.Process(process.pid))
        process.kill()
    assert len(started) == 2
    wait_until(lambda: not any(map(is_running, started)))


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
