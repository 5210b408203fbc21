"""One configurable ConvNet; the excerpt CNN is its default, the public CNN a setting of it."""

from itertools import pairwise

import torch
from torch import nn

from music_emotion.config import ModelSection
from music_emotion.files import InputError
from music_emotion.models.readout import AttentiveStatistics, MeanMax

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, None: nn.Identity}


class ConvNet(nn.Module):
    """Blocks of convolutions over rows and frames, read out as one vector per excerpt.

    Parameters
    ----------
    model : ModelSection
        Widths, kernel, pooling, normalisation, activation, readout.
    n_rows : int
        Rows of the input.
    n_frames : int
        Frames of the input; needed by the readout "flatten" alone, which reads no other length.

    Raises
    ------
    InputError
        When the input has fewer rows than the pooling needs.
    """

    def __init__(self, model: ModelSection, n_rows: int, n_frames: int):
        super().__init__()
        self.stem = nn.AvgPool2d(model.stem_pool) if max(model.stem_pool) > 1 else nn.Identity()
        widths = [len(model.channels), *model.widths]
        self.blocks = nn.Sequential(*(_block(model, *pair) for pair in pairwise(widths)))
        self.reduction = model.stem_pool[1] * model.pool_size ** len(model.widths)
        self.flatten = model.readout == "flatten"
        fewest_rows, fewest_frames = model.smallest_input
        if n_rows < fewest_rows:
            raise InputError(
                f"The network pools at least {fewest_rows} rows, but data.rows gives {n_rows}. "
                f"Give fewer model.widths, or a smaller model.pool_size or model.stem_pool."
            )
        with torch.no_grad():
            image = torch.zeros(1, len(model.channels), n_rows, max(n_frames, fewest_frames))
            maps = self.blocks.eval()(self.stem(image))
        self.blocks.train()
        self.n_features = maps.numel() if self.flatten else 2 * widths[-1]
        self.readout = AttentiveStatistics(widths[-1]) if model.readout == "attention" else MeanMax()

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
        """
        maps = self.blocks(self.stem(images)).float()
        if self.flatten:
            if maps[0].numel() != self.n_features:
                raise InputError(
                    f"The excerpt has {images.shape[-1]} frames, but the readout 'flatten' reads only "
                    f"excerpts as long as those the network was trained on."
                )
            return maps.flatten(1)
        heard = torch.div(lengths + self.reduction - 1, self.reduction, rounding_mode="floor")
        return self.readout(maps.mean(dim=2), heard.clamp(1, maps.shape[-1]))


def _block(model: ModelSection, n_in: int, n_out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(model.convolutions):
        padding = model.kernel // 2 if model.padded else 0
        layers.append(nn.Conv2d(n_in, n_out, model.kernel, padding=padding))
        if model.norm == "batch":
            layers.append(nn.BatchNorm2d(n_out))
        layers.append(ACTIVATIONS[model.activation]())
        n_in = n_out
    if model.pool_size > 1:
        pool = nn.AvgPool2d if model.pool == "average" else nn.MaxPool2d
        layers.append(pool(model.pool_size))
    return nn.Sequential(*layers)
