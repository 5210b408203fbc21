"""Any timm backbone, with weights from a local file or random; nothing is downloaded."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import nn

from music_emotion.config import ModelSection
from music_emotion.files import InputError, first_five, nearest


class TimmBackbone(nn.Module):
    """A timm model without its classifier.

    Parameters
    ----------
    model : ModelSection
        `backbone` names it, `weights` is a local file or None, `channels` gives its input.
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
        try:
            with torch.random.fork_rng(devices=[], enabled=source is not None):
                self.backbone = _create(model, n_rows, n_frames, source)
        except (RuntimeError, KeyError, ValueError, EOFError, SafetensorError, UnpicklingError) as error:
            raise InputError(
                f"timm's '{model.backbone}' can't be built with model.weights '{model.weights}' for "
                f"{len(model.channels)} channels of {n_rows} x {n_frames}: {error}"
            ) from None
        if source is not None:
            _check_all_taken(self.backbone, _create(model, n_rows, n_frames, None), source)
        self.n_features = _n_features(self.backbone, len(model.channels), n_rows, n_frames)

    def forward(self, images: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Read images [shape=(n, n_channels, n_rows, n_frames)] into features [shape=(n, n_features)].

        Padding is silence, which timm models read like any other sound.
        """
        return self.backbone(images)


def _create(model: ModelSection, n_rows: int, n_frames: int, source: str | None) -> nn.Module:
    sized: dict[str, Any] = {"img_size": (n_rows, n_frames)} if _has_fixed_input(model.backbone) else {}
    return timm.create_model(
        model.backbone,
        pretrained=source is not None,
        pretrained_cfg_overlay={"file": source} if source else None,
        in_chans=len(model.channels),
        num_classes=0,
        **sized,
    )


def _check_all_taken(backbone: nn.Module, random: nn.Module, source: str) -> None:
    """Refuse a file that lacks weights, which timm leaves random without a word.

    Parameters
    ----------
    backbone, random : nn.Module
        With the file's weights and without, made from the same state of the random numbers: what
        is drawn and still the same in both was not in the file.
    """
    drawn = dict(random.named_parameters())
    untouched = [
        name
        for name, weight in backbone.named_parameters()
        if weight.ndim > 1 and weight.std() > 0 and torch.equal(weight, drawn[name])
    ]
    if untouched:
        raise InputError(
            f"The weights file {source} lacks weights of this backbone: {first_five(untouched)}. "
            f"Give the file of the same timm model, or no model.weights."
        )


def _local_weights(weights: str | None) -> str | None:
    if weights is not None and not Path(weights).is_file():
        raise InputError(f"The weights file {weights} does not exist. Correct model.weights.")
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
