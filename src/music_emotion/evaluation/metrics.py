"""Scores of predictions against the truth; every function takes the truth first."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from music_emotion.files import InputError, first_five


def is_constant(values: np.ndarray) -> bool:
    """Whether all values are equal; False of none, and of NaN.

    Examples
    --------
    >>> is_constant(np.array([0.5, 0.5, 0.5]))
    True
    """
    values = np.asarray(values)
    return values.size > 0 and bool((values == values[0]).all())


def spearman(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Spearman's rank correlation; tied values share their mean rank.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)]
        Target values, at least two different ones.
    prediction : np.ndarray [shape=(n,)]
        Predictions on any scale.

    Returns
    -------
    float
        -1 to 1. A constant prediction scores 0. NaN in the prediction gives NaN.

    Raises
    ------
    InputError
        When there are fewer than two clips, the truth is constant or not finite, or the shapes differ.

    References
    ----------
    C. Spearman, "The proof and measurement of association between two things", American Journal
    of Psychology 15, 1904.

    Examples
    --------
    >>> spearman(np.array([0.1, 0.2, 0.4, 0.8]), np.array([1, 2, 4, 3]))
    0.8
    """
    truth, prediction = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != prediction.shape:
        raise InputError(
            f"The truth has shape {truth.shape} and the prediction {prediction.shape}; "
            f"give two columns of the same length."
        )
    if len(truth) < 2:
        raise InputError(f"A rank correlation needs at least 2 clips, given {len(truth)}. Use fewer folds.")
    if not np.isfinite(truth).all():
        raise InputError("The truth has values that are not finite numbers. Correct the label file.")
    if is_constant(truth):
        raise InputError(
            f"The truth is {truth[0]:g} for all {len(truth)} clips, so they can't be ranked. "
            f"Check the label file, or use fewer folds."
        )
    return 0.0 if is_constant(prediction) else float(spearmanr(truth, prediction).statistic)


def spearman_per_target(
    truth: np.ndarray, prediction: np.ndarray, targets: Sequence[str]
) -> dict[str, float]:
    """Spearman's rank correlation of every target.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n, n_targets)]
        Target values and predictions of the same clips in the same order.
    targets : sequence of str
        Names of the columns.

    Raises
    ------
    InputError
        When the shapes do not fit; as `spearman`, with the target's name.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape or truth.shape[1:] != (len(targets),):
        raise InputError(
            f"The truth has shape {truth.shape} and the prediction {prediction.shape}; "
            f"both need one column for each of {', '.join(targets)}."
        )
    scores = {}
    for k, name in enumerate(targets):
        try:
            scores[name] = spearman(truth[:, k], prediction[:, k])
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return scores


def target_scores(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Spearman's rank correlation of every target, and their `mean`.

    Parameters
    ----------
    truth, table : pd.DataFrame
        Target values and predictions of the same targets, indexed by `Id`. The truth may have more clips.
    """
    known = truth.loc[table.index].to_numpy()
    scores = spearman_per_target(known, table.to_numpy(), [str(name) for name in truth.columns])
    return scores | {"mean": float(np.mean(list(scores.values())))}


def genre_scores(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy and F1 of the most probable class.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)], integer
        Index of the true class.
    probabilities : np.ndarray [shape=(n, n_classes)]
        Probabilities or logits.
    classes : sequence of str
        F1 averages over all of them. A class that is neither true nor predicted counts 0.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``macro_f1`` and ``weighted_f1`` (weighted by the number of true clips), 0 to 1.

    Raises
    ------
    InputError
        When there are no clips, the shapes do not fit, or the truth has an index without a class.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    if truth.ndim != 1 or len(truth) == 0 or probabilities.shape != (len(truth), len(classes)):
        raise InputError(
            f"The truth has shape {truth.shape} and the probabilities {probabilities.shape}; expected one "
            f"row for each clip, at least one, and one column for each of the {len(classes)} classes."
        )
    if unknown := sorted(set(truth.tolist()) - set(range(len(classes)))):
        raise InputError(
            f"The truth has the class indices {first_five(unknown)}, but there are {len(classes)} classes. "
            f"Give the truth before the probabilities, and the class list it was made with."
        )
    predicted, labels = probabilities.argmax(axis=1), range(len(classes))
    f1 = {
        f"{average}_f1": float(f1_score(truth, predicted, labels=labels, average=average, zero_division=0))
        for average in ("macro", "weighted")
    }
    return {"accuracy": float(accuracy_score(truth, predicted)), **f1}


def class_scores(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Accuracy and F1 of a table's clips, as `genre_scores`.

    Parameters
    ----------
    truth, table : pd.DataFrame
        One-hot classes and probabilities of the same classes, indexed by `Id`. The truth may have more
        clips.
    """
    known = truth.loc[table.index].to_numpy().argmax(axis=1)
    return genre_scores(known, table[truth.columns].to_numpy(), [str(name) for name in truth])
