"""What of a push is done, on disk as soon as it is done; and one push of a bundle at a time."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from music_emotion.files import InputError, read_json, write_json

_LOOK_SECONDS = 0.2


class Steps:
    """The steps of one bundle's push: a JSON file that is written whole with every change.

    Parameters
    ----------
    path : Path
        The file. Steps that it holds of another bundle are forgotten.
    bundle : str
        Hash of the bundle.
    """

    def __init__(self, path: Path, bundle: str) -> None:
        self._path = path
        self._held: dict[str, Any] = {"bundle": bundle, "steps": {}}
        if path.exists():
            held = read_json(path)
            if not isinstance(held, dict) or not isinstance(held.get("steps"), dict):
                raise InputError(f"{path} does not list the steps of a push. Delete it to push anew.")
            if held.get("bundle") == bundle:
                self._held = held

    def get(self, step: str) -> dict[str, Any] | None:
        """What was noted of a step, None when it was not reached."""
        noted: dict[str, Any] | None = self._held["steps"].get(step)
        return noted

    def note(self, step: str, **values: Any) -> dict[str, Any]:
        """Note a step and when it was reached."""
        noted = {**values, "at": time.time()}
        self._held["steps"][step] = noted
        write_json(self._path, self._held)
        return noted

    def forget(self, *steps: str) -> None:
        """Have steps done again."""
        for step in steps:
            self._held["steps"].pop(step, None)
        write_json(self._path, self._held)


@contextmanager
def only_one(build: Path, lock: Path, minutes: float, say: Callable[[str], None]) -> Iterator[int]:
    """Wait until nobody else pushes this bundle, and keep others waiting.

    A process that is given the file descriptor holds the lock too. So a CLI that outlives a
    killed push ends before the next push begins, which else would upload beside it.

    Parameters
    ----------
    build : Path
        The bundle, for the message.
    lock : Path
        The lock file.
    minutes : float
        How long to wait.
    say : callable
        Takes a line for the user.

    Yields
    ------
    int
        The lock's file descriptor.

    Raises
    ------
    InputError
        When the other does not end in that time.
    """
    with lock.open("w") as file:
        if not _lock(file.fileno()):
            say(
                "Another push or packaging of this bundle runs, or the CLI of an interrupted push. "
                "Waiting until it ends."
            )
            deadline = time.monotonic() + 60 * minutes
            while not _lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise InputError(
                        f"Another push of {build} still runs after {minutes:g} minutes. "
                        f"Wait until it ends, or end it."
                    )
                time.sleep(_LOOK_SECONDS)
        yield file.fileno()


def _lock(descriptor: int) -> bool:
    if os.name != "posix":  # no such locks elsewhere: two pushes at once are then the user's to avoid
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
