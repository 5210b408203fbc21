"""Pictures of what the first layers of a network make of a clip."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from music_emotion.audio.features import N_CHROMA, SILENCE_DB, row_slice
from music_emotion.config import DataSection
from music_emotion.models.layer_outputs import Activations
from music_emotion.plots.clip_arrays import ClipArrays
from music_emotion.plots.figures import FREQUENCIES_HZ, draw_rows, label_chroma, label_mel

_MAPS_SHOWN = 16
_MAPS_IN_A_LINE = 8
_LARGEST_SHARE = 99.5  # %, so that one peak does not darken all maps


def activations_figure(model: str, clip: ClipArrays, activations: Activations, data: DataSection) -> Figure:
    """Draw the excerpt above what each layer answers to it, all over the same time.

    Parameters
    ----------
    model : str
        For the title.
    clip : ClipArrays
        What the excerpt is from.
    activations : Activations
    data : DataSection
        Which rows, at which rate.

    Returns
    -------
    Figure
        One part for the excerpt and one per layer. Of feature maps the sixteen that vary most are
        shown, on one scale per layer.
    """
    layers = activations.layers
    heights = [
        2.2 if data.rows == "fused" else 1.4,
        *(2.0 if values.ndim == 3 else 1.4 for values in layers.values()),
    ]
    figure = Figure(figsize=(14, 2.1 * sum(heights) + 0.5), layout="constrained")
    figure.suptitle(f"{model} hears {clip.title}", fontsize=15, parse_math=False)  # a name may hold dollars
    top, *parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    edges, unit = _time_axis(clip, activations, data)
    _draw_excerpt(top, clip, activations.excerpt, edges, unit, data)
    for part, (name, values) in zip(parts, layers.items(), strict=True):
        if values.ndim == 3:
            _draw_maps(part, name, values, edges, unit)
        else:
            _draw_states(part, name, values, edges, unit)
    return figure


def _time_axis(clip: ClipArrays, activations: Activations, data: DataSection) -> tuple[np.ndarray, str]:
    edges = activations.start + np.arange(activations.excerpt.shape[1] + 1)
    if data.rate == "full":
        return edges * clip.frame_seconds, "time (s)"
    return edges, "span between beats"


def _draw_excerpt(
    part: SubFigure, clip: ClipArrays, excerpt: np.ndarray, edges: np.ndarray, unit: str, data: DataSection
) -> None:
    rows = {"fused": ("mel", "chroma"), "mel": ("mel",), "chroma": ("chroma",)}[data.rows]
    heights = [2 if kind == "mel" else 1 for kind in rows]
    panels = part.subplots(len(rows), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    whole = excerpt.shape[1] >= clip.at_rate(data.rate).shape[1]
    which = "the whole clip" if whole else "from the middle of the clip"
    panels[0].set_title(f"input: {_size(excerpt)}, {which}", fontsize=13)
    panels[-1].set_xlabel(unit)
    for panel, kind in zip(panels, rows, strict=True):
        if kind == "mel":
            image = draw_rows(panel, excerpt[row_slice("mel")], edges, (SILENCE_DB, 0), "magma")
            part.colorbar(image, ax=panel, label="dB below\nthe loudest", pad=0.01)
            label_mel(panel, clip.settings, FREQUENCIES_HZ[1::2])
        else:
            image = draw_rows(panel, excerpt[-N_CHROMA:], edges, (0, 1), "viridis")
            part.colorbar(image, ax=panel, label="0 to 1", pad=0.01)
            label_chroma(panel, "CEGB")


def _draw_maps(part: SubFigure, name: str, maps: np.ndarray, edges: np.ndarray, unit: str) -> None:
    shown = _most_varied(maps)
    n_lines = -(-len(shown) // _MAPS_IN_A_LINE)
    n_columns = min(len(shown), _MAPS_IN_A_LINE)
    panels = part.subplots(n_lines, n_columns, squeeze=False, sharex=True, sharey=True)
    low, high = float(maps[shown].min()), float(np.percentile(maps[shown], _LARGEST_SHARE))
    ends = np.linspace(edges[0], edges[-1], maps.shape[2] + 1)
    for panel, number in zip(panels.flat, shown, strict=False):
        image = draw_rows(panel, maps[number], ends, (low, high), "inferno")
        panel.set_title(f"map {number}", fontsize=10, pad=3)
        panel.set_yticks([])
    for panel in panels.flat[len(shown) :]:
        panel.remove()
    part.colorbar(image, ax=panels, label="activation", pad=0.01, extend="max")
    chosen = f" (the {len(shown)} that vary most)" if len(shown) < len(maps) else ""
    part.suptitle(f"after {name}: {len(maps)} maps of {_size(maps[0])}{chosen}", fontsize=13)
    part.supxlabel(unit, fontsize=11)
    part.supylabel("row, low to high", fontsize=11)


def _draw_states(part: SubFigure, name: str, states: np.ndarray, edges: np.ndarray, unit: str) -> None:
    panel: Axes = part.subplots()
    ends = edges[: states.shape[1] + 1]  # padding is not read
    largest = float(np.abs(states).max())
    image = draw_rows(panel, states, ends, (-largest, largest), "RdBu_r")
    part.colorbar(image, ax=panel, label="hidden state", pad=0.01)
    panel.set_title(f"{name}: {len(states)} units", fontsize=13)
    panel.set_xlabel(unit)
    panel.set_ylabel("unit")


def _most_varied(maps: np.ndarray) -> Sequence[int]:
    """Numbers of the maps with the largest deviation, ascending: dead ones show nothing."""
    order = np.argsort(-maps.std(axis=(1, 2)), kind="stable")
    return sorted(order[:_MAPS_SHOWN].tolist())


def _size(rows: np.ndarray) -> str:
    return f"{rows.shape[0]} rows × {rows.shape[1]} frames"
