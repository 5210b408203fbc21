"""Every picture: features, classes, learning curves, confusion matrices, activations and timelines."""

import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa.display
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.font_manager import get_font_names
from matplotlib.patches import Patch
from sklearn.metrics import ConfusionMatrixDisplay

from music_emotion.audio.settings import SILENCE_DB, FeatureSettings, row_slice
from music_emotion.config import N_CHROMA, N_MELS, DataSection, Rows
from music_emotion.failures import drawing
from music_emotion.files import atomic_path, printable, read_predictions, read_truth, shortened

if TYPE_CHECKING:
    from music_emotion.commands.show import ClipArrays
    from music_emotion.listen.predict import Timeline
    from music_emotion.listen.songs import Overview
    from music_emotion.models.layer_outputs import Activations

# Fonts that have most characters that the first one lacks; those that are installed are used.
_FONTS = ["DejaVu Sans", "Noto Sans CJK JP", "Droid Sans Fallback", "Arial Unicode MS", "Microsoft YaHei"]
_styled = matplotlib.rc_context(
    {
        "font.family": sorted({*_FONTS} & {*get_font_names()}, key=_FONTS.index),
        "text.parse_math": False,  # names may contain dollar signs
        "figure.constrained_layout.use": True,
        "figure.titlesize": 15,
        "figure.labelsize": 11,
        "axes.titlesize": 13,
    }
)
_SPLIT_COLOURS = ("tab:blue", "tab:orange")
_IMAGE: dict[str, Any] = {"origin": "lower", "aspect": "auto"}
_LEFT_OUT: dict[str, Any] = {"facecolor": "0.75", "edgecolor": "white", "hatch": "///"}
_CURVES = ("train_loss", "valid_loss", "score", "learning_rate")
_CURVE_TITLES = ("training loss", "validation loss", "validation score", "learning rate")
_MAPS_SHOWN, _MAPS_IN_A_LINE = 16, 8
_SHOWN_SHARE = 0.1  # a genre that never reaches this probability is added to "others"


