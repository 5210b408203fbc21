"""Train a plan on Kaggle's devices in the time that it has, and predict the test split with the result."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from music_emotion.config import ClassicalSection, Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation.blend import Recipe
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.scores import score_run, score_split
from music_emotion.files import InputError, first_five, read_json, read_predictions, write_json
from music_emotion.kaggle.plan import Plan, read_plan
from music_emotion.plots import draw_scores
from music_emotion.training.checkpoint import STATE, is_whole
from music_emotion.training.classical import predict_folds
from music_emotion.training.folds import load_sets, train_folds
from music_emotion.training.leaks import check_leaks
from music_emotion.training.loop import UNFINISHED
from music_emotion.training.predict import predict_with

PLAN, RUNS = Path("plan.json"), Path("runs")  # in the folder that a training is started in
_RESERVED_SHARE, _MOST_RESERVED_SECONDS = 0.05, 600.0  # of the time, for what follows the training


def precision() -> str:
    """Half precision where the GPU computes it fast: from Volta on, so on the T4."""
    return "fp16" if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0) else "no"


def make_accelerator() -> Accelerator:
    """This process's device in `precision`; one batch is shared out, as at home."""
    loading = DataLoaderConfiguration(split_batches=True)
    return Accelerator(mixed_precision=precision(), dataloader_config=loading)


