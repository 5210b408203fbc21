"""Augmentation of training batches: SpecAugment, FilterAugment, MixStyle, mixup and C-Mixup."""

import torch
from torch import nn

_FILTER_POINTS = 6  # from the lowest row to the highest
_STYLE_ALPHA = 0.3  # of the Beta distribution of shares; most shares are near 0 or 1
_LEAST_DEVIATION = 1e-3
Masks = tuple[int, int] | None


class SpectrogramAugmentation(nn.Module):
    """Row shifts, FilterAugment, MixStyle and SpecAugment of standardised excerpts, in training only.

    Every excerpt gets its own shift, curve, style and masks. Only masks change rows other than mel bands.

    Parameters
    ----------
    n_mels : int
        How many of the first rows are mel bands.
    equaliser : float, optional
        FilterAugment: deviation of the random curve over the mel bands [1]_.
    row_shift : int, default 0
        Largest number of rows that mel bands move up or down.
    style_mixing : float, default 0
        MixStyle: share of batches, 0 to 1 [2]_.
    frequency_masks, time_masks : tuple of int, optional
        SpecAugment: number of masks, and their largest width in rows or frames [3]_.

    References
    ----------
    .. [1] Nam et al., 2022, "FilterAugment: An acoustic environmental data augmentation method",
       section 2, of linear type, with points at even distances.
    .. [2] Zhou et al., 2021, "Domain Generalization with MixStyle", section 2, on rows of the input
       in place of channels within the network.
    .. [3] Park et al., 2019, "SpecAugment", section 2, without time warping.
    """

    def __init__(
        self,
        n_mels: int,
        equaliser: float | None = None,
        row_shift: int = 0,
        style_mixing: float = 0.0,
        frequency_masks: Masks = None,
        time_masks: Masks = None,
    ):
        super().__init__()
        self.n_mels, self.equaliser, self.row_shift = n_mels, equaliser, row_shift
        self.style_mixing, self.masks = style_mixing, (frequency_masks, time_masks)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Augment frames [shape=(n, n_rows, n_frames)] in training mode; return them unchanged otherwise."""
        if not self.training:
            return frames
        if self.n_mels:
            mel = frames[:, : self.n_mels]
            if self.row_shift:
                mel = shift_rows(mel, self.row_shift)
            if self.equaliser is not None:
                mel = filter_augment(mel, self.equaliser)
            if self.style_mixing and torch.rand(()) < self.style_mixing:
                mel = mix_style(mel)
            frames = torch.cat([mel, frames[:, self.n_mels :]], dim=1)
        return spec_augment(frames, *self.masks)


def shift_rows(frames: torch.Tensor, largest: int) -> torch.Tensor:
    """Move every excerpt up or down by a random number of rows; the last row repeats at the border."""
    n, n_rows, n_frames = frames.shape
    shift = torch.randint(-largest, largest + 1, (n, 1), device=frames.device)
    rows = (torch.arange(n_rows, device=frames.device) + shift).clamp(0, n_rows - 1)
    return frames.gather(1, rows[:, :, None].expand(n, n_rows, n_frames))


def filter_augment(frames: torch.Tensor, deviation: float) -> torch.Tensor:
    """Add to every excerpt a random curve over the rows, linear between six points."""
    n, n_rows, _ = frames.shape
    points = deviation * torch.randn(n, 1, _FILTER_POINTS, device=frames.device)
    curve = nn.functional.interpolate(points, n_rows, mode="linear", align_corners=True)
    return frames + curve.transpose(1, 2)


def mix_style(frames: torch.Tensor) -> torch.Tensor:
    """Move each row's mean and deviation over time towards those of another excerpt."""
    mean, deviation = frames.mean(dim=2, keepdim=True), frames.std(dim=2, keepdim=True) + _LEAST_DEVIATION
    n = len(frames)
    other = torch.randperm(n, device=frames.device)
    share = torch.distributions.Beta(_STYLE_ALPHA, _STYLE_ALPHA).sample((n, 1, 1)).to(frames.device)
    new_mean, new_deviation = (torch.lerp(style[other], style, share) for style in (mean, deviation))
    return (frames - mean) / deviation * new_deviation + new_mean


def spec_augment(frames: torch.Tensor, frequency_masks: Masks, time_masks: Masks) -> torch.Tensor:
    """Mask random bands and time spans of every excerpt with 0, the mean of standardised frames."""
    n, n_rows, n_frames = frames.shape
    for masks, size, shape in ((frequency_masks, n_rows, (n, -1, 1)), (time_masks, n_frames, (n, 1, -1))):
        count, largest = masks or (0, 0)
        for _ in range(count):
            width = (torch.rand(n, 1, device=frames.device) * (min(largest, size) + 1)).floor()
            start = (torch.rand(n, 1, device=frames.device) * (size - width + 1)).floor()
            place = torch.arange(size, device=frames.device)
            frames = frames * ((place < start) | (place >= start + width)).reshape(shape)
    return frames


def mixup(
    frames: torch.Tensor,
    lengths: torch.Tensor,
    values: torch.Tensor,
    alpha: float | None,
    bandwidth: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mix every excerpt, and its values, with another one of the batch.

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
        C-Mixup: bandwidth of the kernel that prefers similar values, in deviations over the batch.

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
    """Draw another item for every item; the probability is a Gaussian kernel of their values' distance."""
    n = len(values)
    deviation = values.std(dim=0, correction=0)
    standard = values / torch.where(deviation > 0, deviation, 1)
    squared_distance = (standard[:, None] - standard).square().mean(dim=2)  # [n, n]
    oneself = torch.eye(n, dtype=torch.bool, device=values.device) & (n > 1)
    exponent = -squared_distance / (2 * bandwidth**2)
    # a softmax, since the kernel itself is 0 in floating point where the bandwidth is small
    return exponent.masked_fill(oneself, -torch.inf).softmax(dim=1).multinomial(1)[:, 0]
