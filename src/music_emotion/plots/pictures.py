"""Pictures of results, for looking rather than reading."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from music_emotion.evaluation.metrics import spearman
from music_emotion.files import atomic_path, read_predictions
from music_emotion.plots.confusion_picture import confusion_figure
from music_emotion.plots.figures import save_figure


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
        draw_out_of_fold(directory / "oof.png", truth, predictions)


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
