"""music-emotion: predict how music feels (valence, energy, danceability) and its genre.

Importing the package loads no heavy library. `docs/design.md` describes its modules.
"""

import os
from typing import Any

__version__ = "1.0.0"

# Set before torch loads OpenMP. Busy-waiting threads slow training twentyfold when other processes run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# ONNX Runtime would send events about its use; it reads this when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Numba caches beside the code or in the home folder, and fails where both are read-only, as in containers.
_places = os.path.dirname(__file__), os.path.expanduser("~")
if "NUMBA_CACHE_DIR" not in os.environ and not any(os.access(place, os.W_OK) for place in _places):
    import tempfile

    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="numba-")


def __getattr__(name: str) -> Any:
    """Load `EmotionModel` when it is asked for, since it imports pandas."""
    if name != "EmotionModel":
        raise AttributeError(f"module 'music_emotion' has no attribute '{name}'")
    from music_emotion.listen.model import EmotionModel

    return EmotionModel
