"""Any timm backbone, with weights from a local file or random; nothing is downloaded."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from music_emotion.errors import InputError, nearest
from music_emotion.sections import ModelSection


class TimmBackbone(nn.Module):
    """A timm model without its classifier.

    Parameters
    ----------
    model : ModelSection
        `backbone` names it, `weights` is a local file or "none", `channels` gives its input.
    n_rows, n_frames : int
        Size of the input, for those backbones whose input size is fixed.

    Raises
    ------
    InputError
        For an unknown name, a missing weights file, or weights that do not fit.
    """

    def __init__(self, model: ModelSection, n_rows: int, n_frames: int):
        super().__init__()
        if not timm.is_model(model.backbone):
            raise InputError(
                f"timm has no model '{model.backbone}'; {nearest(model.backbone, timm.list_models())}"
            )
        source = _local_weights(model.weights)
        sized: dict[str, Any] = {"img_size": (n_rows, n_frames)} if _has_fixed_input(model.backbone) else {}
        try:
            self.backbone = timm.create_model(
                model.backbone,
                pretrained=source is not None,
                pretrained_cfg_overlay={"file": source} if source else None,
                in_chans=len(model.channels),
                num_classes=0,
                **sized,
            )
        except (RuntimeError, KeyError, ValueError) as error:
            raise InputError(
                f"timm's '{model.backbone}' can't be built with model.weights '{model.weights}' for "
                f"{len(model.channels)} channels of {n_rows} x {n_frames}: {error}"
            ) from None
        self.n_features = _n_features(self.backbone, len(model.channels), n_rows, n_frames)

    def forward(self, images: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Read images [shape=(n, n_channels, n_rows, n_frames)] into features [shape=(n, n_features)].

        Padding is silence, which timm models read like any other sound.
        """
        return self.backbone(images)


def _local_weights(weights: str) -> str | None:
    if weights == "none":
        return None
    if not Path(weights).is_file():
        raise InputError(f"The weights file {weights} does not exist. Correct model.weights, or say 'none'.")
    return weights


def _has_fixed_input(name: str) -> bool:
    settings = timm.get_pretrained_cfg(name)
    return bool(settings and settings.fixed_input_size)


@torch.no_grad()
def _n_features(backbone: nn.Module, n_channels: int, n_rows: int, n_frames: int) -> int:
    """Width of the pooled features, asked of the model itself since timm's names for it vary."""
    was_training = backbone.training
    features = backbone.eval()(torch.zeros(1, n_channels, n_rows, n_frames))
    backbone.train(was_training)
    return features.shape[1]
