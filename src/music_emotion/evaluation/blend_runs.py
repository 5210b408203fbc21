"""Blend the runs on disk: weights chosen on out-of-fold predictions, scored by nested cross-validation."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.evaluation.ensemble import (
    Method,
    aligned,
    blend,
    choose_weights,
    nested_blend,
    to_target_units,
    weights_of_all,
)
from music_emotion.evaluation.member_choice import chosen_weights, rank_by_target, weights_of_best
from music_emotion.evaluation.recipe import Recipe
from music_emotion.evaluation.run_scores import (
    SCORES,
    every_fold,
    fold_numbers,
    read_folds,
    summary,
    write_truth,
)
from music_emotion.evaluation.scores import emotion_scores
from music_emotion.files import (
    InputError,
    first_five,
    read_predictions,
    together,
    write_json,
    write_predictions,
    write_table,
)
from music_emotion.runs import BLEND, alone_in_folder, read_experiment


def blend_runs(
    members: list[Path], directory: Path, method: Method, shrinkage: float, choose: bool = False
) -> str:
    """Blend finished emotion runs into a directory that submit reads like a run.

    Writes `blend.json` (members, method, weights), `oof.csv` (nested: no clip's weights, nor the
    choice of members, were chosen on it), `truth.csv` (the target values of those clips), `test.csv`,
    `scores.json`, and where members are chosen `members.csv` (of each target in the order they were
    taken, with the score of the blend up to each).

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
        The nested scores in a few lines.

    Raises
    ------
    InputError
        When there is no member, one is not a finished emotion run, or they differ in their clips;
        when the directory is a run's or a vote's, or another process is at work on it.
    """
    experiments = _experiments(members)
    with alone_in_folder(directory, BLEND):
        return _blend(experiments, members, directory, method, shrinkage, choose)


def _blend(
    experiments: Mapping[str, Experiment],
    members: list[Path],
    directory: Path,
    method: Method,
    shrinkage: float,
    choose: bool,
) -> str:
    out_of_fold = {path.name: _out_of_fold(path, method) for path in members}
    first = aligned(out_of_fold)[0]
    truth = _truth(experiments[members[0].name]).loc[first.index, list(first.columns)]
    folds = _folds(members[0])
    weigh = partial(chosen_weights if choose else weights_of_all, method=method, shrinkage=shrinkage)
    nested = to_target_units(nested_blend(truth, out_of_fold, folds, method, weigh), truth)
    scores = emotion_scores(truth, {0: nested}, {0: folds})
    scores["selected_on_validation"] = any(e.selects_on_validation for e in experiments.values())
    with together(directory, SCORES) as fresh:
        if choose:
            ranked = rank_by_target(truth, out_of_fold, folds, method, shrinkage)
            write_table(fresh / "members.csv", _members_table(ranked))
            weights = weights_of_best(truth, out_of_fold, ranked, method, shrinkage)
            weights = weights[(weights > 0).any(axis=1)]
        else:
            weights = choose_weights(truth, out_of_fold, method, shrinkage)
        recipe = _recipe(members, weights, truth, method, shrinkage)
        write_predictions(fresh / "oof.csv", nested)
        write_truth(fresh, truth.loc[nested.index], "emotion")
        tests = {Path(path).name: every_fold(Path(path), "test") for path in recipe.members}
        write_predictions(fresh / "test.csv", recipe.predict(tests))
        write_json(fresh / BLEND, asdict(recipe))
        write_json(fresh / SCORES, scores)
    if not choose:
        (directory / "members.csv").unlink(missing_ok=True)  # of an earlier choice
    return f"{_weight_lines(recipe)}\n{summary(directory.name, scores, 'nested out-of-fold')}"


def _experiments(members: list[Path]) -> dict[str, Experiment]:
    if not members:
        raise InputError("There is nothing to blend. Name one or more runs, such as runs/multitask.")
    experiments = {path.name: _emotion_experiment(path) for path in members}
    if len(experiments) < len(members):
        raise InputError("Two of the runs have the same name. Name each run once.")
    return experiments


def _members_table(ranked: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Every target's runs in the order they were taken, each with the score of the blend up to it."""
    parts = [
        scores.rename_axis("run").reset_index().assign(target=target) for target, scores in ranked.items()
    ]
    return pd.concat(parts)[["target", "run", "score"]]


def _recipe(
    members: list[Path], weights: pd.DataFrame, truth: pd.DataFrame, method: Method, shrinkage: float
) -> Recipe:
    return Recipe(
        members=[str(path) for path in members if path.name in weights.index],
        method=method,
        shrinkage=shrinkage,
        weights={str(name): _by_name(row) for name, row in weights.iterrows()},
        target_mean=_by_name(truth.mean()),
        target_deviation=_by_name(truth.std(ddof=0)),
    )


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
    tables = {Path(run).name: every_fold(Path(run), "test") for run in recipe.members}
    now, then = recipe.predict(tables), read_predictions(blended / "test.csv")
    if not (now.index.equals(then.index) and np.allclose(now, then[now.columns], rtol=0, atol=1e-9)):
        raise InputError(f"The runs of {blended} have changed since it was made. Blend them again.")


def _emotion_experiment(path: Path) -> Experiment:
    experiment = read_experiment(path)
    if experiment.task != "emotion":
        raise InputError(f"{path} is a genre run; only emotion runs can be blended.")
    if experiment.has_repeats:
        raise InputError(
            f"{path} is a run of repeats, each tested on a part of the clips. Blend runs of folds, which "
            f"predict every clip."
        )
    _check_finished(path, experiment)
    return experiment


def _check_finished(path: Path, experiment: Experiment) -> None:
    places = [f"seed{seed}/fold{fold}" for seed in experiment.seeds for fold in range(experiment.folds.n)]
    lacking = [place for place in places if not (path / place / "valid.csv").exists()]
    if lacking:
        raise InputError(
            f"{path} is not finished: it lacks {first_five(lacking)}. Run the command that trains it again."
        )


def _out_of_fold(path: Path, method: Method) -> pd.DataFrame:
    """Mean over a run's seeds, each of which predicts every clip once."""
    seeds = [pd.concat(tables.values()) for tables in read_folds(path, "valid").values()]
    return blend(seeds, method)


def _by_name(values: pd.Series) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}


def _truth(experiment: Experiment) -> pd.DataFrame:
    return load_clip_set(experiment.data, "emotion", "train").truth


def _folds(member: Path) -> pd.Series:
    """The folds of a run's first seed, over which the nested weights are chosen."""
    return fold_numbers(next(iter(read_folds(member, "valid").values())))


def _weight_lines(recipe: Recipe) -> str:
    lines = [
        f"  {name}: " + ", ".join(f"{target} {weight:.2f}" for target, weight in row.items())
        for name, row in recipe.weights.items()
    ]
    return "weights:\n" + "\n".join(lines)
