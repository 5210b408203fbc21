"""Predict a library of songs: one table, made by any number of processes, that a second run goes on with."""

import os
from collections.abc import Sequence
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import mutagen
import pandas as pd

from music_emotion.datasets.parallel import Item, Workers, items_of, work_through
from music_emotion.failures import raise_collected
from music_emotion.files import alone_at, printable, remove_unfinished, shortened, write_json, write_table
from music_emotion.listen.model import EmotionModel, name_of, stamp
from music_emotion.listen.songs import find_audio

_load = cache(EmotionModel.from_pretrained)  # once per process
_TAGS = ("title", "artist")
_TEXTS = (*_TAGS, "genre", "unlike")
_MOST_SHOWN = 40  # songs on the screen


def predict_library(
    paths: Sequence[Path], models: Sequence[Path], out: Path, workers: Workers
) -> pd.DataFrame:
    """Predict songs, and write `predictions.csv` and `predictions.json`.

    A repeated run predicts only songs that are new, changed or failed, or all if the model is another.

    Parameters
    ----------
    paths : sequence of Path
        Audio files, and folders of audio.
    models : sequence of Path
        As for `EmotionModel.from_pretrained`.
    out : Path
        Folder for the tables, and for `record.csv`, which tells what is done.
    workers : Workers

    Returns
    -------
    pd.DataFrame
        One row per song: `path`, `title`, `artist`, and what `EmotionModel.predict` gives.

    Raises
    ------
    InputError
        At the start, when there are no songs, or models are unusable. At the end, when songs could not be
        predicted; the message names them with reasons.
    """
    failures = dict[str, str]()
    songs = [str(path.absolute()) for path in find_audio(paths, failures)]
    n_asked, places = len(songs) + len(failures), tuple(str(path.absolute()) for path in models)
    model, columns = {"name": name_of(models), "sha256": stamp(models)}, [*_TAGS, *_load(*places).columns]
    # ids follow from paths, so that a new song leaves those of the others
    ids = [int.from_bytes(sha256(os.fsencode(song)).digest()[:7]) for song in songs]
    items, record = items_of(pd.DataFrame({"id": ids, "path": songs}), model["sha256"]), out / "record.csv"
    with alone_at(record, "give another --out"):
        remove_unfinished(record)
        function, texts = partial(_predict_one, places), [name for name in columns if name in _TEXTS]
        outcome = work_through(items, function, record, columns, workers, lambda: None, 1.0, texts=texts)
        table = outcome.record
        failures |= dict.fromkeys(table.loc[table["reason"] != "", "reason"], "")
        table = table.loc[table["reason"] == "", ["path", *columns]].sort_values("path")
        if "unlike" in table:
            table["unlike"] = table["unlike"] == "True"
        told = table.assign(model=model["name"], model_sha256=model["sha256"])
        write_table(out / "predictions.csv", told)
        write_json(out / "predictions.json", {"model": model, "songs": table.to_dict("records")})
    print(f"{_shown(table)}\n{outcome} All numbers are in {out / 'predictions.csv'}.")
    raise_collected(failures, n_asked, "predicted")
    return table


def _shown(table: pd.DataFrame) -> str:
    """The first songs as text, with intervals."""
    shown = table.head(_MOST_SHOWN)
    columns = shown[[*_TAGS]].map(lambda text: shortened(text, 30))
    for name in shown.columns.drop(["path", *_TAGS]):
        if f"{name}_low" in shown:
            parts = (shown[part].map("{:.2f}".format) for part in (name, f"{name}_low", f"{name}_high"))
            value, low, high = parts
            columns[name] = value + " (" + low + " to " + high + ")"
        elif name in ("genre", "valence", "energy", "danceability"):
            columns[name] = shown[name]
    if "unlike" in shown:
        columns["title"] += shown["unlike"].map({True: " *", False: ""})
    lines = [columns.to_markdown(index=False, tablefmt="simple", floatfmt=".2f")] if len(shown) else []
    if len(table) > len(shown):
        lines.append(f"... and {len(table) - len(shown)} more")
    if "unlike" in shown and shown["unlike"].any():
        lines.append("* unlike the training clips, so the numbers may mean nothing")
    return "\n".join(lines)


def _predict_one(places: tuple[str, ...], item: Item) -> dict[str, Any]:
    path = Path(item.path)
    return {**_tags(path), **_load(*places).predict(path)}


def _tags(path: Path) -> dict[str, str]:
    """Title and artist of a file; its name if it has no title."""
    try:
        tags = mutagen.File(path, easy=True) or {}
        found = {name: ", ".join(map(str, tags.get(name) or [])) for name in _TAGS}
    except (mutagen.MutagenError, OSError, ValueError, TypeError):  # damaged tags leave the sound readable
        found = dict.fromkeys(_TAGS, "")
    found["title"] = found["title"] or path.stem
    return {name: printable(value) for name, value in found.items()}
