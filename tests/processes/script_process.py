"""Commands in processes of their own, forked from one that has imported everything slow.

A disk changes only when a process opens, renames or removes something. A command that is killed just before
such a step leaves what it would leave if it were killed at any time since the step before.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import call

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["preloaded"])
TOML = """
name = "{name}"
task = "{task}"
excerpt.frames = 32
excerpt.test = 2
model.widths = [8]
train.epochs = {epochs}
train.batch_size = 16
folds.n = 3
"""
_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


class ScriptProcess:
    """A command that runs in a folder, and prints to `said.txt` there.

    Before step number `kill_at` on the disk of that folder, counted from 0, it is killed.
    """

    def __init__(
        self,
        folder: Path,
        script: str,
        *arguments: str,
        kill_at: int = sys.maxsize,
        environment: dict[str, str] | None = None,
    ):
        self._said, self.steps = folder / "said.txt", SERVER.Value("l", 0)
        self.process = SERVER.Process(
            target=_run, args=(folder, script, arguments, kill_at, environment or {}, self.steps)
        )
        # Python below 3.14 starts the server with another sys.path
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
            self.process.start()

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_so():
            assert self.process.is_alive(), self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def end(self) -> tuple[int, str]:
        """Wait for its end; returns its status, negative after a signal, and all it has printed."""
        self.process.join(timeout=240)
        assert self.process.exitcode is not None, self.said
        return self.process.exitcode, self.said

    @property
    def said(self) -> str:
        return self._said.read_text() if self._said.exists() else ""


def _run(
    folder: Path,
    script: str,
    arguments: tuple[str, ...],
    kill_at: int,
    environment: dict[str, str],
    steps: Any,
) -> None:
    os.chdir(folder)
    os.environ |= environment
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is started in the background ignores it
    root = os.path.realpath(folder)

    def count(event: str, values: tuple[Any, ...]) -> None:
        if event not in _STEPS or (event == "open" and not values[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = values[0] if not isinstance(values[0], int) else ""
        if not os.path.realpath(path).startswith(root):
            return
        if steps.value == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.value += 1

    sys.addaudithook(count)
    sys.exit(call(script, *arguments))
