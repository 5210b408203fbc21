"""Pictures of labels: how many clips each genre has, before and after the mapping to classes."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from music_emotion.datasets.labels import map_genres

_COLOURS = ("tab:blue", "tab:orange")
_LEFT_OUT = "0.75"


def classes_figure(name: str, genres: Mapping[str, pd.Series], mapping: Mapping[str, str | None]) -> Figure:
    """Draw the histogram of raw genres beside that of classes.

    Parameters
    ----------
    name : str
        The experiment, for the title.
    genres : mapping of str to pd.Series
        Split to raw genres, as `read_genres` gives them.
    mapping : dict of str to str
        As `map_genres` takes it.

    Returns
    -------
    Figure
        Two axes of horizontal bars, the largest on top, the splits one after the other. Raw genres
        that are left out are grey and hatched.

    Raises
    ------
    InputError
        For a genre the mapping does not know.
    """
    classes = {split: map_genres(raw, mapping, f"the {split} split") for split, raw in genres.items()}
    before, after = _counts(genres), _counts(classes)
    left_out = [genre for genre in before.index if mapping.get(str(genre), genre) is None]
    figure = Figure(figsize=(13, 2.4 + 0.3 * len(before)), layout="constrained")
    figure.suptitle(f"Genres of the experiment {name}", fontsize=15)
    left, right = figure.subplots(1, 2, sharex=True)
    _draw_bars(left, before, left_out)
    left.set_yticks(range(len(before)), [_destination(str(genre), mapping) for genre in before.index])
    left.set_title(f"before: {len(before)} raw genres, {before.to_numpy().sum()} clips", fontsize=13)
    _draw_bars(right, after, [])
    n_lost = before.to_numpy().sum() - after.to_numpy().sum()
    lost = f" ({n_lost} left out)" if n_lost else ""
    right.set_title(f"after: {len(after)} classes, {after.to_numpy().sum()} clips{lost}", fontsize=13)
    handles = [
        Patch(color=colour, label=f"{split} split") for split, colour in zip(genres, _COLOURS, strict=False)
    ]
    if left_out:
        handles.append(Patch(facecolor=_LEFT_OUT, edgecolor="white", hatch="///", label="left out"))
    right.legend(handles=handles, loc="lower right", fontsize=11)
    return figure


def _counts(genres: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Clips of every genre (rows, the largest first) in every split (columns)."""
    counts = pd.DataFrame({split: raw.value_counts() for split, raw in genres.items()}).fillna(0).astype(int)
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    return counts.loc[order]


def _destination(genre: str, mapping: Mapping[str, str | None]) -> str:
    target = mapping.get(genre, genre)
    if target is None:
        return f"{genre} (left out)"
    return genre if target == genre else f"{genre} → {target}"


def _draw_bars(panel: Axes, counts: pd.DataFrame, left_out: list[str]) -> None:
    heights = range(len(counts))
    before = pd.Series(0, counts.index)
    for (_, column), colour in zip(counts.items(), _COLOURS, strict=False):
        bars = panel.barh(heights, column, left=before, color=colour)
        for genre, bar in zip(counts.index, bars, strict=True):
            if genre in left_out:
                bar.set(facecolor=_LEFT_OUT, edgecolor="white", hatch="///")
        before = before + column
    texts = [" + ".join(str(count) for count in row) for row in counts.to_numpy()]
    panel.bar_label(bars, texts, padding=4, fontsize=10)
    panel.set_yticks(heights, counts.index)
    panel.invert_yaxis()
    panel.margins(x=0.16, y=0.01)
    panel.set_xlabel(f"clips ({' + '.join(str(split) for split in counts.columns)})")
    panel.spines[["top", "right"]].set_visible(False)
