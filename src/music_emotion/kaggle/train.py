"""Train a plan on Kaggle within its time limit, and predict the test split with the result."""

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator

from music_emotion.config import ClassicalSection, Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run, known_for_scores
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation.blend import blend_members
from music_emotion.evaluation.blend_runs import blend_runs
from music_emotion.evaluation.scores import score_run
from music_emotion.files import InputError, first_five, read_json, read_predictions, write_json
from music_emotion.kaggle.plan import Plan, digest
from music_emotion.plots import draw_scores
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE, is_whole
from music_emotion.training.classical import predict_folds
from music_emotion.training.folds import load_sets, train_folds
from music_emotion.training.leaks import check_leaks
from music_emotion.training.loop import UNFINISHED
from music_emotion.training.predict import predict_with

RUNS, MARK = Path("runs"), "plan.json"
_RESERVED_SHARE, _MOST_RESERVED_SECONDS = 0.05, 600.0  # of the time limit, reserved for prediction


def run_shares(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(share, n_shares, *arguments)`` in this process, or in one process per GPU of several.

    The shares are independent, so no process waits for another that failed.

    Parameters
    ----------
    work : callable
        A function at module level.
    *arguments
        Passed to every share.

    Raises
    ------
    InputError
        When a process failed, after all have ended.
    """
    n_gpus = torch.cuda.device_count()
    if n_gpus < 2:
        work(0, 1, *arguments)
        return
    context, processes = multiprocessing.get_context("spawn"), []
    for gpu in range(n_gpus):
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)  # inherited by the new process
        processes.append(context.Process(target=work, args=(gpu, n_gpus, *arguments)))
        processes[-1].start()
    del os.environ["CUDA_VISIBLE_DEVICES"]
    for process in processes:
        process.join()
    failed = [gpu for gpu, process in enumerate(processes) if process.exitcode]
    if failed:
        raise InputError(f"The processes of GPUs {failed} failed; their own messages are above.")


def train_plan(
    plan: Plan, manifest: Mapping[str, Any], inputs: Path, working: Path, started: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train a plan within its time limit, and predict the test split.

    The current folder must hold the data and the bundle's files, as `lay_out` links them.

    Parameters
    ----------
    plan : Plan
    manifest : mapping
        The bundle's manifest.
    inputs : Path
        Folder where Kaggle mounts data. The output of an earlier run is searched for below it.
    working : Path
        Output folder for ``runs/``, which a later kernel can resume.
    started : float
        Start of the kernel, as Unix time in seconds.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    facts : dict
        Entries of `run.json`.

    Raises
    ------
    InputError
        Before any training, when data is missing, or the output to resume is missing or belongs to another
        plan. After it, when there is nothing to submit.
    """
    identity = plan_identity(plan, manifest["files"])
    resumed = take_over(identity, plan.resume, inputs, working / RUNS)
    RUNS.symlink_to(working / RUNS)
    prepared, seconds = time.time(), 3600 * plan.hours
    try:
        deadline = started + seconds - min(_RESERVED_SHARE * seconds, _MOST_RESERVED_SECONDS)
        predictions, progress = train_stages(plan, deadline)
    except InputError as error:
        kept = f"A kernel packaged with --resume continues from {working / RUNS}."
        raise InputError(f"There is nothing to submit: {error} {kept}") from error
    took = {"prepare": round(prepared - started, 3), "train": round(time.time() - prepared, 3)}
    return predictions, {"plan": identity, "resumed": resumed, **progress, "seconds": took}


def plan_identity(plan: Plan, files: Mapping[str, Any]) -> str:
    """Hash the experiments and their files; a training resumes only runs with the same hash."""
    named = {name: facts["sha256"] for name, facts in files.items() if not name.endswith(".whl")}
    return digest([plan.model_dump(mode="json")["experiments"], named])


def take_over(identity: str, resume: str | None, inputs: Path, runs: Path) -> bool:
    """Copy the runs of an earlier kernel's output, to resume them.

    Parameters
    ----------
    identity : str
        From `plan_identity`. Only runs of the same plan are copied.
    resume : str or None
        ``owner/slug`` of the earlier kernel, if any.
    inputs : Path
        Folder where Kaggle mounts data.
    runs : Path
        Folder to copy to.

    Returns
    -------
    bool
        Whether there were runs to resume.

    Raises
    ------
    InputError
        When the runs to resume are missing, belong to another plan, or are attached several times.
    """
    mark = runs / MARK
    if mark.exists():  # started again in the same folder
        if read_json(mark)["hash"] != identity:
            raise InputError(f"{runs} is of other experiments. Delete it to train these.")
        return True
    marks = [path for place in ("*", "notebooks/*/*") for path in inputs.glob(f"{place}/{RUNS / MARK}")]
    plans = {path.parent: read_json(path)["hash"] for path in marks}
    equal = [earlier for earlier, found in plans.items() if found == identity]
    if not equal and (plans or resume):
        found = f"attached are others: {first_five(plans)}" if plans else f"nothing of {resume} is attached"
        raise InputError(
            f"There is no training to continue; {found}. Package the same experiments, groups and weights "
            f"with --resume once that kernel has ended, or begin anew without --resume."
        )
    if len(equal) > 1:
        raise InputError(f"Several outputs of this plan are attached: {first_five(equal)}. Attach one.")
    for earlier in equal:
        for path in earlier.rglob("*"):
            if path.name == STATE and not is_whole(path):
                print(f"{path} is damaged, so its fold begins anew.", flush=True)
            elif path.is_file() and path != earlier / MARK:
                copy = runs / path.relative_to(earlier)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)  # not its mode, since inputs are read-only
    write_json(mark, {"hash": identity})  # last, to mark the copy as complete
    return bool(equal)


