"""A run: its directory, its folds, and the network of each."""

import os
import platform
import subprocess
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from music_emotion.data.clip_set import ClipSet
from music_emotion.data.dataset import row_statistics
from music_emotion.data.folds import assign_folds, groups_of, target_strata
from music_emotion.data.labels import read_groups
from music_emotion.errors import InputError, first_five
from music_emotion.experiment import Experiment, differing_keys, experiment_to_dict
from music_emotion.files import read_json, write_json
from music_emotion.models.build import ModelCard, Network, build_network, load_trunk

_PACKAGES = ("torch", "timm", "accelerate", "numpy", "pandas", "scipy", "scikit-learn", "librosa")


def open_run(directory: Path, experiment: Experiment, accelerator: Accelerator) -> None:
    """Make a run's directory, or go on in the one that is there.

    Writes `experiment.json` and `environment.json`.

    Raises
    ------
    InputError
        When the directory holds another experiment; the message names the differing keys.
    """
    path, resolved = directory / "experiment.json", experiment_to_dict(experiment)
    if path.exists():
        differing = differing_keys(read_json(path), resolved)
        if differing:
            raise InputError(
                f"{directory} holds another experiment: {first_five(differing)} differ. "
                f"Give another --name, or delete that directory."
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process and not path.exists():
        write_json(directory / "environment.json", environment(accelerator))
        write_json(path, resolved)


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


def folds_of(experiment: Experiment, clips: ClipSet, seed: int) -> np.ndarray:
    """The fold in which each clip of the training split is validated [shape=(n,)]."""
    groups = None
    if experiment.folds.groups != "none":
        groups = groups_of(clips.ids, read_groups(Path(experiment.folds.groups)))
    is_genre = experiment.task == "genre"
    strata = clips.values.argmax(axis=1) if is_genre else target_strata(clips.values)
    return assign_folds(strata, experiment.folds.n, seed, groups)


def make_network(experiment: Experiment, training: ClipSet, seed: int) -> Network:
    """A network for some training clips: random weights from a seed, statistics from the clips."""
    n_outputs = len(training.outputs)
    mean, deviation = row_statistics(training, experiment.data)
    if experiment.data.normalise == "none":
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    target_mean, target_deviation = np.zeros(n_outputs), np.ones(n_outputs)
    if experiment.task == "emotion" and experiment.loss.standardise:
        target_mean, target_deviation = training.values.mean(axis=0), training.values.std(axis=0)
        _check_spread(training.outputs, target_deviation)
    card = ModelCard(
        experiment,
        training.outputs,
        *(tuple(values.tolist()) for values in (mean, deviation, target_mean, target_deviation)),
    )
    torch.manual_seed(seed)
    return build_network(card)


def _check_spread(targets: tuple[str, ...], deviation: np.ndarray) -> None:
    constant = [name for name, spread in zip(targets, deviation, strict=True) if spread < 1e-9]
    if constant:
        raise InputError(
            f"The training labels of {', '.join(constant)} are all the same, so there is no order to learn. "
            f"Check the label file, or name other --data.targets."
        )


def start_from_trunk(network: Network, directory: Path, accelerator: Accelerator) -> None:
    """Load the trunk an experiment names; print and record which weights were taken.

    Writes `trunk.json` with the names taken, new and unused.
    """
    trunk = network.card.experiment.model.trunk
    if trunk == "none":
        return
    names = load_trunk(network, Path(trunk))
    if accelerator.is_main_process:
        write_json(directory / "trunk.json", {"file": trunk, **names})
        print(f"trunk {trunk}: {len(names['taken'])} weights taken, {len(names['new'])} are new.")
        for part, members in names.items():
            print(f"  {part}: {_by_module(members)}")
        print(f"  every name is in {directory / 'trunk.json'}")


def _by_module(names: list[str]) -> str:
    """Names of weights summed up by the module they belong to, such as a block."""
    counts = Counter(".".join(name.split(".")[:3]) for name in names)
    return (
        ", ".join(f"{module} ({count})" if count > 1 else module for module, count in counts.items())
        or "none"
    )
