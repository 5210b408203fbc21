"""One process at a time: who comes second is refused, or waits.

The operating system takes a lock from a process that dies, so a killed one leaves none behind. The
lock files themselves stay, hidden beside what they are of: removing one would let two processes hold
locks of the same name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from music_emotion.errors import InputError


def lock_of(place: Path) -> Path:
    """The lock file of a file or folder, which need not exist."""
    if place.name in {"", ".."}:
        place = place.resolve()
    return place.with_name(f".{place.name}.lock")


@contextmanager
def alone_at(place: Path, remedy: str) -> Iterator[None]:
    """Hold what a command writes to, and refuse to begin while another process does.

    Parameters
    ----------
    place : Path
        The file or folder, which need not exist. Missing parent folders are made.
    remedy : str
        What to do instead of waiting, such as "give another --name".

    Raises
    ------
    InputError
        When another process holds it.
    """
    try:
        held = _lock(place).acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is at work on {place}. Wait until it ends and give the same command, or "
            f"{remedy}."
        ) from None
    with held:
        yield


@contextmanager
def in_turn(place: Path, what: str) -> Iterator[None]:
    """Wait until no other process makes the same thing, and keep others waiting.

    Parameters
    ----------
    place : Path
        What is made; it need not exist. Missing parent folders are made.
    what : str
        What the others do, such as "packs data", for the user who waits.
    """
    lock = _lock(place)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that {what} ...", flush=True)
        held = lock.acquire()
    with held:
        yield


def _lock(place: Path) -> BaseFileLock:
    lock = lock_of(place)
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)
