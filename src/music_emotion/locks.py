"""One process at a time: who comes second is refused, or waits.

The operating system takes a lock from a process that dies, so a killed one leaves none behind. The
lock files themselves stay: removing one would let two processes hold locks of the same name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from music_emotion.errors import InputError


@contextmanager
def alone_at(place: Path, lock: Path, remedy: str) -> Iterator[None]:
    """Hold what a command writes to, and refuse to begin while another process does.

    Parameters
    ----------
    place : Path
        What is held, for the message.
    lock : Path
        The lock file. Missing parent folders are made.
    remedy : str
        What to do instead of waiting, such as "give another --name".

    Raises
    ------
    InputError
        When another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is at work on {place}. Wait until it ends and give the same command, or "
            f"{remedy}."
        ) from None
    try:
        yield
    finally:
        held.release()


@contextmanager
def in_turn(lock: Path, what: str) -> Iterator[None]:
    """Wait until no other process makes the same thing, and keep others waiting.

    Parameters
    ----------
    lock : Path
        The lock file. Missing parent folders are made.
    what : str
        What the others make, for the user who waits.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that {what} ...", flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()
