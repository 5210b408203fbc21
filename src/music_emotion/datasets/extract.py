"""Audio files to the competition's layout: many clips in parallel, and again only what is missing."""

import io
import time
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion.audio.features import FeatureSettings, compile_ahead, fused_features
from music_emotion.config import Rate, Task
from music_emotion.datasets.clips import target_columns
from music_emotion.datasets.journal import Journal
from music_emotion.datasets.layout import Split, array_name, leading_id, set_name
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.recording import read_clip
from music_emotion.datasets.resumable import Item, Outcome, check_failures, items_of, work_through
from music_emotion.datasets.windows import Windows, cut_windows
from music_emotion.files import (
    InputError,
    alone_at,
    atomic_path,
    first_five,
    read_json,
    remove_unfinished,
    write_json,
    write_table,
    write_text,
)

_ORIGIN = ("id", "path", "start_seconds", "end_seconds", "clip")
_RATES: tuple[Rate, ...] = ("full", "beat")
# How each edition's genre tables spell the file of a clip, faults included (see README, data).
_GENRE_NAMES: dict[tuple[Rate, Split], str] = {
    ("full", "train"): "{}.fused.full.npy.gz",
    ("full", "test"): "{}.full.fused.npy.gz",
    ("beat", "train"): "{}.beatsync.fused.npy.gz",
    ("beat", "test"): "{}.beatsync.fused.npy.gz",
}


def extract_clips(
    clips: pd.DataFrame,
    root: Path,
    task: Task,
    split: Split,
    settings: FeatureSettings | None = None,
    windows: Windows | None = None,
    workers: Workers | None = None,
    max_failed: float = 0.01,
) -> Outcome:
    """Extract full-rate and beat-synchronous arrays of clips into the competition's layout.

    Only clips that are missing, or whose audio or span has changed, are extracted.

    Parameters
    ----------
    clips : pd.DataFrame
        As `read_clips` gives it.
    root : Path
        Gets ``<set>/<split>/<id>.fused.full.npy`` for both sets of the task, label files,
        `settings.json`, `ids-<split>.csv`, the record `extract-<split>.csv` and, where clips have
        groups, `groups-<split>.csv`.
    task : {"emotion", "genre"}
    split : {"train", "test"}
    settings : FeatureSettings, optional
        The course's own by default.
    windows : Windows, optional
        Into which clips are cut; each is a clip of its own then.
    workers : Workers, optional
        One process per core by default.
    max_failed : float
        Share of clips, 0 to 1, that may fail before the run does.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `root` holds arrays that were not extracted here, of other settings, or of clips that
        are not in the table; when too many clips fail, or another process extracts into that set.
    """
    settings, windows = settings or FeatureSettings(), windows or Windows()
    clips = cut_windows(clips, windows)
    root = root.resolve()  # workers on other machines start elsewhere
    folders = {rate: root / set_name(task, rate) for rate in _RATES}
    with alone_at(folders["full"], "give another --out"):
        for folder in folders.values():
            _check_folder(folder, split, set(clips["id"]), asdict(settings) | asdict(windows))
        return _extract(clips, folders, task, split, settings, workers or Workers(), max_failed)


def _extract(
    clips: pd.DataFrame,
    folders: dict[Rate, Path],
    task: Task,
    split: Split,
    settings: FeatureSettings,
    workers: Workers,
    max_failed: float,
) -> Outcome:
    journal = Journal(folders["full"] / f"extract-{split}.csv", ("seconds",))
    outcome = work_through(
        items_of(clips, settings, partial(_outputs, folders, split)),
        partial(_extract_one, settings),
        journal,
        workers,
        partial(compile_ahead, settings),
        f"extract {task} {split}",
    )
    for folder in folders.values():
        remove_unfinished(folder)
    check_failures(outcome, journal.path, max_failed)
    failed = (outcome.record["reason"] != "").to_numpy()
    for clip_id in clips["id"][failed]:
        for path in _outputs(folders, split, clip_id):  # of an earlier version of the clip
            path.unlink(missing_ok=True)
    _write_tables(folders, task, split, clips, clips[~failed])
    return outcome


