"""What stands in the cells of a report's tables."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from music_emotion.config import Experiment, build_experiment
from music_emotion.evaluation.intervals import spread_of
from music_emotion.evaluation.report_costs import RunCost
from music_emotion.evaluation.report_parts import Run, Score
from music_emotion.evaluation.report_sections import differences
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError

_MOST = 6  # settings that are named
_PLACES = {"name", "data.root", "data.stores", "folds.groups"}  # where things are, not what is done


def three(value: float, signed: bool = False) -> str:
    """Three decimals without a leading zero.

    Examples
    --------
    >>> three(0.5543), three(-0.0201), three(0.02, signed=True), three(1.0)
    ('.554', '-.020', '+.020', '1.000')
    """
    text = f"{round(value, 3) + 0.0:{'+' if signed else ''}.3f}"  # 0 is added since -0 has a sign
    return text.replace("0.", ".", 1) if text.lstrip("+-").startswith("0.") else text


def score(held: Score | None) -> str:
    """A score with its interval, where they are known."""
    if held is None:
        return ""
    if held.low is None or held.high is None:
        return three(held.value)
    return f"{three(held.value)} [{three(held.low)}, {three(held.high)}]"


def spread_cells(run: Run, names: Sequence[str]) -> list[str]:
    """Deviation over seeds and over folds of the mean of some scores, each with its number."""
    spread = spread_of(run.single, names)
    if spread is None:
        return ["", ""]
    found = ((spread.over_seeds, spread.n_seeds), (spread.over_folds, spread.n_folds))
    return [f"{'unknown' if value is None else three(value)}, n = {n}" for value, n in found]


def code(text: str) -> str:
    """A name as Markdown prints it unchanged."""
    return f"`{text}`"


def mark(selected: bool) -> str:
    """What stands behind the name of a run whose scored clips chose its epoch."""
    return " *(selected on validation)*" if selected else ""


def minutes(seconds: float) -> str:
    """Seconds as minutes, to a tenth, or short ones to two digits.

    Examples
    --------
    >>> minutes(4321.0), minutes(1.5)
    ('72.0', '.025')
    """
    value = seconds / 60
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}".removeprefix("0")


def cost_cells(cost: RunCost) -> list[str]:
    """Minutes, minutes per fold, folds, weights, memory, GPU memory, and the machine."""
    times = (
        ["", ""] if cost.seconds is None else [minutes(cost.seconds), minutes(cost.seconds / cost.n_folds)]
    )
    memory = [_gigabytes(held) for held in (cost.peak_memory_bytes, cost.peak_device_memory_bytes)]
    machine = [cost.device, cost.threads, cost.processes, cost.precision, cost.commit]
    return [*times, str(cost.n_folds), cost.parameters, *memory, *machine]


def _gigabytes(n_bytes: int | None) -> str:
    return "" if n_bytes is None else f"{n_bytes / 1e9:.2f} GB"


def description(run: Run, experiments: Path) -> str:
    """What a run is: the comment of its experiment file, or the settings it has of its own.

    Parameters
    ----------
    run : Run
    experiments : Path
        Folder of experiment files. Settings that a flag gave another value are named behind the comment.
    """
    if run.experiment is None:
        kind = "blend" if run.recipe is not None else "vote"
        return f"{kind} of {', '.join(code(Path(path).name) for path in run.members)}" if run.members else ""
    comment, usual = _usual(experiments / f"{run.name}.toml")
    own = settings(differences(run.experiment, usual))
    if not comment:
        return own or "the default"
    return f"{comment} Here with {own}." if own else comment


def _usual(path: Path) -> tuple[str, Experiment]:
    """The comment of an experiment file and its settings; without a comment or a file the default ones."""
    try:
        named = build_experiment(read_differences(path), str(path))
        comment = _comment(path)
    except (InputError, OSError):  # no such file, or one that this version can't read
        return "", Experiment()
    return (comment, named) if comment else ("", Experiment())


def _comment(path: Path) -> str:
    """The lines that an experiment file begins with."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        words += line.lstrip("#").split()
    return " ".join(words)


def settings(different: dict[str, Any]) -> str:
    """Settings with their values, as far as they say what is done and not where things are."""
    named = {key: value for key, value in different.items() if key not in _PLACES}
    cells = [code(f"{key} {_value(value)}") for key, value in list(named.items())[:_MOST]]
    more = [f"{len(named) - _MOST} more settings"] if len(named) > _MOST else []
    return ", ".join(cells + more)


def _value(value: Any) -> str:
    if value is None:
        return "off"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else "…"
