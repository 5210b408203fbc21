"""A plan, stage by stage: train, score, blend, in a folder that holds `data`, `stores` and `runs`."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.scores import score_run, score_split
from music_emotion.files import InputError, read_json, read_predictions, write_json, write_predictions
from music_emotion.kaggle.devices import precision, run_shares
from music_emotion.kaggle.early import Sets, hand_in_early
from music_emotion.kaggle.plan import Plan, read_plan
from music_emotion.kaggle.train_share import PLAN, RUNS, planned_folds
from music_emotion.kaggle.train_share import main as train_share
from music_emotion.plots import draw_scores
from music_emotion.training.folds import load_sets
from music_emotion.training.leaks import check_leaks

PREDICTIONS, PROGRESS = Path("predictions.csv"), Path("progress.json")


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
        When data is missing or wrong, before any training.
    """
    accelerator = Accelerator(mixed_precision=precision())
    sets = {experiment.name: load_sets(experiment, accelerator) for experiment in plan.experiments}
    _check_targets(plan, sets)
    folds = {e.name: planned_folds(e, *sets[e.name]) for e in plan.experiments}
    failure = _train_in_turn(plan, sets, folds, deadline, accelerator)
    done = {e.name: sum(_is_done(e, fold) for fold in folds[e.name]) for e in plan.experiments}
    progress: dict[str, Any] = {
        "complete": all(done[name] == len(folds[name]) for name in done),
        "folds": {name: f"{done[name]} of {len(folds[name])}" for name in done},
        "failure": failure,
    }
    if progress["complete"]:
        members = [RUNS / experiment.name for experiment in plan.emotion]
        print(blend_runs(members, RUNS / plan.name, plan.method, plan.shrinkage), flush=True)
        predictions = read_predictions(RUNS / plan.name / "test.csv")
        progress["out_of_fold"] = read_json(RUNS / plan.name / "scores.json")["pooled"]
    else:
        predictions, progress["made_of"] = hand_in_early(plan, sets, accelerator)
    write_predictions(PREDICTIONS, predictions)
    write_json(PROGRESS, progress)


def _check_targets(plan: Plan, sets: Mapping[str, Sets]) -> None:
    targets = {e.name: sorted(sets[e.name][0].outputs) for e in plan.emotion}
    first, *others = targets
    for name in others:
        if targets[name] != targets[first]:
            raise InputError(
                f"{first} predicts {', '.join(targets[first])}, but {name} {', '.join(targets[name])}. Only "
                f"predictions of the same targets can be blended; package others."
            )


def _train_in_turn(
    plan: Plan,
    sets: Mapping[str, Sets],
    folds: Mapping[str, Sequence[Fold]],
    deadline: float,
    accelerator: Accelerator,
) -> str | None:
    """Train and score experiments until one is not finished; say why, if that is not the time."""
    for experiment in plan.experiments:
        name, test = experiment.name, sets[experiment.name][1]
        try:
            check_leaks(experiment, folds[name], test, accelerator, RUNS / name)
            _train(experiment, deadline)
        except (InputError, OSError, RuntimeError) as error:  # a full disk, a GPU without memory
            print(f"{name} failed: {error}", flush=True)
            return f"{name}: {error}"
        if not all(_is_done(experiment, fold) for fold in folds[name]):
            return None
        print(_score(experiment, *sets[name]), flush=True)
        draw_scores(RUNS / name)
    return None


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


if __name__ == "__main__":
    train_stages(read_plan(read_json(PLAN)), float(sys.argv[1]))
