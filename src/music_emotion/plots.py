"""Every picture: features, classes, learning curves, confusion matrices, activations and timelines."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa.display
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from sklearn.metrics import ConfusionMatrixDisplay

from music_emotion.audio.features import N_CHROMA, N_MELS, SILENCE_DB, FeatureSettings, row_slice
from music_emotion.config import DataSection
from music_emotion.files import atomic_path, read_predictions

if TYPE_CHECKING:
    from music_emotion.commands.clip_arrays import ClipArrays
    from music_emotion.listen.predict import Timeline
    from music_emotion.listen.songs import Overview
    from music_emotion.models.layer_outputs import Activations

_SPLIT_COLOURS, _LEFT_OUT = ("tab:blue", "tab:orange"), "0.75"
_CURVES = {
    "train_loss": "training loss",
    "valid_loss": "validation loss",
    "score": "validation score",
    "learning_rate": "learning rate",
}
_MAPS_SHOWN, _MAPS_IN_A_LINE = 16, 8
_SHOWN_SHARE = 0.1  # a genre that never reaches this probability is drawn as one of the others


def save_figure(path: Path, figure: Figure) -> Path:
    """Write a figure as PNG, atomically; returns its path."""
    with atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # names in scripts that the font lacks
        figure.savefig(temporary, format="png", dpi=130)
    return path


def draw_scores(directory: Path) -> None:
    """Draw what a run was scored by: `oof.png` of targets, or `confusion.png` of genres.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``, which holds its scores.
    """
    matrices = list(directory.glob("confusion*.csv"))
    for path in matrices:
        counts = pd.read_csv(path, index_col="truth")
        figure = confusion_figure([(f"{counts.to_numpy().sum()} clips", counts)])
        save_figure(path.with_suffix(".png"), figure)
    if not matrices and (directory / "oof.csv").exists():
        truth, predictions = (read_predictions(directory / f"{name}.csv") for name in ("truth", "oof"))
        save_figure(directory / "oof.png", out_of_fold_figure(truth, predictions))


def out_of_fold_figure(truth: pd.DataFrame, predictions: pd.DataFrame) -> Figure:
    """Draw out-of-fold predictions over labels of the same clips, one panel per target."""
    figure = Figure(figsize=(3.4 * len(truth.columns), 3.6), layout="constrained")
    panels = figure.subplots(1, len(truth.columns), squeeze=False)[0]
    targets: list[str] = list(truth.columns)
    for panel, target in zip(panels, targets, strict=True):
        predicted = predictions.loc[truth.index, target]
        panel.scatter(truth[target], predicted, s=9, alpha=0.45, linewidths=0)
        score = truth[target].corr(predicted, method="spearman")
        panel.set_title(f"{target}: Spearman {score:.3f}", fontsize=10, parse_math=False)
        panel.set_xlabel("label")
    panels[0].set_ylabel("out-of-fold prediction")
    figure.suptitle(f"{len(truth)} clips, each predicted by networks that never saw it", fontsize=10)
    return figure


def confusion_figure(matrices: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Draw confusion matrices side by side: counts, shaded by their share of the true class.

    Parameters
    ----------
    matrices : sequence of (str, pd.DataFrame)
        Titles and counts: one row per true class, one column per predicted class.
    """
    most_classes = max(len(counts) for _, counts in matrices)
    side = max(5.0, 2 + 0.45 * most_classes)
    n_columns = min(len(matrices), 3 if most_classes <= 12 else 2)
    n_rows = math.ceil(len(matrices) / n_columns)
    figure = Figure(figsize=(side * n_columns + 1, (side + 0.9) * n_rows), layout="constrained")
    panels = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for panel, (title, counts) in zip(panels, matrices, strict=False):
        values = counts.to_numpy()
        shares = values / values.sum(axis=1, keepdims=True).clip(min=1)
        display = ConfusionMatrixDisplay(values, display_labels=list(counts.index))
        display.plot(ax=panel, cmap="Blues", colorbar=False, xticks_rotation=45, values_format="d")
        display.im_.set(data=shares, clim=(0, 1))
        for text, share in zip(display.text_.flat, shares.flat, strict=True):
            text.set_color("white" if share > 0.5 else "black")
        for label in [*panel.get_xticklabels(), *panel.get_yticklabels()]:
            label.set_parse_math(False)
        panel.set(xlabel="prediction", ylabel="truth")
        panel.set_title(title, fontsize=13, parse_math=False)
    for panel in panels[len(matrices) :]:
        panel.remove()
    shown = panels[: len(matrices)]
    figure.colorbar(display.im_, ax=shown, label="share of the true class (0 to 1)", shrink=0.8)
    return figure


