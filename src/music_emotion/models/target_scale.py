"""Standardisation or rank-normal transform of targets, and its inverse."""

import numpy as np
import torch
from torch import nn

_LARGEST_SCORE, _N_KNOTS = 3.0, 101
_LEAST_SLOPE = 0.001  # keeps nearly equal targets in order in float32


def normal_quantiles(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Compute the quantiles of targets at evenly spaced normal scores from -3 to 3.

    The normal score of a value is the standard normal quantile at (rank - 0.5) / n. Ties share their mean
    rank. Between and beyond values, interpolation is linear.

    Parameters
    ----------
    values : np.ndarray [shape=(n, n_targets)]
        Targets of the training clips; at least two distinct values per target. NaN is left out.

    Returns
    -------
    tuple of tuple of float
        101 strictly increasing quantiles of every target.

    References
    ----------
    A. Hazen, 1914, "Storage to be provided in impounding reservoirs for municipal water supply", on
    the plotting position (rank - 0.5) / n.
    """
    return tuple(_quantiles(column[np.isfinite(column)]) for column in values.T.astype(np.float64))


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    from scipy.special import ndtri  # prediction starts sooner without it

    scores, deviation = np.linspace(-_LARGEST_SCORE, _LARGEST_SCORE, _N_KNOTS), values.std()
    distinct, counts = np.unique(values, return_counts=True)
    mean_ranks = counts.cumsum() - (counts - 1) / 2
    known = ndtri((mean_ranks - 0.5) / len(values))
    beyond = scores - scores.clip(known[0], known[-1])
    quantiles = np.interp(scores, known, distinct) + deviation * beyond
    rises = np.maximum(np.diff(quantiles), _LEAST_SLOPE * deviation * np.diff(scores))
    return tuple((quantiles[0] + np.concatenate([[0], rises.cumsum()])).tolist())


class TargetScale(nn.Module):
    """Maps targets to network outputs and back; both maps are strictly increasing.

    Parameters
    ----------
    mean, deviation : tuple of float
        Mean and standard deviation of the targets over the training clips; 0 and 1 for no standardisation.
    quantiles : tuple of tuple of float
        `normal_quantiles` of the targets, to learn them as normal scores; empty to learn their values.
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
        for name, tensor in tensors.items():  # not persistent, since the card holds them
            self.register_buffer(name, tensor, persistent=False)

    def outputs_of(self, targets: torch.Tensor) -> torch.Tensor:
        """Map targets to the outputs that a network should give, both [shape=(n, n_targets)]."""
        standardised = (targets - self.mean) / self.deviation
        return _interpolated(standardised, self.levels, self.scores) if self.is_rank_normal else standardised

    def targets_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """Map a network's outputs to targets in their own units, both [shape=(n, n_targets)]."""
        standardised = _interpolated(outputs, self.scores, self.levels) if self.is_rank_normal else outputs
        return standardised * self.deviation + self.mean


def _extended(knots: np.ndarray) -> torch.Tensor:
    """Add a knot on either side, at a distance of 1 [shape=(n_targets, n_knots + 2)].

    Levels and scores get the same distance, so the map continues as for a normal distribution.
    """
    return torch.tensor(np.hstack([knots[:, :1] - 1, knots, knots[:, -1:] + 1]), dtype=torch.float32)


def _interpolated(values: torch.Tensor, knots: torch.Tensor, heights: torch.Tensor) -> torch.Tensor:
    """Interpolate linearly per column; extrapolate the first and last segment."""
    columns = values.float().T.contiguous()
    below = columns[:, :, None] > knots[:, None]  # not torch.searchsorted, which ONNX lacks
    right = below.sum(dim=2).clamp(1, knots.shape[1] - 1)
    start, end = knots.gather(1, right - 1), knots.gather(1, right)
    low, high = heights.gather(1, right - 1), heights.gather(1, right)
    return (low + (columns - start) / (end - start) * (high - low)).T
