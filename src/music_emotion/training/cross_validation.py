"""The folds of an experiment, and training on each of them."""

import math
from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from music_emotion.data.clip_set import ClipSet, load_clip_set
from music_emotion.data.folds import assign_folds, groups_of, target_strata
from music_emotion.data.labels import read_groups
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment
from music_emotion.predictions import read_predictions
from music_emotion.training.classical import fit_folds
from music_emotion.training.fold import Fold, train_network
from music_emotion.training.run import open_run


def load_sets(experiment: Experiment, accelerator: Accelerator) -> tuple[ClipSet, ClipSet]:
    """Training and test split; the main process packs them first."""
    with accelerator.main_process_first():
        clips = load_clip_set(experiment.data, experiment.task, "train")
        test = load_clip_set(experiment.data, experiment.task, "test", clips.outputs)
    return clips, test


def folds_of_seed(experiment: Experiment, clips: ClipSet, seed: int) -> list[Fold]:
    """The folds of one seed: each validates with its share of the clips and trains on the others."""
    groups = None
    if experiment.folds.groups != "none":
        groups = groups_of(clips.ids, read_groups(Path(experiment.folds.groups)))
    is_genre = experiment.task == "genre"
    strata = clips.values.argmax(axis=1) if is_genre else target_strata(clips.values)
    fold_of = assign_folds(strata, experiment.folds.n, seed, groups)
    return [
        Fold(seed, number, clips.select(fold_of != number), clips.select(fold_of == number))
        for number in range(experiment.folds.n)
    ]


def folds_of_run(experiment: Experiment, clips: ClipSet) -> list[Fold]:
    """The folds of every seed, which together predict each clip once per seed."""
    return [fold for seed in experiment.seeds for fold in folds_of_seed(experiment, clips, seed)]


def folds_of_pretraining(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    """One fold per seed, for networks that are scored on the test split.

    A training whose length is fixed may watch the test split and use every training clip; one that
    selects its best epoch must not, so it holds out one fold of the training split.

    Raises
    ------
    InputError
        When the test split has no labels.
    """
    if not test.has_labels:
        raise InputError(
            f"{experiment.data.root} has no genre test_labels.txt, which pretraining is scored on."
        )
    if experiment.train.select == "last":
        return [Fold(seed, 0, clips, test) for seed in experiment.seeds]
    return [folds_of_seed(experiment, clips, seed)[0] for seed in experiment.seeds]


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
        Labels, if any, are not looked at.
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
        When the directory holds another experiment, a fold was finished with other clips, or the
        targets do not vary.
    """
    open_run(directory, experiment, accelerator)
    for fold in folds:
        _check_same_clips(fold, directory / fold.folder / "valid.csv")
    if not experiment.is_classical:
        return all(train_network(experiment, f, test, accelerator, directory, deadline) for f in folds)
    if accelerator.is_main_process:
        fit_folds(experiment, folds, test, directory)
    accelerator.wait_for_everyone()
    return True


def _check_same_clips(fold: Fold, path: Path) -> None:
    """Refuse to go on beside a fold that other data or groups have made: folds would overlap."""
    if path.exists() and sorted(read_predictions(path).index) != sorted(fold.valid.ids):
        raise InputError(
            f"{path} was validated on other clips: data, groups or the number of folds have changed since. "
            f"Give another --name, or delete {path.parent.parent.parent}."
        )
