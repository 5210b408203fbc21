"""Put in a process as `sitecustomize`: imports of Kaggle's image only, no network, a clock that can jump."""

import os
import re
import socket
import sys
import time
from contextlib import suppress
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path


def _allowed() -> set[str]:
    """Distributions of the image, all that these need, and the project."""
    waiting = re.findall(r"^[\w.-]+", Path(os.environ["IMAGE"]).read_text(), re.MULTILINE)
    allowed = {"pip", "setuptools"}
    while waiting:
        name = _normal(waiting.pop())
        if name in allowed:
            continue
        allowed.add(name)
        with suppress(PackageNotFoundError):
            needed = [line for line in requires(name) or [] if "extra ==" not in line]
            waiting += [re.split(r"[ ;<>=!~\[(]", line)[0] for line in needed]
    return allowed | {"music-emotion"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _find_spec(name, path=None, target=None):
    """Find what the usual finder finds, but for what the image lacks."""
    return None if name.split(".")[0] in _LACKING else _find(name, path, target)


def _refuse(*_: object) -> None:
    raise OSError("there is no network")


def _later() -> float:
    """The time, and a year later once a file is there: so a training's hours are over at that moment."""
    return _now() + (3e7 if os.path.exists(os.environ["OVER_ONCE"]) else 0.0)


_IMAGE = _allowed()
_LACKING = {name for name, owners in packages_distributions().items() if not _IMAGE & {*map(_normal, owners)}}
_find, PathFinder.find_spec = PathFinder.find_spec, _find_spec  # type: ignore[method-assign, assignment]
# the kernel must not need the project where it is developed
sys.path[:] = [place for place in sys.path if place != os.environ["NOT_FROM"]]
_now, time.time = time.time, _later
socket.socket.connect = _refuse  # type: ignore[method-assign, assignment]
