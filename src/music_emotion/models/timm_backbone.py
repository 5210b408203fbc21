"""Any timm backbone, with random weights or weights from a local file, without downloads."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import nn

from music_emotion.files import InputError, first_five, nearest, regular_file
from music_emotion.models.conv import stack_channels


class TimmBackbone(nn.Module):
    """A timm model without its classifier.

    Parameters
    ----------
    name : str
        The model's name in timm.
    channels : sequence of str
        As for `stack_channels`.
    n_rows, n_frames : int
        Size of an excerpt. Backbones with a fixed input size are built for it.
    weights : str, optional
        Local file with pretrained weights.

    Raises
    ------
    InputError
        For an unknown name, a missing weights file, or weights that do not fit.
    """

    def __init__(
        self, name: str, channels: Sequence[str], n_rows: int, n_frames: int, weights: str | None = None
    ):
        super().__init__()
        self.channels = channels
        if not timm.is_model(name):
            raise InputError(f"timm has no model '{name}'; {nearest(name, timm.list_models())}")
        if weights is not None:
            regular_file(Path(weights), "The weights file", "Correct model.weights.")
        settings: dict[str, Any] = {"in_chans": len(channels), "num_classes": 0}
        pretrained = timm.get_pretrained_cfg(name)
        if pretrained and pretrained.fixed_input_size:
            settings["img_size"] = (n_rows, n_frames)
        local: dict[str, Any] = (
            {"pretrained": True, "pretrained_cfg_overlay": {"file": weights}} if weights else {}
        )
        try:
            with torch.random.fork_rng(devices=[], enabled=weights is not None):
                self.backbone = timm.create_model(name, **local, **settings)
        except (RuntimeError, KeyError, ValueError, EOFError, SafetensorError, UnpicklingError) as error:
            raise InputError(
                f"timm's '{name}' can't be built with model.weights '{weights}' for "
                f"{len(channels)} channels of {n_rows} x {n_frames}: {error}"
            ) from None
        if weights is not None:
            _check_all_taken(self.backbone, timm.create_model(name, **settings), weights)
        with torch.no_grad():  # timm models name this number differently
            features = self.backbone.eval()(torch.zeros(1, len(channels), n_rows, n_frames))
        self.backbone.train()
        self.n_features = features.shape[1]

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Map frames [shape=(n, n_rows, n_frames)] to features [shape=(n, n_features)].

        timm models ignore the lengths and read padding like sound.
        """
        return self.backbone(stack_channels(frames, self.channels))


def _check_all_taken(backbone: nn.Module, random: nn.Module, weights: str) -> None:
    """Refuse a file that lacks weights; timm would leave them random without a warning.

    `random` is initialised with the same random state, so a weight equal in both was not in the file.
    """
    drawn = dict(random.named_parameters())
    untouched = [
        name
        for name, weight in backbone.named_parameters()
        if weight.ndim > 1 and weight.std() > 0 and torch.equal(weight, drawn[name])
    ]
    if untouched:
        raise InputError(
            f"The weights file {weights} lacks weights of this backbone: {first_five(untouched)}. "
            f"Give the file of the same timm model, or no model.weights."
        )
