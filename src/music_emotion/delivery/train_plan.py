"""A bundled plan to predictions: the training's folder, what an earlier run left, and the time it has."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.delivery.devices import child_environment
from music_emotion.delivery.plan import Plan, read_plan
from music_emotion.delivery.train_share import PLAN, RUNS
from music_emotion.delivery.train_stages import PREDICTIONS, PROGRESS
from music_emotion.errors import InputError, first_five
from music_emotion.files import read_json, write_json
from music_emotion.predictions import read_predictions

_OUTPUTS = ("*", "notebooks/*/*")  # where Kaggle mounts what other kernels left
_RESERVED_SHARE, _MOST_RESERVED_SECONDS = 0.05, 600.0  # of the time, for what follows the training


def train_plan(
    folder: Path, manifest: Mapping[str, Any], inputs: Path, working: Path, scratch: Path, started: float
) -> tuple[pd.DataFrame, dict[str, Any]]:
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
        The competition's folders, and the output of an earlier run, are looked for below it.
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
    facts : dict
        For `run.json`.

    Raises
    ------
    InputError
        When the output to go on from is missing or of another plan, or the training failed.
    """
    plan = read_plan(manifest["plan"])
    resumed = _take_over(plan, inputs, working)
    _lay_out(scratch, folder, manifest, inputs, working)
    prepared = time.time()
    seconds = 3600 * plan.hours
    deadline = started + seconds - min(_RESERVED_SHARE * seconds, _MOST_RESERVED_SECONDS)
    command = [sys.executable, "-m", "music_emotion.delivery.train_stages", str(deadline)]
    done = subprocess.run(command, cwd=scratch, env=child_environment(), check=False)
    if done.returncode:
        raise InputError(
            f"The training failed; its own message is above. What it finished is in {working / RUNS}, from "
            f"which a kernel packaged with --resume goes on."
        )
    facts = {
        "plan": plan.hash,
        "resumed": resumed,
        **read_json(scratch / PROGRESS),
        "seconds": {"prepare": round(prepared - started, 3), "train": round(time.time() - prepared, 3)},
    }
    return read_predictions(scratch / PREDICTIONS), facts


def _take_over(plan: Plan, inputs: Path, working: Path) -> bool:
    """Copy the runs of an earlier kernel's output; say whether there were any."""
    if (working / RUNS / PLAN).exists():  # started again in the same place
        return True
    marks = [path for depth in _OUTPUTS for path in inputs.glob(f"{depth}/{RUNS / PLAN}")]
    plans = {mark.parent: read_json(mark)["hash"] for mark in marks}
    equal = [runs for runs, found in plans.items() if found == plan.hash]
    if not equal and (plans or plan.resume != "none"):
        others = f", but of others: {first_five(plans)}" if plans else ""
        raise InputError(
            f"No output of a training of these experiments is attached{others}. Package the same "
            f"experiments as then, or leave out --resume to begin anew."
        )
    if len(equal) > 1:
        raise InputError(f"Several outputs of this plan are attached: {first_five(equal)}. Attach one.")
    for runs in equal:
        for path in runs.rglob("*"):
            if path.is_file() and path != runs / PLAN:
                target = working / RUNS / path.relative_to(runs)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)  # without its mode: inputs are read-only
    write_json(working / RUNS / PLAN, {"hash": plan.hash})  # last: what is copied is whole
    return bool(equal)


def _lay_out(scratch: Path, folder: Path, manifest: Mapping[str, Any], inputs: Path, working: Path) -> None:
    """Make a folder like the one at home: the data, the runs, the plan, and the files it names."""
    (scratch / "data").symlink_to(inputs)
    (scratch / RUNS).symlink_to(working / RUNS)
    for name in manifest["files"]:
        (scratch / name).symlink_to(folder / name)
    write_json(scratch / PLAN, manifest["plan"])
