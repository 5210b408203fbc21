"""What runs cost, all folds and seeds together."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from music_emotion.files import read_json
from music_emotion.runs import Cost, read_cost, seconds_of


@dataclass(frozen=True)
class RunCost:
    """What the finished folds of a run cost; empty or None is what their files do not tell.

    Attributes
    ----------
    n_folds : int
        Of all seeds.
    seconds : float or None
        All folds together.
    parameters : str
        Learnt weights of a fold's network.
    peak_memory_bytes, peak_device_memory_bytes : int or None
        Of the largest fold.
    device, threads, processes, precision, commit : str
        Several values where folds differ.
    """

    n_folds: int
    seconds: float | None
    parameters: str
    peak_memory_bytes: int | None
    peak_device_memory_bytes: int | None
    device: str
    threads: str
    processes: str
    precision: str
    commit: str


def read_run_cost(directory: Path) -> RunCost:
    """Add up the folds of a run; what they do not tell is looked for in `environment.json`.

    Raises
    ------
    InputError
        When a file is damaged.
    """
    places = sorted(path.parent for path in directory.glob("seed*/fold*/valid.csv"))
    seconds = [seconds_of(place) for place in places]
    costs = [cost for place in places if (cost := read_cost(place)) is not None]
    machine = directory / "environment.json"
    known: dict[str, Any] = dict(read_json(machine)) if machine.exists() else {}
    whole = len(costs) == len(places) > 0  # else what the others ran on is not known from these

    def each(name: str) -> str:
        values = [getattr(cost, name) for cost in costs] if whole else [known.get(name)]
        return _joined(values)

    told = [value for value in seconds if value is not None]
    return RunCost(
        n_folds=len(places),
        seconds=sum(told) if told and len(told) == len(places) else None,
        parameters=_joined(f"{cost.parameters:,}" for cost in costs if cost.parameters),
        peak_memory_bytes=_largest(costs, "peak_memory_bytes"),
        peak_device_memory_bytes=_largest(costs, "peak_device_memory_bytes"),
        device=each("device"),
        threads=each("threads"),
        processes=each("processes"),
        precision=each("precision"),
        commit=_joined([known.get("commit")]),
    )


def _joined(values: Iterable[Any]) -> str:
    """Different values, each once, in their order."""
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _largest(costs: list[Cost], name: str) -> int | None:
    return max((value for cost in costs if (value := getattr(cost, name)) is not None), default=None)
