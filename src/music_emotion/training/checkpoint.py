"""The state of an unfinished training, from which the same command resumes after its last epoch."""

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
Stateful = Mapping[str, Any]  # names to objects with `state_dict` and `load_state_dict`


@dataclass
class Progress:
    """How far a training has come.

    Attributes
    ----------
    epoch, update : int
        Finished epochs and updates.
    metrics : list of dict
        One row per finished epoch, as in `metrics.csv`.
    best : float
        Score of the selected epoch; larger is better.
    best_weights : dict of str to torch.Tensor or None
        Its weights.
    waited : int
        Validations since.
    clips : str
        Digest of the training clips and labels; empty in a state of an earlier version.
    """

    epoch: int = 0
    update: int = 0
    metrics: list[dict[str, float]] = field(default_factory=list)
    best: float = -np.inf
    best_weights: dict[str, torch.Tensor] | None = None
    waited: int = 0
    clips: str = ""


def save_state(path: Path, members: Stateful, progress: Progress) -> None:
    """Write the state of network, average, optimiser and scaler, and the progress, atomically."""
    state = {name: member.state_dict() for name, member in members.items()}
    whole = io.BytesIO()  # PyTorch's own writing hides why a disk refused it
    torch.save(state | {"progress": vars(progress)}, whole)
    with atomic_path(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def load_state(path: Path, members: Stateful) -> Progress:
    """Load a saved state into its members; without a file, start from the beginning.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    if not path.exists():
        return Progress()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, member in members.items():
            if name != "scaler" or state.get(name):  # none when the training began in another precision
                member.load_state_dict(state[name])
        return Progress(**state["progress"])
    except Exception as error:  # unpickling a damaged file raises whatever it meets
        reason = shortened(str(error) or type(error).__name__, 300)
        raise InputError(f"{path} is damaged ({reason}). Delete it to train that fold anew.") from None


def check_same_clips(progress: Progress, training: ClipSet, path: Path) -> None:
    """Refuse to resume on other clips or labels, and note those of a training that begins.

    The weights keep what they learnt: a clip that moved to the validation side since would be scored by a
    network that has seen its label.

    Raises
    ------
    InputError
        When the state is of a training on other clips.
    """
    lengths = training.store.index.loc[training.ids, "length"].to_numpy(np.int64)
    known = (training.ids.astype(np.int64), lengths, training.values.astype(np.float32))
    digest = sha256(b"".join(values.tobytes() for values in known)).hexdigest()
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
