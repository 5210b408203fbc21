"""Targets to what a network learns, and its outputs back to targets."""

import numpy as np
import torch
from scipy.special import ndtri
from torch import nn

_LARGEST_SCORE, _N_KNOTS = 3.0, 101
_LEAST_SLOPE = 0.001  # so that targets crowded around one value keep an order in float32


def normal_quantiles(values: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """The quantiles of targets at normal scores that are spread evenly from -3 to 3.

    The score of a value is the quantile of the normal distribution at (rank - 0.5) / n, where ties
    share their mean rank; between values and beyond them the quantiles go on straight.

    Parameters
    ----------
    values : np.ndarray [shape=(n, n_targets)]
        Of the training folds, at least two different ones of every target.

    Returns
    -------
    tuple of tuple of float
        Of every target 101 quantiles, strictly rising.

    References
    ----------
    A. Hazen, 1914, "Storage to be provided in impounding reservoirs for municipal water supply", on
    (rank - 0.5) / n as a share of the distribution.
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
    """Two maps that undo each other and never lose a strict order.

    Parameters
    ----------
    mean, deviation : tuple of float
        Of the training folds' targets; 0 and 1 where these are learnt as they are.
    quantiles : tuple of tuple of float
        As `normal_quantiles` gives them, for targets that are learnt as normal scores; empty for
        targets that are standardised.
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
        self.knows_quantiles = bool(quantiles)
        if quantiles:
            levels = (np.array(quantiles).T - mean) / deviation
            scores = np.linspace(-_LARGEST_SCORE, _LARGEST_SCORE, len(levels))[:, None]
            tensors["levels"] = _lengthened(levels)
            tensors["scores"] = _lengthened(np.broadcast_to(scores, levels.shape))
        for name, tensor in tensors.items():  # kept in the card, so not in the weights
            self.register_buffer(name, tensor, persistent=False)

    def outputs_of(self, targets: torch.Tensor) -> torch.Tensor:
        """What a network should give for some targets, both [shape=(n, n_targets)]."""
        standardised = (targets - self.mean) / self.deviation
        return _between(standardised, self.levels, self.scores) if self.knows_quantiles else standardised

    def targets_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """Targets in their own units that a network's outputs mean, both [shape=(n, n_targets)]."""
        standardised = _between(outputs, self.scores, self.levels) if self.knows_quantiles else outputs
        return standardised * self.deviation + self.mean


def _lengthened(knots: np.ndarray) -> torch.Tensor:
    """Knots [shape=(n_targets, n_knots + 2)] with one more at a distance of 1 on either side.

    The same distance of levels and scores makes the line beyond that of a normal distribution.
    """
    knots = np.concatenate([knots[:1] - 1, knots, knots[-1:] + 1])
    return torch.tensor(knots.T.copy(), dtype=torch.float32)


def _between(values: torch.Tensor, knots: torch.Tensor, heights: torch.Tensor) -> torch.Tensor:
    """Every column's height over a broken line of its own, whose first and last part never end."""
    columns = values.float().T.contiguous()
    right = torch.searchsorted(knots, columns).clamp(1, knots.shape[1] - 1)
    start, end = knots.gather(1, right - 1), knots.gather(1, right)
    low, high = heights.gather(1, right - 1), heights.gather(1, right)
    return (low + (columns - start) / (end - start) * (high - low)).T
