"""Scores of predictions against the truth; pure functions of arrays, always (truth, prediction)."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from music_emotion.files import InputError, first_five


def is_constant(values: np.ndarray) -> bool:
    """Whether all values are exactly the same; values that are not numbers are not.

    Parameters
    ----------
    values : np.ndarray [shape=(n,)]
        A column of predictions or of the truth.

    Returns
    -------
    bool
        True of a single value too, False of none.

    Examples
    --------
    >>> is_constant(np.array([0.5, 0.5, 0.5]))
    True
    """
    values = np.asarray(values)
    return values.size > 0 and bool((values == values[0]).all())


def spearman(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, where ties share their mean rank.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)]
        Target values, at least two different ones.
    prediction : np.ndarray [shape=(n,)]
        Predictions on any scale; only their order counts.

    Returns
    -------
    float
        -1 to 1; 0 for a constant prediction, where the correlation is not defined; NaN when a
        prediction is NaN, so that it can't pass unseen.

    Raises
    ------
    InputError
        When there are fewer than two clips, the truth is constant or not finite, or the shapes
        differ.

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
    _check_rankable(truth, prediction)
    if is_constant(prediction):
        return 0.0
    return float(spearmanr(truth, prediction).statistic)


def _check_rankable(truth: np.ndarray, prediction: np.ndarray) -> None:
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
            f"The truth is {truth[0]:g} for all {len(truth)} clips, so they have no order to be scored. "
            f"Check the label file, or use fewer folds."
        )


def spearman_per_target(
    truth: np.ndarray, prediction: np.ndarray, targets: Sequence[str]
) -> dict[str, float]:
    """Spearman's rank correlation of every target.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n, n_targets)]
        Target values and predictions, clips in the same order.
    targets : sequence of str
        Names of the columns.

    Returns
    -------
    dict of str to float
        One score per target, as by `spearman`, and nothing else.

    Raises
    ------
    InputError
        When the shapes differ from each other or from the names; as by `spearman`, naming the
        target.
    """
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    if truth.shape != prediction.shape or truth.shape[1:] != (len(targets),):
        raise InputError(
            f"The truth has shape {truth.shape} and the prediction {prediction.shape}; "
            f"both need one column for each of {', '.join(targets)}."
        )
    return {name: _named(name, truth[:, k], prediction[:, k]) for k, name in enumerate(targets)}


def _named(target: str, truth: np.ndarray, prediction: np.ndarray) -> float:
    try:
        return spearman(truth, prediction)
    except InputError as error:
        raise InputError(f"{target}: {error}") from None


def genre_scores(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy and F1 of the most probable class.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)], integer
        Index of the true class.
    probabilities : np.ndarray [shape=(n, n_classes)]
        Or logits; only the largest of each row counts.
    classes : sequence of str
        All classes. F1 averages over them all; one that is neither true nor predicted counts 0.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``macro_f1`` and ``weighted_f1`` (by the number of true clips), 0 to 1.

    Raises
    ------
    InputError
        When there are no clips, the shapes do not fit, or the truth has an index without a class.
    """
    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    _check_classes(truth, probabilities, classes)
    predicted, labels = probabilities.argmax(axis=1), range(len(classes))
    macro, weighted = (
        f1_score(truth, predicted, labels=labels, average=average, zero_division=0)
        for average in ("macro", "weighted")
    )
    accuracy = accuracy_score(truth, predicted)
    return {"accuracy": float(accuracy), "macro_f1": float(macro), "weighted_f1": float(weighted)}


def _check_classes(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> None:
    if truth.ndim != 1 or len(truth) == 0 or probabilities.shape != (len(truth), len(classes)):
        raise InputError(
            f"The truth has shape {truth.shape} and the probabilities {probabilities.shape}; expected one "
            f"row for each clip, at least one, and one column for each of the {len(classes)} classes."
        )
    unknown = sorted(set(truth.tolist()) - set(range(len(classes))))
    if unknown:
        raise InputError(
            f"The truth has the class indices {first_five(unknown)}, but there are {len(classes)} classes. "
            f"Give the truth before the probabilities, and the class list it was made with."
        )
