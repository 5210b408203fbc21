"""Find the audio of clips: in a folder per class, by ids, by paths."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.datasets.clip_table import Faults
from music_emotion.files import InputError, first_five

_ENDINGS = (
    *(".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav"),
    *(".webm", ".wma"),
)


def clips_of_folder(folder: Path) -> pd.DataFrame:
    """Make the table of clips of a folder of audio.

    Parameters
    ----------
    folder : Path
        Holds audio, or one sub-folder of audio per class. Hidden files and folders do not count.

    Returns
    -------
    pd.DataFrame
        `id`, `path` and, with sub-folders, `label`: the name of the sub-folder, that of the topmost
        where they are nested. Sorted by path within the folder. Ids are the files' names where there
        are no sub-folders and all names are distinct whole numbers, else they count from 1.

    Raises
    ------
    InputError
        When there is no audio, or audio both in the folder and in sub-folders.
    """
    names = audio_below(folder)
    classes = [name.split("/")[0] if "/" in name else "" for name in names]
    if len(set(classes)) > 1 and "" in classes:
        loose = [name for name in names if "/" not in name]
        raise InputError(
            f"{folder} holds audio itself ({first_five(loose)}) and in sub-folders "
            f"({first_five(sorted(set(classes) - {''}))}). Sub-folders are classes: put every file into one, "
            f"or all files into one folder without any."
        )
    wrong = [name for name in names if re.search("[\t\r\n\ud800-\udfff]", name)]
    if wrong:  # they could not be written into the tables that extraction makes
        raise InputError(f"{folder}: rename {first_five(map(ascii, wrong))}; tables can't hold such names.")
    paths = [str(folder.resolve() / name) for name in names]
    clips = pd.DataFrame({"id": np.arange(1, len(names) + 1), "path": paths})
    if any(classes):
        return clips.assign(label=classes)
    ids = [number for name in names if (number := _id_of(name)) is not None]
    return clips.assign(id=ids) if len(set(ids)) == len(names) else clips


def audio_below(folder: Path) -> list[str]:
    """List the audio in a folder and in all folders below it.

    Parameters
    ----------
    folder : Path
        Hidden files and folders in it do not count.

    Returns
    -------
    list of str
        Paths relative to the folder, with slashes, sorted.

    Raises
    ------
    InputError
        When there is no audio.
    """
    names = [name for name in _listed(folder) if _is_audio(name)]
    for top in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for place, below, files in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".")]
            inner = Path(place).relative_to(folder).as_posix()
            names += [f"{inner}/{name}" for name in files if _is_audio(name)]
    if not names:
        raise InputError(f"{folder} holds no audio: no name in it ends in {', '.join(_ENDINGS)}.")
    return sorted(names)


def _is_audio(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and not name.startswith(".")


def _id_of(name: str) -> int | None:
    """The whole number that a file is called, if it is one that a table can hold."""
    stem = os.path.splitext(name)[0]
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) <= 18 else None


def _listed(folder: Path | str) -> list[str]:
    """Names of the files in a folder; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return []


def paths_by_id(ids: pd.Series, folder: Path, faults: Faults) -> pd.Series:
    """Find ``<id>.<ending>`` of every id in a folder.

    Parameters
    ----------
    ids : pd.Series
        Whole numbers, indexed by the lines they stand on.
    folder : Path
        Zeros before the number in a file's name do not matter.
    faults : Faults
        Gets ids without a file and ids with several.

    Returns
    -------
    pd.Series
        Absolute paths, indexed as the ids; nan for those without a file.
    """
    if not folder.is_dir():
        raise InputError(f"The audio folder {folder} does not exist.")
    files = defaultdict(list)
    for name in sorted(filter(_is_audio, _listed(folder))):
        files[_id_of(name)].append(name)
    found = ids.map(lambda clip_id: files.get(clip_id, []))
    faults.add(f"id{{s}} {{have}} no audio file in {folder}", ids[found.map(len) == 0].map(int))
    several = found[found.map(len) > 1]
    faults.add(f"id{{s}} {{have}} several audio files in {folder}", several.map(", ".join))
    place = folder.resolve()
    return found.map(lambda names: str(place / names[0]) if names else np.nan)


def absolute_paths(paths: pd.Series, folder: Path, faults: Faults) -> pd.Series:
    """Make paths of a table absolute.

    Parameters
    ----------
    paths : pd.Series
        As the table has them, indexed by line.
    folder : Path
        What relative ones are relative to.
    faults : Faults
        Gets those where there is no file.

    Returns
    -------
    pd.Series
        Links and ``..`` among the folders are resolved; nan where there is no file.
    """
    parts = [os.path.split(os.path.join(folder, path)) for path in paths]
    resolved = {place: os.path.realpath(place) for place in {place for place, _ in parts}}
    absolute = pd.Series(
        [os.path.join(resolved[place], name) for place, name in parts], paths.index, dtype=object
    )
    files = _files_in(resolved.values())
    # a file system may know a file by another spelling than it lists
    is_there = absolute.map(lambda path: path in files or os.path.isfile(path)).astype(bool)
    faults.add("audio file{s} {do} not exist", paths[~is_there])
    return absolute.where(is_there)


def _files_in(folders: Iterable[str]) -> set[str]:
    """Paths of all files in folders: a listing is one request to a remote disk, a file each is many."""
    return {os.path.join(folder, name) for folder in set(folders) for name in _listed(folder)}
