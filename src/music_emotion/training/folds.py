"""Run an experiment: load its clips, train its folds, predict and score.

`music_emotion.datasets.splits` divides the clips into folds.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from music_emotion import files
from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet, load_clip_set, load_embedded, load_test_set
from music_emotion.datasets.excerpts import row_statistics
from music_emotion.datasets.layout import find_set, read_settings
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run, known_for_scores
from music_emotion.evaluation.metrics import table_scores
from music_emotion.evaluation.scores import score_repeats, score_run
from music_emotion.models.card import ModelCard
from music_emotion.models.network import Network, load_trunk
from music_emotion.models.target_scale import normal_quantiles
from music_emotion.runs import alone_in, open_run
from music_emotion.training.accelerator import tracking
from music_emotion.training.checkpoint import STATE
from music_emotion.training.leaks import check_leaks
from music_emotion.training.loop import LAST, UNFINISHED, Trainer
from music_emotion.training.objectives import check_spread, load_second
from music_emotion.training.predict import predict_with
from music_emotion.training.probe import probe


def run_experiment(
    experiment: Experiment,
    accelerator: Accelerator,
    directory: Path,
    only_fold: int | None = None,
    pretraining: bool = False,
    jobs: int = 1,
    draw: Callable[[Path], object] | None = None,
) -> str:
    """Train the folds that are not trained yet, and score the run.

    Parameters
    ----------
    experiment : Experiment
    accelerator : Accelerator
        Device, processes, precision and trackers.
    directory : Path
        ``runs/<name>``.
    only_fold : int, optional
        Train only this fold of every seed.
    pretraining : bool
        Train genres on the set's training split, and score them on its test split; or embeddings without
        labels, scored on held-out clips.
    jobs : int
        As for `train_folds`.
    draw : callable, optional
        Draws the scored run in its directory, like `plots.draw_scores`.

    Returns
    -------
    str
        The scores in a few lines; empty in all processes but the main one.

    Raises
    ------
    InputError
        When loading, a leak check, training or scoring fails, or another process holds the directory. Also
        for several `jobs` on a GPU, with a launcher or with a tracker.
    """
    is_alone = accelerator.device.type == "cpu" and accelerator.distributed_type == DistributedType.NO
    if jobs > 1 and (accelerator.log_with or not is_alone):
        raise files.InputError("--jobs is for a CPU, without a launcher or a --tracker. Leave out either.")
    clips, test = load_sets(experiment, accelerator)
    data = experiment.data
    if not (experiment.folds.groups or pretraining or data.windows) and accelerator.is_main_process:
        groups = find_set(Path(data.root), experiment.task) / "groups-train.csv"
        if groups.exists():
            print(f"note: {groups} is not used, so a group may be in two folds. Add --folds.groups set.")
    folds = folds_of_pretraining(experiment, clips, test) if pretraining else folds_of_run(experiment, clips)
    folds = [fold for fold in folds if only_fold in {None, fold.number}]
    scores = ""
    with alone_in(directory, accelerator), tracking(accelerator, directory, experiment):
        taught = folds
        if experiment.pseudo.teachers:
            from music_emotion.training.pseudo_labels import with_pseudo_labels  # imports clip statistics

            taught = with_pseudo_labels(experiment, clips, folds, accelerator, directory)
        if experiment.distil.labels:
            check_leaks(experiment, folds, test, accelerator, directory)
        train_folds(experiment, taught, test, accelerator, directory, jobs=jobs)
        if accelerator.is_main_process:
            if not experiment.distil.labels:
                reached = [pd.read_csv(directory / f.folder / "metrics.csv")["score"].iloc[-1] for f in folds]
                scores = (
                    f"Spearman correlation of {len(clips.outputs)} columns, {len(folds[0].valid)} clips "
                    f"held out: {np.mean(reached):.3f}"
                )
            elif pretraining:
                scores = score_run(directory, experiment, test.truth, "test")
            elif experiment.has_repeats:
                scores = _score_repeats(experiment, directory, folds, clips)
            else:
                scores = score_run(directory, experiment, clips.truth, **known_for_scores(experiment, clips))
            if clips.origin is not None and experiment.data.more:
                scores += _scores_of_sets(experiment, directory, clips, clips.origin)
            if draw:
                draw(directory)
        accelerator.wait_for_everyone()
    return scores


def _scores_of_sets(experiment: Experiment, directory: Path, clips: ClipSet, origin: pd.DataFrame) -> str:
    """Write `sets.csv`, which set each id is of, and score the out-of-fold predictions of each set alone."""
    roots = (experiment.data.root, *experiment.data.more)
    places = origin.loc[clips.ids].assign(set=origin["set"].map(dict(enumerate(roots))))
    files.write_table(directory / "sets.csv", places.reset_index())
    lines = []
    if not experiment.has_repeats:
        oof = files.read_predictions(directory / "oof.csv")
        for root in roots:
            truth = clips.truth.loc[places.index[places["set"] == root]].dropna(axis=1, how="all")
            found = table_scores("emotion", truth, oof.loc[oof.index.intersection(truth.index), list(truth)])
            lines.append(
                f"\n  of {root}: " + ", ".join(f"{name} {score:.3f}" for name, score in found.items())
            )
    return "".join(lines)


def _score_repeats(experiment: Experiment, directory: Path, folds: Sequence[Fold], clips: ClipSet) -> str:
    truth = {}
    for number, split in ((1, "valid"), (2, "test")):
        joined = pd.concat([fold.sets[number].truth for fold in folds])
        # a published split may lack targets of other sets
        truth[split] = joined[~joined.index.duplicated()].sort_index().dropna(axis=1, how="all")
    known = known_for_scores(experiment, clips)
    return score_repeats(directory, experiment, truth, [len(fold.training) for fold in folds], **known)


def load_sets(experiment: Experiment, accelerator: Accelerator) -> tuple[ClipSet, ClipSet]:
    """Load the labelled clips and the test split; the main process packs their arrays first.

    The test split is empty if the set has none, or if folds have test clips of their own.

    Returns
    -------
    clips, test : ClipSet
    """
    with accelerator.main_process_first():
        if not experiment.distil.labels:
            clips = load_embedded(experiment.data, experiment.distil)
            return clips, clips.select(np.zeros(0, np.int64))
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
    jobs: int = 1,
) -> bool:
    """Train the folds that are not finished, and predict the test split with each.

    Parameters
    ----------
    experiment : Experiment
        Experiment with a network or a classical estimator.
    folds : sequence of Fold
        Folds to train, some or all of the experiment's.
    test : ClipSet
        Test clips of folds without their own; may be empty. Labels are ignored.
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.
    deadline : float
        As for `Trainer.run`; classical estimators take seconds and ignore it.
    jobs : int
        Number of folds to train at once on a CPU. If more than one, each has a process with one thread.
        Classical estimators and the folds of `data.windows` ignore it.

    Returns
    -------
    bool
        Whether all these folds are finished.

    Raises
    ------
    InputError
        When the directory holds another experiment, or a fold was finished with other clips. Also when the
        genre set of an auxiliary head is missing or wrong.
    """
    open_run(directory, experiment, accelerator)
    for fold in folds:
        _check_fold(fold, directory)
    with files.telling_what_is_kept(lambda: _kept(experiment, folds, directory)):
        if experiment.is_classical:
            from music_emotion.training.classical import fit_folds  # networks need no clip statistics

            if accelerator.is_main_process:
                fit_folds(experiment, folds, test, directory)
            accelerator.wait_for_everyone()
            return True
        second = load_second(experiment, accelerator)
        if jobs > 1 and experiment.data.windows is None:  # whose arrays would be copied to each process
            from music_emotion.training.side_by_side import train_side_by_side

            untrained = [
                fold for fold in folds if not (directory / fold.folder / "model.safetensors").exists()
            ]
            train_side_by_side(experiment, untrained, test, directory, jobs)
        for fold in folds:
            place = directory / fold.folder
            if not (place / "model.safetensors").exists():
                network = make_network(experiment, fold.training, fold.own_seed)
                if experiment.model.trunk:
                    load_trunk(network, Path(experiment.model.trunk))
                if experiment.train.probe and not (place / STATE).exists():
                    probe(network, fold.training, experiment.train.probe)
                if not Trainer(network, fold, accelerator, place, second).run(deadline):
                    return False
            _predict_test(experiment, fold.test_clips(test), accelerator, place)
        return True


def _check_fold(fold: Fold, directory: Path) -> None:
    """Refuse a fold that was finished with other clips."""
    for clips, name in zip(fold.sets[1:], ("valid.csv", "test.csv"), strict=False):
        path = directory / fold.folder / name
        if path.exists() and sorted(files.read_predictions(path).index) != sorted(clips.ids):
            raise files.InputError(
                f"{path} holds predictions of other clips: data, groups or the number of folds have changed "
                f"since. Give another --name, or delete {directory}."
            )


def _kept(experiment: Experiment, folds: Sequence[Fold], directory: Path) -> str:
    """Describe the progress of an interrupted training."""
    left = [fold.folder for fold in folds if not (directory / fold.folder / "valid.csv").exists()]
    kept = f"{directory}: {len(folds) - len(left)} of {len(folds)} folds are finished"
    for folder in left:
        if (directory / folder / STATE).exists():
            n_epochs = len(pd.read_csv(directory / folder / "metrics.csv"))
            kept += f", {folder} has {n_epochs} of {experiment.train.epochs} epochs"
    return kept


def _predict_test(experiment: Experiment, clips: ClipSet, accelerator: Accelerator, place: Path) -> None:
    """Predict the test clips with the model of a finished fold, and with the last epoch's if kept."""
    if accelerator.is_main_process:
        for left in (STATE, UNFINISHED):
            (place / left).unlink(missing_ok=True)
    models = (("model.safetensors", "test.csv"), (LAST, "test-last.csv"))
    for model, name in models[: 1 + experiment.train.keep_last]:
        if len(clips) and not (place / name).exists():
            predictions = predict_with(place / model, clips, accelerator)
            if accelerator.is_main_process:
                files.write_predictions(place / name, predictions)
            accelerator.wait_for_everyone()


