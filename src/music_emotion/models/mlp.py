"""Fully connected layers: over all values of an excerpt, and in heads."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from music_emotion.config import ModelSection
from music_emotion.files import InputError
from music_emotion.models.conv import ACTIVATIONS


class Mlp(nn.Module):
    """Fully connected layers over every row of every frame, so of excerpts of one length alone.

    Parameters
    ----------
    model : ModelSection
        Widths, normalisation and activation of the layers.
    n_rows, n_frames : int
        Size of the input.
    """

    def __init__(self, model: ModelSection, n_rows: int, n_frames: int):
        super().__init__()
        self.n_frames = n_frames
        n_values = n_rows * n_frames
        self.layers = nn.Sequential(*dense_layers(n_values, model.widths, model.activation, model.norm))
        self.n_features = [n_values, *model.widths][-1]

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Read frames [shape=(n, n_rows, n_frames)] into features [shape=(n, n_features)].

        Padding is silence, which is read like any other sound.

        Raises
        ------
        InputError
            When the excerpts are of another length.
        """
        if frames.shape[2] != self.n_frames:
            raise InputError(
                f"The excerpt has {frames.shape[2]} frames, but a network of model.kind 'mlp' reads only "
                f"excerpts as long as those it was trained on, {self.n_frames} frames."
            )
        return self.layers(frames.flatten(1))


def dense_layers(
    n_features: int,
    widths: Sequence[int],
    activation: Literal["relu", "gelu", "silu"] | None,
    norm: Literal["batch"] | None = None,
) -> list[nn.Module]:
    """Linear layers one after another, each normalised, if so asked, and then activated.

    Parameters
    ----------
    n_features : int
        Size of the input.
    widths : sequence of int
        Units of each layer.
    activation : {"relu", "gelu", "silu"} or None
    norm : {"batch"}, optional

    Returns
    -------
    list of nn.Module
        Empty when there are no widths.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise([n_features, *widths]):
        layers.append(nn.Linear(n_in, n_out))
        if norm == "batch":
            layers.append(nn.BatchNorm1d(n_out))
        layers.append(ACTIVATIONS[activation]())
    return layers
