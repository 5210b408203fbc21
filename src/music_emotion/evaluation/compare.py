"""Two runs on the same clips, compared in pairs from their text files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.evaluation.intervals import class_intervals, mean_score, paired_classes, paired_difference
from music_emotion.evaluation.report import read_run
from music_emotion.evaluation.report_parts import Run
from music_emotion.files import InputError, check_predictions, first_five, read_predictions

_TOLERANCE = 1e-9  # of truths that went through text
_AGAIN = "Run the command that made it again."

Interval = dict[str, float]


@dataclass(frozen=True)
class Scored:
    """A run with its clips.

    Attributes
    ----------
    run : Run
    truth, predictions : pd.DataFrame
        Target values, or one-hot classes and probabilities, of the same clips and columns.
    """

    run: Run
    truth: pd.DataFrame
    predictions: pd.DataFrame


@dataclass(frozen=True)
class Row:
    """One score of both runs.

    Attributes
    ----------
    name : str
    parts : tuple of str
        The targets that it is the mean of, or the measure.
    one, other : dict
        ``value``, ``low``, ``high``, ``n``.
    difference : dict
        The first less the second, as by `paired_difference`.
    """

    name: str
    parts: tuple[str, ...]
    one: Interval
    other: Interval
    difference: Interval


@dataclass(frozen=True)
class Comparison:
    """Two runs, score by score; the last row is the one that decides."""

    one: Run
    other: Run
    rows: list[Row]


def compare_runs(one: Path, other: Path, headline: Sequence[str] = (), common: bool = False) -> Comparison:
    """Score two runs in the same resamples of their clips.

    Parameters
    ----------
    one, other : Path
        Directories of runs or blends that were scored out of fold.
    headline : sequence of str
        Targets whose mean decides; all that both have when empty. Of genres macro F1 decides.
    common : bool
        Whether unfinished runs, and runs of different clips, are compared on the clips of both.

    Raises
    ------
    InputError
        When a run is not finished or not scored out of fold, or both differ in their clips, truth, classes
        or task.
    """
    if one.resolve() == other.resolve():
        raise InputError(f"Both runs are {one}. Name two different ones.")
    names = (one.name, other.name) if one.name != other.name else (str(one), str(other))
    first, second = (_read(path, name) for path, name in zip((one, other), names, strict=True))
    if bool(first.run.classes) != bool(second.run.classes):
        genre, emotion = names if first.run.classes else names[::-1]
        raise InputError(f"{genre} predicts genres and {emotion} targets. Compare runs of one kind.")
    if not common:
        for each in (first, second):
            _check_finished(each.run)
        _check_clips(first, second)
    first, second = _on_common_clips(first, second)
    if first.run.classes:
        if headline:
            raise InputError("--headline names targets, but both runs predict genres. Leave it out.")
        return Comparison(first.run, second.run, _class_rows(first, second))
    return Comparison(first.run, second.run, _target_rows(first, second, headline))


def _read(directory: Path, name: str) -> Scored:
    if not directory.is_dir():
        raise InputError(
            f"The run {directory} does not exist. Name the directory of a run, such as runs/blend."
        )
    run = read_run(directory, name)
    if not run.out_of_fold:
        what = "repeated splits, each with other test clips" if run.n_test else "a test split"
        raise InputError(f"{directory} is scored on {what}. Compare runs that are scored out of fold.")
    if not (directory / "truth.csv").exists():
        raise InputError(f"{directory} has no truth.csv, as runs of earlier versions. {_AGAIN}")
    if run.classes:
        return Scored(run, *_class_tables(directory, run.classes))
    if run.truth is None or run.predictions is None:
        raise ValueError("a run scored out of fold, with a truth.csv, has both tables")
    return Scored(run, run.truth, run.predictions)


def _class_tables(directory: Path, classes: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One-hot truth and probabilities of a genre run."""
    predictions = check_predictions(read_predictions(directory / "oof.csv"), str(directory / "oof.csv"))
    held = pd.read_csv(directory / "truth.csv")
    if "Genre" not in held or sorted(held["Id"]) != sorted(predictions.index):
        raise InputError(f"{directory / 'truth.csv'} is not of the clips and classes of oof.csv. {_AGAIN}")
    genres = held.set_index("Id")["Genre"].loc[predictions.index]
    if set(predictions) != set(classes) or not genres.isin(classes).all():
        raise InputError(f"{directory / 'oof.csv'} has other classes than scores.json or truth.csv. {_AGAIN}")
    one_hot = pd.DataFrame(
        {name: (genres == name).astype(float) for name in classes}, index=predictions.index
    )
    return one_hot, predictions[list(classes)]


