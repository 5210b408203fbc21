"""Genre predictions: scores with intervals, the classification report, the confusion matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix

from music_emotion.evaluation.bootstrap import check_known, resamples, with_interval, with_pair
from music_emotion.evaluation.metrics import genre_scores
from music_emotion.files import InputError, check_predictions, write_table, write_text
from music_emotion.plots.confusion_picture import confusion_figure
from music_emotion.plots.figures import save_figure


def genre_report(
    truth: pd.Series, probabilities: pd.DataFrame, classes: Sequence[str], directory: Path
) -> dict[str, Any]:
    """Score genre predictions, and write `report.txt`, `confusion.csv` and `confusion.png`.

    Parameters
    ----------
    truth : pd.Series
        Index of the true class, indexed by `Id`; may know more clips than were predicted.
    probabilities : pd.DataFrame
        One column per class.
    classes : sequence of str
        All classes, in the order of the indices.
    directory : Path
        Where the three files go.

    Returns
    -------
    dict
        Ready for JSON. ``n`` clips, ``classes``, and ``pooled``: accuracy, macro and weighted F1,
        each as value with 95 % bootstrap interval and n. A class no clip of a resample has counts 0.

    Raises
    ------
    InputError
        When ids or classes do not fit.
    """
    check_predictions(probabilities, "genre predictions")
    check_known(probabilities.index, truth.index, "genre predictions", "truth")
    if sorted(probabilities.columns) != sorted(classes):
        raise InputError(
            f"The predictions are of {', '.join(probabilities.columns)}, but the classes are "
            f"{', '.join(classes)}. Give the class list of the model."
        )
    known, likely = truth.loc[probabilities.index].to_numpy(), probabilities[list(classes)].to_numpy()
    write_report(known, likely.argmax(axis=1), list(classes), directory)
    return {"n": len(known), "classes": list(classes), "pooled": class_intervals(known, likely, classes)}


def class_intervals(
    truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Accuracy, macro and weighted F1, each with interval and number of clips.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)], integer
        Index of the true class.
    probabilities : np.ndarray [shape=(n, n_classes)]
    classes : sequence of str
        All classes.
    """
    values, resampled = genre_scores(truth, probabilities, classes), _resampled_genre(truth, probabilities)
    return {name: with_interval(value, resampled[name], len(truth)) for name, value in values.items()}


def class_scores(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Accuracy and F1 of a table's clips, as `genre_scores`.

    Parameters
    ----------
    truth, table : pd.DataFrame
        One-hot classes and probabilities of the same classes, indexed by `Id`; the truth may know more clips.
    """
    classes = [str(name) for name in truth]
    known = truth.loc[table.index].to_numpy().argmax(axis=1)
    return genre_scores(known, table[classes].to_numpy(), classes)


def paired_classes(
    truth: np.ndarray, one: np.ndarray, other: np.ndarray, classes: Sequence[str]
) -> dict[str, dict[str, float]]:
    """By how much one run's accuracy and F1 are above another's, in the same resamples of the clips.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)], integer
        Index of the true class.
    one, other : np.ndarray [shape=(n, n_classes)]
        Probabilities.
    classes : sequence of str
        All classes.

    Returns
    -------
    dict
        By measure, as by `paired_difference`.
    """
    values, others = (genre_scores(truth, each, classes) for each in (one, other))
    drawn, others_drawn = (_resampled_genre(truth, each) for each in (one, other))
    return {
        name: with_pair(values[name] - others[name], drawn[name], others_drawn[name], len(truth))
        for name in values
    }


def _resampled_genre(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """The scores of `genre_scores` in 2000 resamples, from counts per class: a matrix each would not fit."""
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    hits = np.where(predicted == truth, truth, n_classes)
    counted = [
        [_counts(classes[rows], n_classes) for classes in (hits, truth, predicted)]
        for rows in resamples(n, 2000, seed=0)
    ]
    right, support, guessed = (np.concatenate(counts) for counts in zip(*counted, strict=True))
    found = support + guessed
    f1 = np.divide(2 * right, found, out=np.zeros(found.shape), where=found > 0)
    return {
        "accuracy": right.sum(axis=1) / n,
        "macro_f1": f1.mean(axis=1),
        "weighted_f1": (f1 * support).sum(axis=1) / n,
    }


def _counts(classes: np.ndarray, n_classes: int) -> np.ndarray:
    """How often every class is in each row, without numbers above them [shape=(n_rows, n_classes)]."""
    return np.stack([np.bincount(row, minlength=n_classes)[:n_classes] for row in classes])


def write_report(
    truth: np.ndarray, predicted: np.ndarray, classes: list[str], directory: Path, mark: str = ""
) -> None:
    """Write `report<mark>.txt`, `confusion<mark>.csv` and `.png` of class indices [shape=(n,)]."""
    labels = range(len(classes))
    text = classification_report(
        truth, predicted, labels=labels, target_names=classes, digits=3, zero_division=0
    )
    write_text(directory / f"report{mark}.txt", text)
    counts = pd.DataFrame(confusion_matrix(truth, predicted, labels=labels), classes, classes)
    write_table(directory / f"confusion{mark}.csv", counts.rename_axis("truth").reset_index())
    save_figure(directory / f"confusion{mark}.png", confusion_figure([(f"{len(truth)} clips", counts)]))
