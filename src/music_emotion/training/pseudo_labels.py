"""Pseudo-labels: folds that also train on unlabelled clips, with the predictions of other runs as labels.

The pseudo-labels of fold k come from the teachers' fold k of the same seed. That fold was neither trained
nor selected on the validation clips, so out-of-fold scores are as unbiased as the teachers'. They are
transductive: the student trains on the test clips that are submitted, with predictions as labels. A genre or
test clip may share a recording or artist with a validation clip, but its label is a teacher's prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from music_emotion.config import DataSection, Experiment
from music_emotion.datasets.clip_set import SOURCES, ClipSet, join, load_unlabelled, read_tables, tables_of
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.files import InputError, first_five, read_predictions, regular_file, write_table
from music_emotion.runs import open_run, read_experiment
from music_emotion.training.classical import predict_folds
from music_emotion.training.predict import predict_with

PSEUDO_LABELS = "pseudo-labels.csv"


def with_pseudo_labels(
    experiment: Experiment, clips: ClipSet, folds: Sequence[Fold], accelerator: Accelerator, directory: Path
) -> list[Fold]:
    """Add unlabelled clips, labelled by the teachers, to the training clips of unfinished folds.

    Writes `pseudo-labels.csv` for each such fold, or reads the existing one when a training resumes.
    Inputs and targets are then standardised with the statistics of all these clips. Finished folds, and all
    folds of an experiment without teachers, are returned unchanged.

    Parameters
    ----------
    experiment : Experiment
        The student; its `pseudo` section names the teachers.
    clips : ClipSet
        All labelled clips.
    folds : sequence of Fold
        Folds of these clips.
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.

    Returns
    -------
    list of Fold
        The folds with more training clips; validation clips are unchanged.

    Raises
    ------
    InputError
        When a teacher is not finished, has other folds or targets, reads other arrays, lacks embeddings of
        clips, or selected its epoch on validation clips; or when the directory holds another experiment.
    """
    waiting = [fold for fold in folds if not (directory / fold.folder / "model.safetensors").exists()]
    if not experiment.pseudo.teachers or not waiting:
        return list(folds)
    teachers = {path: _read_teacher(path, experiment) for path in map(Path, experiment.pseudo.teachers)}
    for fold in waiting:
        for path in teachers:
            _check_same_fold(path / fold.folder / "valid.csv", fold)
    open_run(directory, experiment, accelerator)
    with accelerator.main_process_first():
        sets = load_unlabelled(experiment.data, experiment.pseudo.clips, clips.outputs)
    counted = ", ".join(f"{len(each)} of {name}" for name, each in sets.items())
    accelerator.print(f"pseudo-labelled clips: {counted}; by {', '.join(experiment.pseudo.teachers)}.")
    origin = [pd.DataFrame({"Id": each.ids, "set": name}) for name, each in sets.items()]
    unlabelled = pd.concat(origin, ignore_index=True)
    pool = join([clips, *sets.values()])
    of_arrays = Statistics(experiment.data, experiment.task)
    all_labelled = all((directory / fold.folder / PSEUDO_LABELS).exists() for fold in waiting)
    statistics = {
        path: of_arrays.beside(_embeddings(teacher.data, {"train": clips, **sets}).set_axis(pool.ids))
        if teacher.data.embeddings
        else of_arrays
        for path, teacher in ({} if all_labelled else teachers).items()
    }
    added, taught = np.arange(len(clips), len(pool)), {}
    for fold in waiting:
        own = np.flatnonzero(np.isin(clips.ids, fold.training.ids))
        path = directory / fold.folder / PSEUDO_LABELS
        if not path.exists():
            asked = replace(
                fold, training=pool.select(own), valid=pool.select(own[:0]), test=pool.select(added)
            )
            labels = _mean_prediction(teachers, asked, accelerator, statistics)
            if accelerator.is_main_process:
                labels = labels.clip(*experiment.data.target_range)
                write_table(path, pd.concat([unlabelled, labels], axis=1))
        accelerator.wait_for_everyone()
        values = pool.values.copy()
        values[added] = _read_labels(path, unlabelled, clips.outputs)
        chosen = np.concatenate([np.repeat(own, experiment.pseudo.labelled_repeats), added])
        taught[fold.folder] = replace(fold, training=replace(pool, values=values).select(chosen))
    return [taught.get(fold.folder, fold) for fold in folds]


def _read_teacher(path: Path, student: Experiment) -> Experiment:
    """Read a teacher's experiment, and refuse one whose predictions do not fit or would leak labels."""
    teacher = read_experiment(path)
    data, select = teacher.data, teacher.train.select
    foreign = data.rate != student.data.rate or data.windows or data.statistics
    untold = [table for table in data.embeddings if "{task}" not in table and "genre" in student.pseudo.clips]
    lacks = f"has no embeddings of the genre set. Train it with {{task}} in the path {first_five(untold)}"
    selected = f"has chosen its epoch on validation clips (train.select '{select}'). Name a run with 'last'"
    for is_so, problem in (
        (teacher.task != "emotion", f"has the task '{teacher.task}'. Name a run of emotion"),
        (teacher.has_repeats, "is of repeats. Name a run of folds"),
        (foreign, f"does not read arrays of data.rate '{student.data.rate}'. Name a run that does"),
        (teacher.selects_on_validation, selected),
        (untold, f"{lacks}, or give pseudo.clips ['test']. Name such a run"),
    ):
        if is_so:
            raise InputError(f"The teacher {path} {problem} in pseudo.teachers.")
    return teacher


