"""Predict a library of songs: one table, made by any number of processes, that a second run goes on with."""

import csv
import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import mutagen
import pandas as pd

from music_emotion import files
from music_emotion.datasets.parallel import SOURCE_COLUMNS, Item, Workers, items_of, work_through
from music_emotion.failures import collecting, drawing, raise_collected
from music_emotion.files import InputError, printable, shortened
from music_emotion.listen.hub import located
from music_emotion.listen.model import EmotionModel, Engine, name_of, stamp
from music_emotion.listen.page import packed_curves, write_page
from music_emotion.listen.predict import Sliding
from music_emotion.listen.songs import find_audio

_TAGS = {"title": "TIT2", "artist": "TPE1"}  # the latter in the ID3 tags of wav and aiff
_TEXTS = (*_TAGS, "genre", "unlike", "curves")
_OF_PAGE = Sliding(10.0, 1.0)
_MOST_SHOWN = 40  # songs on the screen


def predict_library(
    paths: Sequence[Path],
    models: Sequence[Path],
    out: Path,
    workers: Workers,
    failures: dict[str, str],
    page: Path | None = None,
    engine: Engine | None = None,
) -> pd.DataFrame:
    """Predict songs, and write `predictions.csv` and `predictions.json`.

    A repeated run predicts only songs that are new, changed or failed, or all if the model is another. The
    tables hold the songs of the last run, and `record.csv` those of earlier ones, too.

    Parameters
    ----------
    paths : sequence of Path
        Audio files, and folders of audio.
    models : sequence of Path
        As for `EmotionModel.from_pretrained`.
    out : Path
        Folder for the tables, and for `record.csv`, which tells what is done.
    workers : Workers
    failures : dict of str to str
        Gets the reasons why songs could not be predicted, as in `collecting`.
    page : Path, optional
        HTML page of the library to write, too. It needs time lines, which `record.csv` keeps; later runs in
        the same folder make them for new songs also without a page.
    engine : {"torch", "onnx"}, optional
        As for `EmotionModel.from_pretrained`.

    Returns
    -------
    pd.DataFrame
        One row per song: `path`, `title`, `artist`, and what `EmotionModel.predict` gives.

    Raises
    ------
    InputError
        When there are no songs, the page is a folder, or models are unusable.
    """
    if page and page.is_dir():
        raise InputError(f"--page {page} is a folder. Name a file, such as {page / 'library.html'}.")
    songs = [str(path.absolute()) for path in find_audio(paths, failures)]
    if not songs:
        raise_collected(failures, len(failures), "predicted")
    local = [located(path) for path in models]
    places = tuple(str(path.absolute() if workers.scheduler else path) for path in local)
    model = {"name": name_of(models), "sha256": stamp(local)}
    load = partial(_load, model["sha256"], places, engine)
    columns = [*_TAGS, *load().columns, "curves"]
    if not any(map(os.path.exists, songs)):  # so that a wrong path leaves the tables of other songs
        for song in songs:
            with collecting(failures, song):
                files.regular_file(Path(song), "The audio file", "Correct its path.")
        raise_collected(failures, len(failures), "predicted")
    # ids follow from paths, so that a new song leaves those of the others
    ids = [int.from_bytes(sha256(os.fsencode(song)).digest()[:7]) for song in songs]
    record = out / "record.csv"
    if workers == Workers():  # after a run that was cut short, processes, since a song may have crashed it
        workers = Workers(in_threads=not files.beside(record, after=".part").exists())
    with files.alone_at(record, "give another --out"):
        for name in (record.name, "predictions.csv", "predictions.json"):
            files.remove_unfinished(out / name)
        settings, sliding = model["sha256"], None
        if _has_curves(record, settings, columns) or page:
            settings, sliding = f"{settings} with curves", _OF_PAGE
        items = items_of(pd.DataFrame({"id": ids, "path": songs}), settings)
        function, texts = partial(_predict_one, load, sliding), [name for name in columns if name in _TEXTS]
        outcome = work_through(
            *(items, function, record, columns, workers, lambda: None, 1.0),
            texts=texts,
            keeps_others=True,
        )
        table = outcome.record
        failures |= dict.fromkeys(table.loc[table["reason"] != "", "reason"], "")
        table = table.loc[table["reason"] == "", ["path", *columns]].reset_index(drop=True)
        kinds = dict.fromkeys(columns, float) | {f"{name}_percentile": int for name in load().facts.intervals}
        table = table.astype({name: kind for name, kind in kinds.items() if name not in texts})
        if "unlike" in table:
            table["unlike"] = table["unlike"] == "True"
        curves = table.pop("curves")
        told = table.assign(path=table["path"].map(printable))
        model_columns = {"model": model["name"], "model_sha256": model["sha256"]}
        files.write_table(out / "predictions.csv", told.assign(**model_columns))
        files.write_json(out / "predictions.json", {"model": model, "songs": told.to_dict("records")})
    print(f"{_shown(table)}{outcome.counts} All numbers are in {out / 'predictions.csv'}.")
    if page:
        with drawing(page, "page"):
            write_page(page, table, curves, load(), model["name"])
            print(f"The page is {page}. Open it in a browser.")
    return table


