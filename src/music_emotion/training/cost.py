"""What the training of a fold cost: time, weights and memory, and the machine's share in it."""

import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from threadpoolctl import threadpool_info
from torch import nn

from music_emotion.files import InputError, read_json, write_json

COST = "cost.json"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Cost:
    """What `cost.json` holds; settings that mean nothing to an estimator are left out there.

    Attributes
    ----------
    seconds : float
        Of a network all epochs with their validations, those before an interruption too; of an
        estimator the fitting.
    device : str
        As torch names it.
    threads, processes : int
        Threads of each process.
    peak_memory_bytes : int or None
        Largest resident memory of a process since it started, with the folds before this one in it, of
        the largest process; None where the system does not tell.
    peak_device_memory_bytes : int or None
        Likewise, what torch held on a GPU.
    precision : str or None
        As Accelerate names it.
    updates : int or None
    parameters : int or None
        Number of learnt weights.
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


def network_cost(network: nn.Module, accelerator: Accelerator, seconds: float, updates: int) -> Cost:
    """What a network's training cost; all processes call it together."""
    device = accelerator.device
    held = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    own = torch.tensor([[_peak_memory(), held]], device=device)
    peak, peak_held = accelerator.gather(own).amax(dim=0).tolist()
    return Cost(
        seconds=seconds,
        device=str(device),
        threads=torch.get_num_threads(),
        processes=accelerator.num_processes,
        peak_memory_bytes=peak or None,
        peak_device_memory_bytes=peak_held or None,
        precision=accelerator.mixed_precision,
        updates=updates,
        parameters=sum(weights.numel() for weights in network.parameters()),
    )


def estimator_cost(seconds: float) -> Cost:
    """What the fitting of an estimator cost, in this process."""
    threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
    peak = _peak_memory() or None
    return Cost(seconds=seconds, device="cpu", threads=threads, processes=1, peak_memory_bytes=peak)


def _peak_memory() -> int:
    """Largest resident memory of this process in bytes; 0 where it is not told."""
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_cost(place: Path, cost: Cost) -> None:
    """Write the `cost.json` of a fold."""
    write_json(place / COST, {name: value for name, value in asdict(cost).items() if value is not None})


def read_cost(place: Path) -> Cost | None:
    """Read the `cost.json` of a fold; None where it has none, as folds of earlier versions.

    Raises
    ------
    InputError
        When it is damaged.
    """
    path = place / COST
    if not path.exists():
        return None
    try:
        return TypeAdapter(Cost).validate_python(read_json(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(
            f"{path} does not hold what a fold cost ({where}: {error.errors()[0]['msg']}). Delete it, or "
            f"train the fold anew."
        ) from None


def seconds_of(place: Path) -> float | None:
    """How long a fold has trained, from its `cost.json` or else its `metrics.csv`; None without both.

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
