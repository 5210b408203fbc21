"""A plan, stage by stage: train, score, blend, in a folder that holds `data`, `stores` and `runs`."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from accelerate import Accelerator

from music_emotion.data.clip_set import ClipSet
from music_emotion.data.clip_statistics import set_statistics
from music_emotion.delivery.devices import precision, run_shares
from music_emotion.delivery.plan import Plan, read_plan
from music_emotion.delivery.train_share import PLAN, RUNS, planned_folds
from music_emotion.delivery.train_share import main as train_share
from music_emotion.experiment import Experiment
from music_emotion.files import read_json, write_json
from music_emotion.predictions import read_predictions, write_predictions
from music_emotion.results.blend_runs import blend_runs
from music_emotion.results.recipe import Recipe
from music_emotion.results.run_scores import score_run, score_split
from music_emotion.sections import ClassicalSection
from music_emotion.training.classical import predict_folds
from music_emotion.training.cross_validation import load_sets
from music_emotion.training.evaluate import predict_with
from music_emotion.training.fold import Fold
from music_emotion.training.loop import UNFINISHED

PREDICTIONS, PROGRESS = Path("predictions.csv"), Path("progress.json")
Sets = tuple[ClipSet, ClipSet]


def train_stages(plan: Plan, deadline: float) -> None:
    """Train the experiments of a plan until the deadline, then predict the test split with what there is.

    Writes `runs/`, `predictions.csv` and `progress.json` in the current folder.

    Parameters
    ----------
    plan : Plan
    deadline : float
        In seconds since 1970, UTC.

    Raises
    ------
    InputError
        When data is missing or wrong, before any training; when a process failed.
    """
    accelerator = Accelerator(mixed_precision=precision())
    sets = {experiment.name: load_sets(experiment, accelerator) for experiment in plan.experiments}
    folds = {e.name: planned_folds(e, *sets[e.name]) for e in plan.experiments}
    for experiment in plan.experiments:
        _train(experiment, deadline)
        if not all(_is_done(experiment, fold) for fold in folds[experiment.name]):
            break
        print(_score(experiment, *sets[experiment.name]), flush=True)
    done = {e.name: sum(_is_done(e, fold) for fold in folds[e.name]) for e in plan.experiments}
    complete = all(done[name] == len(folds[name]) for name in done)
    progress = {"complete": complete, "folds": {n: f"{done[n]} of {len(folds[n])}" for n in done}}
    if complete:
        members = [RUNS / experiment.name for experiment in plan.emotion]
        print(blend_runs(members, RUNS / plan.name, plan.method, plan.shrinkage), flush=True)
        predictions = read_predictions(RUNS / plan.name / "test.csv")
        progress["out_of_fold"] = read_json(RUNS / plan.name / "scores.json")["pooled"]
    else:
        predictions = _stopgap(plan, sets, accelerator)
    write_predictions(PREDICTIONS, predictions)
    write_json(PROGRESS, progress)


def _train(experiment: Experiment, deadline: float) -> None:
    share_of = partial(_share_arguments, experiment.name, deadline)
    if experiment.is_classical:  # no work for a GPU, and shares would compute the same statistics
        train_share(share_of(0, 1))
    else:
        run_shares(train_share, share_of)


def _share_arguments(name: str, deadline: float, share: int, n_shares: int) -> list[str]:
    return [name, str(share), str(n_shares), str(deadline)]


def _is_done(experiment: Experiment, fold: Fold) -> bool:
    return (RUNS / experiment.name / fold.folder / "test.csv").exists()


def _score(experiment: Experiment, clips: ClipSet, test: ClipSet) -> str:
    if experiment.task == "genre":
        return score_split(RUNS / experiment.name, test.truth)
    return score_run(RUNS / experiment.name, experiment, clips.truth)


def _stopgap(plan: Plan, sets: Mapping[str, Sets], accelerator: Accelerator) -> pd.DataFrame:
    """The best that an unfinished training can hand in, all runs weighted equally.

    Finished folds; without any, the unfinished ones as they stand; without even those, which take
    an epoch, ridge regression on clip statistics.
    """
    finished = {e.name: [read_predictions(p) for p in _left(e, "test.csv")] for e in plan.emotion}
    tables = {name: folds for name, folds in finished.items() if folds}
    if not tables:
        unfinished = {
            e.name: [predict_with(path, sets[e.name][1], accelerator) for path in _left(e, UNFINISHED)]
            for e in plan.emotion
        }
        tables = {name: folds for name, folds in unfinished.items() if folds}
    first = plan.emotion[0]
    clips, test = sets[first.name]
    tables = tables or {"ridge": [_ridge(first, clips, test)]}
    truth = clips.truth
    recipe = Recipe(
        members=list(tables),
        method=plan.method,
        shrinkage=1.0,
        weights={name: dict.fromkeys(clips.outputs, 1.0) for name in tables},
        target_mean={target: float(truth[target].mean()) for target in clips.outputs},
        target_deviation={target: float(truth[target].std(ddof=0)) for target in clips.outputs},
    )
    print(f"Time is up: the submission is of {', '.join(tables)} as far as they are.", flush=True)
    return recipe.predict(tables)


def _left(experiment: Experiment, name: str) -> list[Path]:
    return sorted((RUNS / experiment.name).glob(f"seed*/fold*/{name}"))


def _ridge(like: Experiment, clips: ClipSet, test: ClipSet) -> pd.DataFrame:
    ridge = Experiment(name="ridge", classical=ClassicalSection(kind="ridge"))
    known, unknown = set_statistics(clips, like.data), set_statistics(test, like.data)
    ((_, _, predictions),) = predict_folds(ridge, [Fold(0, 0, clips, clips)], known, unknown)
    return predictions


if __name__ == "__main__":
    train_stages(read_plan(read_json(PLAN)), float(sys.argv[1]))
