"""Soft vote of genre runs: the mean of their probabilities, fold by fold."""

import shutil
from pathlib import Path

import pandas as pd
from accelerate import Accelerator

from music_emotion.config import Experiment
from music_emotion.datasets.splits import Fold, folds_of_run
from music_emotion.files import InputError, read_predictions, write_json, write_predictions
from music_emotion.runs import VOTE, alone_in_folder, read_experiment
from music_emotion.training.folds import load_sets, score


def vote(members: list[Path], directory: Path, accelerator: Accelerator) -> str:
    """Average the class probabilities of genre runs on the same folds, and score the mean.

    Writes the predictions and scores of a run, and `vote.json`, which names the members.

    Parameters
    ----------
    members : list of Path
        Directories of finished genre runs.
    directory : Path
        Of the vote.
    accelerator : Accelerator
        As for the runs.

    Returns
    -------
    str
        The scores in a few lines.

    Raises
    ------
    InputError
        When a member is not a genre run, or is not of the first one's folds; when the directory holds
        a run or a blend, or another process is at work on it.
    """
    experiments = [_genre_experiment(path) for path in members]
    with alone_in_folder(directory, VOTE):
        return _vote(experiments, members, directory, accelerator)


def _vote(
    experiments: list[Experiment], members: list[Path], directory: Path, accelerator: Accelerator
) -> str:
    for folder in directory.glob("seed*"):  # of an earlier vote, which may have had other folds
        shutil.rmtree(folder)
    # the mark on scores that were selected is that of the run that has earned it
    experiment = next((each for each in experiments if each.selects_on_validation), experiments[0])
    clips, _ = load_sets(experiment, accelerator)
    folds = folds_of_run(experiment, clips)
    for fold in folds:
        for part in _parts(members[0] / fold.folder):
            tables = [read_predictions(path / fold.folder / part) for path in members]
            _check_same(members, tables, fold, part)
            mean = pd.concat(tables).groupby(level="Id").mean()
            write_predictions(directory / fold.folder / part, mean)
    write_json(directory / VOTE, {"members": [str(path) for path in members]})
    return score(experiment, directory, clips, folds)


def _genre_experiment(path: Path) -> Experiment:
    experiment = read_experiment(path)
    if experiment.task != "genre":
        raise InputError(f"{path} is an emotion run; only genre runs vote. Blend emotion runs by themselves.")
    return experiment


def _parts(place: Path) -> list[str]:
    """What a fold has predicted; a set without a test split has nothing to test."""
    return ["valid.csv", "test.csv"] if (place / "test.csv").exists() else ["valid.csv"]


def _check_same(members: list[Path], tables: list[pd.DataFrame], fold: Fold, part: str) -> None:
    clips = fold.valid if part == "valid.csv" else fold.test
    ids = tables[0].index if clips is None else pd.Index(clips.ids)
    for path, table in zip(members, tables, strict=True):
        if sorted(table.columns) != sorted(tables[0].columns) or sorted(table.index) != sorted(ids):
            raise InputError(
                f"{path / fold.folder / part} is not of the classes and clips that the first run, "
                f"{members[0]}, has in this fold. Train both on the same data, seeds and folds."
            )
