"""The state of an unfinished training, so that the same command goes on from its last epoch."""

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from music_emotion.errors import InputError
from music_emotion.files import atomic_path

STATE = "state.pt"
Weights = dict[str, torch.Tensor]


@dataclass
class Progress:
    """How far a training has come; with the weights, all that going on needs.

    Attributes
    ----------
    epoch : int
        Finished epochs.
    update : int
        Updates made.
    metrics : list of dict
        One row per finished epoch, as `metrics.csv` holds them.
    best : float
        What the selected epoch reached; larger is better.
    best_weights : dict of str to torch.Tensor or None
        Its weights.
    waited : int
        Validations since.
    """

    epoch: int = 0
    update: int = 0
    metrics: list[dict[str, float]] = field(default_factory=list)
    best: float = -np.inf
    best_weights: Weights | None = None
    waited: int = 0


def save_state(
    path: Path,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    progress: Progress,
) -> None:
    """Write all that going on needs, atomically."""
    state = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict() if scaler else None,
        "progress": vars(progress),
    }
    whole = io.BytesIO()  # PyTorch's own writing hides why a disk refused it
    torch.save(state, whole)
    with atomic_path(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def load_state(
    path: Path,
    network: nn.Module,
    averaged: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
) -> Progress:
    """Load a saved state into network, average, optimiser and scaler; without one, begin.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    if not path.exists():
        return Progress()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
        optimizer.load_state_dict(state["optimizer"])
        if scaler and state["scaler"]:  # none when the training began in another precision
            scaler.load_state_dict(state["scaler"])
        return Progress(**state["progress"])
    except (
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
        pickle.UnpicklingError,
    ) as error:
        raise InputError(f"{path} is damaged ({error}). Delete it to train that fold anew.") from None


def is_whole(path: Path) -> bool:
    """Whether a saved state can be read."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError):
        return False
    return True
