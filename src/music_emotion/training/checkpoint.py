"""The state of an unfinished training, so that the same command goes on from its last epoch."""

from pathlib import Path
from typing import Any

import torch

from music_emotion.errors import InputError
from music_emotion.files import atomic_path


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a saved state; None when there is none.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged ({error}). Delete it to train that fold anew.") from None
