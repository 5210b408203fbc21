"""Frames of any number to one vector, without the padding."""

import torch
from torch import nn

_HIDDEN_UNITS = 64
_LEAST_VARIANCE = 1e-6  # whose root still has a gradient


class MeanMax(nn.Module):
    """The mean over time beside the maximum."""

    def forward(self, frames: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Read out features.

        Parameters
        ----------
        frames : torch.Tensor [shape=(n, width, n_frames)]
        heard : torch.Tensor [shape=(n,)]
            Frames before the padding, at least one.

        Returns
        -------
        torch.Tensor [shape=(n, 2 * width)]
        """
        padding = _padding(frames, heard)
        mean = frames.masked_fill(padding, 0).sum(dim=2) / heard[:, None]
        largest = frames.masked_fill(padding, -torch.inf).amax(dim=2)
        return torch.cat([mean, largest], dim=1)


class AttentiveStatistics(nn.Module):
    """The mean over time beside the standard deviation, both with learnt weights of the frames.

    Parameters
    ----------
    width : int
        Values of a frame.

    References
    ----------
    Okabe, Koshinaka and Shinoda, 2018, "Attentive statistics pooling for deep speaker embedding",
    section 3.
    """

    def __init__(self, width: int):
        super().__init__()
        self.importance = nn.Sequential(
            nn.Linear(width, _HIDDEN_UNITS), nn.Tanh(), nn.Linear(_HIDDEN_UNITS, 1)
        )

    def forward(self, frames: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        """Read out features, as `MeanMax` does."""
        importance = self.importance(frames.transpose(1, 2)).float().transpose(1, 2)  # [n, 1, n_frames]
        weights = importance.masked_fill(_padding(frames, heard), -torch.inf).softmax(dim=2)
        mean = (weights * frames).sum(dim=2)
        variance = (weights * (frames - mean[:, :, None]).square()).sum(dim=2)
        return torch.cat([mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()], dim=1)


def _padding(frames: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
    """Where the padding is [shape=(n, 1, n_frames)]."""
    return (torch.arange(frames.shape[2], device=frames.device) >= heard[:, None])[:, None]
