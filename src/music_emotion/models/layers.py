"""Layers of networks: fully connected layers, the LSTM, readouts over time, and heads."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

Activation = Literal["relu", "gelu", "silu"] | None
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, None: nn.Identity}
_LEAST_VARIANCE = 1e-6  # keeps the gradient of its square root finite


def dense_layers(
    n_features: int, widths: Sequence[int], activation: Activation, batch_norm: bool = False
) -> list[nn.Module]:
    """Build linear layers, each followed by optional batch normalisation and the activation.

    Parameters
    ----------
    n_features : int
        Size of the input.
    widths : sequence of int
        Units of each layer; empty for no layers.
    activation : {"relu", "gelu", "silu"} or None
    batch_norm : bool, default False
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise([n_features, *widths]):
        layers.append(nn.Linear(n_in, n_out))
        if batch_norm:
            layers.append(nn.BatchNorm1d(n_out))
        layers.append(ACTIVATIONS[activation]())
    return layers


class Mlp(nn.Module):
    """Fully connected layers over all values of an excerpt.

    Parameters
    ----------
    n_rows, n_frames : int
        Size of the input.
    widths, activation, batch_norm
        As for `dense_layers`.
    """

    def __init__(
        self, n_rows: int, n_frames: int, widths: Sequence[int], activation: Activation, batch_norm: bool
    ):
        super().__init__()
        self.layers = nn.Sequential(*dense_layers(n_rows * n_frames, widths, activation, batch_norm))
        self.n_features = widths[-1]

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Map frames [shape=(n, n_rows, n_frames)], padding included, to features [shape=(n, n_features)]."""
        return self.layers(frames.flatten(1))


class Lstm(nn.Module):
    """Two-layer LSTM on packed sequences; the features are the final hidden states of the last layer.

    Parameters
    ----------
    n_rows : int
        Values per frame.
    width : int
        Hidden units of each direction.
    bidirectional : bool
    dropout : float
        Dropout rate between the layers.
    """

    def __init__(self, n_rows: int, width: int, bidirectional: bool, dropout: float):
        super().__init__()
        self.lstm = nn.LSTM(n_rows, width, 2, batch_first=True, dropout=dropout, bidirectional=bidirectional)
        self.n_features = (1 + bidirectional) * width

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Map frames [shape=(n, n_rows, n_frames)] to features [shape=(n, n_features)]."""
        steps = frames.transpose(1, 2)  # [n, frames, rows]
        packed = pack_padded_sequence(steps, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return torch.cat(tuple(hidden[-1 - self.lstm.bidirectional :]), dim=1)


class MeanMax(nn.Module):
    """Mean and maximum over time, excluding padding."""

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compute features.

        Parameters
        ----------
        frames : torch.Tensor [shape=(n, width, n_frames)]
        lengths : torch.Tensor [shape=(n,)]
            Frames before the padding, at least one.

        Returns
        -------
        torch.Tensor [shape=(n, 2 * width)]
        """
        padding = _padding(frames, lengths)
        mean = frames.masked_fill(padding, 0).sum(dim=2) / lengths[:, None]
        largest = frames.masked_fill(padding, -torch.inf).amax(dim=2)
        return torch.cat([mean, largest], dim=1)


class AttentiveStatistics(nn.Module):
    """Attentive statistics pooling: mean and deviation over time, weighted by learnt attention.

    Parameters
    ----------
    width : int
        Values per frame.

    References
    ----------
    Okabe, Koshinaka and Shinoda, 2018, "Attentive statistics pooling for deep speaker embedding",
    section 3.
    """

    def __init__(self, width: int):
        super().__init__()
        self.importance = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compute features, with the same shapes as in `MeanMax`."""
        importance = self.importance(frames.transpose(1, 2)).float().transpose(1, 2)  # [n, 1, n_frames]
        weights = importance.masked_fill(_padding(frames, lengths), -torch.inf).softmax(dim=2)
        mean = (weights * frames).sum(dim=2)
        variance = (weights * (frames - mean[:, :, None]).square()).sum(dim=2)
        return torch.cat([mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()], dim=1)


def _padding(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Mask of the padding [shape=(n, 1, n_frames)]."""
    return (torch.arange(frames.shape[2], device=frames.device) >= lengths[:, None])[:, None]


class PublicHeads(nn.Module):
    """Parallel heads of the public baseline, with 128 hidden units each; outputs are concatenated.

    Parameters
    ----------
    n_features, n_outputs : int
        Sizes of input and output.
    n_heads : int
        Each head gives ``n_outputs / n_heads`` outputs.
    dropout : float
        Dropout rate before each of the two layers.
    """

    def __init__(self, n_features: int, n_outputs: int, n_heads: int, dropout: float):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                *(nn.Dropout(dropout), nn.Linear(n_features, 128), nn.PReLU(), nn.BatchNorm1d(128)),
                *(nn.Dropout(dropout), nn.Linear(128, n_outputs // n_heads)),
            )
            for _ in range(n_heads)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features [shape=(n, n_features)] to outputs [shape=(n, n_outputs)]."""
        return torch.cat([head(features) for head in self.heads], dim=1)
