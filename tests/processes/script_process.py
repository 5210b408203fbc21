"""Scripts in processes of their own, forked from one that has imported what takes seconds.

A disk changes only where a process opens, renames or removes something. A script that is killed just
before such a step leaves what it would leave if it were killed at any time since the step before.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from command_line import call

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(  # of what is not found there, nothing would be said
    [
        "music_emotion.datasets.extract",
        "music_emotion.kaggle.plan",
        "music_emotion.evaluation.blend_runs",
        "music_emotion.training.folds",
        "timm.scheduler",
    ]
)
_STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


class ScriptProcess:
    """A script at work in a folder.

    Parameters
    ----------
    folder : Path
        Where it is started; `said.txt` gets what it prints.
    script : str
        Such as "train.py".
    arguments : sequence of str
    kill_at : int, optional
        Number of the step on disk in that folder, from 0, before which it is killed.
    environment : mapping of str to str, optional
        Beside what it is there.
    """

    def __init__(
        self,
        folder: Path,
        script: str,
        *arguments: str,
        kill_at: int = sys.maxsize,
        environment: Mapping[str, str] = MappingProxyType({}),
    ):
        self._said, self._steps = folder / "said.txt", SERVER.Value("l", 0)
        self.process = SERVER.Process(
            target=_run, args=(folder, script, arguments, kill_at, dict(environment), self._steps)
        )
        self.process.start()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        """Wait for its end; gives its status, negative after a signal, and all it has printed."""
        self.process.join(timeout=240)
        assert self.process.exitcode is not None, self.said
        return self.process.exitcode, self.said

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._said.read_text() if self._said.exists() else ""

    @property
    def n_steps(self) -> int:
        """How many steps on disk it has made."""
        return self._steps.value


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
