"""A configurable ConvNet over spectrograms, for the default network and the public CNN."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from music_emotion.files import InputError
from music_emotion.models.layers import ACTIVATIONS, Activation, AttentiveStatistics, MeanMax


def stack_channels(frames: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """Build an image from standardised frames, with one channel per name.

    Parameters
    ----------
    frames : torch.Tensor [shape=(n, n_rows, n_frames)]
    names : sequence of {"spectrogram", "frequency", "delta"}
        The frames, a frequency coordinate from -1 to 1, or the difference from the previous frame.

    Returns
    -------
    torch.Tensor [shape=(n, n_channels, n_rows, n_frames)]
        In channels-last memory format.
    """
    rows = torch.linspace(-1, 1, frames.shape[1], device=frames.device, dtype=frames.dtype)
    images = {
        "spectrogram": frames,
        "frequency": rows[:, None].expand_as(frames),
        "delta": torch.diff(frames, dim=2, prepend=frames[:, :, :1]),
    }
    stacked = torch.stack([images[name] for name in names], dim=1)
    return stacked.contiguous(memory_format=torch.channels_last)


class ConvNet(nn.Module):
    """Blocks of convolutions over rows and frames, read out as one vector per excerpt.

    Parameters
    ----------
    n_rows, n_frames : int
        Size of an excerpt. One shorter than the pooling needs is padded with zeros.
        Only the readout "flatten" requires this number of frames.
    channels : sequence of {"spectrogram", "frequency", "delta"}
        Input channels, as for `stack_channels`.
    widths : sequence of int
        Channels of each block.
    convolutions, kernel : int
        Convolutions in a block, and their size in rows and frames.
    padded : bool
        Whether convolutions keep the size of their input.
    pool : {"average", "max"}
        Pooling at the end of each block; `pool_size` is its size and stride.
    stem_pool : tuple of int
        Size of the average pooling of the input, in rows and frames.
    norm : {"batch"} or None
        Normalisation after each convolution.
    activation : {"relu", "gelu", "silu"} or None
    readout : {"mean-max", "attention", "flatten"}
        The mean over rows, followed by `MeanMax` or `AttentiveStatistics`; or all values.

    Raises
    ------
    InputError
        When the input has fewer rows than the pooling needs.
    """

    def __init__(
        self,
        n_rows: int,
        n_frames: int,
        channels: Sequence[str] = ("spectrogram", "frequency"),
        widths: Sequence[int] = (32, 64, 128, 256),
        convolutions: int = 2,
        kernel: int = 3,
        padded: bool = True,
        pool: Literal["average", "max"] = "average",
        pool_size: int = 2,
        stem_pool: tuple[int, int] = (2, 4),
        norm: Literal["batch"] | None = "batch",
        activation: Activation = "relu",
        readout: Literal["mean-max", "attention", "flatten"] = "mean-max",
    ):
        super().__init__()
        size = 1  # rows or frames after the stem of which the blocks leave one
        for _ in widths:
            size = size * pool_size + (0 if padded else convolutions * (kernel - 1))
        fewest_rows, self.fewest_frames = size * stem_pool[0], size * stem_pool[1]
        if n_rows < fewest_rows:
            raise InputError(
                f"The network pools at least {fewest_rows} rows, but the input has {n_rows}. "
                f"Give fewer model.widths, or a smaller model.pool_size or model.stem_pool."
            )
        self.channels = channels
        self.stem = nn.AvgPool2d(stem_pool) if max(stem_pool) > 1 else nn.Identity()
        self.blocks = nn.Sequential()
        for n_in, n_out in pairwise([len(channels), *widths]):
            layers: list[nn.Module] = []
            for number in range(convolutions):
                padding = kernel // 2 if padded else 0
                layers.append(nn.Conv2d(n_out if number else n_in, n_out, kernel, padding=padding))
                if norm == "batch":
                    layers.append(nn.BatchNorm2d(n_out))
                layers.append(ACTIVATIONS[activation]())
            if pool_size > 1:
                layers.append({"average": nn.AvgPool2d, "max": nn.MaxPool2d}[pool](pool_size))
            self.blocks.append(nn.Sequential(*layers))
        self.reduction = stem_pool[1] * pool_size ** len(widths)
        self.flatten = readout == "flatten"
        self.readout = AttentiveStatistics(widths[-1]) if readout == "attention" else MeanMax()
        self.n_features = 2 * widths[-1]
        if self.flatten:
            with torch.no_grad():
                self.n_features = self.blocks.eval()(self._stem(torch.zeros(1, n_rows, n_frames))).numel()
            self.blocks.train()

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compute features.

        Parameters
        ----------
        frames : torch.Tensor [shape=(n, n_rows, n_frames)]
            Standardised. Excerpts shorter than the pooling needs are padded with 0, their mean.
        lengths : torch.Tensor [shape=(n,)]
            Frames before the padding. "flatten" ignores them.

        Returns
        -------
        torch.Tensor [shape=(n, n_features)]
        """
        maps = self.blocks(self._stem(frames)).float()
        if self.flatten:
            return maps.flatten(1)
        pooled = torch.div(lengths + self.reduction - 1, self.reduction, rounding_mode="floor")
        return self.readout(maps.mean(dim=2), pooled.clamp(1, maps.shape[-1]))

    def _stem(self, frames: torch.Tensor) -> torch.Tensor:
        padded = nn.functional.pad(frames, (0, max(0, self.fewest_frames - frames.shape[2])))
        return self.stem(stack_channels(padded, self.channels))
