"""MusiCNN and VGG, networks that tag music (Pons and Serra, ISMIR 2019 late-breaking)."""

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

N_BANDS = 96
WINDOW_FRAMES = 187  # 3 s, the length of the excerpts in training
_EPSILON = 1e-3  # of batch norm, in TensorFlow
_VGG_POOLS = (((4, 1), 2), ((2, 2), 2), ((2, 2), 2), ((2, 2), 2), ((4, 4), 4))  # size and stride


class EarOutputs(NamedTuple):
    """Outputs for n windows. The sizes are MusiCNN's; VGG's are in brackets.

    Attributes
    ----------
    tags : torch.Tensor [shape=(n, 50)]
        Probability of each tag.
    penultimate : torch.Tensor [shape=(n, 200)]
        Input of the last layer (256).
    mean_pool, max_pool : torch.Tensor [shape=(n, 753)]
        Channels of all layers, pooled over time (640; over time and frequency).
    """

    tags: torch.Tensor
    penultimate: torch.Tensor
    mean_pool: torch.Tensor
    max_pool: torch.Tensor


class MusiCNN(nn.Module):
    """Timbral and temporal filters, three convolutions over time, pooling, and two dense layers.

    Parameters
    ----------
    n_tags : int
    n_timbral, n_temporal, n_middle, n_dense : int
        Channels of each layer.
    """

    def __init__(
        self,
        n_tags: int = 50,
        n_timbral: int = 204,
        n_temporal: int = 51,
        n_middle: int = 64,
        n_dense: int = 200,
    ):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, eps=_EPSILON)
        self.timbral = nn.ModuleList(_convolution((7, height), 1, n_timbral) for height in (38, 67))
        self.temporal = nn.ModuleList(_convolution((length, 1), 1, n_temporal) for length in (128, 64, 32))
        n_front = 2 * n_timbral + 3 * n_temporal
        self.middle = nn.ModuleList(_convolution((7, 1), n, n_middle) for n in (n_front, n_middle, n_middle))
        n_pooled = 2 * (n_front + 3 * n_middle)
        self.pool_norm = nn.BatchNorm1d(n_pooled, eps=_EPSILON)
        self.dense = nn.Linear(n_pooled, n_dense)
        self.dense_norm = nn.BatchNorm1d(n_dense, eps=_EPSILON)
        self.tags = nn.Linear(n_dense, n_tags)

    def forward(self, bands: torch.Tensor) -> EarOutputs:
        """Compute the outputs for windows of any length.

        Parameters
        ----------
        bands : torch.Tensor [shape=(n, n_frames, 96)]
            Logarithmic mel power, log10(1 + 10000 p).
        """
        maps = self.middle_maps(self.front_end(bands))
        mean_pool, max_pool = maps.mean(dim=2), maps.amax(dim=2)
        pools = torch.stack([max_pool, mean_pool], dim=2).flatten(1)  # interleaved
        penultimate = self.dense_norm(functional.relu(self.dense(self.pool_norm(pools))))
        return EarOutputs(self.tags(penultimate).sigmoid(), penultimate, mean_pool, max_pool)

    def front_end(self, bands: torch.Tensor) -> torch.Tensor:
        """Compute the channels of the front end [shape=(n, 561, n_frames)]."""
        image = self.norm(bands[:, None])
        maps = [layer(_pad_time(image, layer)).amax(dim=3) for layer in [*self.timbral, *self.temporal]]
        return torch.cat(maps, dim=1)

    def middle_maps(self, front: torch.Tensor) -> torch.Tensor:
        """Append the channels of the middle to those of the front end [shape=(n, 753, n_frames)]."""
        maps = [front]
        for layer in self.middle:
            out = layer(_pad_time(maps[-1][..., None], layer))[..., 0]
            maps.append(out if len(maps) == 1 else out + maps[-1])
        return torch.cat(maps, dim=1)


def _convolution(kernel: tuple[int, int], n_in: int, n_out: int, padding: int = 0) -> nn.Sequential:
    norm = nn.BatchNorm2d(n_out, eps=_EPSILON)
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, padding=padding), nn.ReLU(), norm)


def _pad_time(maps: torch.Tensor, layer: Any) -> torch.Tensor:
    """Pad maps [shape=(n, channels, n_frames, bands)] so that a layer keeps the number of frames."""
    before, after = (layer[0].kernel_size[0] - 1) // 2, layer[0].kernel_size[0] // 2
    return functional.pad(maps, (0, 0, before, after))


class Vgg(nn.Module):
    """Five convolutions of 3 x 3 and one dense layer.

    Parameters
    ----------
    n_tags, n_channels : int
    """

    def __init__(self, n_tags: int = 50, n_channels: int = 128):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, eps=_EPSILON)
        widths = (1, *[n_channels] * 4)
        self.layers = nn.ModuleList(_convolution((3, 3), n, n_channels, padding=1) for n in widths)
        self.tags = nn.Linear(2 * n_channels, n_tags)

    def forward(self, bands: torch.Tensor) -> EarOutputs:
        """Compute the outputs for windows of 187 frames. Shorter ones are padded with silence.

        Parameters
        ----------
        bands : torch.Tensor [shape=(n, n_frames, 96)]
            Logarithmic mel power, log10(1 + 10000 p).
        """
        silence = max(0, WINDOW_FRAMES - bands.shape[1])
        image, maps = self.norm(functional.pad(bands, (0, 0, 0, silence))[:, None]), []
        for layer, (size, stride) in zip(self.layers, _VGG_POOLS, strict=True):
            image = functional.max_pool2d(layer(image), size, stride)
            maps.append(image.flatten(2))
        penultimate = image.permute(0, 2, 3, 1).flatten(1)  # channels last, as in TensorFlow
        mean_pool = torch.cat([pooled.mean(dim=2) for pooled in maps], dim=1)
        max_pool = torch.cat([pooled.amax(dim=2) for pooled in maps], dim=1)
        return EarOutputs(self.tags(penultimate).sigmoid(), penultimate, mean_pool, max_pool)
