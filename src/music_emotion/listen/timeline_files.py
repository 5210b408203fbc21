"""The files that hold a timeline: a table over time, and a card of the whole."""

import math
import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.files import read_json, write_json, write_table
from music_emotion.listen.timeline import Timeline


def free_place(folder: Path, path: Path, taken: set[str]) -> Path:
    """Where the results of a file go, without their endings.

    Parameters
    ----------
    folder : Path
        Holds all results.
    path : Path
        The audio file.
    taken : set of str
        Names given to other files so far, in lower case; gets the new one.

    Returns
    -------
    Path
        `<name>`, else `<folder>-<name>`, else that with a number: the first that neither another
        file of this run has nor, by its card, one of an earlier run.
    """
    own = readable(path.resolve())
    name = next(
        name for name in _names(path) if name.casefold() not in taken and _is_of(own, folder / f"{name}.json")
    )
    taken.add(name.casefold())
    return folder / name


def _names(path: Path) -> Iterator[str]:
    yield path.stem
    longer = f"{path.resolve().parent.name}-{path.stem}"
    yield longer
    yield from (f"{longer}-{number}" for number in count(2))


def _is_of(own: str, card: Path) -> bool:
    """Whether a card is not there, or one of the same file."""
    if not card.exists():
        return True
    there = read_json(card)
    return isinstance(there, dict) and there.get("file") == own


def readable(path: Path) -> str:
    """A path as text that any file can hold, though its bytes may be no text."""
    return os.fsencode(path).decode("utf-8", "replace")


def with_ending(place: Path, ending: str) -> Path:
    """One of the files of a place, whose name may hold dots of its own."""
    return place.with_name(f"{place.name}.{ending}")


def stamp(path: Path) -> dict[str, Any]:
    """What tells a file from others, and from itself after a change.

    Returns
    -------
    dict
        `file`, its whole path; `bytes` and `mtime_ns`, which are None where there is no file.
    """
    status = path.stat() if path.exists() else None
    return {
        "file": readable(path.resolve()),
        "bytes": status and status.st_size,
        "mtime_ns": status and status.st_mtime_ns,
    }


def is_written(place: Path, origin: dict[str, Any], endings: Iterable[str]) -> bool:
    """Whether a place holds a card that says all that `origin` does, and files of these endings."""
    card = with_ending(place, "json")
    if not all(with_ending(place, ending).exists() for ending in ("json", *endings)):
        return False
    there = read_json(card)
    return isinstance(there, dict) and there.items() >= origin.items()


def write_timeline(place: Path, timeline: Timeline, origin: dict[str, Any]) -> None:
    """Write `<place>.csv` and, last, `<place>.json`, which says whose they are.

    Parameters
    ----------
    place : Path
        As `free_place` gives it.
    timeline : Timeline
        What was predicted.
    origin : dict
        Of what and how: the `stamp` of the audio file, and more; the card gets it as it is.
    """
    genres = timeline.genres.add_prefix("genre_")
    table = pd.concat([timeline.times, timeline.targets, genres], axis=1)
    write_table(with_ending(place, "csv"), table.round(6))
    said = {
        "seconds": round(timeline.seconds, 6),
        "targets": _known(timeline.whole_targets),
        "genres": _known(timeline.whole_genres),
        "genre": timeline.likeliest_genre,
    }
    write_json(with_ending(place, "json"), origin | said)


def _known(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no nan."""
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}
