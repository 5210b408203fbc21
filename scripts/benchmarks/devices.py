"""Time per epoch on the CPU and on the GPU."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
from cyclopts import Parameter

from benchmarks.train_script import run_train
from music_emotion.files import InputError


def devices(
    experiment: Path,
    *flags: Annotated[str, Parameter(allow_leading_hyphen=True)],
    epochs: int = 6,
) -> None:
    """Time per epoch of an experiment's first fold on the CPU and, where there is one, on the GPU.

    Parameters
    ----------
    experiment
        experiments/<name>.toml.
    flags
        For train.py, such as --data.root data.
    epochs
        How many are timed, after a first one that is not.
    """
    import torch  # here, since other benchmarks need half a GB less without

    ways = {"CPU": {"ACCELERATE_USE_CPU": "true"}}
    if torch.cuda.is_available():
        ways["GPU"] = {}
    medians = {}
    for device, settings in ways.items():
        with TemporaryDirectory() as runs:
            seconds = _epoch_seconds(experiment, flags, epochs, Path(runs), settings)
        medians[device] = seconds.median()
        print(
            f"{device}: {seconds.median():.3f} s per epoch [{seconds.min():.3f}, {seconds.max():.3f}], "
            f"validation included, n={len(seconds)}"
        )
    if "GPU" in medians:
        print(f"cpu_over_gpu {medians['CPU'] / medians['GPU']:.2f}")
    else:
        print("There is no GPU here.")


def _epoch_seconds(
    experiment: Path, flags: tuple[str, ...], epochs: int, runs: Path, settings: dict[str, str]
) -> pd.Series:
    """Train for so many epochs and one in a process of its own; of its epochs, all but the first."""
    own = ("--runs", str(runs), "--seeds", "0", "--only-fold", "0", "--train.epochs", str(epochs + 1))
    run_train(experiment, [*flags, *own], settings)
    metrics = sorted(runs.glob("*/seed*/fold0/metrics.csv"))
    if not metrics:
        raise InputError(f"{experiment} has no epochs to time. Give one that trains a network.")
    return pd.read_csv(metrics[0])["seconds"].iloc[1:]
