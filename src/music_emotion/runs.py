"""The directory of a run: its lock, experiment, environment, and the cost of each fold."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from music_emotion import __version__, files
from music_emotion.config import Experiment, build_experiment, differing_keys, experiment_to_dict
from music_emotion.files import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

RUN, BLEND, VOTE = "experiment.json", "blend.json", "vote.json"  # each file marks one kind of directory
_PACKAGES = ("torch", "timm", "accelerate", "numpy", "pandas", "scipy", "scikit-learn", "librosa")


@contextmanager
def alone_in(directory: Path, accelerator: "Accelerator") -> Iterator[None]:
    """Lock a run's directory once for all processes of the launcher, as `alone_in_folder` does.

    Raises
    ------
    InputError
        As for `alone_in_folder`, in every process.
    """
    from accelerate.utils import broadcast_object_list  # loads torch

    refusal = ""
    with ExitStack() as held:
        if accelerator.is_main_process:
            try:
                held.enter_context(alone_in_folder(directory, RUN))
            except InputError as error:
                refusal = str(error)
        (refusal,) = broadcast_object_list([refusal])
        if refusal:
            raise InputError(refusal)
        yield


@contextmanager
def alone_in_folder(directory: Path, own: str) -> Iterator[None]:
    """Lock the directory of a run, a blend or a vote, and remove temporary files of killed processes.

    Parameters
    ----------
    directory : Path
    own : {RUN, BLEND, VOTE}
        The kind of directory, given by the file that marks it.

    Raises
    ------
    InputError
        When another process holds the lock, or the directory is of another kind.
    """
    with files.alone_at(directory, "give another --name"):
        for other in {RUN, BLEND, VOTE} - {own}:
            if (directory / other).exists():
                raise InputError(f"{directory} holds something else ({other}). Give another --name.")
        files.remove_unfinished(directory)
        yield


def open_run(directory: Path, experiment: Experiment, accelerator: "Accelerator") -> None:
    """Create a run's directory with `experiment.json` and `environment.json`, or check the existing one.

    A directory in which no fold was begun is created anew: a wrong setting may have ended the first try.

    Raises
    ------
    InputError
        When the directory holds another experiment; the message names the keys that differ.
    """
    path, resolved = directory / RUN, experiment_to_dict(experiment)
    is_begun = path.exists() and any(directory.glob("seed*"))
    if is_begun:
        differing = differing_keys(experiment_to_dict(read_experiment(directory)), resolved)
        if differing:
            raise InputError(
                f"{directory} holds another experiment: {files.first_five(differing)} differ. "
                f"Give another --name, or delete that directory."
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not is_begun:
        environment = {
            "commit": commit(),
            "python": platform.python_version(),
            "versions": package_versions(),
            "device": str(accelerator.device),
            "processes": accelerator.num_processes,
            "precision": accelerator.mixed_precision,
            "cores": os.cpu_count(),
        }
        files.write_json(directory / "environment.json", environment)
        files.write_json(path, resolved)


def read_experiment(directory: Path) -> Experiment:
    """Read a run's `experiment.json`; settings that the file lacks get their defaults.

    Raises
    ------
    InputError
        When the file is missing or does not hold an experiment.
    """
    path = directory / RUN
    return build_experiment(files.read_object(path), str(path))


def package_versions() -> dict[str, str]:
    """Versions of the packages that affect predictions."""
    return {name: version(name) for name in _PACKAGES}


def commit() -> str:
    """The commit of the repository that tracks this package, or else the package's version.

    A package in a virtual environment may lie in another project's repository, which does not track it.
    """
    git: dict[str, Any] = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "timeout": 10}
    try:
        subprocess.run(["git", "ls-files", "--error-unmatch", Path(__file__).name], check=True, **git)
        describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(describe, check=True, **git).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return __version__


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Cost:
    """Time and memory of the training of a fold; `cost.json` omits fields that are None.

    Attributes
    ----------
    seconds : float
        Training time. A network's is the time of all epochs and validations, without interruptions. An
        estimator's is the time of the fit.
    device : str
        Torch's name of the device.
    threads, processes : int
        Threads per process, and number of processes.
    peak_memory_bytes : int or None
        Peak resident memory of the largest process; None on Windows.
    peak_device_memory_bytes : int or None
        Peak memory that torch allocated on a GPU.
    precision : str or None
        Accelerate's mixed precision.
    updates : int or None
        Optimiser steps.
    parameters : int or None
        Number of trained weights.
    """

    seconds: float
    device: str
    threads: int
    processes: int
    peak_memory_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    precision: str | None = None
    updates: int | None = None
    parameters: int | None = None


def peak_memory() -> int:
    """Peak resident memory of this process in bytes; 0 on Windows."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_cost(place: Path, cost: Cost) -> None:
    """Write the `cost.json` of a fold."""
    known = {name: value for name, value in asdict(cost).items() if value is not None}
    files.write_json(place / "cost.json", known)


def read_cost(place: Path) -> Cost | None:
    """Read the `cost.json` of a fold; None if there is none.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    path = place / "cost.json"
    if not path.exists():
        return None
    return files.checked(Cost, files.read_json(path), path, "Delete it, or train the fold again.")


def seconds_of(place: Path) -> float | None:
    """Training time of a fold in seconds, from its `cost.json` or else its `metrics.csv`; None without both.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    cost, metrics = read_cost(place), place / "metrics.csv"
    if cost is not None or not metrics.exists():
        return cost.seconds if cost else None
    try:
        return float(pd.read_csv(metrics)["seconds"].sum())
    except (KeyError, TypeError, ValueError) as error:  # ValueError includes pandas' ParserError
        problem = f"{metrics} has no column of seconds ({error})."
        raise InputError(f"{problem} Delete the fold to train it again.") from None
