"""Standardised or rank-normal targets: from targets to what a network learns, and back."""

import numpy as np
import torch
from scipy.special import ndtri
from torch import nn

_LARGEST_SCORE, _N_KNOTS = 3.0, 101
_LEAST_SLOPE = 0.001  # keeps targets crowded around one value in order in float32


def normal_quantiles(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """The quantiles of targets at normal scores spread evenly from -3 to 3.

    The score of a value is the quantile of the normal distribution at (rank - 0.5) / n, where ties
    share their mean rank. Quantiles are interpolated and extrapolated linearly.

    Parameters
    ----------
    values : np.ndarray [shape=(n, n_targets)]
        Of the training folds, at least two different ones of every target.

    Returns
    -------
    tuple of tuple of float
        101 strictly increasing quantiles of every target.

    References
    ----------
    A. Hazen, 1914, "Storage to be provided in impounding reservoirs for municipal water supply", on
    the plotting position (rank - 0.5) / n.
    """
    return tuple(_quantiles(column) for column in values.T.astype(np.float64))


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    scores, deviation = np.linspace(-_LARGEST_SCORE, _LARGEST_SCORE, _N_KNOTS), values.std()
    distinct, counts = np.unique(values, return_counts=True)
    mean_ranks = counts.cumsum() - (counts - 1) / 2
    known = ndtri((mean_ranks - 0.5) / len(values))
    beyond = scores - scores.clip(known[0], known[-1])
    quantiles = np.interp(scores, known, distinct) + deviation * beyond
    rises = np.maximum(np.diff(quantiles), _LEAST_SLOPE * deviation * np.diff(scores))
    return tuple((quantiles[0] + np.concatenate([[0], rises.cumsum()])).tolist())


class TargetScale(nn.Module):
    """Maps targets to what a network learns and its outputs to targets; both maps keep a strict order.

    Parameters
    ----------
    mean, deviation : tuple of float
        Of the training folds' targets; 0 and 1 where these are learnt as they are.
    quantiles : tuple of tuple of float
        `normal_quantiles` of targets that are learnt as normal scores; empty for others.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    levels: torch.Tensor
    scores: torch.Tensor

    def __init__(
        self,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        quantiles: tuple[tuple[float, ...], ...] = (),
    ):
        super().__init__()
        tensors = {"mean": torch.tensor(mean), "deviation": torch.tensor(deviation)}
        self.is_rank_normal = bool(quantiles)
        if quantiles:
            levels = ((np.array(quantiles).T - mean) / deviation).T
            scores = np.linspace(-_LARGEST_SCORE, _LARGEST_SCORE, levels.shape[1])
            tensors |= {"levels": _extended(levels), "scores": _extended(np.tile(scores, (len(levels), 1)))}
        for name, tensor in tensors.items():  # kept in the card, so not in the weights
            self.register_buffer(name, tensor, persistent=False)

    def outputs_of(self, targets: torch.Tensor) -> torch.Tensor:
        """What a network should output for targets, both [shape=(n, n_targets)]."""
        standardised = (targets - self.mean) / self.deviation
        return _interpolated(standardised, self.levels, self.scores) if self.is_rank_normal else standardised

    def targets_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """The targets, in their own units, for a network's outputs, both [shape=(n, n_targets)]."""
        standardised = _interpolated(outputs, self.scores, self.levels) if self.is_rank_normal else outputs
        return standardised * self.deviation + self.mean


def _extended(knots: np.ndarray) -> torch.Tensor:
    """Knots [shape=(n_targets, n_knots + 2)] with one more on either side, at a distance of 1.

    Equal distances of levels and scores extend the map as for a normal distribution.
    """
    return torch.tensor(np.hstack([knots[:, :1] - 1, knots, knots[:, -1:] + 1]), dtype=torch.float32)


def _interpolated(values: torch.Tensor, knots: torch.Tensor, heights: torch.Tensor) -> torch.Tensor:
    """Linear interpolation, and extrapolation of the first and last segment, per column."""
    columns = values.float().T.contiguous()
    right = torch.searchsorted(knots, columns).clamp(1, knots.shape[1] - 1)
    start, end = knots.gather(1, right - 1), knots.gather(1, right)
    low, high = heights.gather(1, right - 1), heights.gather(1, right)
    return (low + (columns - start) / (end - start) * (high - low)).T
