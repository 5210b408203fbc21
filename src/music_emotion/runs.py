"""A run's directory: what was run, and on what."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from music_emotion.config import Experiment, build_experiment, differing_keys, experiment_to_dict
from music_emotion.files import InputError, alone_at, first_five, read_json, remove_unfinished, write_json

RUN, BLEND, VOTE = "experiment.json", "blend.json", "vote.json"  # what tells their directories apart
_PACKAGES = ("torch", "timm", "accelerate", "numpy", "pandas", "scipy", "scikit-learn", "librosa")


@contextmanager
def alone_in(directory: Path, accelerator: Accelerator) -> Iterator[None]:
    """Hold a run's directory for the launcher's processes together, and tidy what killed ones left.

    Raises
    ------
    InputError
        In all of them, when another process holds it, or it is a blend's or a vote's.
    """
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


def open_run(directory: Path, experiment: Experiment, accelerator: Accelerator) -> None:
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
    return build_experiment(read_json(path), str(path))


def environment(accelerator: Accelerator) -> dict[str, Any]:
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
    """The commit of the working copy this package lies in, "unknown" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
