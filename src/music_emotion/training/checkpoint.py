"""The state of an unfinished training, so that the same command goes on from its last epoch."""

import io
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import nn

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.files import InputError, atomic_path, shortened

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
    clips : str
        A digest of the clips that are trained on, and of their labels; empty where an earlier version
        has left none.
    """

    epoch: int = 0
    update: int = 0
    metrics: list[dict[str, float]] = field(default_factory=list)
    best: float = -np.inf
    best_weights: Weights | None = None
    waited: int = 0
    clips: str = ""


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
    except Exception as error:  # unpickling a damaged file raises whatever it meets
        reason = shortened(str(error) or type(error).__name__, 300)
        raise InputError(f"{path} is damaged ({reason}). Delete it to train that fold anew.") from None


def check_same_training(progress: Progress, training: ClipSet, path: Path) -> None:
    """Refuse to go on with other clips or labels; note those of a training that begins.

    What has been learnt stays in the weights: a clip that changed sides since would be scored by a network
    that has seen its label.

    Raises
    ------
    InputError
        When the state is of a training on other clips.
    """
    lengths = training.store.index.loc[training.ids, "length"].to_numpy(np.int64)
    known = (training.ids.astype(np.int64), lengths, training.values.astype(np.float32))
    digest = sha256(b"".join(part.tobytes() for part in known)).hexdigest()
    if progress.clips not in {"", digest}:
        raise InputError(
            f"{path} is of a training on other clips or labels: data, groups or pseudo-labels have changed "
            f"since. Give another --name, or delete {path.parent} to train that fold anew."
        )
    progress.clips = digest


def is_whole(path: Path) -> bool:
    """Whether a saved state can be read."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # as in `load_state`
        return False
    return True
