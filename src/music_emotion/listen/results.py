"""The files that hold a song's predictions: a table over time, a card of the whole, a picture."""

import math
import os
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.files import read_json, write_json, write_table
from music_emotion.listen.predict import Timeline


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
        `<name>`, else `<folder>-<name>`, else that with a number: the first that neither another file of
        this run has nor, by its card, one of an earlier run.
    """
    own, longer = readable(path.resolve()), f"{path.resolve().parent.name}-{path.stem}"

    def is_free(name: str) -> bool:
        card = folder / f"{name}.json"
        return name.casefold() not in taken and (not card.exists() or _holds(card, {"file": own}))

    names = chain([path.stem, longer], (f"{longer}-{number}" for number in count(2)))
    name = next(filter(is_free, names))
    taken.add(name.casefold())
    return folder / name


def _holds(card: Path, entries: dict[str, Any]) -> bool:
    there = read_json(card)
    return isinstance(there, dict) and there.items() >= entries.items()


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
    """Whether a place holds a card with all entries of `origin`, and files of these endings."""
    card = with_ending(place, "json")
    return card.exists() and all(with_ending(place, e).exists() for e in endings) and _holds(card, origin)


def write_timeline(place: Path, timeline: Timeline, origin: dict[str, Any]) -> None:
    """Write `<place>.csv` and, last, the card `<place>.json`.

    Parameters
    ----------
    place : Path
        As `free_place` gives it.
    timeline : Timeline
    origin : dict
        What was predicted and how: the `stamp` of the audio file, and more. The card gets it as it is.
    """
    genres = timeline.genres.add_prefix("genre_")
    table = pd.concat([timeline.times, timeline.targets, genres], axis=1)
    write_table(with_ending(place, "csv"), table.round(6))
    card = {
        "seconds": round(timeline.seconds, 6),
        "targets": _finite(timeline.whole_targets),
        "genres": _finite(timeline.whole_genres),
        "genre": timeline.likeliest_genre,
    }
    write_json(with_ending(place, "json"), origin | card)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no nan."""
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}
