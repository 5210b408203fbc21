"""Changes to training batches: shifts, equalisers, styles, masks over bands and spans, and mixup."""

import torch
from torch import nn

from music_emotion.config import AugmentSection

_EQUALISER_POINTS = 6  # from the lowest row to the highest
_STYLE_ALPHA = 0.3  # of the Beta distribution of shares: most excerpts keep or change their style whole
_LEAST_DEVIATION = 1e-3


class SpectrogramAugmentation(nn.Module):
    """Vary standardised excerpts: shift their rows, equalise them, mix their styles, then mask.

    Works in training mode only. Every excerpt gets its own shift, curve, style and masks. A mask puts
    the mean, which is 0 after standardising, in place of a band or a span.

    Parameters
    ----------
    augment : AugmentSection
        How much of each.
    n_mels : int
        The first rows, which are mel bands. All but masks leave other rows alone: chroma is neither
        loud nor soft, and has no ends.

    References
    ----------
    Park et al., 2019, "SpecAugment", section 2, without time warping.
    Nam et al., 2022, "FilterAugment: An acoustic environmental data augmentation method", section
    2, of linear type, with points at even distances.
    Zhou et al., 2021, "Domain Generalization with MixStyle", section 2, on rows of the input in place
    of channels within the network.
    """

    def __init__(self, augment: AugmentSection, n_mels: int):
        super().__init__()
        self.augment, self.n_mels = augment, n_mels

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Change standardised frames [shape=(n, n_rows, n_frames)]."""
        if not self.training:
            return frames
        if self.n_mels:
            mel, others = frames[:, : self.n_mels], frames[:, self.n_mels :]
            mel = _equalised(_shifted(mel, self.augment.row_shift), self.augment.equaliser)
            mel = _of_mixed_style(mel, self.augment.style_mixing)
            frames = torch.cat([mel, others], dim=1) if others.shape[1] else mel
        return _masked(frames, self.augment)


def _shifted(frames: torch.Tensor, largest: int) -> torch.Tensor:
    """Every excerpt some rows up or down; the row at the end repeats."""
    if largest == 0:
        return frames
    n, n_rows, n_frames = frames.shape
    shift = torch.randint(-largest, largest + 1, (n, 1), device=frames.device)
    rows = (torch.arange(n_rows, device=frames.device) + shift).clamp(0, n_rows - 1)
    return frames.gather(1, rows[:, :, None].expand(n, n_rows, n_frames))


def _equalised(frames: torch.Tensor, deviation: float | None) -> torch.Tensor:
    """Every excerpt louder here and softer there, along a curve over the rows."""
    if deviation is None:
        return frames
    n, n_rows, _ = frames.shape
    points = deviation * torch.randn(n, 1, _EQUALISER_POINTS, device=frames.device)
    curve = nn.functional.interpolate(points, n_rows, mode="linear", align_corners=True)
    return frames + curve.transpose(1, 2)


def _of_mixed_style(frames: torch.Tensor, probability: float) -> torch.Tensor:
    """In some batches, every excerpt with a row's level and range on the way to another excerpt's."""
    if probability == 0 or torch.rand(()) >= probability:
        return frames
    mean, deviation = frames.mean(dim=2, keepdim=True), frames.std(dim=2, keepdim=True) + _LEAST_DEVIATION
    n = len(frames)
    other = torch.randperm(n, device=frames.device)
    share = torch.distributions.Beta(_STYLE_ALPHA, _STYLE_ALPHA).sample((n, 1, 1)).to(frames.device)
    new_mean, new_deviation = (torch.lerp(style[other], style, share) for style in (mean, deviation))
    return (frames - mean) / deviation * new_deviation + new_mean


def _masked(frames: torch.Tensor, augment: AugmentSection) -> torch.Tensor:
    n, n_rows, n_frames = frames.shape
    kept = torch.ones(n, n_rows, 1, dtype=torch.bool, device=frames.device)
    for count, width in filter(None, [augment.frequency_masks]):
        for _ in range(count):
            kept = kept & ~_random_span(n, n_rows, width, frames.device)[:, :, None]
    for count, width in filter(None, [augment.time_masks]):
        for _ in range(count):
            kept = kept & ~_random_span(n, n_frames, width, frames.device)[:, None, :]
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
    alpha: float | None,
    bandwidth: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix every excerpt, and its values, with another of the batch.

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
    lengths : torch.Tensor [shape=(n,)]
        A mixture is as long as the longer of its two.
    values : torch.Tensor [shape=(n, n_outputs)]
        Targets or one-hot classes.
    alpha : float or None
        Both parameters of the Beta distribution; None changes nothing.
    bandwidth : float, optional
        C-Mixup: how near the other's values are, in deviations over the batch. Any other, if not given.

    Returns
    -------
    frames, lengths, values : torch.Tensor
        Of the same shapes.

    References
    ----------
    Zhang et al., 2018, "mixup: Beyond empirical risk minimization", equation 1.
    Yao et al., 2022, "C-Mixup: Improving generalization in regression", section 3.
    """
    if alpha is None:
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