def make_network(experiment: Experiment, training: ClipSet, seed: int) -> Network:
    """Build a network with random weights from a seed; its card holds statistics of the training clips.

    Parameters
    ----------
    experiment : Experiment
    training : ClipSet
        Training clips of the fold. Mean and deviation of rows and targets are computed from them alone.
    seed : int
        Seed of the weights.
    """
    n_outputs, is_emotion = len(training.outputs), experiment.task == "emotion"
    mean, deviation = row_statistics(training, experiment.data)
    if not experiment.data.normalise:
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    target_mean, target_deviation = np.zeros(n_outputs), np.ones(n_outputs)
    if is_emotion and experiment.loss.standardise:
        check_spread(training)
        # NaN are targets that a set lacks; sums that skip it are rounded differently
        mean_of, deviation_of = (np.mean, np.std) if training.has_labels else (np.nanmean, np.nanstd)
        target_mean, target_deviation = (of(training.values, axis=0) for of in (mean_of, deviation_of))
    features = FeatureSettings()
    if training.store.is_fused:
        features = read_settings(find_set(Path(experiment.data.root), experiment.task, experiment.data.rate))
    card = ModelCard(
        experiment,
        training.outputs,
        *(tuple(values.tolist()) for values in (mean, deviation, target_mean, target_deviation)),
        target_quantiles=normal_quantiles(training.values)
        if is_emotion and experiment.loss.rank_normal
        else (),
        features=features,
    )
    torch.manual_seed(seed)
    return Network(card)
