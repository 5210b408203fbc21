"""Pictures of results, for looking rather than reading."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from music_emotion.evaluation.metrics import spearman
from music_emotion.files import atomic_path


def draw_out_of_fold(path: Path, truth: pd.DataFrame, predictions: pd.DataFrame) -> None:
    """Draw predictions over labels, one panel per target, as PNG.

    Parameters
    ----------
    path : Path
        The picture.
    truth, predictions : pd.DataFrame
        Labels and out-of-fold predictions of the same clips, indexed by `Id`.
    """
    targets = list(truth.columns)
    figure = Figure(figsize=(3.4 * len(targets), 3.6), layout="constrained")
    panels = figure.subplots(1, len(targets), squeeze=False)[0]
    for panel, target in zip(panels, targets, strict=True):
        labels, predicted = truth[target], predictions.loc[truth.index, target]
        panel.scatter(labels, predicted, s=9, alpha=0.45, linewidths=0)
        score = spearman(labels.to_numpy(), predicted.to_numpy())
        panel.set_title(f"{target}: Spearman {score:.3f}", fontsize=10)
        panel.set_xlabel("label")
    panels[0].set_ylabel("out-of-fold prediction")
    figure.suptitle(f"{len(truth)} clips, each predicted by networks that never saw it", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