def train_stages(plan: Plan, deadline: float) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Train the experiments of a plan until the deadline, then predict the test split with the results.

    Reads ``data/`` and writes ``runs/`` in the current folder.

    Parameters
    ----------
    plan : Plan
    deadline : float
        Unix time in seconds.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    progress : dict
        Whether the plan is ``complete``, its finished ``folds`` and any ``failure``. A complete plan has the
        scores ``out_of_fold``. For an incomplete one, ``made_of`` gives the share of each run.

    Raises
    ------
    InputError
        Before any training, when data is missing or wrong.
    """
    accelerator = make_accelerator()
    sets = {each.name: load_sets(each, accelerator) for each in plan.experiments}
    targets = {each.name: ", ".join(sorted(sets[each.name][0].outputs)) for each in plan.emotion}
    if len(set(targets.values())) > 1:
        raise InputError(f"Only experiments of the same targets can be blended; they predict {targets}.")
    folds = {each.name: _folds_of(each, *sets[each.name]) for each in plan.experiments}
    failure = None
    for experiment in plan.experiments:
        clips, test = sets[experiment.name]
        directory = RUNS / experiment.name
        try:
            check_leaks(experiment, folds[experiment.name], test, accelerator, directory)
            if experiment.is_classical:  # uses no GPU, and several shares would compute the same statistics
                train_share(0, 1, experiment, deadline)
            else:
                run_shares(train_share, experiment, deadline)
        except (InputError, OSError, RuntimeError) as error:  # such as a full disk or GPU memory
            failure = f"{experiment.name}: {error}"
            print(f"failed: {failure}", flush=True)
            break
        if _n_done(experiment, folds) < len(folds[experiment.name]):
            break
        if experiment.task == "genre":
            print(score_run(directory, experiment, test.truth, "test"), flush=True)
        else:
            known = known_for_scores(experiment, clips)
            print(score_run(directory, experiment, clips.truth, **known), flush=True)
        draw_scores(directory)
    done = {each.name: _n_done(each, folds) for each in plan.experiments}
    progress: dict[str, Any] = {
        "complete": all(done[name] == len(folds[name]) for name in done),
        "folds": {name: f"{done[name]} of {len(folds[name])}" for name in done},
        "failure": failure,
    }
    if not progress["complete"]:
        predictions, progress["made_of"] = predict_unfinished(plan, sets, accelerator)
        return predictions, progress
    blended, members = RUNS / plan.name, [RUNS / experiment.name for experiment in plan.emotion]
    print(blend_runs(members, blended, plan.method, plan.shrinkage), flush=True)
    progress["out_of_fold"] = read_json(blended / "scores.json")["pooled"]
    return read_predictions(blended / "test.csv"), progress


def _folds_of(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    if experiment.task == "genre":
        return folds_of_pretraining(experiment, clips, test)
    return folds_of_run(experiment, clips)


def _n_done(experiment: Experiment, folds: Mapping[str, list[Fold]]) -> int:
    places = [RUNS / experiment.name / fold.folder for fold in folds[experiment.name]]
    return sum((place / "test.csv").exists() for place in places)


def train_share(share: int, n_shares: int, experiment: Experiment, deadline: float) -> None:
    """Train every n-th fold of an experiment until the deadline (Unix time in seconds)."""
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    folds = _folds_of(experiment, clips, test)[share::n_shares]
    train_folds(experiment, folds, test, accelerator, RUNS / experiment.name, deadline)


def predict_unfinished(
    plan: Plan, sets: Mapping[str, tuple[ClipSet, ClipSet]], accelerator: Accelerator
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Blend the runs of an incomplete plan, weighted by the share of each training that is done.

    A run contributes its finished folds, or else its unfinished ones. Without any, a ridge regression on clip
    statistics predicts, which takes seconds.

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
        Name of each blended run to the share of its training that is done, 0 to 1.
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
    made_of = ", ".join(f"{name} ({shares[name]:.0%} of its training)" for name in tables)
    print(f"The training is not over. The submission is made of {made_of}.", flush=True)
    weights = pd.DataFrame(dict.fromkeys(clips.outputs, shares))
    units = clips.truth.mean(), clips.truth.std(ddof=0)
    return blend_members(tables, plan.method, weights, *units), shares
