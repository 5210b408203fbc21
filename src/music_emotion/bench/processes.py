"""A training in a process of its own, and the largest memory that a process has used."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from music_emotion.files import InputError

_TRAIN = (sys.executable, "-m", "music_emotion", "train")


def peak_mb(process: int) -> float:
    """Largest resident memory of a process that runs, in MB; 0 once it has ended.

    Touched pages of mapped files count. Outside Linux it is the memory of this moment, so ask often.
    """
    try:
        if not Path("/proc/self/status").exists():
            return psutil.Process(process).memory_info().rss / 1e6
        # not ru_maxrss, which in a child begins with its parent's
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return 0.0


def own_peak_mb() -> float:
    """Largest resident memory of this process, in MB."""
    return peak_mb(os.getpid())


def run_train(
    experiment: Path,
    flags: Sequence[str],
    environment: Mapping[str, str] | None = None,
    watch: Callable[[int], None] = lambda _: None,
) -> None:
    """Train, and wait for the end.

    Parameters
    ----------
    experiment : Path
        experiments/<name>.toml.
    flags : sequence of str
        For `music-emotion train`, such as --data.root data.
    environment : mapping of str to str, optional
        Variables that are added to this process's own.
    watch : callable, optional
        Called with the number of the process, many times a second while it runs.

    Raises
    ------
    InputError
        When the training fails; it has said why.
    """
    command = [*_TRAIN, str(experiment), *flags]
    environment = os.environ | dict(environment or {})
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                watch(process.pid)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.02)
        finally:
            process.kill()  # interrupted; it does nothing to a process that has ended
    if process.returncode:
        raise InputError(f"The training failed with status {process.returncode}: {' '.join(command)}")
