"""Blend emotion runs and vote with genre runs, from the text files of the runs."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion import files
from music_emotion.config import Experiment, Task
from music_emotion.evaluation import blend, scores
from music_emotion.evaluation.blend import Method, Recipe
from music_emotion.evaluation.scores import SCORES
from music_emotion.files import InputError, first_five, read_predictions, read_truth, write_predictions
from music_emotion.runs import BLEND, VOTE, alone_in_folder, read_experiment


def blend_runs(
    members: list[Path], directory: Path, method: Method, shrinkage: float, choose: bool = False
) -> str:
    """Blend finished emotion runs into a directory that `submit` reads like a run.

    Writes `blend.json` (the recipe), `oof.csv` (nested predictions, see `nested_blend`), `truth.csv`,
    `test.csv` and `scores.json`. With `choose`, it also writes `members.csv`: the members of each target in
    the order of selection, with the score after adding each.

    Parameters
    ----------
    members : list of Path
        Directories of runs on the same clips.
    directory : Path
        Output directory.
    method : {"z-score", "rank"}
        Scale on which predictions are averaged over folds, seeds and runs.
    shrinkage : float
        0 gives the fitted weights, 1 equal weights.
    choose : bool
        Leave out runs that don't improve the score.

    Returns
    -------
    str
        Weights and nested scores as text.

    Raises
    ------
    InputError
        When there are no members, a member is not a finished emotion run, or members have different clips.
        When the directory holds a run or a vote, or another process writes to it.
    """
    if not members:
        raise InputError("There is nothing to blend. Name one or more runs, such as runs/multitask.")
    if len({path.name for path in members}) < len(members):
        raise InputError("Two of the runs have the same name. Name each run once.")
    experiments = [_finished(path, "emotion") for path in members]
    with alone_in_folder(directory, BLEND):
        runs, truth, folds = _read_members(members, method)
        known = (scores.read_run_groups(path / "truth.csv") for path in members)
        groups = next((each for each in known if each is not None), None)
        scales = files.read_object(members[0] / SCORES).get("scales")
        mean, deviation = truth.mean(), truth.std(ddof=0)
        nested = blend.nested_blend(truth, runs, folds, method, shrinkage, choose)
        nested = blend.in_target_units(nested, mean, deviation)
        of_folds = {0: dict(list(nested.groupby(folds)))}
        scored = scores.score_folds("emotion", truth, of_folds, groups, scales)
        scored["selected_on_validation"] = any(each.selects_on_validation for each in experiments)
        with files.together(directory, SCORES) as fresh:
            if choose:
                weights, order = blend.chosen_weights(truth, runs, folds, method, shrinkage)
                files.write_table(fresh / "members.csv", order)
                weights = weights[(weights > 0).any(axis=1)]
            else:
                weights = blend.choose_weights(truth, runs, method, shrinkage)
            taken = [str(path) for path in members if path.name in weights.index]
            tables: list[Any] = [table.to_dict() for table in (weights.T, mean, deviation)]
            recipe = Recipe(taken, method, shrinkage, *tables)
            write_predictions(fresh / "oof.csv", nested)
            scores.write_truth(fresh / "truth.csv", truth, "emotion", groups)
            write_predictions(fresh / "test.csv", _predict(recipe))
            files.write_json(fresh / BLEND, asdict(recipe))
            files.write_json(fresh / SCORES, scored)
        if not choose:
            (directory / "members.csv").unlink(missing_ok=True)  # from an earlier blend
    lines = ["weights:"]
    for name, row in recipe.weights.items():
        lines.append(f"  {name}: " + ", ".join(f"{target} {weight:.2f}" for target, weight in row.items()))
    return "\n".join([*lines, scores.summary(directory.name, scored, "nested out-of-fold")])


def _read_members(
    members: list[Path], method: Method
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame, pd.Series]:
    """Read the out-of-fold predictions of every run, and truth and folds of the first run."""
    seeds = {path: list(scores.read_folds(path, "valid").values()) for path in members}
    runs = {  # each seed has one prediction per clip
        path.name: blend.blend([pd.concat(tables.values()) for tables in each], method)
        for path, each in seeds.items()
    }
    truth = members[0] / "truth.csv"
    labels = read_truth(truth)
    if labels.isna().any(axis=None):
        raise InputError(
            f"{truth}: clips of data.more lack targets. Blend runs of sets with the same targets."
        )
    *_, known = blend.aligned({**runs, str(truth): labels})
    return runs, known, scores.fold_numbers(seeds[members[0]][0])


def _predict(recipe: Recipe) -> pd.DataFrame:
    """Blend the test predictions of the members."""
    return recipe.predict({Path(run).name: scores.every_fold(Path(run), "test") for run in recipe.members})


def check_current(blended: Path, recipe: Recipe) -> None:
    """Check that the test predictions of a blend still match those of its members.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.
    recipe : Recipe
        Recipe of the blend.

    Raises
    ------
    InputError
        When members have been trained again since the blend was made.
    """
    now, then = _predict(recipe), read_predictions(blended / "test.csv")
    if not (now.index.equals(then.index) and np.allclose(now, then[now.columns], rtol=0, atol=1e-9)):
        raise InputError(f"The runs of {blended} have changed since it was made. Blend them again.")


def _finished(path: Path, task: Task) -> Experiment:
    """Read the experiment of a run. Raise `InputError` if the run is unfinished or of the wrong kind."""
    experiment = read_experiment(path)
    if experiment.task != task:
        kind = "a genre run" if task == "emotion" else "an emotion run"
        raise InputError(f"{path} is {kind}, unlike the first. Blend runs of one task.")
    if task == "emotion" and experiment.has_repeats:
        raise InputError(f"{path} has repeats, which do not predict every clip. Blend runs of folds.")
    if lacking := [fold for fold in _folders(experiment) if not (path / fold / "valid.csv").exists()]:
        raise InputError(f"{path} is not finished: it lacks {first_five(lacking)}. Train it to the end.")
    return experiment


def _folders(experiment: Experiment) -> list[str]:
    n_folds = 1 if experiment.has_repeats else experiment.folds.n
    return [f"seed{seed}/fold{fold}" for seed in experiment.seeds for fold in range(n_folds)]


def vote(members: list[Path], directory: Path) -> str:
    """Soft voting: average the class probabilities of genre runs with the same folds, and score the mean.

    Writes the predictions and scores like a run, and `vote.json` with the names of the members.

    Parameters
    ----------
    members : list of Path
        Directories of finished genre runs.
    directory : Path
        Output directory.

    Returns
    -------
    str
        Scores as text.

    Raises
    ------
    InputError
        When a member is not a finished genre run, or its folds differ from those of the first member. When
        the directory holds a run or a blend, or another process writes to it.
    """
    experiments = [_finished(path, "genre") for path in members]
    for path, experiment in zip(members, experiments, strict=True):
        if differing := sorted(set(_folders(experiment)) ^ set(_folders(experiments[0]))):
            raise InputError(
                f"{path} and {members[0]} have other seeds or folds: only one of them has "
                f"{first_five(differing)}. Average runs of the same seeds and number of folds."
            )
    with alone_in_folder(directory, VOTE):
        means = {}
        for fold in _folders(experiments[0]):
            for file in (f"{fold}/valid.csv", f"{fold}/test.csv"):
                if (members[0] / file).exists():  # the data may have no test split
                    tables = blend.aligned(
                        {str(path / file): read_predictions(path / file) for path in members}
                    )
                    means[file] = scores.mean_table(tables)
        for folder in directory.glob("seed*"):  # from an earlier vote, possibly with other folds
            shutil.rmtree(folder)
        for file, mean in means.items():
            write_predictions(directory / file, mean)
        files.write_json(directory / VOTE, {"members": [str(path) for path in members]})
        # if any member selects on validation, the vote's scores are marked so
        experiment = next((each for each in experiments if each.selects_on_validation), experiments[0])
        classes = [str(name) for name in mean]
        if not experiment.has_repeats:
            truth = scores.read_classes(members[0] / "truth.csv", classes)
            groups = scores.read_run_groups(members[0] / "truth.csv")
            return scores.score_run(directory, experiment, truth, groups=groups)
        truths = {
            split: scores.read_classes(members[0] / f"truth-{split}.csv", classes)
            for split in ("valid", "test")
        }
        n_train = [repeat["n_train"] for repeat in files.read_object(members[0] / SCORES)["repeats"]]
        return scores.score_repeats(directory, experiment, truths, n_train)
