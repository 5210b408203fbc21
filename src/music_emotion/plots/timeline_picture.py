"""A file's predictions over seconds, above its spectrogram with the beats marked."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from music_emotion.audio.features import N_MELS, SILENCE_DB
from music_emotion.listen.overview import Overview
from music_emotion.listen.predict import Timeline
from music_emotion.plots.figures import draw_rows, save_figure

_NAMES_IN_A_COLUMN = 6  # of a legend, which is then no higher than its panel
_SHOWN_SHARE = 0.1  # a genre that never gets as much is drawn as one of the others


def draw_timeline(path: Path, title: str, timeline: Timeline, overview: Overview) -> None:
    """Draw genre shares and targets over seconds, above the spectrogram, as PNG.

    Parameters
    ----------
    path : Path
        The picture.
    title : str
        What stands above it.
    timeline : Timeline
        As `predict_file` gives it.
    overview : Overview
        Which was the listener meanwhile.
    """
    parts = [(_draw_genres, timeline.genres, 1.0), (_draw_targets, timeline.targets, 1.4)]
    shown = [part for part in parts if len(part[1].columns)]
    heights = [*(height for _, _, height in shown), 1.6]
    width = float(np.clip(12 * timeline.seconds / 240, 10, 20))  # beats stay apart
    figure = Figure(figsize=(width, 0.7 + 1.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (draw, table, _) in zip(panels, shown, strict=False):
        draw(panel, *_to_the_ends(timeline, table))
    _draw_sound(panels[-1], overview)
    panels[0].set_title(title, fontsize=10, parse_math=False)
    panels[-1].set_xlim(0, timeline.seconds)
    panels[-1].set_xlabel("seconds")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # names in scripts the font lacks
        save_figure(path, figure)


def _to_the_ends(timeline: Timeline, table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    """Windows stand at their centres; the first and the last go on to the file's ends."""
    seconds = np.concatenate([[0.0], timeline.times.mean(axis=1), [timeline.seconds]])
    return seconds, table.iloc[[0, *range(len(table)), len(table) - 1]]


def _draw_genres(panel: Axes, seconds: np.ndarray, shares: pd.DataFrame) -> None:
    shown = [name for name in shares if shares[name].max() >= _SHOWN_SHARE]
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    # every genre has one colour in all pictures of a model
    of_shown = [colours[n % len(colours)] for n, name in enumerate(shares) if name in shown]
    stack, names = [shares[name] for name in shown], [str(name) for name in shown]
    if len(shown) < len(shares.columns):
        others = shares.drop(columns=shown).sum(axis=1)
        stack, names, of_shown = [*stack, others], [*names, "others"], [*of_shown, (0.85, 0.85, 0.85)]
    areas = panel.stackplot(seconds, *stack, colors=of_shown, linewidth=0)
    panel.set(ylim=(0, 1), yticks=[0, 1], ylabel="genre")
    _legend(panel, areas[::-1], names[::-1])  # in the order of the stack, from above


def _draw_targets(panel: Axes, seconds: np.ndarray, targets: pd.DataFrame) -> None:
    lines = panel.plot(seconds, targets, linewidth=1.6)
    panel.set_ylabel("target")
    panel.grid(alpha=0.3)
    _legend(panel, lines, list(map(str, targets)))


def _draw_sound(panel: Axes, overview: Overview) -> None:
    spectrogram = overview.spectrogram
    edges = np.linspace(0, overview.seconds, spectrogram.shape[1] + 1)
    draw_rows(panel, spectrogram, edges, (SILENCE_DB, 0.0), "magma")
    panel.set_yticks(list(overview.ticks.values()), list(map(str, overview.ticks)))
    panel.set_ylabel("Hz")
    if len(overview.beats):
        panel.set_ylim(0, 1.08 * N_MELS)
        marks = panel.vlines(overview.beats, 1.01 * N_MELS, 1.07 * N_MELS, colors="black", linewidth=0.5)
        _legend(panel, [marks], ["beats"])


def _legend(panel: Axes, handles: Sequence[Artist], labels: list[str]) -> None:
    columns = math.ceil(len(labels) / _NAMES_IN_A_COLUMN)
    beside = (1.0, 1.05)
    panel.legend(
        handles, labels, loc="upper left", bbox_to_anchor=beside, fontsize=7, frameon=False, ncols=columns
    )