def _has_curves(record: Path, digest: str, columns: Sequence[str]) -> bool:
    """Whether a record holds time lines. Remove one of another model or of other columns."""
    text = record.read_text(encoding="utf-8-sig", errors="replace") if record.exists() else ""
    header = next(csv.reader(text.splitlines()[:1]), [])
    is_record, is_ours = header[: len(SOURCE_COLUMNS)] == [*SOURCE_COLUMNS], digest in text
    if is_record and not (is_ours and header == [*SOURCE_COLUMNS, *columns, "reason"]):
        record.unlink()
    return f"{digest} with curves" in text


def _shown(table: pd.DataFrame) -> str:
    """The first songs as lines, with intervals."""
    if table.empty:
        return ""
    shown = table.head(_MOST_SHOWN)
    columns = shown[[*_TAGS]].map(lambda text: shortened(text, 30))
    for name in shown.columns.drop(["path", *_TAGS]):
        if f"{name}_low" in shown:
            ends = (name, f"{name}_low", f"{name}_high")
            value, low, high = (shown[end].map("{:.2f}".format) for end in ends)
            columns[name] = value + " (" + low + " to " + high + ")"
        elif name in ("genre", "valence", "energy", "danceability"):
            columns[name] = shown[name]
    if "unlike" in shown:
        columns["title"] += shown["unlike"].map({True: " *", False: ""})
    style: dict[str, Any] = {"tablefmt": "simple", "floatfmt": ".2f", "disable_numparse": [0, 1]}
    lines = [columns.to_markdown(index=False, **style)]
    if len(table) > len(shown):
        lines.append(f"... and {len(table) - len(shown)} more")
    if any(str(name).endswith("_low") for name in shown):
        lines.append("In brackets: 80 % intervals.")
    if "unlike" in shown and shown["unlike"].any():
        lines.append("* unlike the training clips, so the numbers may mean nothing")
    return "".join(f"{line}\n" for line in lines)


@lru_cache(maxsize=1)  # once per process
def _load(_: str, places: tuple[str, ...], engine: Engine | None) -> EmotionModel:
    """Load a model anew when its stamp changes."""
    return EmotionModel.from_pretrained(*places, engine=engine)


def _predict_one(load: Callable[[], EmotionModel], sliding: Sliding | None, item: Item) -> dict[str, Any]:
    path = Path(item.path)
    heard = load().listen(path, sliding)[1]  # first, since it refuses pipes
    found = load().facts.of_song(heard)
    # six digits, as in the record, so that a song that is kept has the same numbers
    rounded = {name: float(f"{of:.6g}") if isinstance(of, float) else of for name, of in found.items()}
    return _tags(path) | rounded | {"curves": packed_curves(heard) if sliding else ""}


def _tags(path: Path) -> dict[str, str]:
    """Title and artist of a file; its name if it has no title."""
    try:
        tags = mutagen.File(path, easy=True) or {}
        values = {name: tags.get(name) or tags.get(id3) or [] for name, id3 in _TAGS.items()}
        found = {name: ", ".join(map(str, of)) for name, of in values.items()}
    except Exception:  # damaged tags leave the sound readable
        found = dict.fromkeys(_TAGS, "")
    words = {name: printable(" ".join(text.split())) for name, text in found.items()}
    return words | {"title": words["title"] or printable(path.stem)}
