"""Rows that several processes train together, also on several machines: whose row is whose.

A process that trains a row holds a lock on the row's directory. The operating system takes a lock
from a process that dies, so that the row is free again at once, and is gone on with. A trunk
that several rows start from has a lock, too.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import BaseFileLock, FileLock, Timeout

from music_emotion.files import Diverged, InputError
from music_emotion.plots.pictures import draw_scores
from music_emotion.studies.study_row import Row, note_problem, problem_of
from music_emotion.training.folds import run_experiment, run_pretraining

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


def run_row(row: Row, folder: Path, accelerator: Accelerator) -> None:
    """Train what is not trained yet of a row and of its trunk, and score it, or note that it diverged.

    Parameters
    ----------
    row : Row
    folder : Path
        ``runs/<study>``.
    accelerator : Accelerator
        Device, processes, precision.

    Raises
    ------
    InputError
        When the row was trained with other settings or clips, or can't be.
    """
    if problem_of(row, folder):
        return
    try:
        with _remedies_of_a_study():
            _train_row(row, folder, accelerator)
    except Diverged as error:  # in all processes, since their mean loss is
        accelerator.free_memory()
        if accelerator.is_main_process:
            note_problem(row, folder, str(error.args[0]))
        accelerator.wait_for_everyone()


def _train_row(row: Row, folder: Path, accelerator: Accelerator) -> None:
    experiment = row.experiment
    if row.pretrain is not None:
        directory = folder / row.pretrain.name
        with _alone_in(directory, accelerator):
            _, trunk = run_pretraining(row.pretrain, accelerator, directory)
        model = experiment.model.model_copy(update={"trunk": str(trunk)})
        experiment = experiment.model_copy(update={"model": model})
    run_experiment(experiment, accelerator, folder / row.name)
    if accelerator.is_main_process:
        draw_scores(folder / row.name)


@contextmanager
def _alone_in(directory: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold the lock of a trunk's directory; wait for it in all processes of the launcher's."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / "trunk.lock")
    while not broadcast_object_list([accelerator.is_main_process and _taken(lock)])[0]:
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()  # does nothing in the processes that don't hold it


def _taken(lock: BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


@contextmanager
def _remedies_of_a_study() -> Iterator[None]:
    """Advise what scripts/study.py has; a run's own advice is that of scripts/train.py."""
    try:
        yield
    except Diverged:
        raise
    except InputError as error:
        advice = str(error).replace("another --name", "--runs another folder")
        raise InputError(advice) from None
