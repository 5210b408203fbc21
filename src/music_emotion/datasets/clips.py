"""A user's clips, from a table or a folder: which audio, which id, what is known about it."""

from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import Task
from music_emotion.datasets.audio_files import absolute_paths, clips_of_folder, paths_by_id
from music_emotion.datasets.clip_table import OWN_COLUMNS, Faults, numbers, read_cells
from music_emotion.datasets.windows import read_spans
from music_emotion.files import InputError


def read_clips(source: Path, audio_folder: Path | None = None) -> pd.DataFrame:
    """Read a table of clips, or make the one of a folder, and find their audio.

    Parameters
    ----------
    source : Path
        CSV with a column `path` (relative to the table) or, with `audio_folder`, a column `id`.
        Optional: `id` (whole numbers), `start_seconds`, `end_seconds`, `label` (a genre), `group`;
        every other column is a target of numbers. `Id`, `Path`, `file`, `Genre` and `genre` are
        read as `id`, `path` and `label`. Or a folder of audio with one sub-folder per class.
    audio_folder : Path, optional
        Where ``<id>.<ending>`` is looked up for rows without a path.

    Returns
    -------
    pd.DataFrame
        `id` (int64, from 1 where the table has none), `path` (absolute), `start_seconds` and
        `end_seconds` (float64, as far as given, nan for an empty cell), `label`, `group`, targets
        (float64). Where several clips lie in one recording and no groups are given, `group` is the
        recording's number, so that folds keep them together.

    Raises
    ------
    InputError
        For a folder without audio, for what is no table, and for all faults of a table at once,
        by kind and with their lines.

    Notes
    -----
    A recording that can't be opened is no fault of the table; extraction records it.
    """
    if not source.is_dir():
        return _clips_of_table(source, audio_folder)
    if audio_folder is not None:
        raise InputError(f"--audio {audio_folder} is for a table with ids, but {source} is a folder.")
    return clips_of_folder(source)


def target_columns(clips: pd.DataFrame) -> list[str]:
    """Names of the columns of a clip table that hold targets."""
    return [column for column in clips.columns if column not in (*OWN_COLUMNS, "clip")]


def task_of(clips: pd.DataFrame) -> Task | None:
    """The task a clip table is for: genre with labels, emotion with targets, else unknown."""
    if "label" in clips:
        return "genre"
    return "emotion" if target_columns(clips) else None


def _clips_of_table(table_path: Path, audio_folder: Path | None) -> pd.DataFrame:
    faults = Faults(table_path)
    cells = read_cells(table_path, faults)
    ids = _ids(cells, faults)
    paths = _paths(cells, ids, table_path.parent, audio_folder, faults)
    clips = pd.concat([ids, paths, read_spans(cells, paths, faults)], axis=1)
    _check_repeated(clips, faults)
    for column in ("label", "group"):
        if column in cells:
            clips[column] = cells[column].str.strip().astype(str)
            faults.add(f"{column}{{s}} {{are}} empty", clips[column][clips[column] == ""])
    if "label" in cells:  # label files are separated by tabs
        broken = clips["label"][clips["label"].str.contains(r"[\t\r\n]")]
        faults.add("label{s} {have} a tab or a line break", broken.map(repr))
    for column in target_columns(cells):
        clips[column] = numbers(cells[column])
        wrong = cells[column][clips[column].isna()]
        faults.add("target{s} {are} not a number", wrong.map(lambda text, c=column: f"{c}: '{text}'"))
    faults.check()
    clips = clips.assign(id=clips["id"].astype(np.int64), path=clips["path"].astype(str))
    if "group" not in clips and clips["path"].duplicated().any():
        clips["group"] = pd.factorize(clips["path"])[0] + 1
    front = [column for column in OWN_COLUMNS if column in clips]
    return clips[[*front, *target_columns(clips)]].reset_index(drop=True)


def _ids(cells: pd.DataFrame, faults: Faults) -> pd.Series:
    """Ids as they are written, so that none is rounded; valid ones also when there are faults."""
    if "id" not in cells:
        return pd.Series(np.arange(1, len(cells) + 1), cells.index, name="id")
    values = numbers(cells["id"])
    wrong = ~(values >= 0) | (values % 1 != 0) | (values >= 2**63)
    faults.add("id{s} {are} not a whole number from 0 up", cells["id"][wrong].map("'{}'".format))
    return pd.to_numeric(cells["id"].where(~wrong))


def _paths(
    cells: pd.DataFrame, ids: pd.Series, folder: Path, audio_folder: Path | None, faults: Faults
) -> pd.Series:
    """Absolute paths; nan where there is a fault."""
    paths = pd.Series(np.nan, cells.index, dtype=object, name="path")
    written = cells["path"] if "path" in cells else pd.Series("", cells.index, dtype=object)
    is_empty = written.str.strip() == ""
    paths[~is_empty] = absolute_paths(written[~is_empty], folder, faults)
    if audio_folder is not None:
        looked_up = ids[is_empty].dropna()
        paths[looked_up.index] = paths_by_id(looked_up, audio_folder, faults)
    elif "path" in cells:
        faults.add("path{s} {are} empty", written[is_empty].str.strip())
    else:
        faults.add("column{s} {are} missing", pd.Series({1: "'path'; add it, or give --audio FOLDER"}))
    return paths


def _check_repeated(clips: pd.DataFrame, faults: Faults) -> None:
    ids = clips["id"].dropna()
    faults.add("id{s} {are} used before", ids[ids.duplicated()].map(int))
    spans = clips.drop(columns="id").dropna(subset="path")
    spans = spans.assign(start_seconds=spans.get("start_seconds", pd.Series(0.0, spans.index)).fillna(0.0))
    names = spans["path"][spans.duplicated()].map(lambda path: Path(path).name)
    faults.add("row{s} {have} the audio and the span of an earlier one", names)
