"""Pseudo-labels: folds that also train on unlabelled clips, with the predictions of other runs.

A pseudo-label of fold k of a seed comes from the teachers' fold k of that seed. Its training has not seen
the clips that fold k validates with, neither their labels nor, to choose an epoch, their score.
Out-of-fold scores are then as honest as the teachers', though transductive: the student trains on the
test clips that are submitted, with predictions in place of labels. Which clips of the genre or test set
share a recording or an artist with a validation clip is unknown; such a clip carries a teacher's guess
and not that clip's label.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet, join, load_unlabelled
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.files import InputError, read_predictions, write_table
from music_emotion.runs import open_run, read_experiment
from music_emotion.training.classical import predict_folds
from music_emotion.training.predict import predict_with

PSEUDO_LABELS = "pseudo-labels.csv"


def with_pseudo_labels(
    experiment: Experiment, clips: ClipSet, folds: Sequence[Fold], accelerator: Accelerator, directory: Path
) -> list[Fold]:
    """Add unlabelled clips, with the predictions of teachers, to the training clips of unfinished folds.

    Writes `pseudo-labels.csv` of every such fold, or reads the one that is there, so that a training
    resumes with the same. Arrays and targets are then standardised with statistics of all these clips.
    Finished folds, and all folds of an experiment without teachers, stay as they are.

    Parameters
    ----------
    experiment : Experiment
        Names the teachers.
    clips : ClipSet
        All labelled clips.
    folds : sequence of Fold
        Of these clips.
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.

    Returns
    -------
    list of Fold
        With the same validation clips.

    Raises
    ------
    InputError
        When a teacher is not finished, has other folds or targets, reads other arrays, or has chosen
        its epoch on validation clips; when the directory holds another experiment.
    """
    waiting = [fold for fold in folds if not (directory / fold.folder / "model.safetensors").exists()]
    if not experiment.pseudo.teachers or not waiting:
        return list(folds)
    teachers = {Path(path): _teacher(Path(path), experiment) for path in experiment.pseudo.teachers}
    for fold in waiting:
        for path in teachers:
            _check_same_fold(path / fold.folder / "valid.csv", fold)
    open_run(directory, experiment, accelerator)
    pool = _load_pool(experiment, clips, accelerator)
    statistics = Statistics(experiment.data, experiment.task)
    taught = {}
    for fold in waiting:
        path = directory / fold.folder / PSEUDO_LABELS
        if not path.exists():
            labels = _predict_pool(experiment, teachers, fold, pool, accelerator, statistics)
            if accelerator.is_main_process:
                write_table(path, pd.concat([pool.origin, labels], axis=1))
        accelerator.wait_for_everyone()
        values = _read_labels(path, pool)
        taught[fold.folder] = pool.taught(fold, values, experiment.pseudo.labelled_repeats)
    return [taught.get(fold.folder, fold) for fold in folds]


@dataclass(frozen=True)
class _Pool:
    """Labelled clips, with their own ids, before unlabelled ones of other sets.

    Attributes
    ----------
    clips : ClipSet
    n_labelled : int
    origin : pd.DataFrame
        `Id` and `set` of every unlabelled clip in the set it comes from.
    """

    clips: ClipSet
    n_labelled: int
    origin: pd.DataFrame

    @property
    def unlabelled(self) -> np.ndarray:
        """Positions of the unlabelled clips."""
        return np.arange(self.n_labelled, len(self.clips))

    def labelled(self, fold: Fold) -> np.ndarray:
        """Positions of the fold's own training clips."""
        return np.flatnonzero(np.isin(self.clips.ids[: self.n_labelled], fold.training.ids))

    def taught(self, fold: Fold, values: np.ndarray, repeats: int) -> Fold:
        """The fold, training on its labelled clips, some times each, and all unlabelled ones."""
        all_values = self.clips.values.copy()
        all_values[self.n_labelled :] = values
        chosen = np.concatenate([np.repeat(self.labelled(fold), repeats), self.unlabelled])
        return replace(fold, training=replace(self.clips, values=all_values).select(chosen))


