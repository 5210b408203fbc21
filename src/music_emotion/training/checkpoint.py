"""The state of an unfinished training, from which the same command resumes after the last epoch."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.files import InputError, atomic_path, shortened

STATE = "state.pt"
Stateful = Mapping[str, Any]  # objects with `state_dict` and `load_state_dict`, by name


@dataclass
class Progress:
    """Progress of a training.

    Attributes
    ----------
    epoch, update : int
        Finished epochs and updates.
    metrics : list of dict
        One row per finished epoch, as in `metrics.csv`.
    best : float
        Score of the selected epoch; larger is better.
    best_weights : dict of str to torch.Tensor or None
        Weights of the selected epoch.
    waited : int
        Validations since the selected epoch.
    clips : str
        Digest of the training clips and labels; empty in states written before it existed.
    """

    epoch: int = 0
    update: int = 0
    metrics: list[dict[str, float]] = field(default_factory=list)
    best: float = -np.inf
    best_weights: dict[str, torch.Tensor] | None = None
    waited: int = 0
    clips: str = ""


def save_state(path: Path, members: Stateful, progress: Progress) -> None:
    """Write the progress and the state of network, EMA, optimiser and gradient scaler, atomically.

    Parameters
    ----------
    path : Path
    members : mapping of str to object
        Objects with `state_dict` and `load_state_dict`, by name.
    progress : Progress
    """
    state = {name: member.state_dict() for name, member in members.items()}
    whole = io.BytesIO()  # torch.save to a file would hide the disk's error
    torch.save(state | {"progress": vars(progress)}, whole)
    with atomic_path(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def load_state(path: Path, members: Stateful, training: ClipSet) -> Progress:
    """Load a saved state into its members; without a file, start from the beginning.

    Parameters
    ----------
    path : Path
    members : mapping of str to object
        As given to `save_state`.
    training : ClipSet
        Must equal the clips and labels of the saved training. Otherwise the network may have been trained
        on clips that are now validation clips.

    Raises
    ------
    InputError
        When the file is damaged, or the training clips or labels have changed.
    """
    lengths = training.store.index.loc[training.ids, "length"].to_numpy(np.int64)
    known = (training.ids.astype(np.int64), lengths, training.values.astype(np.float32))
    digest = sha256(b"".join(values.tobytes() for values in known)).hexdigest()
    if not path.exists():
        return Progress(clips=digest)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, member in members.items():
            if name != "scaler" or state.get(name):  # absent if the training began in another precision
                member.load_state_dict(state[name])
        progress = Progress(**state["progress"])
    except Exception as error:  # unpickling a damaged file may raise any exception
        reason = shortened(str(error) or type(error).__name__, 300)
        raise InputError(f"{path} is damaged ({reason}). Delete it to train that fold anew.") from None
    if progress.clips not in {"", digest}:
        raise InputError(
            f"{path} is of a training on other clips or labels: data, groups or pseudo-labels have changed "
            f"since. Give another --name, or delete {path.parent} to train that fold anew."
        )
    progress.clips = digest
    return progress


def is_whole(path: Path) -> bool:
    """Whether a saved state can be read."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # as in `load_state`
        return False
    return True
