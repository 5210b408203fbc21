"""A user's table of clips: which audio, which id, what is known about it."""

from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.errors import InputError, first_five
from music_emotion.sections import Task

_AUDIO_ENDINGS = {".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".au"}
_SPELLINGS = {"Id": "id", "Genre": "label", "genre": "label", "Path": "path", "file": "path"}
_OWN_COLUMNS = ("id", "path", "start_seconds", "end_seconds", "label", "group")


def read_clips(table_path: Path, audio_folder: Path | None = None) -> pd.DataFrame:
    """Read a table of clips and find their audio.

    Parameters
    ----------
    table_path : Path
        CSV with a column `path` (relative to the table) or, with `audio_folder`, a column
        `id`. Optional: `id` (integer), `start_seconds`, `end_seconds`, `label` (a genre),
        `group`; every other column is a target. `Id` and `Genre` are read as `id` and `label`.
    audio_folder : Path, optional
        Where ``<id>.<ending>`` is looked up for rows without a path.

    Returns
    -------
    pd.DataFrame
        Columns `id`, `path`, and those of the table. Ids are numbered from 1 where absent.

    Raises
    ------
    InputError
        For a missing or empty table, missing audio, ids that are not whole numbers or repeated,
        neither paths nor an audio folder, or a target that is not a number.
    """
    table = _read_table(table_path).rename(columns=_SPELLINGS)
    if "id" not in table:
        table.insert(0, "id", np.arange(1, len(table) + 1))
    _check_ids(table["id"], table_path)
    table["id"] = table["id"].astype(np.int64)
    if "path" in table:
        empty = np.flatnonzero(table["path"].isna())
        if len(empty):
            raise InputError(f"{table_path}: row {empty[0] + 1} of the column 'path' is empty.")
        table["path"] = [str(table_path.parent / path) for path in table["path"]]
    elif audio_folder is not None:
        table["path"] = _paths_by_id(table["id"], audio_folder)
    else:
        raise InputError(f"{table_path} has no column 'path'. Add one, or give --audio FOLDER.")
    if "label" not in table:
        check_targets(table, table_path)
    missing = [path for path in table["path"] if not Path(path).is_file()]
    if missing:
        raise InputError(f"{table_path}: {len(missing)} audio files are missing: {first_five(missing)}.")
    return table


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"The table of clips {path} does not exist.")
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' errors of parsing are among them
        raise InputError(f"{path} is not a table: {error}.") from None
    if table.empty:
        raise InputError(f"{path} has no rows.")
    return table


def _check_ids(ids: pd.Series, place: Path) -> None:
    numbers = pd.to_numeric(ids, errors="coerce")
    wrong = ids[~(numbers >= 0) | (numbers % 1 != 0)]
    if len(wrong):
        raise InputError(
            f"{place}: the column 'id' holds {first_five(wrong)}; expected whole numbers from 0 up. "
            f"Rename the column to have clips numbered."
        )
    repeated = ids[ids.duplicated()]
    if len(repeated):
        raise InputError(f"{place}: ids occur more than once: {first_five(repeated)}.")


def _paths_by_id(ids: pd.Series, audio_folder: Path) -> list[str]:
    if not audio_folder.is_dir():
        raise InputError(f"The audio folder {audio_folder} does not exist.")
    by_stem = {p.stem: p for p in sorted(audio_folder.iterdir()) if p.suffix.lower() in _AUDIO_ENDINGS}
    missing = [clip_id for clip_id in ids if str(clip_id) not in by_stem]
    if missing:
        raise InputError(f"{len(missing)} ids have no audio file in {audio_folder}: {first_five(missing)}.")
    return [str(by_stem[str(clip_id)]) for clip_id in ids]


def target_columns(clips: pd.DataFrame) -> list[str]:
    """Names of the columns of a clip table that hold targets."""
    return [column for column in clips.columns if column not in _OWN_COLUMNS]


def check_targets(clips: pd.DataFrame, place: Path) -> None:
    """Refuse columns that would be targets but do not hold numbers.

    Raises
    ------
    InputError
        Naming the column and what to do with it.
    """
    for column in target_columns(clips):
        numbers = pd.to_numeric(clips[column], errors="coerce")
        if numbers.isna().any():
            row = int(numbers.isna().to_numpy().argmax())
            raise InputError(
                f"{place} row {row + 1}: the target '{column}' is {clips[column].iloc[row]!r}, not a number. "
                f"Columns other than {', '.join(_OWN_COLUMNS)} are targets; remove those that are not."
            )


def task_of(clips: pd.DataFrame) -> Task | None:
    """The task a clip table is for: genre with labels, emotion with targets, else unknown."""
    if "label" in clips:
        return "genre"
    return "emotion" if target_columns(clips) else None
