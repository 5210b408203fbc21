"""What an unfinished training hands in."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from accelerate import Accelerator

from music_emotion.config import ClassicalSection, Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation.blend import Recipe
from music_emotion.files import read_predictions
from music_emotion.kaggle.plan import Plan
from music_emotion.kaggle.train_share import RUNS
from music_emotion.training.classical import predict_folds
from music_emotion.training.loop import UNFINISHED
from music_emotion.training.predict import predict_with

Sets = tuple[ClipSet, ClipSet]  # the training and the test split of an experiment


def hand_in_early(
    plan: Plan, sets: Mapping[str, Sets], accelerator: Accelerator
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Blend what there is of each run, weighted by the share of its training that is done.

    Of a run, its finished folds; without any, its unfinished ones as they stand. Where there is
    nothing at all, ridge regression on clip statistics, which takes seconds.

    Parameters
    ----------
    plan : Plan
    sets : mapping of str to (ClipSet, ClipSet)
        Name of an experiment to its training and test split.
    accelerator : Accelerator
        Device and precision.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    shares : dict of str to float
        What they are made of: each run's share of its training, 0 to 1.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    shares: dict[str, float] = {}
    for experiment in plan.emotion:
        name, n_folds = experiment.name, len(experiment.seeds) * experiment.folds.n
        if finished := _left(name, "test.csv"):
            tables[name] = [read_predictions(path) for path in finished]
            shares[name] = len(finished) / n_folds
        elif unfinished := _left(name, UNFINISHED):
            tables[name] = [predict_with(path, sets[name][1], accelerator) for path in unfinished]
            epochs = sum(len(pd.read_csv(path.with_name("metrics.csv"))) for path in unfinished)
            shares[name] = epochs / experiment.train.epochs / n_folds
    clips, test = sets[plan.emotion[0].name]
    if not tables:
        tables, shares = {"ridge": [_ridge(plan.emotion[0], clips, test)]}, {"ridge": 1.0}
    recipe = Recipe(
        members=list(tables),
        method=plan.method,
        shrinkage=0.0,
        weights={name: dict.fromkeys(clips.outputs, shares[name]) for name in tables},
        target_mean={str(target): float(values.mean()) for target, values in clips.truth.items()},
        target_deviation={str(target): float(values.std(ddof=0)) for target, values in clips.truth.items()},
    )
    made_of = ", ".join(f"{name} ({shares[name]:.0%} of its training)" for name in tables)
    print(f"The training is not over. The submission is made of {made_of}.", flush=True)
    return recipe.predict(tables), shares


def _left(run: str, name: str) -> list[Path]:
    return sorted((RUNS / run).glob(f"seed*/fold*/{name}"))


def _ridge(like: Experiment, clips: ClipSet, test: ClipSet) -> pd.DataFrame:
    ridge = Experiment(name="ridge", classical=ClassicalSection(kind="ridge"))
    statistics = Statistics(like.data, "emotion")
    (fitted,) = predict_folds(ridge, [Fold(0, 0, clips, clips)], test, statistics)
    return fitted.test
