"""Train folds side by side on a CPU, each in a process with one thread."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

from tqdm import tqdm

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.parallel import local_workers
from music_emotion.datasets.splits import Fold
from music_emotion.files import InputError
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import train_folds


class _Work(NamedTuple):
    """Directory of a fold, and a call of `train_folds`."""

    path: Path
    call: Callable[..., bool]


def train_side_by_side(
    experiment: Experiment, folds: Sequence[Fold], test: ClipSet, directory: Path, jobs: int
) -> None:
    """Train folds in several processes; the caller holds the lock of the run, and has opened it.

    A fold that fails leaves the others to finish. After the loss of a worker, the folds in work go on from
    their last epochs, one after the other.

    Parameters
    ----------
    experiment, folds, test, directory
        As for `train_folds`.
    jobs : int
        Number of folds to train at once.

    Raises
    ------
    InputError
        When all other folds are finished: the failure of the first that failed.
    """
    work, reasons, shown = list[_Work](), list[str](), f"{directory.name}, {jobs} at once"
    for fold in folds:
        call = partial(train_folds, experiment, [fold], test, directory=directory)
        work.append(_Work(directory / fold.folder, call))
    with local_workers(jobs) as results_of, tqdm(total=len(work), desc=shown, unit="fold") as bar:
        for result in results_of(_train_fold, work):
            reasons.append(result["reason"])
            bar.write(f"{result['path']}: {result['reason'] or 'trained'}")
            bar.update()
    if any(reasons):
        raise InputError(next(filter(None, reasons)))


def _train_fold(work: _Work) -> dict[str, Any]:
    """Train a fold silently; return its directory, and the reason if it fails."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        try:
            work.call(accelerator=make_accelerator())
        except InputError as error:
            return {"path": work.path, "reason": str(error)}
    return {"path": work.path, "reason": ""}


def _end_with(parent: int) -> None:
    """End this process soon after its parent, which held the lock of the run."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