def run_shares(work: Callable[[list[str]], None], arguments: Callable[[int, int], list[str]]) -> None:
    """Do a work once, or, where there are several GPUs, once for each of them at the same time.

    Shares don't depend on each other, so a process for each is simpler than Accelerate's own: it sees one
    device, and when it fails the others do not hang.

    Parameters
    ----------
    work : callable
        What a module calls when it is run with ``python -m``; takes a command line.
    arguments : callable
        Takes the number of the share and how many there are; gives the share's command line.

    Raises
    ------
    InputError
        When a share failed, after all have ended.
    """
    n_gpus = torch.cuda.device_count()
    if n_gpus < 2:
        work(arguments(0, 1))
        return
    # the package was unpacked for the kernel alone
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    processes = []
    for gpu in range(n_gpus):
        own = {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": str(gpu)}
        command = [sys.executable, "-m", work.__module__, *arguments(gpu, n_gpus)]
        processes.append(subprocess.Popen(command, env=os.environ | own))
    failed = [gpu for gpu, process in enumerate(processes) if process.wait() != 0]
    if failed:
        raise InputError(f"The processes of GPUs {failed} failed; their own messages are above.")


def train_plan(
    plan: Plan,
    folder: Path,
    manifest: Mapping[str, Any],
    inputs: Path,
    data: Path,
    working: Path,
    scratch: Path,
    started: float,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train what a plan says, in the time that it has, and predict the test split.

    The training runs in a folder that looks like the one in which it would be done at home, so that its runs
    are the same there and here.

    Parameters
    ----------
    plan : Plan
    folder : Path
        Of the bundle.
    manifest : mapping
        The bundle's.
    inputs : Path
        Where Kaggle mounts things; the output of an earlier run is looked for below it.
    data : Path
        The competition's folders are looked for below it.
    working : Path
        Gets ``runs/``, from which another kernel, or the same command, goes on.
    scratch : Path
        A folder for this run alone.
    started : float
        When the kernel did, in seconds since 1970, UTC.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    facts : dict
        For `run.json`.

    Raises
    ------
    InputError
        Before any training, when the data or the output to go on from is missing or of another plan; when
        there is nothing to hand in.
    """
    identity = _identity(plan, manifest)
    resumed = _take_over(identity, plan.resume, inputs, working)
    _lay_out(scratch, folder, manifest, data, working)
    prepared, seconds = time.time(), 3600 * plan.hours
    try:
        with chdir(scratch):
            deadline = started + seconds - min(_RESERVED_SHARE * seconds, _MOST_RESERVED_SECONDS)
            predictions, progress = train_stages(plan, deadline)
    except InputError as error:
        raise InputError(
            f"There is nothing to hand in: {error} What is finished is in {working / RUNS}, from which a "
            f"kernel packaged with --resume goes on."
        ) from error
    took = {"prepare": round(prepared - started, 3), "train": round(time.time() - prepared, 3)}
    return predictions, {"plan": identity, "resumed": resumed, **progress, "seconds": took}


def _identity(plan: Plan, manifest: Mapping[str, Any]) -> str:
    """Of the experiments and the files they name, by which a training knows what it may go on from."""
    named = {n: facts["sha256"] for n, facts in manifest["files"].items() if not n.endswith(".whl")}
    return hashlib.sha256(json.dumps([plan.hash, named], sort_keys=True).encode()).hexdigest()


def _take_over(identity: str, resume: str | None, inputs: Path, working: Path) -> bool:
    """Copy the runs of an earlier kernel's output; say whether there were any."""
    mark = working / RUNS / PLAN
    if mark.exists():  # started again in the same place
        if read_json(mark)["hash"] != identity:
            raise InputError(f"{working / RUNS} is of other experiments. Delete it to train these.")
        return True
    marks = [path for place in ("*", "notebooks/*/*") for path in inputs.glob(f"{place}/{RUNS / PLAN}")]
    plans = {path.parent: read_json(path)["hash"] for path in marks}
    equal = [runs for runs, found in plans.items() if found == identity]
    if not equal and (plans or resume):
        found = f"attached are others: {first_five(plans)}" if plans else f"nothing of {resume} is attached"
        raise InputError(
            f"There is no training to go on with; {found}. Package the same experiments, groups and weights "
            f"as then with --resume, once that kernel has ended, or leave out --resume to begin anew."
        )
    if len(equal) > 1:
        raise InputError(f"Several outputs of this plan are attached: {first_five(equal)}. Attach one.")
    for runs in equal:
        for path in runs.rglob("*"):
            if path.name == STATE and not is_whole(path):
                print(f"{path} is damaged, so its fold begins anew.", flush=True)
            elif path.is_file() and path != runs / PLAN:
                copy = working / RUNS / path.relative_to(runs)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # without its mode: inputs are read-only
    write_json(mark, {"hash": identity})  # last: what is copied is whole
    return bool(equal)


def _lay_out(scratch: Path, folder: Path, manifest: Mapping[str, Any], data: Path, working: Path) -> None:
    """Make a folder like the one at home: the data, the runs, the plan, and the files it names."""
    (scratch / "data").symlink_to(data)
    (scratch / RUNS).symlink_to(working / RUNS)
    for name in manifest["files"]:
        (scratch / name).symlink_to(folder / name)
    write_json(scratch / PLAN, manifest["plan"])


def train_stages(plan: Plan, deadline: float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train the experiments of a plan until the deadline, then predict the test split with what there is.

    Reads ``data/`` and writes ``runs/`` in the current folder.

    Parameters
    ----------
    plan : Plan
    deadline : float
        In seconds since 1970, UTC.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    progress : dict
        Whether the plan is ``complete``, its ``folds``, a ``failure``; what the predictions are ``made_of``,
        or the scores ``out_of_fold``.

    Raises
    ------
    InputError
        When data is missing or wrong, before any training.
    """
    accelerator = make_accelerator()
    sets = {experiment.name: load_sets(experiment, accelerator) for experiment in plan.experiments}
    first, *others = plan.emotion
    targets = {e.name: sorted(sets[e.name][0].outputs) for e in plan.emotion}
    for other in others:
        if targets[other.name] != targets[first.name]:
            raise InputError(
                f"{first.name} predicts {', '.join(targets[first.name])}, but {other.name} "
                f"{', '.join(targets[other.name])}. Only predictions of the same targets can be blended; "
                f"package others."
            )
    folds = {e.name: _planned_folds(e, *sets[e.name]) for e in plan.experiments}
    failure = None
    for experiment in plan.experiments:
        try:
            check_leaks(
                experiment,
                folds[experiment.name],
                sets[experiment.name][1],
                accelerator,
                RUNS / experiment.name,
            )
            _train(experiment, deadline)
        except (InputError, OSError, RuntimeError) as error:  # a full disk, a GPU without memory
            failure = f"{experiment.name}: {error}"
            print(f"{experiment.name} failed: {error}", flush=True)
            break
        if _n_done(folds[experiment.name], experiment) < len(folds[experiment.name]):
            break
        clips, test = sets[experiment.name]
        if experiment.task == "genre":
            print(score_split(RUNS / experiment.name, test.truth), flush=True)
        else:
            print(score_run(RUNS / experiment.name, experiment, clips.truth), flush=True)
        draw_scores(RUNS / experiment.name)
    done = {e.name: _n_done(folds[e.name], e) for e in plan.experiments}
    complete = all(done[name] == len(folds[name]) for name in done)
    progress: dict[str, Any] = {
        "complete": complete,
        "folds": {name: f"{done[name]} of {len(folds[name])}" for name in done},
        "failure": failure,
    }
    if not complete:
        predictions, progress["made_of"] = predict_unfinished(plan, sets, accelerator)
        return predictions, progress
    blended = RUNS / plan.name
    members = [RUNS / experiment.name for experiment in plan.emotion]
    print(blend_runs(members, blended, plan.method, plan.shrinkage), flush=True)
    progress["out_of_fold"] = read_json(blended / "scores.json")["pooled"]
    return read_predictions(blended / "test.csv"), progress


def _n_done(folds: list[Fold], experiment: Experiment) -> int:
    return sum((RUNS / experiment.name / fold.folder / "test.csv").exists() for fold in folds)


def _planned_folds(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    """Of emotion, the folds of every seed; of genres, what makes a trunk."""
    if experiment.task == "genre":
        return folds_of_pretraining(experiment, clips, test)
    return folds_of_run(experiment, clips)


def _train(experiment: Experiment, deadline: float) -> None:
    share_of = partial(_share, experiment.name, deadline)
    if experiment.is_classical:  # no work for a GPU, and shares would compute the same statistics
        train_share(share_of(0, 1))
    else:
        run_shares(train_share, share_of)


def _share(name: str, deadline: float, share: int, n_shares: int) -> list[str]:
    return [name, str(share), str(n_shares), str(deadline)]


def train_share(arguments: list[str]) -> None:
    """Train every n-th fold of an experiment until the deadline.

    Parameters
    ----------
    arguments : list of str
        The experiment's name, the number of the share, how many shares there are, and the deadline in seconds
        since 1970, UTC.
    """
    name, share, n_shares, deadline = arguments
    experiment = next(e for e in read_plan(read_json(PLAN)).experiments if e.name == name)
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    folds = _planned_folds(experiment, clips, test)[int(share) :: int(n_shares)]
    train_folds(experiment, folds, test, accelerator, RUNS / name, float(deadline))


def predict_unfinished(
    plan: Plan, sets: Mapping[str, tuple[ClipSet, ClipSet]], accelerator: Accelerator
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Blend what there is of each run, weighted by the share of its training that is done.

    Of a run, its finished folds; without any, its unfinished ones as they stand. Where there is nothing at
    all, ridge regression on clip statistics, which takes seconds.

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
        if finished := sorted((RUNS / name).glob("seed*/fold*/test.csv")):
            tables[name] = [read_predictions(path) for path in finished]
            shares[name] = len(finished) / n_folds
        elif unfinished := sorted((RUNS / name).glob(f"seed*/fold*/{UNFINISHED}")):
            tables[name] = [predict_with(path, sets[name][1], accelerator) for path in unfinished]
            epochs = sum(len(pd.read_csv(path.with_name("metrics.csv"))) for path in unfinished)
            shares[name] = epochs / experiment.train.epochs / n_folds
    clips, test = sets[plan.emotion[0].name]
    if not tables:
        ridge = Experiment(name="ridge", classical=ClassicalSection(kind="ridge"))
        statistics = Statistics(plan.emotion[0].data, "emotion")
        (fitted,) = predict_folds(ridge, [Fold(0, 0, clips, clips)], test, statistics)
        tables, shares = {"ridge": [fitted.test]}, {"ridge": 1.0}
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


if __name__ == "__main__":
    train_share(sys.argv[1:])
