"""Put in a process as `sitecustomize`: imports of Kaggle's image only, no network, a clock that can jump."""

import importlib.abc
import os
import re
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path


def _allowed() -> set[str]:
    """Distributions of the image, and all that these need."""
    lines = Path(os.environ["IMAGE"]).read_text().splitlines()
    waiting = [line.split("==")[0].strip() for line in lines if line and not line.startswith("#")]
    allowed: set[str] = {"pip", "setuptools"}
    while waiting:
        name = _normal(waiting.pop())
        if name in allowed:
            continue
        allowed.add(name)
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        waiting += [re.split(r"[ ;<>=!~\[(]", line)[0] for line in needed if "extra ==" not in line]
    return allowed


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_ours(origin: str | None) -> bool:
    """Whether it is the project where it is developed, which the kernel must not need."""
    return (origin or "").startswith(os.environ.get("NOT_FROM", "nowhere"))


class _Image(importlib.abc.MetaPathFinder):
    """Find what the usual finders find, but for what the image lacks."""

    def __init__(self, finders):
        self.finders, self.owners, self.allowed = finders, packages_distributions(), _allowed()

    def find_spec(self, name, path=None, target=None):
        owners = {_normal(owner) for owner in self.owners.get(name.split(".")[0], [])}
        if owners and "music-emotion" not in owners and not owners & self.allowed:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec is not None and not _is_ours(spec.origin)), None)

    def find_distributions(self, *context):
        """What is installed; packages ask for each other's versions."""
        for finder in self.finders:
            if hasattr(finder, "find_distributions"):
                yield from finder.find_distributions(*context)


def _refuse(*_: object) -> None:
    raise OSError("there is no network")


def _later() -> float:
    """The time, and a year later once a file is there: so a training's hours are over at that moment."""
    return _now() + (3e7 if os.path.exists(os.environ.get("OVER_ONCE", "")) else 0.0)


_now, time.time = time.time, _later
sys.meta_path[:] = [_Image(list(sys.meta_path))]
socket.socket.connect = _refuse  # type: ignore[method-assign, assignment]