def read_settings(set_folder: Path) -> FeatureSettings:
    """How a set was extracted: as its `settings.json` says, or else as the course did it.

    Raises
    ------
    InputError
        When the file is not what the extraction writes.
    """
    path = set_folder / "settings.json"
    if not path.exists():
        return FeatureSettings()
    try:
        held = read_json(path)
        return FeatureSettings(**{field.name: held[field.name] for field in fields(FeatureSettings)})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} does not hold feature settings ({error}). Extract the set anew.") from None


def _check_folder(folder: Path, split: Split, ids: set[int], asked: dict[str, Any]) -> None:
    """Refuse a set that is not ours, not made this way, or not of this table's clips.

    The last also stops a table of test clips on its way to the training clips. Without arrays,
    what an earlier run asked for binds nobody.
    """
    found = {name: _ids_in(folder / name) for name in ("train", "test")}
    path = folder / "settings.json"
    if not path.exists() and found[split]:
        raise InputError(
            f"{folder / split} holds arrays, but {path.name} does not lie in {folder}: they were not "
            f"extracted here, and are not to be written over. Give another --out."
        )
    if path.exists() and any(found.values()):
        differing = {name: held for name, held in read_json(path).items() if held != asked.get(name)}
        if differing:
            raise InputError(
                f"{path} says that what is there was made with {differing}, but this run asks for "
                f"{ {name: asked.get(name) for name in differing} }. Give another --out."
            )
    strangers = sorted(found[split] - ids)
    if strangers:
        raise InputError(
            f"{folder / split} holds arrays of clips that are not in the table: {first_five(strangers)} "
            f"({len(strangers)} in all). Check --split, give another --out, or remove these arrays there "
            f"and in the other rate's folder."
        )
    write_json(path, asked)


def _ids_in(folder: Path) -> set[int]:
    paths = folder.glob("[!.]*.npy*")
    return {clip_id for path in paths if (clip_id := leading_id(path.name)) is not None}


def _outputs(folders: dict[Rate, Path], split: Split, clip_id: int) -> tuple[Path, ...]:
    return tuple(folders[rate] / split / array_name(clip_id) for rate in _RATES)


def _extract_one(settings: FeatureSettings, item: Item) -> dict[str, Any]:
    """Extract one clip; note the seconds it took and why it failed, if it did."""
    started = time.perf_counter()
    reason = ""
    try:
        waveform = read_clip(item.audio, item.source, settings)
    except InputError as error:
        reason = str(error)
    else:
        for path, array in zip(item.outputs, fused_features(waveform, settings), strict=True):
            _save(path, array)
    return {"seconds": round(time.perf_counter() - started, 3), "reason": reason}


def _save(path: Path, array: np.ndarray) -> None:
    whole = io.BytesIO()  # NumPy's own writing hides why a disk refused it
    np.save(whole, array)
    with atomic_path(path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def _write_tables(
    folders: dict[Rate, Path], task: Task, split: Split, clips: pd.DataFrame, good: pd.DataFrame
) -> None:
    origin = clips[[column for column in _ORIGIN if column in clips]]
    for rate, folder in folders.items():
        write_table(folder / f"ids-{split}.csv", origin)
        _write_labels(folder, task, rate, split, good)
        groups = folder / f"groups-{split}.csv"
        groups.unlink(missing_ok=True)  # those of an earlier table
        if "group" in clips:
            write_table(groups, good[["id", "group"]].rename(columns={"id": "Id"}))


def _write_labels(folder: Path, task: Task, rate: Rate, split: Split, clips: pd.DataFrame) -> None:
    path = folder / f"{split}_labels.txt"
    path.unlink(missing_ok=True)
    if task == "genre" and "label" in clips:
        name = _GENRE_NAMES[rate, split]
        rows = [f"{name.format(row.id)}\t{row.label}" for row in clips.itertuples()]
        write_text(path, "\n".join(["Id\tGenre", *rows]) + "\n")
    elif task == "emotion" and target_columns(clips):
        table = clips[["id", *target_columns(clips)]].rename(columns={"id": "Id"})
        write_table(path, table)