def _embeddings(data: DataSection, sets: Mapping[str, ClipSet]) -> pd.DataFrame:
    """Read the embeddings of the clips of all sets, in their order."""
    parts: list[pd.DataFrame] = []
    for name, clips in sets.items():
        task, split = SOURCES[name]
        tables = tables_of(data, split, task)
        columns = parts[0].columns if parts else None
        part = read_tables(tables, data.columns).reindex(index=clips.ids, columns=columns)
        if len(lacking := part.index[part.isna().any(axis=1)]):
            raise InputError(
                f"{first_five(tables.values())}: {len(lacking)} of {len(clips)} clips have no row with all "
                f"columns of the training clips ({first_five(lacking)}). Complete the table for the teacher."
            )
        parts.append(part)
    return pd.concat(parts)


def _check_same_fold(path: Path, fold: Fold) -> None:
    """Refuse a teacher whose fold did not hold out exactly the validation clips of this one."""
    regular_file(path, "The teacher's file", f"Train that run, seed {fold.seed} too, first.")
    predicted, targets = read_predictions(path), fold.valid.outputs
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


def _mean_prediction(
    teachers: Mapping[Path, Experiment],
    fold: Fold,
    accelerator: Accelerator,
    statistics: Mapping[Path, Statistics],
) -> pd.DataFrame:
    """Average the teachers' predictions for a fold's unlabelled clips, in the units of the targets.

    Z-scores, as in a blend, would remove the mean of the unlabelled sets. It may differ from the mean of the
    labelled clips.
    """
    test, tables = fold.sets[2], []
    for path, teacher in teachers.items():
        if teacher.is_classical:
            (fitted,) = predict_folds(teacher, [fold], test, statistics[path])
            table = fitted.test
        else:
            table = predict_with(path / fold.folder / "model.safetensors", test, accelerator)
        tables.append(table.loc[test.ids, list(test.outputs)].to_numpy())
    return pd.DataFrame(np.mean(tables, axis=0), columns=list(test.outputs))


def _read_labels(path: Path, unlabelled: pd.DataFrame, targets: Sequence[str]) -> np.ndarray:
    """Read the pseudo-labels of the unlabelled clips [shape=(n, n_targets)], float32."""
    try:
        table = pd.read_csv(path)
        is_whole = table[["Id", "set"]].equals(unlabelled)
        values = table[list(targets)].to_numpy(np.float32)
    except (KeyError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path} is not a table of pseudo-labels ({error}). Delete it.") from None
    if not is_whole or not np.isfinite(values).all():
        raise InputError(
            f"{path} is not of the unlabelled clips there are now, or not whole. Delete it to make it anew."
        )
    return values
