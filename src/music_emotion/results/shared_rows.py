"""Rows that several processes train together, also on several machines: whose row is whose.

A process that trains a row holds a lock on the row's directory. The operating system takes a lock
from a process that dies, so that the row is free again at once, and is gone on with.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from music_emotion.results.study_row import Row

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Claim:
    """A row, and the lock on it, which the end of the context gives back."""

    row: Row
    lock: AbstractContextManager[object]


Take = Callable[[], Claim | Literal["wait", "done"]]


def claim_row(row: Row, folder: Path) -> Claim | None:
    """Take the lock of a row in ``runs/<study>``; None while another process has it."""
    (folder / row.name).mkdir(parents=True, exist_ok=True)
    try:
        return Claim(row, FileLock(folder / row.name / "row.lock").acquire(timeout=0))
    except Timeout:
        return None


def claimed_rows(take: Take, finish: Callable[[Row], None], accelerator: Accelerator) -> Iterator[Row]:
    """Give one row after another to train, each locked meanwhile, until all are finished.

    Parameters
    ----------
    take : callable
        Locks a row; "wait" while all that are left are with other processes, "done" when none is
        left. Called in the main process of the launcher's alone.
    finish : callable
        Notes a trained row, still locked. Called in the main process alone, too.
    accelerator : Accelerator
        Its processes train each row together.

    Yields
    ------
    Row
        The same in all its processes.
    """
    told = False
    while True:
        claim = take() if accelerator.is_main_process else "wait"
        (step,) = broadcast_object_list([claim.row if isinstance(claim, Claim) else claim])
        if step == "done":
            return
        if step == "wait":  # all processes wait here, since the launcher's own waiting has an end
            if not told:
                accelerator.print("waiting for rows that other processes train ...", flush=True)
            told = True
            time.sleep(_POLL_SECONDS)
            continue
        with claim.lock if isinstance(claim, Claim) else nullcontext():
            yield step
            if accelerator.is_main_process:
                finish(step)
