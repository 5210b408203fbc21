"""Blend the emotion runs on disk, and let genre runs vote; both need the runs' text files alone."""

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion import files
from music_emotion.config import Experiment, Task
from music_emotion.evaluation import blend, scores
from music_emotion.evaluation.blend import Method, Recipe
from music_emotion.evaluation.scores import SCORES
from music_emotion.files import InputError, first_five, read_predictions, write_predictions
from music_emotion.runs import BLEND, VOTE, alone_in_folder, read_experiment


def blend_runs(
    members: list[Path], directory: Path, method: Method, shrinkage: float, choose: bool = False
) -> str:
    """Blend finished emotion runs into a directory that submit reads like a run.

    Writes `blend.json` (the recipe), `oof.csv` (nested: no clip's weights, nor the choice of members, were
    chosen on it), `truth.csv`, `test.csv`, `scores.json`, and where members are chosen `members.csv` (of
    each target in the order they were taken, with the score of the blend up to each).

    Parameters
    ----------
    members : list of Path
        Directories of runs on the same clips.
    directory : Path
        Of the blend.
    method : {"z-score", "rank"}
        Scale on which predictions are averaged: over folds, seeds and runs.
    shrinkage : float
        0 takes the fitted weights, 1 equal ones.
    choose : bool
        Whether runs that do not raise the score are left out.

    Returns
    -------
    str
        Weights and nested scores in a few lines.

    Raises
    ------
    InputError
        When there is no member, one is not a finished emotion run, or they differ in their clips; when
        the directory is a run's or a vote's, or another process is at work on it.
    """
    if not members:
        raise InputError("There is nothing to blend. Name one or more runs, such as runs/multitask.")
    if len({path.name for path in members}) < len(members):
        raise InputError("Two of the runs have the same name. Name each run once.")
    experiments = [_finished(path, "emotion") for path in members]
    with alone_in_folder(directory, BLEND):
        runs, truth, folds = _read_members(members, method)
        units = truth.mean(), truth.std(ddof=0)
        nested = blend.nested_blend(truth, runs, folds, method, shrinkage, choose)
        nested = blend.in_target_units(nested, *units)
        scored = scores.emotion_scores(truth, {0: dict(list(nested.groupby(folds)))})
        scored["selected_on_validation"] = any(each.selects_on_validation for each in experiments)
        with files.together(directory, SCORES) as fresh:
            if choose:
                weights, order = blend.chosen_weights(truth, runs, folds, method, shrinkage)
                files.write_table(fresh / "members.csv", order)
                weights = weights[(weights > 0).any(axis=1)]
            else:
                weights = blend.choose_weights(truth, runs, method, shrinkage)
            recipe = Recipe(
                members=[str(path) for path in members if path.name in weights.index],
                method=method,
                shrinkage=shrinkage,
                weights={str(name): _by_name(row) for name, row in weights.iterrows()},
                target_mean=_by_name(units[0]),
                target_deviation=_by_name(units[1]),
            )
            write_predictions(fresh / "oof.csv", nested)
            scores.write_truth(fresh / "truth.csv", truth, "emotion")
            write_predictions(fresh / "test.csv", _predict(recipe))
            files.write_json(fresh / BLEND, asdict(recipe))
            files.write_json(fresh / SCORES, scored)
        if not choose:
            (directory / "members.csv").unlink(missing_ok=True)  # of an earlier choice
    lines = ["weights:"]
    for name, row in recipe.weights.items():
        lines.append(f"  {name}: " + ", ".join(f"{target} {weight:.2f}" for target, weight in row.items()))
    return "\n".join([*lines, scores.summary(directory.name, scored, "nested out-of-fold")])


def _read_members(
    members: list[Path], method: Method
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.Series]:
    """Out-of-fold predictions of every run; truth and folds of the first run's clips."""
    runs, folds = {}, []
    for path in members:
        seeds = list(scores.read_folds(path, "valid").values())  # each predicts every clip once
        runs[path.name] = blend.blend([pd.concat(tables.values()) for tables in seeds], method)
        folds.append(scores.fold_numbers(seeds[0]))
    first, truth = blend.aligned(runs)[0], read_predictions(members[0] / "truth.csv")
    scores.check_known(first.index, truth.index, str(members[0]), "truth in its truth.csv")
    return runs, truth.loc[first.index, list(first.columns)], folds[0]


