"""Changes to training batches: masks over bands and spans, and mixup."""

import torch
from torch import nn

from music_emotion.sections import AugmentSection


class SpectrogramMasks(nn.Module):
    """Put the mean, which is 0 after standardising, in place of random bands and spans.

    Works in training mode only. Every excerpt gets its own masks.

    Parameters
    ----------
    augment : AugmentSection
        Numbers and largest widths.

    References
    ----------
    Park et al., 2019, "SpecAugment", section 2, without time warping.
    """

    def __init__(self, augment: AugmentSection):
        super().__init__()
        self.augment = augment

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Mask standardised frames [shape=(n, n_rows, n_frames)]."""
        augment = self.augment
        if not self.training:
            return frames
        n, n_rows, n_frames = frames.shape
        kept = torch.ones(n, n_rows, 1, dtype=torch.bool, device=frames.device)
        for _ in range(augment.frequency_masks):
            kept = kept & ~_random_span(n, n_rows, augment.frequency_width, frames.device)[:, :, None]
        for _ in range(augment.time_masks):
            kept = kept & ~_random_span(n, n_frames, augment.time_width, frames.device)[:, None, :]
        return frames * kept


def _random_span(n: int, size: int, largest: int, device: torch.device) -> torch.Tensor:
    """For each of n excerpts, a span of random width and place, as a mask [shape=(n, size)]."""
    width = (torch.rand(n, 1, device=device) * (min(largest, size) + 1)).floor()
    start = (torch.rand(n, 1, device=device) * (size - width + 1)).floor()
    place = torch.arange(size, device=device)
    return (place >= start) & (place < start + width)


def mixup(
    frames: torch.Tensor,
    lengths: torch.Tensor,
    values: torch.Tensor,
    alpha: float,
    bandwidth: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix every excerpt, and its values, with another of the batch.

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
    lengths : torch.Tensor [shape=(n,)]
        A mixture is as long as the longer of its two.
    values : torch.Tensor [shape=(n, n_outputs)]
        Targets or one-hot classes.
    alpha : float
        Both parameters of the Beta distribution; 0 changes nothing.
    bandwidth : float, default 0
        How near the other's values are, in deviations over the batch; 0 draws any other.

    Returns
    -------
    frames, lengths, values : torch.Tensor
        Of the same shapes.

    References
    ----------
    Zhang et al., 2018, "mixup: Beyond empirical risk minimization", equation 1.
    Yao et al., 2022, "C-Mixup: Improving generalization in regression", section 3.
    """
    if alpha == 0:
        return frames, lengths, values
    n = len(frames)
    share = torch.distributions.Beta(alpha, alpha).sample((n,)).to(frames.device)
    share = torch.maximum(share, 1 - share)  # so that lengths and order stay the first one's
    other = _near_partners(values, bandwidth) if bandwidth else torch.randperm(n, device=frames.device)
    mixed = torch.lerp(frames[other], frames, share[:, None, None])
    mixed_values = torch.lerp(values[other], values, share[:, None])
    return mixed, torch.maximum(lengths, lengths[other]), mixed_values


def _near_partners(values: torch.Tensor, bandwidth: float) -> torch.Tensor:
    """For every item another one, drawn by a Gaussian kernel over the distance of their values."""
    n = len(values)
    if n == 1:
        return torch.zeros(1, dtype=torch.long, device=values.device)
    deviation = values.std(dim=0, correction=0)
    standard = values / torch.where(deviation > 0, deviation, 1)
    squared_distance = (standard[:, None] - standard).square().mean(dim=2)  # [n, n]
    oneself = torch.eye(n, dtype=torch.bool, device=values.device)
    exponent = -squared_distance / (2 * bandwidth**2)
    # a softmax, since the kernel itself is 0 in floating point where the bandwidth is small
    return exponent.masked_fill(oneself, -torch.inf).softmax(dim=1).multinomial(1)[:, 0]
