"""A ConvNet over excerpts as images: the excerpt CNN and the public CNN are settings of it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from music_emotion.files import InputError
from music_emotion.models.layers import ACTIVATIONS, Activation, AttentiveStatistics, MeanMax


class ImageChannels(nn.Module):
    """Stack standardised frames and what is computed from them as image channels.

    Parameters
    ----------
    names : sequence of {"spectrogram", "frequency", "delta"}
        The frames, a frequency coordinate from -1 to 1, the difference to the previous frame.
    fewest_frames : int, default 1
        Shorter excerpts are padded with their mean, which is 0.
    """

    def __init__(self, names: Sequence[str], fewest_frames: int = 1):
        super().__init__()
        self.names, self.fewest_frames = names, fewest_frames

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames [shape=(n, n_rows, n_frames)] to images [shape=(n, n_channels, n_rows, n_frames)]."""
        frames = nn.functional.pad(frames, (0, max(0, self.fewest_frames - frames.shape[2])))
        rows = torch.linspace(-1, 1, frames.shape[1], device=frames.device, dtype=frames.dtype)
        images = {
            "spectrogram": frames,
            "frequency": rows[:, None].expand_as(frames),
            "delta": torch.diff(frames, dim=2, prepend=frames[:, :, :1]),
        }
        stacked = torch.stack([images[name] for name in self.names], dim=1)
        return stacked.contiguous(memory_format=torch.channels_last)


class ConvNet(nn.Module):
    """Blocks of convolutions over rows and frames, read out as one vector per excerpt.

    Parameters
    ----------
    n_channels, n_rows, n_frames : int
        Size of the input. The readout "flatten" reads no other number of frames.
    widths : sequence of int
        Channels of each block.
    convolutions, kernel : int
        Convolutions in a block, and their size in rows and frames.
    padded : bool
        Whether convolutions keep the size of their input.
    pool : {"average", "max"}
        Pooling at the end of a block.
    pool_size : int
        Its size and stride.
    stem_pool : tuple of int
        Rows and frames of the input that are averaged into one.
    batch_norm : bool
        Normalise after a convolution.
    activation : {"relu", "gelu", "silu"} or None
    readout : {"mean-max", "attention", "flatten"}
        `MeanMax` or `AttentiveStatistics` of the mean over rows, or all values.

    Raises
    ------
    InputError
        When the input has fewer rows than the pooling needs.
    """

    def __init__(
        self,
        n_channels: int,
        n_rows: int,
        n_frames: int,
        widths: Sequence[int] = (32, 64, 128, 256),
        convolutions: int = 2,
        kernel: int = 3,
        padded: bool = True,
        pool: Literal["average", "max"] = "average",
        pool_size: int = 2,
        stem_pool: tuple[int, int] = (2, 4),
        batch_norm: bool = True,
        activation: Activation = "relu",
        readout: Literal["mean-max", "attention", "flatten"] = "mean-max",
    ):
        super().__init__()
        self.stem = nn.AvgPool2d(stem_pool) if max(stem_pool) > 1 else nn.Identity()
        self.blocks = nn.Sequential()
        for n_in, n_out in pairwise([n_channels, *widths]):
            layers: list[nn.Module] = []
            for number in range(convolutions):
                padding = kernel // 2 if padded else 0
                layers.append(nn.Conv2d(n_out if number else n_in, n_out, kernel, padding=padding))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(n_out))
                layers.append(ACTIVATIONS[activation]())
            if pool_size > 1:
                layers.append({"average": nn.AvgPool2d, "max": nn.MaxPool2d}[pool](pool_size))
            self.blocks.append(nn.Sequential(*layers))
        self.reduction = stem_pool[1] * pool_size ** len(widths)
        self.flatten = readout == "flatten"
        try:
            with torch.no_grad():
                maps = self.blocks.eval()(self.stem(torch.zeros(1, n_channels, n_rows, n_frames)))
        except RuntimeError:  # nothing is left of the input
            raise InputError(
                f"The network pools more rows or frames than the input's {n_rows} x {n_frames}. "
                f"Give fewer model.widths, or a smaller model.pool_size or model.stem_pool."
            ) from None
        self.blocks.train()
        self.n_features = maps.numel() if self.flatten else 2 * widths[-1]
        self.readout = AttentiveStatistics(widths[-1]) if readout == "attention" else MeanMax()

    def forward(self, images: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Read out features.

        Parameters
        ----------
        images : torch.Tensor [shape=(n, n_channels, n_rows, n_frames)]
        lengths : torch.Tensor [shape=(n,)]
            Frames before the padding; only these are read out (not by "flatten").

        Returns
        -------
        torch.Tensor [shape=(n, n_features)]

        Raises
        ------
        InputError
            When "flatten" gets excerpts of another length.
        """
        maps = self.blocks(self.stem(images)).float()
        if self.flatten:
            if maps[0].numel() != self.n_features:
                raise InputError(
                    f"The excerpt has {images.shape[-1]} frames, but the readout 'flatten' reads only "
                    f"excerpts as long as those the network was trained on."
                )
            return maps.flatten(1)
        pooled = torch.div(lengths + self.reduction - 1, self.reduction, rounding_mode="floor")
        return self.readout(maps.mean(dim=2), pooled.clamp(1, maps.shape[-1]))
