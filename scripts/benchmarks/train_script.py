"""scripts/train.py as a process of its own, since a process keeps its first precision and its memory."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from music_emotion.files import InputError

_SCRIPT = Path(__file__).parents[1] / "train.py"


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
        For train.py, such as --data.root data.
    environment : mapping of str to str, optional
        Variables that are added to this process's own.
    watch : callable, optional
        Called with the number of the process, many times a second while it runs.

    Raises
    ------
    InputError
        When the training fails; it has said why.
    """
    command = [sys.executable, str(_SCRIPT), str(experiment), *flags]
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
