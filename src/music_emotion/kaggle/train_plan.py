"""A bundled plan to predictions: the training's folder, what an earlier run left, and the time it has."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.layout import find_set
from music_emotion.files import InputError, first_five, read_json, read_predictions, write_json
from music_emotion.kaggle.devices import child_environment
from music_emotion.kaggle.form import find_form
from music_emotion.kaggle.plan import Plan, read_plan
from music_emotion.kaggle.train_share import PLAN, RUNS
from music_emotion.kaggle.train_stages import PREDICTIONS, PROGRESS
from music_emotion.training.checkpoint import STATE, is_whole

_OUTPUTS = ("*", "notebooks/*/*")  # where Kaggle mounts what other kernels left
_RESERVED_SHARE, _MOST_RESERVED_SECONDS = 0.05, 600.0  # of the time, for what follows the training


def train_plan(
    folder: Path,
    manifest: Mapping[str, Any],
    inputs: Path,
    data: Path,
    working: Path,
    scratch: Path,
    started: float,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Train what a plan says, in the time that it has, and predict the test split.

    The training runs in a folder that looks like the one in which it would be done at home, so that
    its runs are the same there and here.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : mapping
        The bundle's.
    inputs : Path
        Where Kaggle mounts things; the output of an earlier run, and the competition's sample
        submission, are looked for below it.
    data : Path
        The competition's folders are looked for below it.
    working : Path
        Gets `runs/`, from which another kernel, or the same command, goes on.
    scratch : Path
        An empty folder.
    started : float
        When the kernel did, in seconds since 1970, UTC.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    form : pd.DataFrame
        Of the submission.
    facts : dict
        For `run.json`.

    Raises
    ------
    InputError
        Before any training, when the data or the output to go on from is missing or of another plan;
        when there is nothing to hand in.
    """
    plan = read_plan(manifest["plan"])
    identity = _identity(plan, manifest)
    form, sample = _form(plan, manifest["competition"], inputs, data, scratch / "stores")
    resumed = _take_over(identity, plan.resume, inputs, working)
    _lay_out(scratch, folder, manifest, data, working)
    prepared = time.time()
    seconds = 3600 * plan.hours
    deadline = started + seconds - min(_RESERVED_SHARE * seconds, _MOST_RESERVED_SECONDS)
    command = [sys.executable, "-m", "music_emotion.kaggle.train_stages", str(deadline)]
    done = subprocess.run(command, cwd=scratch, env=child_environment(), check=False)
    if done.returncode:
        raise InputError(
            f"There is nothing to hand in: the training's own message is above. What it finished is in "
            f"{working / RUNS}, from which a kernel packaged with --resume goes on."
        )
    facts = {
        "plan": identity,
        "resumed": resumed,
        "sample": sample,
        **read_json(scratch / PROGRESS),
        "seconds": {"prepare": round(prepared - started, 3), "train": round(time.time() - prepared, 3)},
    }
    return read_predictions(scratch / PREDICTIONS), form, facts


def _identity(plan: Plan, manifest: Mapping[str, Any]) -> str:
    """Of the experiments and the files they name, by which a training knows what it may go on from."""
    named = {n: facts["sha256"] for n, facts in manifest["files"].items() if not n.endswith(".whl")}
    return hashlib.sha256(json.dumps([plan.hash, named], sort_keys=True).encode()).hexdigest()


def _form(plan: Plan, competition: str, inputs: Path, data: Path, stores: Path) -> tuple[pd.DataFrame, str]:
    section = plan.emotion[0].data.model_copy(update={"root": str(data), "stores": str(stores)})
    targets = load_clip_set(section, "emotion", "train").outputs
    ids = load_clip_set(section, "emotion", "test", targets).ids
    return find_form(inputs, competition, find_set(data, "emotion", section.rate), targets, ids)


def _take_over(identity: str, resume: str, inputs: Path, working: Path) -> bool:
    """Copy the runs of an earlier kernel's output; say whether there were any."""
    mark = working / RUNS / PLAN
    if mark.exists():  # started again in the same place
        if read_json(mark)["hash"] != identity:
            raise InputError(f"{working / RUNS} is of other experiments. Delete it to train these.")
        return True
    marks = [path for depth in _OUTPUTS for path in inputs.glob(f"{depth}/{RUNS / PLAN}")]
    plans = {path.parent: read_json(path)["hash"] for path in marks}
    equal = [runs for runs, found in plans.items() if found == identity]
    if not equal and (plans or resume != "none"):
        found = f"attached are others: {first_five(plans)}" if plans else f"nothing of {resume} is attached"
        raise InputError(
            f"There is no training to go on with; {found}. Package the same experiments, groups and weights "
            f"as then with --resume, once that kernel has ended, or leave out --resume to begin anew."
        )
    if len(equal) > 1:
        raise InputError(f"Several outputs of this plan are attached: {first_five(equal)}. Attach one.")
    for runs in equal:
        _copy_runs(runs, working / RUNS)
    write_json(mark, {"hash": identity})  # last: what is copied is whole
    return bool(equal)


def _copy_runs(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if not path.is_file() or path == source / PLAN:
            continue
        if path.name == STATE and not is_whole(path):
            print(f"{path} is damaged, so its fold begins anew.", flush=True)
            continue
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)  # without its mode: inputs are read-only


def _lay_out(scratch: Path, folder: Path, manifest: Mapping[str, Any], data: Path, working: Path) -> None:
    """Make a folder like the one at home: the data, the runs, the plan, and the files it names."""
    (scratch / "data").symlink_to(data)
    (scratch / RUNS).symlink_to(working / RUNS)
    for name in manifest["files"]:
        (scratch / name).symlink_to(folder / name)
    write_json(scratch / PLAN, manifest["plan"])