def _check_finished(run: Run) -> None:
    if run.experiment is None:
        return
    planned = run.experiment.folds.n * len(run.experiment.seeds)
    scored = len(run.single["per_fold"]["scores"]) or run.folds * run.seeds
    if scored < planned:
        raise InputError(
            f"{run.name} is not finished: {scored} of {planned} folds are scored. Run the command that "
            f"trains it again, or give --common to compare the clips that both have predicted."
        )


def _check_clips(first: Scored, second: Scored) -> None:
    lacking = first.truth.index.difference(second.truth.index)
    extra = second.truth.index.difference(first.truth.index)
    if len(lacking) or len(extra):
        raise InputError(
            f"{second.run.name} lacks {len(lacking)} clips of {first.run.name} "
            f"({first_five(lacking) or 'none'}) and has {len(extra)} others ({first_five(extra) or 'none'}). "
            f"Give --common to compare the clips that both have predicted."
        )


def _on_common_clips(first: Scored, second: Scored) -> tuple[Scored, Scored]:
    """Both on the clips and columns that both have, in the same order, with the same truth."""
    names = (first.run.name, second.run.name)
    if sorted(first.run.classes) != sorted(second.run.classes):
        only = sorted(set(first.run.classes) ^ set(second.run.classes))
        raise InputError(f"{' and '.join(names)} differ in their classes ({first_five(only)}).")
    columns = [name for name in first.truth if name in second.truth]
    ids = first.truth.index.intersection(second.truth.index).sort_values()
    if not columns or len(ids) < 2:
        what = "no target" if not columns else f"{len(ids)} clips"
        raise InputError(f"{' and '.join(names)} have {what} in common, which can't be compared.")
    one, other = (
        Scored(each.run, each.truth.loc[ids, columns], each.predictions.loc[ids, columns])
        for each in (first, second)
    )
    apart = np.abs(one.truth.to_numpy() - other.truth.to_numpy()).max(axis=1) > _TOLERANCE
    if apart.any():
        raise InputError(
            f"{' and '.join(names)} differ in the truth of {apart.sum()} clips: {first_five(ids[apart])}. "
            f"They were trained on different labels; train both on the same."
        )
    return one, other


def _target_rows(first: Scored, second: Scored, headline: Sequence[str]) -> list[Row]:
    targets = [str(name) for name in first.truth]
    if unknown := [name for name in headline if name not in targets]:
        raise InputError(
            f"--headline names '{unknown[0]}'; the targets that both runs have are {', '.join(targets)}."
        )
    chosen = list(headline or targets)
    means = [targets, chosen] if set(chosen) != set(targets) else [chosen]
    parts = [[name] for name in targets if [name] != chosen] + [
        of for of in means if len(of) > 1 or of == chosen
    ]
    return [_target_row(first, second, of) for of in parts]


def _target_row(first: Scored, second: Scored, targets: list[str]) -> Row:
    one, other = (mean_score(first.truth, each.predictions, targets) for each in (first, second))
    difference = paired_difference(first.truth, first.predictions, second.predictions, targets)
    name = targets[0] if len(targets) == 1 else f"mean of {', '.join(targets[:-1])} and {targets[-1]}"
    return Row(name, tuple(targets), one, other, difference)


def _class_rows(first: Scored, second: Scored) -> list[Row]:
    classes = [str(name) for name in first.truth]
    truth = first.truth.to_numpy().argmax(axis=1)
    likely = [each.predictions.to_numpy() for each in (first, second)]
    one, other = (class_intervals(truth, each, classes) for each in likely)
    differences = paired_classes(truth, likely[0], likely[1], classes)
    names = ("accuracy", "weighted_f1", "macro_f1")
    return [Row(name, (name,), one[name], other[name], differences[name]) for name in names]