def _load_pool(experiment: Experiment, clips: ClipSet, accelerator: Accelerator) -> _Pool:
    with accelerator.main_process_first():
        sets = load_unlabelled(experiment.data, experiment.pseudo.clips, clips.outputs)
    origin = [pd.DataFrame({"Id": each.ids, "set": name}) for name, each in sets.items()]
    counted = ", ".join(f"{len(each)} of {name}" for name, each in sets.items())
    accelerator.print(f"pseudo-labelled clips: {counted}; by {', '.join(experiment.pseudo.teachers)}.")
    return _Pool(join([clips, *sets.values()]), len(clips), pd.concat(origin, ignore_index=True))


def _teacher(path: Path, student: Experiment) -> Experiment:
    """Read a teacher's experiment, and refuse one whose predictions don't fit or would leak labels."""
    teacher = read_experiment(path)
    data = teacher.data
    foreign = data.rate != student.data.rate or not data.of_layout
    selected = f"has chosen its epoch on validation clips (train.select '{teacher.train.select}')"
    for is_so, problem in (
        (teacher.task != "emotion", f"has the task '{teacher.task}'. Name a run of emotion"),
        (teacher.has_repeats, "is of repeats. Name a run of folds"),
        (foreign, f"does not read arrays of data.rate '{student.data.rate}'. Name a run that does"),
        (teacher.selects_on_validation, f"{selected}. Name a run with 'last'"),
    ):
        if is_so:
            raise InputError(f"The teacher {path} {problem} in pseudo.teachers.")
    return teacher


def _check_same_fold(path: Path, fold: Fold) -> None:
    """Refuse a teacher whose fold has not left out exactly the clips that this one is scored on."""
    if not path.exists():
        raise InputError(f"{path} of a teacher does not exist. Train that run, seed {fold.seed} too, first.")
    predicted = read_predictions(path)
    targets = fold.valid.outputs
    if set(predicted) != set(targets):
        raise InputError(
            f"{path} predicts {', '.join(map(str, predicted))}, but this run {', '.join(targets)}. Name "
            f"teachers of the same targets."
        )
    seen = set(fold.valid.ids) - set(predicted.index)
    if seen or len(predicted) != len(fold.valid):
        raise InputError(
            f"{path} is of another fold: {len(seen)} of the {len(fold.valid)} clips validated here are not "
            f"among its {len(predicted)}. Train teacher and student on the same clips, groups, seeds and "
            f"folds, so that no model teaches a fold whose clips it has seen."
        )


def _predict_pool(
    experiment: Experiment,
    teachers: Mapping[Path, Experiment],
    fold: Fold,
    pool: _Pool,
    accelerator: Accelerator,
    statistics: Statistics,
) -> pd.DataFrame:
    """Mean of the teachers' predictions, in the units of the targets, inside their range.

    Not of z-scores as in a blend: pseudo-labels stand beside labels, and a z-score would remove the mean of
    the unlabelled sets, which need not be that of the labelled clips.
    """
    unlabelled, targets = pool.clips.select(pool.unlabelled), list(pool.clips.outputs)
    none = pool.clips.select(np.arange(0))
    tables = []
    for path, teacher in teachers.items():
        if teacher.is_classical:  # never saved, but fitted in seconds
            own = replace(fold, training=pool.clips.select(pool.labelled(fold)), valid=none)
            (fitted,) = predict_folds(teacher, [own], unlabelled, statistics)
            table = fitted.test
        else:
            table = predict_with(path / fold.folder / "model.safetensors", unlabelled, accelerator)
        tables.append(table.loc[unlabelled.ids, targets].to_numpy())
    return pd.DataFrame(np.mean(tables, axis=0), columns=targets).clip(*experiment.data.target_range)


def _read_labels(path: Path, pool: _Pool) -> np.ndarray:
    """Pseudo-labels of the pool's unlabelled clips [shape=(n, n_targets)], float32."""
    try:
        table = pd.read_csv(path)
        is_whole = table[["Id", "set"]].equals(pool.origin)
        values = table[list(pool.clips.outputs)].to_numpy(np.float32)
    except (KeyError, ValueError) as error:  # pandas' errors of parsing are among them
        raise InputError(f"{path} is not a table of pseudo-labels ({error}). Delete it.") from None
    if not is_whole or not np.isfinite(values).all():
        raise InputError(
            f"{path} is not of the unlabelled clips there are now, or not whole. Delete it to make it anew."
        )
    return values