def classes_figure(
    name: str, genres: Mapping[str, pd.Series], classes: Mapping[str, pd.Series], mapped: Mapping[str, str]
) -> Figure:
    """Draw how many clips each raw genre has, beside the classes they are mapped to.

    Parameters
    ----------
    name : str
        The experiment, for the title.
    genres, classes : mapping of str to pd.Series
        Split to the raw genre of every clip, and to the class of every clip that is kept.
    mapped : mapping of str to str
        Raw genre to class; a raw genre that is left out is missing.
    """
    before, after = _counts(genres), _counts(classes)
    figure = Figure(figsize=(13, 2.4 + 0.3 * len(before)), layout="constrained")
    figure.suptitle(f"Genres of the experiment {name}", fontsize=15, parse_math=False)
    left, right = figure.subplots(1, 2, sharex=True)
    left_out = [genre for genre in before.index if genre not in mapped]
    _draw_counts(left, before, left_out)
    places = {genre: f"{genre} → {target}" for genre, target in mapped.items() if target != genre}
    places |= {genre: f"{genre} (left out)" for genre in left_out}
    left.set_yticks(range(len(before)), [places.get(genre, genre) for genre in before.index])
    n_before, n_after = before.to_numpy().sum(), after.to_numpy().sum()
    left.set_title(f"before: {len(before)} raw genres, {n_before} clips", fontsize=13)
    _draw_counts(right, after, [])
    lost = f" ({n_before - n_after} left out)" if n_before > n_after else ""
    right.set_title(f"after: {len(after)} classes, {n_after} clips{lost}", fontsize=13)
    handles = [Patch(color=c, label=f"{s} split") for s, c in zip(genres, _SPLIT_COLOURS, strict=False)]
    if left_out:
        handles.append(Patch(facecolor=_LEFT_OUT, edgecolor="white", hatch="///", label="left out"))
    right.legend(handles=handles, loc="lower right", fontsize=11)
    return figure


