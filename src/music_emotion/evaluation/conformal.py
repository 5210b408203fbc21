"""Prediction intervals from out-of-fold errors: split conformal prediction.

References
----------
Lei et al., 2018, "Distribution-free predictive inference for regression", algorithm 2 (split conformal), with
out-of-fold errors in place of those of one held-out half. Vovk et al., 2003, "Mondrian confidence machine":
one width for each third of the predicted values, because errors are largest in the middle of the scale.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = 0.8  # share of new clips whose truth lies in the interval
_THIRDS = {"low": 0, "middle": 1, "high": 2}


@dataclass(frozen=True)
class Intervals:
    """Intervals of one target.

    Attributes
    ----------
    edges : tuple of float
        The two values that divide predictions into thirds.
    half_widths : tuple of float
        Half the width of the interval of each third, in units of the target.
    """

    edges: tuple[float, ...]
    half_widths: tuple[float, ...]

    @classmethod
    def fit(cls, truth: np.ndarray, predicted: np.ndarray) -> "Intervals":
        """Set the widths by true values and out-of-fold predictions of the same clips [shape=(n,)].

        A third of fewer than four clips has an infinite width.
        """
        edges = np.quantile(predicted, [1 / 3, 2 / 3])
        halves = []
        for third in _THIRDS.values():
            errors = np.sort(np.abs(truth - predicted)[np.searchsorted(edges, predicted) == third])
            rank = math.ceil(LEVEL * (len(errors) + 1)) - 1
            halves.append(float(errors[rank]) if rank < len(errors) else math.inf)
        return cls(tuple(edges.tolist()), tuple(halves))

    def half_width(self, predicted: np.ndarray) -> np.ndarray:
        """Half the width of the interval of each prediction [shape=(n,)]."""
        return np.array(self.half_widths)[np.searchsorted(self.edges, predicted)]


def coverage(truth: pd.DataFrame, predicted: pd.DataFrame, folds: pd.Series) -> pd.DataFrame:
    """Measure how often intervals hold the truth of clips that did not set their width.

    The clips of all other folds set the width for the clips of a fold.

    Parameters
    ----------
    truth, predicted : pd.DataFrame
        True values and out-of-fold predictions of the same clips, one column per target. Clips whose truth is
        NaN don't count for that target.
    folds : pd.Series
        Fold of each clip. Clips of one artist are in one fold, if the run had groups.

    Returns
    -------
    pd.DataFrame
        One row per target and third of its predicted values, and "overall": share of clips held, with a 95 %
        bootstrap interval (`value`, `low`, `high`, `n`), the mean `width` of the intervals, and
        `width_of_mean`, their width if the mean of the other folds' truth were always predicted.
    """
    from music_emotion.evaluation.intervals import resamples, with_interval  # prediction starts without them

    rows = []
    for target in truth:
        known = truth[target].notna().to_numpy()
        values, guesses, fold_of = (
            each.to_numpy()[known] for each in (truth[target], predicted[target], folds)
        )
        half, naive = np.empty_like(values), np.empty_like(values)
        for fold in np.unique(fold_of):
            inside, outside = fold_of == fold, fold_of != fold
            half[inside] = Intervals.fit(values[outside], guesses[outside]).half_width(guesses[inside])
            naive[inside] = np.quantile(np.abs(values[outside] - values[outside].mean()), LEVEL)
        held = np.abs(values - guesses) <= half
        thirds = np.searchsorted(np.quantile(guesses, [1 / 3, 2 / 3]), guesses)
        parts = {"overall": thirds >= 0} | {name: thirds == third for name, third in _THIRDS.items()}
        for name, chosen in parts.items():
            part = held[chosen]
            drawn = np.concatenate([part[drawn].mean(axis=1) for drawn in resamples(len(part))])
            share = with_interval(float(part.mean()), drawn, len(part))
            widths = {"width": 2 * half[chosen].mean(), "width_of_mean": 2 * naive[chosen].mean()}
            rows.append({"target": target, "third": name} | share | widths)
    return pd.DataFrame(rows)
