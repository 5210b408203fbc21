"""The pretrained ear as a trunk: MusiCNN hears arrays, and all of it but the front end learns."""

from typing import Self

import numpy as np
import torch
from torch import nn

from music_emotion.audio.ear_input import mel_to_mel, places_in_array
from music_emotion.config import N_MELS
from music_emotion.files import InputError
from music_emotion.models.musicnn import MusiCNN, Vgg

LEVEL_DB = 22.0  # of 0 dB in an array; the median of real clips


class EarTrunk(nn.Module):
    """Map mel rows to the 200 features from which MusiCNN tells tags.

    The front end stays as it is. So do all statistics of batch norm, which are of far more music than a
    batch.

    Parameters
    ----------
    ear : MusiCNN or Vgg
        Its last layer is removed.

    Raises
    ------
    InputError
        For a VGG, which has no front end.
    """

    matrix: torch.Tensor

    def __init__(self, ear: MusiCNN | Vgg):
        super().__init__()
        if not isinstance(ear, MusiCNN):
            raise InputError("model.weights is a file of a VGG. Give one of MusiCNN, or no model.weights.")
        self.ear, self.n_features = ear, ear.dense.out_features
        ear.tags = nn.Identity()
        for part in (ear.norm, ear.timbral, ear.temporal):
            part.requires_grad_(False)
        matrix = torch.from_numpy(mel_to_mel().astype(np.float32))
        self.register_buffer("matrix", matrix, persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, which makes no difference to batch norm."""
        super().train(mode)
        self.ear.eval()
        return self

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Map frames in dB [shape=(n, n_rows, n_frames)] to features [shape=(n, 200)].

        Lengths are ignored: padding is heard as silence.
        """
        return self.ear(self.bands(frames)).penultimate

    def bands(self, frames: torch.Tensor) -> torch.Tensor:
        """Compute the ear's input [shape=(n, n_ear_frames, 96)], as `array_bands` does for one clip."""
        places = torch.from_numpy(places_in_array(frames.shape[2]))
        left = places.long()
        share = (places - left).to(frames)
        right = (left + 1).clamp(max=frames.shape[2] - 1)
        with torch.autocast(frames.device.type, enabled=False):  # bfloat16 would round to half a dB
            decibels = 10 * (self.matrix @ 10 ** (frames[:, :N_MELS].float() / 10)).log10()
            there = torch.lerp(decibels[..., left], decibels[..., right], share)
            return (1 + 10_000 * 10 ** ((there.mT + LEVEL_DB) / 10)).log10()