def _by_name(values: pd.Series) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _predict(recipe: Recipe) -> pd.DataFrame:
    """The blend of the members' test predictions."""
    return recipe.predict({Path(run).name: scores.every_fold(Path(run), "test") for run in recipe.members})


def check_current(blended: Path, recipe: Recipe) -> None:
    """Refuse a blend whose members have been trained again since.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.
    recipe : Recipe
        Its recipe.

    Raises
    ------
    InputError
        When the members' test predictions no longer give the blend's.
    """
    now, then = _predict(recipe), read_predictions(blended / "test.csv")
    if not (now.index.equals(then.index) and np.allclose(now, then[now.columns], rtol=0, atol=1e-9)):
        raise InputError(f"The runs of {blended} have changed since it was made. Blend them again.")


def _finished(path: Path, task: Task) -> Experiment:
    """The experiment of a run, after it was checked that it can be blended or vote."""
    experiment = read_experiment(path)
    if experiment.task != task:
        raise InputError(
            f"{path} is a genre run; only emotion runs can be blended."
            if task == "emotion"
            else f"{path} is an emotion run; only genre runs vote. Blend emotion runs by themselves."
        )
    if task == "emotion" and experiment.has_repeats:
        raise InputError(
            f"{path} is a run of repeats, each tested on a part of the clips. Blend runs of folds, which "
            f"predict every clip."
        )
    if lacking := [fold for fold in _folders(experiment) if not (path / fold / "valid.csv").exists()]:
        raise InputError(
            f"{path} is not finished: it lacks {first_five(lacking)}. Run the command that trains it again."
        )
    return experiment


def _folders(experiment: Experiment) -> list[str]:
    n_folds = 1 if experiment.has_repeats else experiment.folds.n
    return [f"seed{seed}/fold{fold}" for seed in experiment.seeds for fold in range(n_folds)]


def vote(members: list[Path], directory: Path) -> str:
    """Soft vote: average the class probabilities of genre runs on the same folds, and score the mean.

    Writes the predictions and scores of a run, and `vote.json`, which names the members.

    Parameters
    ----------
    members : list of Path
        Directories of finished genre runs.
    directory : Path
        Of the vote.

    Returns
    -------
    str
        The scores in a few lines.

    Raises
    ------
    InputError
        When a member is not a finished genre run, or is not of the first one's folds; when the directory
        holds a run or a blend, or another process is at work on it.
    """
    experiments, first = [_finished(path, "genre") for path in members], members[0]
    with alone_in_folder(directory, VOTE):
        # the mark on scores that were selected is that of the run that has earned it
        experiment = next((each for each in experiments if each.selects_on_validation), experiments[0])
        means = {}
        for fold in _folders(experiment):
            for part in ("valid.csv", "test.csv"):
                if (first / fold / part).exists() or part == "valid.csv":  # a set may have no test split
                    tables = [read_predictions(path / fold / part) for path in members]
                    _check_same(members, tables, f"{fold}/{part}")
                    means[f"{fold}/{part}"] = scores.mean_table(tables)[list(tables[0])]
        for folder in directory.glob("seed*"):  # of an earlier vote, which may have had other folds
            shutil.rmtree(folder)
        for file, mean in means.items():
            write_predictions(directory / file, mean)
        files.write_json(directory / VOTE, {"members": [str(path) for path in members]})
        classes = [str(name) for name in tables[0]]
        if not experiment.has_repeats:
            return scores.score_run(directory, experiment, scores.read_classes(first / "truth.csv", classes))
        truth = {
            split: scores.read_classes(first / f"truth-{split}.csv", classes) for split in ("valid", "test")
        }
        repeats = files.read_object(first / SCORES)["repeats"]
        return scores.score_repeats(directory, experiment, truth, [repeat["n_train"] for repeat in repeats])


def _check_same(members: list[Path], tables: list[pd.DataFrame], file: str) -> None:
    ids, classes = sorted(tables[0].index), sorted(tables[0].columns)
    for path, table in zip(members, tables, strict=True):
        if sorted(table.columns) != classes or sorted(table.index) != ids:
            raise InputError(
                f"{path / file} is not of the classes and clips that the first run, {members[0]}, has in "
                f"this fold. Train both on the same data, seeds and folds."
            )
