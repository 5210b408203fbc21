"""Metrics of targets, tags and genres. The truth is always the first argument."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from music_emotion.config import Task
from music_emotion.files import InputError

MEASURES = {  # titles of what `scores.json` holds under "measures"
    **{"r2": "R²", "pearson": "Pearson", "ccc": "CCC", "rmse": "RMSE", "rmse_own_scale": "RMSE, own scale"},
    **{"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"},
}


def is_constant(values: np.ndarray) -> bool:
    """Whether all values are equal. False for an empty array and for NaN.

    Examples
    --------
    >>> is_constant(np.array([0.5, 0.5, 0.5]))
    True
    """
    values = np.asarray(values)
    return values.size > 0 and bool((values == values[0]).all())


def spearman(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Spearman's rank correlation. Ties get their mean rank.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)]
        Target values; not constant.
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
        raise InputError(f"Truth and prediction have the shapes {truth.shape} and {prediction.shape}.")
    if len(truth) < 2:
        raise InputError(f"A rank correlation needs at least 2 clips, given {len(truth)}. Use fewer folds.")
    if not np.isfinite(truth).all():
        raise InputError("The truth has values that are not finite numbers. Correct the label file.")
    if is_constant(truth):
        constant = f"The truth is {truth[0]:g} for all {len(truth)} clips, so they can't be ranked."
        raise InputError(f"{constant} Check the label file, or use fewer folds.")
    return 0.0 if is_constant(prediction) else float(spearmanr(truth, prediction).statistic)


def spearman_per_target(
    truth: np.ndarray, prediction: np.ndarray, targets: Sequence[str]
) -> dict[str, float]:
    """Spearman's rank correlation of every target.

    Parameters
    ----------
    truth, prediction : np.ndarray [shape=(n, n_targets)]
        Target values and predictions of the same clips in the same order. Clips whose target is unknown (NaN)
        don't count for it.
    targets : sequence of str
        Names of the columns.

    Returns
    -------
    dict of str to float
        Target name to correlation.

    Raises
    ------
    InputError
        As `spearman`. The message names the target.
    """
    scores = {}
    for name, known, predicted in zip(targets, truth.T, prediction.T, strict=True):
        try:
            scores[name] = spearman(known[~np.isnan(known)], predicted[~np.isnan(known)])
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    return scores


def concordance(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Lin's concordance correlation coefficient (CCC).

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)]
        Target values; not constant.
    prediction : np.ndarray [shape=(n,)]
        Predictions on the scale of the truth.

    Returns
    -------
    float
        -1 to 1. It is Pearson's correlation, made smaller by differences in mean and deviation.

    References
    ----------
    L. I. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45, 1989.
    """
    (ours, both), (_, others) = np.cov(truth, prediction, ddof=0)
    return float(2 * both / (ours + others + (np.mean(truth) - np.mean(prediction)) ** 2))


def genre_scores(truth: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Accuracy and F1 of the most probable class.

    Parameters
    ----------
    truth : np.ndarray [shape=(n,)], integer
        Index of the true class.
    probabilities : np.ndarray [shape=(n, n_classes)]
        Probabilities or logits.
    classes : sequence of str
        All classes; macro F1 averages over them. A class that is neither true nor predicted has F1 = 0.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``macro_f1`` and ``weighted_f1`` (weighted by class size), 0 to 1.

    Raises
    ------
    InputError
        When there are no clips.
    """
    if len(truth) == 0:
        raise InputError("There are no clips to score. Give the predictions of at least one.")
    predicted = probabilities.argmax(axis=1)
    macro, weighted = (
        f1_score(truth, predicted, labels=range(len(classes)), average=average, zero_division=0)
        for average in ("macro", "weighted")
    )
    accuracy = accuracy_score(truth, predicted)
    return {"accuracy": float(accuracy), "macro_f1": float(macro), "weighted_f1": float(weighted)}


def table_scores(task: Task, truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Score a prediction table.

    Parameters
    ----------
    task : {"emotion", "genre"}
    truth : pd.DataFrame
        Target values or one-hot classes, indexed by `Id`. May contain more clips than the table.
    table : pd.DataFrame
        Predictions in the same columns, in any order.

    Returns
    -------
    dict of str to float
        Spearman's correlation of every target and their ``mean``, or the result of `genre_scores`.
    """
    names = [str(name) for name in truth]
    known, predicted = truth.loc[table.index].to_numpy(), table[list(truth)].to_numpy()
    if task == "genre":
        return genre_scores(known.argmax(axis=1), predicted, names)
    scores = spearman_per_target(known, predicted, names)
    return scores | {"mean": float(np.mean(list(scores.values())))}
