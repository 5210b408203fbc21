"""MusiCNN and VGG, networks that tag music (Pons and Serra, ISMIR 2019 late-breaking)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional

WINDOW_FRAMES = 187  # 3 s, the length of the excerpts in training
_EPSILON = 1e-3  # of batch norm, in TensorFlow
_NEGLIGIBLE = 1e-4  # effect of a filter on an input of 1
_WINDOWS_AT_ONCE = 8  # the largest maps of a layer take 75 MB
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

    Attributes
    ----------
    tag_names : tuple of str
        Names of the outputs, which `load_ear` sets.
    """

    tag_names: tuple[str, ...] = ()

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
        self.tags: nn.Module = nn.Linear(n_dense, n_tags)

    def forward(self, bands: torch.Tensor, plain: bool = False) -> EarOutputs:
        """Compute the outputs for windows of any length.

        Parameters
        ----------
        bands : torch.Tensor [shape=(n, n_frames, 96)]
            From `ear_bands`.
        plain : bool
            Compute every filter's whole map, as in training. The default gives equal outputs up to rounding,
            several times sooner with the published weights.
        """
        image = self.norm(bands[:, None])
        front = [_over_time(layer, image, plain) for layer in [*self.timbral, *self.temporal]]
        maps = [torch.cat(front, dim=1)]
        for layer in self.middle:
            out = _over_time(layer, maps[-1][..., None], plain)
            maps.append(out if len(maps) == 1 else out + maps[-1])
        channels = torch.cat(maps, dim=1)  # [n, 753, n_frames]
        mean_pool, max_pool = channels.mean(dim=2), channels.amax(dim=2)
        pools = torch.stack([max_pool, mean_pool], dim=2).flatten(1)  # interleaved
        penultimate = self.dense_norm(functional.relu(self.dense(self.pool_norm(pools))))
        return EarOutputs(self.tags(penultimate).sigmoid(), penultimate, mean_pool, max_pool)


def _convolution(kernel: tuple[int, int], n_in: int, n_out: int, padding: int = 0) -> nn.Sequential:
    norm = nn.BatchNorm2d(n_out, eps=_EPSILON)
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, padding=padding), nn.ReLU(), norm)


def _over_time(layer: Any, maps: torch.Tensor, plain: bool) -> torch.Tensor:
    """Apply a layer that keeps the number of frames, then take the maximum over frequency."""
    length = layer[0].kernel_size[0]
    padded = functional.pad(maps, (0, 0, (length - 1) // 2, length // 2))
    return _pooled(layer, padded, lambda out: out.amax(dim=3, keepdim=True), plain)[..., 0]


def _pooled(
    layer: Any, maps: torch.Tensor, pool: Callable[[torch.Tensor], torch.Tensor], plain: bool
) -> torch.Tensor:
    """Apply a layer to maps [shape=(n, channels, n_frames, bands)], then a maximum.

    Rectifier and batch norm are monotone, so the maximum may come first; of the negated map, where batch norm
    has a negative scale. Weight decay has set most filters of the published weights to zero up to rounding.
    Their maps are constant, so only the other filters are computed.
    """
    conv, rectifier, norm = layer
    if plain or norm.training:
        return pool(layer(maps))
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    live = torch.nonzero(conv.weight.abs().sum(dim=(1, 2, 3)) * scale.abs() > _NEGLIGIBLE)[:, 0]
    sign = torch.where(scale < 0, -1.0, 1.0)[live, None, None]
    found = pool(functional.conv2d(maps, conv.weight[live] * sign[..., None], padding=conv.padding))
    out = conv.bias[:, None, None].repeat(len(maps), 1, *found.shape[2:])
    out[:, live] += found * sign
    return norm(rectifier(out))


class Vgg(nn.Module):
    """Five convolutions of 3 x 3 and one dense layer.

    Parameters
    ----------
    n_tags, n_channels : int

    Attributes
    ----------
    tag_names : tuple of str
        Names of the outputs, which `load_ear` sets.
    """

    tag_names: tuple[str, ...] = ()

    def __init__(self, n_tags: int = 50, n_channels: int = 128):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, eps=_EPSILON)
        widths = (1, *[n_channels] * 4)
        self.layers = nn.ModuleList(_convolution((3, 3), n, n_channels, padding=1) for n in widths)
        self.tags = nn.Linear(2 * n_channels, n_tags)

    def forward(self, bands: torch.Tensor, plain: bool = False) -> EarOutputs:
        """Compute the outputs for windows of 187 frames. Shorter ones are padded with silence.

        Parameters
        ----------
        bands : torch.Tensor [shape=(n, n_frames, 96)]
            From `ear_bands`.
        plain : bool
            As in `MusiCNN.forward`.
        """
        silence = max(0, WINDOW_FRAMES - bands.shape[1])
        image, maps = self.norm(functional.pad(bands, (0, 0, 0, silence))[:, None]), []
        for layer, (size, stride) in zip(self.layers, _VGG_POOLS, strict=True):
            image = _pooled(layer, image, nn.MaxPool2d(size, stride), plain)
            maps.append(image.flatten(2))
        penultimate = image.permute(0, 2, 3, 1).flatten(1)  # channels last, as in TensorFlow
        mean_pool = torch.cat([pooled.mean(dim=2) for pooled in maps], dim=1)
        max_pool = torch.cat([pooled.amax(dim=2) for pooled in maps], dim=1)
        return EarOutputs(self.tags(penultimate).sigmoid(), penultimate, mean_pool, max_pool)


def embedding(
    network: MusiCNN | Vgg, bands: np.ndarray, hop_frames: int, plain: bool = False
) -> dict[str, np.ndarray]:
    """Compute a clip's embedding, on one thread of a CPU or on the network's GPU.

    Parameters
    ----------
    network : MusiCNN or Vgg
        It is set to evaluation mode.
    bands : np.ndarray [shape=(n_frames, 96)], float32
        From `ear_bands` or `array_bands`.
    hop_frames : int
        Frames from one window of 187 frames to the next. Frames that fill no window are left out, but a
        shorter clip is one window.
    plain : bool
        As in `MusiCNN.forward`.

    Returns
    -------
    dict of str to np.ndarray, float32
        `mean` and `max`: the mean over windows of both pools [shape=(753,)]. `penultimate`: mean and standard
        deviation over windows [shape=(400,)]. `tags`: mean over windows [shape=(50,)].
    """
    device = next(network.eval().parameters()).device
    windows = torch.from_numpy(bands).unfold(0, min(len(bands), WINDOW_FRAMES), hop_frames).mT
    with threadpool_limits(1), torch.inference_mode():
        outputs = [network(batch.to(device), plain) for batch in windows.split(_WINDOWS_AT_ONCE)]
        whole = EarOutputs(*(torch.cat(parts).float().cpu() for parts in zip(*outputs, strict=True)))
        spread = whole.penultimate.std(dim=0, correction=0)
        return {
            "mean": whole.mean_pool.mean(dim=0).numpy(),
            "max": whole.max_pool.mean(dim=0).numpy(),
            "penultimate": torch.cat([whole.penultimate.mean(dim=0), spread]).numpy(),
            "tags": whole.tags.mean(dim=0).numpy(),
        }