def _counts(genres: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Clips of every genre (rows, the largest first) in every split (columns)."""
    counts = pd.DataFrame({split: raw.value_counts() for split, raw in genres.items()}).fillna(0).astype(int)
    return counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]


def _draw_counts(panel: Axes, counts: pd.DataFrame, left_out: Sequence[str]) -> None:
    counts.plot.barh(ax=panel, stacked=True, color=list(_SPLIT_COLOURS), legend=False, width=0.8)
    for bars in panel.containers:
        for genre, bar in zip(counts.index, bars, strict=True):
            if genre in left_out:
                bar.set(facecolor=_LEFT_OUT, edgecolor="white", hatch="///")
    last: Any = panel.containers[-1]
    panel.bar_label(last, [" + ".join(map(str, row)) for row in counts.to_numpy()], padding=4)
    panel.invert_yaxis()
    panel.margins(x=0.16)
    panel.set(xlabel=f"clips ({' + '.join(counts.columns)})", ylabel="")
    panel.spines[["top", "right"]].set_visible(False)


def curves_figure(runs: Mapping[str, Mapping[str, pd.DataFrame]]) -> Figure:
    """Draw losses, score and learning rate over epochs.

    Parameters
    ----------
    runs : mapping of str to mapping
        Name of a run to its tables, as `read_metrics` gives them. Each run gets a colour, each
        training a thin line, and their mean a thick one, which ends where the shortest training ends.
    """
    figure = Figure(figsize=(13, 8.6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    colours = matplotlib.colormaps["tab10" if len(runs) <= 10 else "turbo"]
    for panel, (column, title) in zip(panels.flat, _CURVES.items(), strict=True):
        for number, (name, trainings) in enumerate(runs.items()):
            colour = colours(number if len(runs) <= 10 else 0.05 + 0.9 * number / len(runs))
            table = pd.DataFrame({place: metrics[column] for place, metrics in trainings.items()})
            for _, values in table.items():
                panel.plot(values.dropna(), color=colour, linewidth=0.8, alpha=0.5)
            n = len(trainings)
            label = f"{name} (1 training)" if n == 1 else f"{name} (mean of {n} trainings)"
            marker = "o" if column in {"valid_loss", "score"} else None  # not every epoch has one
            mean = table.mean(axis=1, skipna=False).dropna()
            panel.plot(mean, color=colour, linewidth=2.6, marker=marker, markersize=4, label=label)
        panel.set_title(title, fontsize=13)
        panel.set(xlabel="epoch", ylabel=_unit(column, runs))
        panel.grid(alpha=0.3)
        panel.tick_params(labelbottom=True)
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside upper center", ncols=min(len(runs), 3), fontsize=12)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _unit(column: str, runs: Mapping[str, Mapping[str, pd.DataFrame]]) -> str:
    if column == "learning_rate":
        return "learning rate"
    if column == "score":  # named by the columns beside it
        genre = [any("macro_f1" in table for table in run.values()) for run in runs.values()]
        return " or ".join(dict.fromkeys("macro F1" if each else "mean Spearman" for each in genre))
    return "loss" if len(runs) == 1 else "loss (each run's own)"


def features_figure(clip: "ClipArrays") -> Figure:
    """Draw mel above chroma: the full-rate array on the left, the beat-synchronous one on the right.

    The beat-synchronous array is drawn over seconds where the beats are known, else over its spans.
    """
    figure = Figure(figsize=(13, 7), layout="constrained")
    figure.suptitle(clip.title, fontsize=15, parse_math=False)
    panels = figure.subplots(2, 2, height_ratios=(2.4, 1), sharex="col", sharey="row")
    n_frames, n_spans = clip.full.shape[1], clip.beat_synchronous.shape[1]
    seconds = np.arange(n_frames + 1) * clip.frame_seconds
    spans, unit = clip.span_edges_seconds, "time (s)"
    if spans is None:
        spans, unit = np.arange(n_spans + 1), "span between beats"
    columns = ((clip.full, seconds, "time (s)"), (clip.beat_synchronous, spans, unit))
    for (mel, chroma), (array, edges, x_label) in zip(panels.T, columns, strict=True):
        images = [
            _draw_features(mel, array, "mel", edges, clip.settings),
            _draw_features(chroma, array, "chroma", edges, clip.settings),
        ]
        mel.set_xlabel("")
        chroma.set_xlabel(x_label)
    for row, label in enumerate(("dB below the loudest", "chroma (0 to 1)")):
        figure.colorbar(images[row], ax=panels[row], label=label, pad=0.01)
        panels[row, 1].set_ylabel("")
    panels[0, 0].set_title(f"full rate: {n_frames} frames of {1000 * clip.frame_seconds:.1f} ms", fontsize=13)
    panels[0, 1].set_title(f"beat-synchronous: medians of {n_spans} spans between beats", fontsize=13)
    return figure


def _draw_features(
    panel: Axes, array: np.ndarray, rows: str, edges: np.ndarray, settings: FeatureSettings
) -> Any:
    """Draw the mel or the chroma rows of an array, with its columns between edges."""
    rate_hz = settings.sample_rate_hz
    if rows == "mel":
        values, limits, colours = array[row_slice("mel")], (SILENCE_DB, 0), "magma"
        # every second of these frequencies lies between the centres of two bands
        heights = librosa.mel_frequencies(2 * N_MELS + 3, fmax=rate_hz / 2)[1::2]
    else:
        values, limits, colours = array[-N_CHROMA:], (0, 1), "viridis"
        heights = np.arange(N_CHROMA + 1) - 0.5
    coords: dict[str, Any] = {"x_coords": edges, "y_coords": heights, "x_axis": "s", "y_axis": rows}
    look: dict[str, Any] = {
        "vmin": limits[0],
        "vmax": limits[1],
        "cmap": colours,
        "rasterized": True,
        "ax": panel,
    }
    return librosa.display.specshow(values, sr=rate_hz, **coords, **look)


def activations_figure(
    model: str, clip: "ClipArrays", activations: "Activations", data: DataSection
) -> Figure:
    """Draw an excerpt above the response of a network's first layers, all over the same time.

    Parameters
    ----------
    model : str
        For the title.
    clip : ClipArrays
        The clip that the excerpt is cut from.
    activations : Activations
        The sixteen feature maps of a layer that vary most are drawn, on one scale per layer.
    data : DataSection
        Which rows, at which rate.
    """
    layers = activations.layers
    heights = [2.2 if data.rows == "fused" else 1.4, *(2.0 if v.ndim == 3 else 1.4 for v in layers.values())]
    figure = Figure(figsize=(14, 2.1 * sum(heights) + 0.5), layout="constrained")
    figure.suptitle(f"{model} hears {clip.title}", fontsize=15, parse_math=False)
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
    kinds = {"fused": ("mel", "chroma"), "mel": ("mel",), "chroma": ("chroma",)}[data.rows]
    heights = [2, 1][: len(kinds)]
    panels = part.subplots(len(kinds), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for panel, kind in zip(panels, kinds, strict=True):
        image = _draw_features(panel, excerpt, kind, edges, clip.settings)
        part.colorbar(image, ax=panel, label="dB below\nthe loudest" if kind == "mel" else "0 to 1", pad=0.01)
    whole = excerpt.shape[1] >= clip.at_rate(data.rate).shape[1]
    which = "the whole clip" if whole else "from the middle of the clip"
    panels[0].set_title(f"input: {_size(excerpt)}, {which}", fontsize=13)
    panels[0].set_xlabel("")
    panels[-1].set_xlabel(unit)


def _draw_maps(part: SubFigure, name: str, maps: np.ndarray, edges: np.ndarray, unit: str) -> None:
    shown = sorted(np.argsort(-maps.std(axis=(1, 2)), kind="stable")[:_MAPS_SHOWN].tolist())
    n_columns = min(len(shown), _MAPS_IN_A_LINE)
    panels = part.subplots(-(-len(shown) // n_columns), n_columns, squeeze=False, sharex=True, sharey=True)
    low, high = float(maps[shown].min()), float(np.percentile(maps[shown], 99.5))  # one peak darkens no map
    for panel, number in zip(panels.flat, shown, strict=False):
        image = _draw_image(panel, maps[number], edges, (low, high), "inferno")
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
    largest = float(np.abs(states).max())
    read = edges[: states.shape[1] + 1]  # padding is not read
    image = _draw_image(panel, states, read, (-largest, largest), "RdBu_r")
    part.colorbar(image, ax=panel, label="hidden state", pad=0.01)
    panel.set_title(f"{name}: {len(states)} units", fontsize=13)
    panel.set(xlabel=unit, ylabel="unit")


def _draw_image(
    panel: Axes, rows: np.ndarray, edges: np.ndarray, limits: tuple[float, float], colours: str
) -> Any:
    """Draw an array with its first row at the bottom, between the first and the last edge."""
    extent = (edges[0], edges[-1], 0, len(rows))
    low, high = limits
    return panel.imshow(rows, cmap=colours, vmin=low, vmax=high, origin="lower", aspect="auto", extent=extent)


def _size(rows: np.ndarray) -> str:
    return f"{rows.shape[0]} rows × {rows.shape[1]} frames"


def draw_timeline(path: Path, title: str, timeline: "Timeline", overview: "Overview") -> None:
    """Draw genre probabilities and targets over seconds, above the mel spectrogram with its beats.

    Parameters
    ----------
    path : Path
        The PNG to write.
    title : str
    timeline : Timeline
        As `predict_file` gives it.
    overview : Overview
        A reduced spectrogram of the same file, and its beats.
    """
    kinds = ((_draw_genres, timeline.genres, 1.0), (_draw_targets, timeline.targets, 1.4))
    shown = [kind for kind in kinds if len(kind[1].columns)]
    heights = [*(height for _, _, height in shown), 1.6]
    width = float(np.clip(12 * timeline.seconds / 240, 10, 20))  # beats stay apart
    figure = Figure(figsize=(width, 0.7 + 1.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    # windows stand at their centres; the first and the last extend to the file's ends
    seconds = np.concatenate([[0.0], timeline.times.mean(axis=1), [timeline.seconds]])
    for panel, (draw, table, _) in zip(panels, shown, strict=False):
        draw(panel, seconds, table.iloc[[0, *range(len(table)), len(table) - 1]])
    spectrogram = overview.spectrogram
    _draw_image(panels[-1], spectrogram, np.array([0.0, overview.seconds]), (SILENCE_DB, 0.0), "magma")
    panels[-1].set_yticks(list(overview.ticks.values()), list(map(str, overview.ticks)))
    panels[-1].set(xlim=(0, timeline.seconds), xlabel="seconds", ylabel="Hz")
    if len(overview.beats):
        panels[-1].set_ylim(0, 1.08 * N_MELS)
        marks = panels[-1].vlines(overview.beats, 1.01 * N_MELS, 1.07 * N_MELS, colors="black", linewidth=0.5)
        _legend(panels[-1], [marks], ["beats"])
    panels[0].set_title(title, fontsize=10, parse_math=False)
    save_figure(path, figure)


def _draw_genres(panel: Axes, seconds: np.ndarray, shares: pd.DataFrame) -> None:
    # a genre keeps its colour in all pictures of a model
    colour_of = {name: matplotlib.colormaps["tab20"](n % 20) for n, name in enumerate(shares)}
    shown = shares[[name for name in shares if shares[name].max() >= _SHOWN_SHARE]]
    if len(shown.columns) < len(shares.columns):
        shown = shown.assign(others=shares.drop(columns=shown.columns).sum(axis=1))
        colour_of["others"] = (0.85, 0.85, 0.85, 1.0)
    colours = [colour_of[name] for name in shown]
    areas = panel.stackplot(seconds, *shown.to_numpy().T, colors=colours, linewidth=0)
    panel.set(ylim=(0, 1), yticks=[0, 1], ylabel="genre")
    _legend(panel, areas[::-1], [str(name) for name in shown][::-1])  # in the order of the stack


def _draw_targets(panel: Axes, seconds: np.ndarray, targets: pd.DataFrame) -> None:
    lines = panel.plot(seconds, targets, linewidth=1.6)
    panel.set_ylabel("target")
    panel.grid(alpha=0.3)
    _legend(panel, lines, list(map(str, targets)))


def _legend(panel: Axes, handles: Sequence[Any], labels: list[str]) -> None:
    columns = math.ceil(len(labels) / 6)  # no higher than its panel
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.05), "ncols": columns}
    legend = panel.legend(handles, labels, fontsize=7, frameon=False, **place)
    for text in legend.get_texts():
        text.set_parse_math(False)
