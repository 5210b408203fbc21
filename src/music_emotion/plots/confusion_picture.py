"""Confusion matrices as pictures, of one run or of several side by side."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

_FEW_CLASSES = 12


def confusion_figure(matrices: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Draw counts in cells, shaded by their share of the true class.

    Parameters
    ----------
    matrices : sequence of (str, pd.DataFrame)
        Titles and counts: one row per true class, one column per predicted one.

    Returns
    -------
    Figure
        One panel per matrix, then the colour bar.
    """
    most_classes = max(len(counts) for _, counts in matrices)
    side = max(5.0, 2 + 0.45 * most_classes)
    n_columns = min(len(matrices), 3 if most_classes <= _FEW_CLASSES else 2)
    n_rows = math.ceil(len(matrices) / n_columns)
    figure = Figure(figsize=(side * n_columns + 1, (side + 0.9) * n_rows), layout="constrained")
    places = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    panels, unused = places[: len(matrices)], places[len(matrices) :]
    for panel in unused:
        panel.remove()
    for panel, (title, counts) in zip(panels, matrices, strict=True):
        image = _draw(panel, counts)
        panel.set_title(title, fontsize=13, parse_math=False)  # a name may hold dollars
    figure.colorbar(image, ax=list(panels), label="share of the true class (0 to 1)", shrink=0.8)
    return figure


def _draw(panel: Axes, counts: pd.DataFrame) -> ScalarMappable:
    values = counts.to_numpy()
    shares = values / values.sum(axis=1, keepdims=True).clip(min=1)
    image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    panel.set_xticks(range(len(counts)), counts.columns, rotation=45, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(len(counts)), counts.index)
    panel.set_xlabel("prediction")
    panel.set_ylabel("truth")
    size = 11 if len(counts) <= _FEW_CLASSES else 9
    for (row, column), count in np.ndenumerate(values):
        colour = "white" if shares[row, column] > 0.5 else "black" if count else "0.7"
        panel.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=size)
    return image
