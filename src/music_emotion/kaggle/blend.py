"""A blend in a bundle: its networks as files, its classical runs as what is needed to fit them again."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.blend_runs import check_current
from music_emotion.evaluation.scores import fold_numbers, read_folds
from music_emotion.files import InputError, write_table
from music_emotion.runs import read_experiment


def add_blend(blended: Path, dataset: Path) -> dict[str, Any]:
    """Copy what a blend's members predict with into the dataset.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.
    dataset : Path
        Gets the models of networks, and the folds of classical runs.

    Returns
    -------
    dict
        For the manifest: the ``recipe``; ``models``, run to files; ``refits``, run to its
        experiment and the file of its folds.

    Raises
    ------
    InputError
        When the directory is not of a blend, a member has changed since, or lacks a fold.
    """
    recipe = read_recipe(blended)
    check_current(blended, recipe)
    contents: dict[str, Any] = {"recipe": asdict(recipe), "models": {}, "refits": {}}
    for run in map(Path, recipe.members):
        experiment = read_experiment(run)
        if experiment.is_classical:
            folds = _write_folds(run, experiment, dataset)
            contents["refits"][run.name] = {"experiment": experiment_to_dict(experiment), "folds": folds}
        else:
            contents["models"][run.name] = _copy_models(run, experiment, dataset)
    return contents


def _copy_models(run: Path, experiment: Experiment, dataset: Path) -> list[str]:
    """Copy a run's models under flat names; return the names."""
    names = []
    for seed in experiment.seeds:
        for fold in range(experiment.folds.n):
            model = run / f"seed{seed}" / f"fold{fold}" / "model.safetensors"
            if not model.is_file():
                raise _fold_missing(run, model)
            names.append(f"{run.name}-seed{seed}-fold{fold}.safetensors")
            shutil.copyfile(model, dataset / names[-1])
    return names


def _write_folds(run: Path, experiment: Experiment, dataset: Path) -> str:
    """Write the fold of every clip, a column per seed: Kaggle knows neither the groups nor our splitter."""
    tables = read_folds(run, "valid")
    for seed in experiment.seeds:
        for fold in range(experiment.folds.n):
            if fold not in tables.get(seed, {}):
                raise _fold_missing(run, run / f"seed{seed}" / f"fold{fold}" / "valid.csv")
    columns = {str(seed): fold_numbers(tables[seed]) for seed in experiment.seeds}
    name = f"{run.name}-folds.csv"
    write_table(dataset / name, pd.DataFrame(columns).reset_index())
    return name


def _fold_missing(run: Path, path: Path) -> InputError:
    return InputError(f"{path} does not exist. Train the run again: {run} lacks a fold.")
