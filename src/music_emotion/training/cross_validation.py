"""The clips of an experiment, and training on each of its folds."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet, load_clip_set, load_test_set
from music_emotion.datasets.splits import Fold
from music_emotion.evaluation.metrics import is_constant
from music_emotion.files import InputError, read_predictions, telling_what_is_kept
from music_emotion.runs import open_run
from music_emotion.training.checkpoint import STATE
from music_emotion.training.classical import fit_folds
from music_emotion.training.companion import load_genres
from music_emotion.training.fold import check_spread, train_network


def load_sets(experiment: Experiment, accelerator: Accelerator) -> tuple[ClipSet, ClipSet]:
    """Clips to split and the test split; the main process packs them first.

    The test split is empty where there is none, and where the clips' own parts are tested on.
    """
    with accelerator.main_process_first():
        clips = load_clip_set(experiment.data, experiment.task, "train")
        if experiment.has_repeats:
            return clips, clips.select(np.zeros(0, np.int64))
        return clips, load_test_set(experiment.data, experiment.task, clips)


def train_folds(
    experiment: Experiment,
    folds: Sequence[Fold],
    test: ClipSet,
    accelerator: Accelerator,
    directory: Path,
    deadline: float = math.inf,
) -> bool:
    """Train the folds that are not finished, and predict the test split with each.

    Parameters
    ----------
    experiment : Experiment
        With a network or a classical estimator.
    folds : sequence of Fold
        Some or all of the experiment's.
    test : ClipSet
        Predicted by folds without test clips of their own. Labels, if any, are not looked at.
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.
    deadline : float
        As for `train_fold`; classical estimators take seconds and do not look at it.

    Returns
    -------
    bool
        Whether all of them are finished.

    Raises
    ------
    InputError
        When the directory holds another experiment, a fold was finished with other clips, the
        targets do not vary, or the genre set that is to be learnt beside them is missing or wrong.
    """
    open_run(directory, experiment, accelerator)
    for fold in folds:
        _check_same_clips(fold.valid, directory / fold.folder / "valid.csv")
        if fold.test is not None:
            _check_same_clips(fold.test, directory / fold.folder / "test.csv")
    if experiment.task == "emotion":
        for fold in folds:
            _check_orders(fold)
    with telling_what_is_kept(partial(_kept, experiment, folds, directory)):
        if not experiment.is_classical:
            genres = load_genres(experiment, accelerator)
            return all(
                train_network(experiment, f, test, accelerator, directory, deadline, genres) for f in folds
            )
        if accelerator.is_main_process:
            fit_folds(experiment, folds, test, directory)
        accelerator.wait_for_everyone()
        return True


def _kept(experiment: Experiment, folds: Sequence[Fold], directory: Path) -> str:
    """How far an interrupted training of folds has come."""
    places = [directory / fold.folder for fold in folds]
    n_finished = sum((place / "valid.csv").exists() for place in places)
    kept = f"{directory}: {n_finished} of {len(folds)} folds are finished"
    begun = [place for place in places if (place / STATE).exists() and not (place / "valid.csv").exists()]
    for place in begun:
        n_epochs = len(pd.read_csv(place / "metrics.csv"))
        kept += f", {place.relative_to(directory)} has {n_epochs} of {experiment.train.epochs} epochs"
    return kept


def _check_orders(fold: Fold) -> None:
    """Refuse targets without an order, before the folds that have one have trained for long."""
    check_spread(fold.training)
    for part in (fold.valid, fold.test):
        if part is not None and len(part.ids):
            for name, values in part.truth.items():
                if is_constant(values.to_numpy()):
                    raise InputError(
                        f"{name} is the same for all {len(values)} clips that {fold.folder} is scored on, so "
                        f"they have no order. Check the label file, or use fewer folds."
                    )


def _check_same_clips(clips: ClipSet, path: Path) -> None:
    """Refuse to go on beside a fold that other data or groups have made: folds would overlap."""
    if path.exists() and sorted(read_predictions(path).index) != sorted(clips.ids):
        raise InputError(
            f"{path} holds predictions of other clips: data, groups or the number of folds have changed "
            f"since. Give another --name, or delete {path.parent.parent.parent}."
        )
