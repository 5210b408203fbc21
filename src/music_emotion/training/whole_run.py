"""A whole run: its clips loaded, its folds trained, their predictions scored."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run
from music_emotion.evaluation.repeats import score_repeats
from music_emotion.evaluation.run_scores import score_run, score_split
from music_emotion.runs import alone_in
from music_emotion.training.cross_validation import load_sets, train_folds
from music_emotion.training.leaks import check_leaks
from music_emotion.training.pseudo_labels import with_pseudo_labels


def run_experiment(
    experiment: Experiment, accelerator: Accelerator, directory: Path, only_fold: int | None = None
) -> str:
    """Train what is not trained yet, and score it.

    Parameters
    ----------
    experiment : Experiment
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.
    only_fold : int, optional
        Train this fold of every seed alone.

    Returns
    -------
    str
        The scores in a few lines; empty in all processes but the main one.

    Raises
    ------
    InputError
        As the loading, the look for leaks, the training and the scoring do; when another run holds
        the directory.
    """
    clips, test = load_sets(experiment, accelerator)
    folds = [fold for fold in folds_of_run(experiment, clips) if only_fold in {None, fold.number}]
    with alone_in(directory, accelerator):
        taught = with_pseudo_labels(experiment, clips, folds, accelerator, directory)
        check_leaks(experiment, folds, test, accelerator, directory)
        train_folds(experiment, taught, test, accelerator, directory)
        scores = score(experiment, directory, clips, folds) if accelerator.is_main_process else ""
        accelerator.wait_for_everyone()
    return scores


def run_pretraining(experiment: Experiment, accelerator: Accelerator, directory: Path) -> tuple[str, Path]:
    """Train genres on the set's training split, and score them on its test split.

    Parameters
    ----------
    experiment : Experiment
        Of genres.
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.

    Returns
    -------
    scores : str
        In a few lines; empty in all processes but the main one.
    trunk : Path
        The model that others start from.

    Raises
    ------
    InputError
        As the loading, the look for leaks, the training and the scoring do; when another run holds
        the directory.
    """
    clips, test = load_sets(experiment, accelerator)
    folds = folds_of_pretraining(experiment, clips, test)
    with alone_in(directory, accelerator):
        check_leaks(experiment, folds, test, accelerator, directory)
        train_folds(experiment, folds, test, accelerator, directory)
        scores = score_split(directory, test.truth) if accelerator.is_main_process else ""
        accelerator.wait_for_everyone()
    return scores, directory / folds[0].folder / "model.safetensors"


def score(experiment: Experiment, directory: Path, clips: ClipSet, folds: Sequence[Fold]) -> str:
    """Score the folds that have predicted their clips; returns a few lines."""
    if experiment.has_repeats:
        return score_repeats(directory, experiment, folds)
    return score_run(directory, experiment, clips.truth)
