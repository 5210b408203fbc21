"""Augmentation of training batches: SpecAugment, FilterAugment, MixStyle, mixup and C-Mixup."""

import torch
from torch import nn

_FILTER_POINTS = 6  # evenly spaced from the lowest row to the highest
_STYLE_ALPHA = 0.3  # both parameters of the Beta distribution of mixing weights; most are near 0 or 1
_LEAST_DEVIATION = 1e-3
Masks = tuple[int, int] | None


class SpectrogramAugmentation(nn.Module):
    """Row shifts, FilterAugment, MixStyle and SpecAugment of standardised excerpts, in training only.

    Every excerpt draws its own shift, curve, style and masks. Rows other than mel bands are only masked.

    Parameters
    ----------
    n_mels : int
        Number of mel bands, which are the first rows.
    equaliser : float, optional
        FilterAugment: standard deviation of the random gain curve over the mel bands [1]_.
    row_shift : int, default 0
        Largest number of rows that mel bands move up or down.
    style_mixing : float, default 0
        MixStyle: share of batches that are mixed, 0 to 1 [2]_.
    frequency_masks, time_masks : tuple of int, optional
        SpecAugment: number of masks, and their largest width in rows or frames [3]_.

    References
    ----------
    .. [1] Nam et al., 2022, "FilterAugment: An acoustic environmental data augmentation method",
       section 2, linear type, with evenly spaced points.
    .. [2] Zhou et al., 2021, "Domain Generalization with MixStyle", section 2, applied to input rows
       instead of feature channels.
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
    """Shift every excerpt up or down by a random number of rows; the border row fills the gap.

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
    largest : int
        Largest shift, in rows.

    Returns
    -------
    torch.Tensor [shape=(n, n_rows, n_frames)]
    """
    n, n_rows, n_frames = frames.shape
    shift = torch.randint(-largest, largest + 1, (n, 1), device=frames.device)
    rows = (torch.arange(n_rows, device=frames.device) + shift).clamp(0, n_rows - 1)
    return frames.gather(1, rows[:, :, None].expand(n, n_rows, n_frames))


def filter_augment(frames: torch.Tensor, deviation: float) -> torch.Tensor:
    """FilterAugment: add a random curve over the rows to every excerpt, linear between six points.

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
        Standardised.
    deviation : float
        Standard deviation of the six points.

    Returns
    -------
    torch.Tensor [shape=(n, n_rows, n_frames)]
    """
    n, n_rows, _ = frames.shape
    points = deviation * torch.randn(n, 1, _FILTER_POINTS, device=frames.device)
    curve = nn.functional.interpolate(points, n_rows, mode="linear", align_corners=True)
    return frames + curve.transpose(1, 2)


def mix_style(frames: torch.Tensor) -> torch.Tensor:
    """MixStyle: mix each row's mean and deviation over time with those of another excerpt."""
    mean, deviation = frames.mean(dim=2, keepdim=True), frames.std(dim=2, keepdim=True) + _LEAST_DEVIATION
    n = len(frames)
    other = torch.randperm(n, device=frames.device)
    share = torch.distributions.Beta(_STYLE_ALPHA, _STYLE_ALPHA).sample((n, 1, 1)).to(frames.device)
    new_mean, new_deviation = (torch.lerp(style[other], style, share) for style in (mean, deviation))
    return (frames - mean) / deviation * new_deviation + new_mean


def spec_augment(frames: torch.Tensor, frequency_masks: Masks, time_masks: Masks) -> torch.Tensor:
    """SpecAugment: set random bands and time spans of every excerpt to 0, the mean of standardised frames.

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
        Standardised.
    frequency_masks, time_masks : tuple of int or None
        Number of masks, and their largest width in rows or frames; None for no masks.

    Returns
    -------
    torch.Tensor [shape=(n, n_rows, n_frames)]
    """
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
    """Mix every excerpt and its values with another excerpt of the batch (mixup or C-Mixup).

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
    lengths : torch.Tensor [shape=(n,)]
        Frames before the padding. A mixture gets the larger of its two lengths.
    values : torch.Tensor [shape=(n, n_outputs)]
        Targets or one-hot classes. A mixture has NaN where either excerpt has NaN, so that the loss leaves it
        out.
    alpha : float or None
        Both parameters of the Beta distribution of the mixing weight; None returns the inputs.
    bandwidth : float, optional
        C-Mixup: bandwidth of the Gaussian kernel that prefers partners with similar values, in standard
        deviations over the batch.

    Returns
    -------
    frames, lengths, values : torch.Tensor
        Mixed, with the shapes of the inputs.

    References
    ----------
    Zhang et al., 2018, "mixup: Beyond empirical risk minimization", equation 1.
    Yao et al., 2022, "C-Mixup: Improving generalization in regression", section 3.
    """
    if alpha is None:
        return frames, lengths, values
    n = len(frames)
    share = torch.distributions.Beta(alpha, alpha).sample((n,)).to(frames.device)
    share = torch.maximum(share, 1 - share)  # every excerpt keeps the larger share of its mixture
    other = _near_partners(values, bandwidth) if bandwidth else torch.randperm(n, device=frames.device)
    mixed = torch.lerp(frames[other], frames, share[:, None, None])
    mixed_values = torch.lerp(values[other], values, share[:, None])
    return mixed, torch.maximum(lengths, lengths[other]), mixed_values


def _near_partners(values: torch.Tensor, bandwidth: float) -> torch.Tensor:
    """Draw a partner for every item, with a Gaussian kernel of the distance of their values."""
    n = len(values)
    deviation = values.std(dim=0, correction=0)
    standard = values / torch.where(deviation > 0, deviation, 1)
    squared_distance = (standard[:, None] - standard).square().mean(dim=2)  # [n, n]
    oneself = torch.eye(n, dtype=torch.bool, device=values.device) & (n > 1)
    exponent = -squared_distance / (2 * bandwidth**2)
    # softmax, since with a small bandwidth the kernel underflows to 0
    return exponent.masked_fill(oneself, -torch.inf).softmax(dim=1).multinomial(1)[:, 0]
