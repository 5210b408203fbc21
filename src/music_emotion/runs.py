"""A run's directory: what was run, and on what."""

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

from music_emotion import __version__
from music_emotion.config import Experiment, build_experiment, differing_keys, experiment_to_dict
from music_emotion.files import (
    InputError,
    alone_at,
    checked,
    first_five,
    read_json,
    read_object,
    remove_unfinished,
    write_json,
)

if TYPE_CHECKING:
    from accelerate import Accelerator

RUN, BLEND, VOTE = "experiment.json", "blend.json", "vote.json"  # what tells their directories apart
_PACKAGES = ("torch", "timm", "accelerate", "numpy", "pandas", "scipy", "scikit-learn", "librosa")


@contextmanager
def alone_in(directory: Path, accelerator: "Accelerator") -> Iterator[None]:
    """Hold a run's directory for the launcher's processes together, and tidy what killed ones left.

    Raises
    ------
    InputError
        In all of them, when another process holds it, or it is a blend's or a vote's.
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
    """Hold the directory of a run, a blend or a vote for this process, and tidy what killed ones left.

    Raises
    ------
    InputError
        When another process holds it, or it holds another kind of the three, as by `check_holds`.
    """
    with alone_at(directory, "give another --name"):
        check_holds(directory, own)
        remove_unfinished(directory)
        yield


def open_run(directory: Path, experiment: Experiment, accelerator: "Accelerator") -> None:
    """Make a run's directory, or go on in the one that is there.

    Writes `experiment.json` and `environment.json`.

    Raises
    ------
    InputError
        When the directory holds another experiment, and the message names the differing keys; or a
        blend or vote.
    """
    check_holds(directory, RUN)
    path, resolved = directory / RUN, experiment_to_dict(experiment)
    if path.exists():
        differing = differing_keys(experiment_to_dict(read_experiment(directory)), resolved)
        if differing:
            raise InputError(
                f"{directory} holds another experiment: {first_five(differing)} differ. "
                f"Give another --name, or delete that directory."
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not path.exists():
        write_json(directory / "environment.json", environment(accelerator))
        write_json(path, resolved)


def check_holds(directory: Path, own: str) -> None:
    """Refuse to write a run, a blend or a vote, told by its own file, over another kind of the three.

    Raises
    ------
    InputError
        Naming the file that tells.
    """
    for other in {RUN, BLEND, VOTE} - {own}:
        if (directory / other).exists():
            raise InputError(f"{directory} holds something else ({other}). Give another --name.")


def read_experiment(directory: Path) -> Experiment:
    """What a run was, from its `experiment.json`; settings that are newer than the file have defaults.

    Raises
    ------
    InputError
        When the file is missing or does not hold an experiment.
    """
    path = directory / RUN
    return build_experiment(read_object(path), str(path))


def environment(accelerator: "Accelerator") -> dict[str, Any]:
    """Commit, versions, device, processes and precision of this run."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "versions": package_versions(),
        "device": str(accelerator.device),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
        "cores": os.cpu_count(),
    }


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {name: version(name) for name in _PACKAGES}


def commit() -> str:
    """The commit of the repository that tracks this package; elsewhere the package's version.

    A package installed below another project's repository is not tracked there.
    """
    git = ["git", "-C", str(Path(__file__).parent)]
    asked = (
        ["ls-files", "--error-unmatch", Path(__file__).name],
        ["describe", "--always", "--dirty", "--abbrev=12"],
    )
    try:
        said = [
            subprocess.run([*git, *each], capture_output=True, text=True, check=True, timeout=10).stdout
            for each in asked
        ]
    except (OSError, subprocess.SubprocessError):
        return __version__
    return said[-1].strip()


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Cost:
    """What the training of a fold cost, as `cost.json` holds it without the fields that are None.

    Attributes
    ----------
    seconds : float
        Of a network all epochs with their validations, also those before an interruption; of an
        estimator the fit.
    device : str
        As torch names it.
    threads, processes : int
        Threads of each process.
    peak_memory_bytes : int or None
        Largest resident memory since the process started, of the largest process; None where the system
        does not tell.
    peak_device_memory_bytes : int or None
        Largest memory that torch allocated on a GPU.
    precision : str or None
        As Accelerate names it.
    updates : int or None
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
    """Largest resident memory of this process in bytes; 0 where the system does not tell."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_cost(place: Path, cost: Cost) -> None:
    """Write the `cost.json` of a fold."""
    write_json(
        place / "cost.json", {name: value for name, value in asdict(cost).items() if value is not None}
    )


def read_cost(place: Path) -> Cost | None:
    """Read the `cost.json` of a fold; None for a fold of an earlier version, which has none.

    Raises
    ------
    InputError
        When it is damaged.
    """
    path = place / "cost.json"
    if not path.exists():
        return None
    return checked(Cost, read_json(path), path, "Delete it, or train the fold anew.")


def seconds_of(place: Path) -> float | None:
    """How long a fold trained, from its `cost.json` or else its `metrics.csv`; None without both.

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
    except (KeyError, TypeError, ValueError) as error:  # pandas' errors of parsing are among them
        raise InputError(
            f"{metrics} has no column of seconds ({error}). Delete the fold to train it anew."
        ) from None