@_styled
def save_figure(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG, atomically; returns its path."""
    with atomic_path(path) as temporary, warnings.catch_warnings():
        # for characters and scripts that the fonts lack
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support", UserWarning)
        figure.savefig(temporary, format="png", dpi=130)
    return path


def _label(name: object) -> str:
    """A short name for a tick or a legend, which would leave out one that begins with an underscore."""
    return shortened(printable(f" {name}" if str(name).startswith("_") else str(name)), 30)


def _title(text: str) -> str:
    return textwrap.fill(printable(text), 90)


def _panels(part: FigureBase, n: int, n_columns: int, **shared: Any) -> list[Axes]:
    """Lay out n panels row by row."""
    panels = part.subplots(math.ceil(n / n_columns), n_columns, squeeze=False, **shared).ravel().tolist()
    for panel in panels[n:]:
        panel.remove()
    return panels[:n]


def read_confusion(path: Path) -> pd.DataFrame:
    """Read a table of true (rows) and predicted classes, whose names are text, such as "1" or "NA"."""
    return pd.read_csv(path, dtype={"truth": str}, keep_default_na=False).set_index("truth")


def draw_scores(directory: Path) -> None:
    """Draw the predictions that a run is scored on: `oof.png` for targets, `confusion.png` for genres.

    A picture that can't be drawn is a warning, so it never costs the scores that are written already.

    Parameters
    ----------
    directory : Path
        ``runs/<name>`` of a scored run.
    """
    matrices, picture = list(directory.glob("confusion*.csv")), directory / "oof.png"
    for path in matrices:
        with drawing(path.with_suffix(".png")):
            counts = read_confusion(path)
            title = f"{counts.to_numpy().sum()} clips"
            save_figure(path.with_suffix(".png"), confusion_figure([(title, counts)]))
    if not matrices and (directory / "oof.csv").exists():
        with drawing(picture):
            truth, predictions = read_truth(directory / "truth.csv"), read_predictions(directory / "oof.csv")
            save_figure(picture, out_of_fold_figure(truth, predictions))


@_styled
def out_of_fold_figure(truth: pd.DataFrame, predictions: pd.DataFrame) -> Figure:
    """Draw out-of-fold predictions over labels, one panel per target.

    Parameters
    ----------
    truth, predictions : pd.DataFrame
        Indexed by `Id`, one column per target, for the same clips.
    """
    figure = Figure(figsize=(3.4 * len(truth.columns), 3.6))
    panels = _panels(figure, len(truth.columns), len(truth.columns))
    for panel, target in zip(panels, map(str, truth), strict=True):
        predicted = predictions.loc[truth.index, target]
        panel.scatter(truth[target], predicted, s=9, alpha=0.45, linewidths=0)
        score = truth[target].corr(predicted, method="spearman")
        panel.set_title(f"{_label(target)}: Spearman {score:.3f}", fontsize=10)
        panel.set_xlabel("label")
    panels[0].set_ylabel("out-of-fold prediction")
    figure.suptitle(f"{len(truth)} clips, each predicted by networks that never saw it", fontsize=10)
    return figure


@_styled
def confusion_figure(matrices: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Draw confusion matrices side by side: counts, shaded by their share of the true class.

    Parameters
    ----------
    matrices : sequence of (str, pd.DataFrame)
        Title and counts of each matrix: one row per true class, one column per predicted class.
    """
    most_classes = max(len(counts) for _, counts in matrices)
    side = max(5.0, 2 + 0.45 * most_classes)
    n_columns = min(len(matrices), 3 if most_classes <= 12 else 2)
    n_rows = math.ceil(len(matrices) / n_columns)
    figure = Figure(figsize=(side * n_columns + 1, (side + 0.9) * n_rows))
    panels = _panels(figure, len(matrices), n_columns)
    for panel, (title, counts) in zip(panels, matrices, strict=True):
        values = counts.to_numpy()
        shares = values / values.sum(axis=1, keepdims=True).clip(min=1)
        display = ConfusionMatrixDisplay(values, display_labels=[*map(_label, counts)])
        display.plot(ax=panel, cmap="Blues", colorbar=False, xticks_rotation=45, values_format="d")
        display.im_.set(data=shares, clim=(0, 1))
        for text, share in zip(display.text_.flat, shares.flat, strict=True):
            text.set_color("white" if share > 0.5 else "black")
        for tick in panel.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
        panel.set(xlabel="prediction", ylabel="truth", title=title)
    figure.colorbar(display.im_, ax=panels, label="share of the true class (0 to 1)", shrink=0.8)
    return figure


@_styled
def classes_figure(name: str, clips: pd.DataFrame) -> Figure:
    """Draw how many clips each raw genre has, beside the classes they are mapped to.

    Parameters
    ----------
    name : str
        The experiment, for the title.
    clips : pd.DataFrame
        One row per clip: `split`, `genre` (raw) and `class`, which is missing for clips that are left out.
    """
    before, after = _count(clips, "genre"), _count(clips, "class")
    figure = Figure(figsize=(13, 2.4 + 0.3 * len(before)))
    figure.suptitle(_title(f"Genres of the experiment {name}"))
    left, right = figure.subplots(1, 2, sharex=True)
    class_of = clips.drop_duplicates("genre").set_index("genre")["class"].fillna("").loc[before.index]
    _draw_counts(left, before, (class_of == "").to_numpy())
    _draw_counts(right, after, np.zeros(len(after), dtype=bool))
    change = (" → " + class_of).mask(class_of == class_of.index, "").mask(class_of == "", " (left out)")
    left.set_yticks(range(len(before)), class_of.index.map(_label) + change.map(_label))
    right.set_yticks(range(len(after)), after.index.map(_label))
    n_lost = int(clips["class"].isna().sum())
    lost = f" ({n_lost} left out)" if n_lost else ""
    left.set_title(f"before: {len(before)} raw genres, {len(clips)} clips")
    right.set_title(f"after: {len(after)} classes, {len(clips) - n_lost} clips{lost}")
    handles = [Patch(color=c, label=f"{s} split") for s, c in zip(before, _SPLIT_COLOURS, strict=False)]
    handles += [Patch(**_LEFT_OUT, label="left out")] if n_lost else []
    right.legend(handles=handles, loc="lower right", fontsize=11)
    return figure


def _count(clips: pd.DataFrame, column: str) -> pd.DataFrame:
    """Count clips per genre or class (rows, largest first) and split (columns)."""
    counts = pd.crosstab(clips[column], clips["split"])[clips["split"].unique()]
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def _draw_counts(panel: Axes, counts: pd.DataFrame, left_out: np.ndarray) -> None:
    counts.plot.barh(ax=panel, stacked=True, color=list(_SPLIT_COLOURS), legend=False, width=0.8)
    for bars in panel.containers:
        for number in np.flatnonzero(left_out):
            bars[number].set(**_LEFT_OUT)
    last: Any = panel.containers[-1]
    panel.bar_label(last, [" + ".join(map(str, row)) for row in counts.to_numpy()], padding=4)
    panel.invert_yaxis()
    panel.margins(x=0.16)
    panel.set(xlabel=f"clips ({' + '.join(counts.columns)})", ylabel="")
    panel.spines[["top", "right"]].set_visible(False)


@_styled
def curves_figure(runs: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Draw losses, score and learning rate over epochs.

    Parameters
    ----------
    runs : mapping of str to mapping
        Name of a run to its tables from `read_metrics`. Each run has one colour. Folds are thin lines;
        their mean is a thick line that ends with the shortest fold.
    """
    figure = Figure(figsize=(13, 8.6))
    panels = figure.subplots(2, 2, sharex=True)
    colours = matplotlib.colormaps["tab10" if len(runs) <= 10 else "turbo"]
    loss = "loss" if len(runs) == 1 else "loss (each run's own)"
    genre = [any("macro_f1" in table for table in run.values()) for run in runs.values()]
    score = " or ".join(dict.fromkeys("macro F1" if each else "mean Spearman" for each in genre))
    units = (loss, loss, score, "learning rate")
    for panel, column, title, unit in zip(panels.flat, _CURVES, _CURVE_TITLES, units, strict=True):
        for number, (name, trainings) in enumerate(runs.items()):
            colour = colours(number if len(runs) <= 10 else 0.05 + 0.9 * number / len(runs))
            table = pd.DataFrame({place: metrics[column] for place, metrics in trainings.items()})
            for _, values in table.items():
                panel.plot(values.dropna(), color=colour, linewidth=0.8, alpha=0.5)
            n = len(trainings)
            label = _label(name) + (" (1 training)" if n == 1 else f" (mean of {n} trainings)")
            marker = "o" if column in {"valid_loss", "score"} else None  # only some epochs are validated
            mean = table.mean(axis=1, skipna=False).dropna()
            panel.plot(mean, color=colour, linewidth=2.6, marker=marker, markersize=4, label=label)
        panel.set(title=title, xlabel="epoch", ylabel=unit)
        panel.grid(alpha=0.3)
        panel.tick_params(labelbottom=True)
        panel.spines[["top", "right"]].set_visible(False)
    handles, _ = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(runs), 3), fontsize=12)
    return figure


@_styled
def features_figure(clip: "ClipArrays") -> Figure:
    """Draw mel above chroma: the full-rate array on the left, any beat-synchronous one on the right.

    The beat-synchronous array is drawn over seconds if its beat times are known, else over beat numbers.
    """
    figure = Figure(figsize=(13, 7))
    figure.suptitle(_title(clip.title))
    n_frames = clip.full.shape[1]
    title = f"full rate: {n_frames} frames of {1000 * clip.frame_seconds:.1f} ms"
    columns = [(clip.full, np.arange(n_frames + 1) * clip.frame_seconds, "time (s)", title)]
    if clip.beat_synchronous is not None:
        n_spans = clip.beat_synchronous.shape[1]
        spans, unit = clip.span_edges_seconds, "time (s)"
        if spans is None:
            spans, unit = np.arange(n_spans + 1), "span between beats"
        title = f"beat-synchronous: medians of {n_spans} spans between beats"
        columns.append((clip.beat_synchronous, spans, unit, title))
    shape: dict[str, Any] = {"height_ratios": (2.4, 1), "sharex": "col", "sharey": "row", "squeeze": False}
    panels = figure.subplots(2, len(columns), **shape)
    labels: dict[Rows, str] = {"mel": "dB below the loudest", "chroma": "chroma (0 to 1)"}
    for row, (kind, label) in enumerate(labels.items()):
        for panel, (array, edges, x_label, _) in zip(panels[row], columns, strict=True):
            image = _draw_features(panel, array, kind, edges, clip.settings)
            panel.set_xlabel(x_label)
            panel.label_outer()
        figure.colorbar(image, ax=panels[row], label=label, pad=0.01)
    for panel, column in zip(panels[0], columns, strict=True):
        panel.set_title(column[-1])
    return figure


def _draw_features(
    panel: Axes, array: np.ndarray, kind: Rows, edges: np.ndarray, settings: FeatureSettings
) -> Any:
    """Draw the mel or the chroma rows of an array; `edges` are the borders of its columns."""
    rate_hz = settings.sample_rate_hz
    if kind == "mel":
        values, low, high, colours = array[row_slice("mel")], SILENCE_DB, 0, "magma"
        # every second frequency is a border between two mel bands
        heights = librosa.mel_frequencies(2 * N_MELS + 3, fmax=rate_hz / 2)[1::2]
    else:
        values, low, high, colours = array[-N_CHROMA:], 0, 1, "viridis"
        heights = np.arange(N_CHROMA + 1) - 0.5
    axes: dict[str, Any] = {"x_coords": edges, "y_coords": heights, "x_axis": "s", "y_axis": kind}
    look: dict[str, Any] = {"vmin": low, "vmax": high, "cmap": colours, "rasterized": True}
    return librosa.display.specshow(values, sr=rate_hz, ax=panel, **axes, **look)


@_styled
def activations_figure(
    model: str, clip: "ClipArrays", activations: "Activations", data: DataSection
) -> Figure:
    """Draw an excerpt above the activations of a network's first layers, on one time axis.

    Parameters
    ----------
    model : str
        For the title.
    clip : ClipArrays
        The clip that the excerpt is cut from.
    activations : Activations
        The sixteen feature maps of each layer that vary most are drawn, on one colour scale.
    data : DataSection
        Rows and rate of the network's input.
    """
    layers = activations.layers
    heights = [2.2 if data.rows == "fused" else 1.4, *(2.0 if v.ndim == 3 else 1.4 for v in layers.values())]
    figure = Figure(figsize=(14, 2.1 * sum(heights) + 0.5))
    figure.suptitle(_title(f"{model} hears {clip.title}"))
    top, *others = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    edges = activations.start + np.arange(activations.excerpt.shape[1] + 1.0)
    unit = "span between beats"
    if data.rate == "full":
        edges, unit = edges * clip.frame_seconds, "time (s)"
    _draw_excerpt(top, clip, activations.excerpt, edges, unit, data)
    for part, (name, values) in zip(others, layers.items(), strict=True):
        (_draw_maps if values.ndim == 3 else _draw_states)(part, name, values, edges, unit)
    return figure


def _draw_excerpt(
    part: SubFigure, clip: "ClipArrays", excerpt: np.ndarray, edges: np.ndarray, unit: str, data: DataSection
) -> None:
    kinds: tuple[Rows, ...] = ("mel", "chroma") if data.rows == "fused" else (data.rows,)
    panels = part.subplots(len(kinds), squeeze=False, sharex=True, height_ratios=[2, 1][: len(kinds)])[:, 0]
    for panel, kind in zip(panels, kinds, strict=True):
        image = _draw_features(panel, excerpt, kind, edges, clip.settings)
        part.colorbar(image, ax=panel, label="dB below\nthe loudest" if kind == "mel" else "0 to 1", pad=0.01)
        panel.set_xlabel(unit)
        panel.label_outer()
    whole = excerpt.shape[1] >= clip.at_rate(data.rate).shape[1]
    which = "the whole clip" if whole else "from the middle of the clip"
    panels[0].set_title(f"input: {_size(excerpt)}, {which}")


def _draw_maps(part: SubFigure, name: str, maps: np.ndarray, edges: np.ndarray, unit: str) -> None:
    shown = sorted(np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:_MAPS_SHOWN].tolist())
    panels = _panels(part, len(shown), min(len(shown), _MAPS_IN_A_LINE), sharex=True, sharey=True)
    limits = maps[shown].min(), np.percentile(maps[shown], 99.5)  # so one peak does not darken all maps
    for panel, number in zip(panels, shown, strict=True):
        extent = (edges[0], edges[-1], 0, maps.shape[1])
        image = panel.imshow(maps[number], cmap="inferno", clim=limits, extent=extent, **_IMAGE)
        panel.set_title(f"map {number}", fontsize=10, pad=3)
        panel.set_yticks([])
    part.colorbar(image, ax=panels, label="activation", pad=0.01, extend="max")
    chosen = f" (the {len(shown)} that vary most)" if len(shown) < len(maps) else ""
    part.suptitle(f"after {name}: {len(maps)} maps of {_size(maps[0])}{chosen}", fontsize=13)
    part.supxlabel(unit)
    part.supylabel("row, low to high")


def _draw_states(part: SubFigure, name: str, states: np.ndarray, edges: np.ndarray, unit: str) -> None:
    panel: Axes = part.subplots()
    largest = np.abs(states).max()
    extent = (edges[0], float(edges[states.shape[1]]), 0, len(states))  # without the padding
    image = panel.imshow(states, cmap="RdBu_r", clim=(-largest, largest), extent=extent, **_IMAGE)
    part.colorbar(image, ax=panel, label="hidden state", pad=0.01)
    panel.set(title=f"{name}: {len(states)} units", xlabel=unit, ylabel="unit")


def _size(rows: np.ndarray) -> str:
    return f"{rows.shape[0]} rows × {rows.shape[1]} frames"


@_styled
def draw_timeline(path: Path, title: str, timeline: "Timeline", overview: "Overview") -> None:
    """Draw genre probabilities and targets over time, above the mel spectrogram with its beats.

    Parameters
    ----------
    path : Path
        The PNG to write.
    title : str
    timeline : Timeline
        From `predict_file`.
    overview : Overview
        Reduced spectrogram and beats of the same file.
    """
    kinds = ((_draw_genres, timeline.genres, 1.0), (_draw_targets, timeline.targets, 1.4))
    shown = [kind for kind in kinds if len(kind[1].columns)]
    heights = [*(height for _, _, height in shown), 1.6]
    width = float(np.clip(12 * timeline.seconds / 240, 10, 20))  # keeps beats apart
    figure = Figure(figsize=(width, 0.7 + 1.3 * sum(heights)))
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    # values belong to window centres; the first and the last extend to the ends of the file
    seconds = np.concatenate([[0.0], timeline.times.mean(axis=1), [timeline.seconds]])
    for panel, (draw, table, _) in zip(panels, shown, strict=False):
        draw(panel, seconds, table.iloc[[0, *range(len(table)), len(table) - 1]])
    _draw_sound(panels[-1], overview)
    panels[-1].set(xlim=(0, timeline.seconds), xlabel="seconds")
    panels[0].set_title(_title(title), fontsize=10)
    save_figure(path, figure)


@_styled
def why_figure(
    name: str, predicted: Mapping[str, float], effects: pd.DataFrame, overview: "Overview"
) -> Figure:
    """Draw the spectrogram of a song and, for each target, the effects of its seconds and bands.

    Parameters
    ----------
    name : str
        The song, for the title.
    predicted : mapping of str to float
        Prediction of each target.
    effects : pd.DataFrame
        From `explain`.
    overview : Overview
        Of the same song.
    """
    n_spans, n_bands = effects["start_seconds"].nunique(), effects["low_hz"].nunique()
    edges = np.append(effects["start_seconds"].unique(), overview.seconds)
    figure = Figure(figsize=(12, 2.2 + 3.2 * len(predicted)))
    figure.suptitle(_title(f"What raises and lowers the prediction of {name}"))
    shape: dict[str, Any] = {"width_ratios": (7, 1), "height_ratios": (1.3, *(0.6, 1.4) * len(predicted))}
    panels = figure.subplots(1 + 2 * len(predicted), 2, sharex="col", **shape)
    _draw_sound(panels[0, 0], overview)
    for top, (middle, side), target in zip(panels[1::2, 0], panels[2::2], predicted, strict=True):
        cells, of_seconds, of_bands = np.split(effects[target].to_numpy(), [n_spans * n_bands, -n_bands])
        top.stairs(of_seconds, edges, fill=True)
        top.set_title(f"{_label(target)}: {predicted[target]:.2f}", fontsize=11)
        largest, extent = np.abs(cells).max(), (0, overview.seconds, 0, N_MELS)
        look: dict[str, Any] = {"cmap": "RdBu_r", "clim": (-largest, largest), "extent": extent, **_IMAGE}
        image = middle.imshow(cells.reshape(n_spans, n_bands).T, **look)
        middle.set_yticks(list(overview.ticks.values()), list(map(str, overview.ticks)))
        middle.set_ylabel("Hz")
        side.stairs(of_bands, np.linspace(0, N_MELS, n_bands + 1), orientation="horizontal", fill=True)
        side.set(ylim=(0, N_MELS), yticks=[])
        figure.colorbar(image, ax=side, label="effect")
    for corner in panels[[0, *range(1, len(panels), 2)], 1]:
        corner.remove()
    panels[-1, 0].set(xlim=(0, overview.seconds), xlabel="seconds")
    panels[-1, 1].locator_params(axis="x", nbins=2)
    return figure


def _draw_sound(panel: Axes, overview: "Overview") -> None:
    extent = (0.0, overview.seconds, 0, N_MELS)
    panel.imshow(overview.spectrogram, cmap="magma", clim=(SILENCE_DB, 0), extent=extent, **_IMAGE)
    panel.set_yticks(list(overview.ticks.values()), list(map(str, overview.ticks)))
    panel.set_ylabel("Hz")
    if len(overview.beats):
        panel.set_ylim(0, 1.08 * N_MELS)
        low, high = 1.01 * N_MELS, 1.07 * N_MELS
        panel.vlines(overview.beats, low, high, colors="black", linewidth=0.5, label="beats")
        _legend(panel)


def _draw_genres(panel: Axes, seconds: np.ndarray, shares: pd.DataFrame) -> None:
    # a genre keeps its colour in all pictures of a model
    colour_of = {name: matplotlib.colormaps["tab20"](n % 20) for n, name in enumerate(shares)}
    shown = shares[[name for name in shares if shares[name].max() >= _SHOWN_SHARE]]
    if len(shown.columns) < len(shares.columns):
        shown = shown.assign(others=shares.drop(columns=shown.columns).sum(axis=1))
        colour_of["others"] = (0.85, 0.85, 0.85, 1.0)
    colours = [colour_of[name] for name in shown]
    panel.stackplot(seconds, shown.T, colors=colours, linewidth=0, labels=map(_label, shown))
    panel.set(ylim=(0, 1), yticks=[0, 1], ylabel="genre")
    _legend(panel, reverse=True)  # in the order of the stack


def _draw_targets(panel: Axes, seconds: np.ndarray, targets: pd.DataFrame) -> None:
    panel.plot(seconds, targets, linewidth=1.6, label=[*map(_label, targets)])
    panel.set_ylabel("target")
    panel.grid(alpha=0.3)
    _legend(panel)


def _legend(panel: Axes, reverse: bool = False) -> None:
    columns = math.ceil(len(panel.get_legend_handles_labels()[0]) / 6)  # no taller than the panel
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.05), "ncols": columns}
    panel.legend(fontsize=7, frameon=False, reverse=reverse, **place)
