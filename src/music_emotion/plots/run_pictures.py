"""Pictures of runs, read from what they saved: learning curves and confusion matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from music_emotion.files import InputError, nearest, read_json
from music_emotion.plots.confusion_picture import confusion_figure

_NEEDED = ("epoch", "train_loss", "valid_loss", "score", "learning_rate")
_TITLES = {
    "train_loss": "training loss",
    "valid_loss": "validation loss",
    "score": "validation score",
    "learning_rate": "learning rate",
}


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of every training of a run.

    Attributes
    ----------
    name : str
        The run.
    trainings : mapping of str to pd.DataFrame
        ``seed0/fold1`` to its table: one row per epoch, which is its index; NaN where an epoch was
        not validated.
    """

    name: str
    trainings: Mapping[str, pd.DataFrame]

    @property
    def score_name(self) -> str:
        """What the score is, by the columns beside it."""
        is_genre = any("macro_f1" in table for table in self.trainings.values())
        return "macro F1" if is_genre else "mean Spearman"

    def curves(self, column: str) -> pd.DataFrame:
        """One column of all trainings: epochs by trainings; only epochs that have any value."""
        table = pd.DataFrame({name: metrics[column] for name, metrics in self.trainings.items()})
        return table.dropna(how="all").sort_index()


def read_metrics(directory: Path) -> RunMetrics:
    """Read `metrics.csv` of every seed and fold of a run, finished or not.

    Raises
    ------
    InputError
        When there is no such run, it has no metrics, or a table lacks a column.
    """
    _check_run(directory)
    paths = sorted(directory.glob("seed*/fold*/metrics.csv"))
    if not paths:
        raise InputError(
            f"{directory} has no metrics (seed*/fold*/metrics.csv). Only trained networks have learning "
            f"curves: estimators on statistics and blends have none."
        )
    return RunMetrics(
        directory.resolve().name,
        {path.parent.relative_to(directory).as_posix(): _read_table(path) for path in paths},
    )


def model_name(path: Path) -> str:
    """Call a model by its run, seed and fold, or by its file where it lies elsewhere.

    Examples
    --------
    >>> model_name(Path("runs/slow/seed0/fold1/model.safetensors"))
    'slow-seed0-fold1'
    >>> model_name(Path("trunk.safetensors"))
    'trunk'
    """
    in_run = path.parent.name.startswith("fold") and path.parent.parent.name.startswith("seed")
    return "-".join(path.absolute().parts[-4:-1]) if in_run else path.stem


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
        missing = sorted(set(_NEEDED) - {"valid_loss", "score"} - set(table.columns))
        if missing:
            raise InputError(f"{path} has no column {' or '.join(missing)}, so it holds no metrics.")
        # an unfinished training that was not validated yet lacks these two
        metrics = table.reindex(columns=[*table.columns.union(["valid_loss", "score"])])
        return metrics.astype(float).set_index("epoch")
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path} is not a table of metrics: {error}.") from None


def _check_run(directory: Path) -> None:
    if not directory.is_dir():
        runs = directory.parent
        names = [path.name for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
        hint = nearest(directory.name, names) if names else "train it first."
        raise InputError(f"There is no run {directory}; {hint}")


def curves_figure(runs: Sequence[RunMetrics]) -> Figure:
    """Draw losses, score and learning rate over epochs.

    Parameters
    ----------
    runs : sequence of RunMetrics
        Each gets a colour.

    Returns
    -------
    Figure
        Four axes. In each, and for each run: a thin line per training and a thick one for their mean,
        which goes as far as all of them do, since a mean over those that are left would jump.
    """
    figure = Figure(figsize=(13, 8.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for panel, (column, title) in zip(panels.flat, _TITLES.items(), strict=True):
        for run, colour in zip(runs, _colours(len(runs)), strict=True):
            _draw_curves(panel, run, column, colour)
        panel.set_title(title, fontsize=13)
        panel.set_xlabel("epoch")
        panel.set_ylabel(_unit(column, runs))
        panel.grid(alpha=0.3)
        panel.tick_params(labelbottom=True)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(runs), 3), fontsize=12)
    return figure


def _unit(column: str, runs: Sequence[RunMetrics]) -> str:
    if column == "learning_rate":
        return "learning rate"
    if column == "score":
        return " or ".join(dict.fromkeys(run.score_name for run in runs))
    # runs may minimise different things, and then only the shapes can be compared
    return "loss" if len(runs) == 1 else "loss (each run's own)"


def _draw_curves(panel: Axes, run: RunMetrics, column: str, colour: tuple[float, ...]) -> None:
    curves = run.curves(column)
    marker = "o" if column in {"valid_loss", "score"} else None  # these are points, not every epoch has one
    for _, values in curves.items():
        known = values.dropna()
        panel.plot(known.index, known, color=colour, linewidth=0.8, alpha=0.5)
    mean = curves.mean(axis=1, skipna=False).dropna()
    panel.plot(mean.index, mean, color=colour, linewidth=2.6, marker=marker, markersize=4, label=_legend(run))


def _legend(run: RunMetrics) -> str:
    n = len(run.trainings)
    return f"{run.name} (1 training)" if n == 1 else f"{run.name} (mean of {n} trainings)"


def _colours(n: int) -> Sequence[tuple[float, ...]]:
    if n <= 10:
        return [matplotlib.colormaps["tab10"](number) for number in range(n)]
    return [matplotlib.colormaps["turbo"](share) for share in np.linspace(0.05, 0.95, n)]


def runs_confusion_figure(directories: Sequence[Path]) -> Figure:
    """Draw the confusion matrices that genre runs have saved, side by side.

    Raises
    ------
    InputError
        When there is no such run, it is not of genres, or is not finished.
    """
    return confusion_figure([_titled_confusion(directory) for directory in directories])


def _titled_confusion(directory: Path) -> tuple[str, pd.DataFrame]:
    """A finished genre run's scores in words, and its `confusion.csv`."""
    _check_run(directory)
    task = read_json(directory / "experiment.json").get("task")
    if task != "genre":
        raise InputError(f"{directory} has the task '{task}'; a confusion matrix needs a run of genres.")
    path = directory / "confusion.csv"
    if not path.exists():
        raise InputError(f"{path} does not exist. Finish the run first, with the command that began it.")
    counts = pd.read_csv(path, index_col="truth")
    clips = "out-of-fold" if (directory / "oof.csv").exists() else "test"
    pooled = read_json(directory / "scores.json")["pooled"]
    scores = [
        f"{words} {pooled[key]['value']:.2f} [{pooled[key]['low']:.2f}, {pooled[key]['high']:.2f}]"
        for key, words in (("accuracy", "accuracy"), ("macro_f1", "macro F1"))
    ]
    n_clips = counts.to_numpy().sum()
    return "\n".join([f"{directory.resolve().name}: {n_clips} {clips} clips", *scores]), counts
