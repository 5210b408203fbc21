"""List the audio files of a folder, as clips, as paths or by their ids."""

import os
import re
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.files import InputError, first_five

_ENDINGS = (
    *(".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav"),
    *(".webm", ".wma"),
)


def clips_of_folder(folder: Path) -> pd.DataFrame:
    """List the audio files of a folder as a table of clips.

    Parameters
    ----------
    folder : Path
        Holds audio, or one sub-folder per class.

    Returns
    -------
    pd.DataFrame
        As for `read_clips`, with the columns `id`, `path` and, with sub-folders, `label`.

    Raises
    ------
    InputError
        When there is no audio, audio both in the folder itself and in sub-folders, or a name with a tab.
    """
    names = audio_below(folder)
    loose = [name for name in names if "/" not in name]
    classes = sorted({name.split("/")[0] for name in names if "/" in name})
    if loose and classes:
        raise InputError(
            f"{folder} holds audio itself ({first_five(loose)}) and in sub-folders ({first_five(classes)}). "
            f"Sub-folders are classes: put every file into one, or all files into one folder without any."
        )
    wrong = [name for name in names if re.search("[\t\r\n\ud800-\udfff]", name)]
    if wrong:  # the extraction writes file names into tables
        raise InputError(f"{folder}: rename {first_five(map(ascii, wrong))}; tables can't hold such names.")
    paths = [str(folder.resolve() / name) for name in names]
    clips = pd.DataFrame({"id": np.arange(1, len(names) + 1), "path": paths})
    if classes:
        return clips.assign(label=[name.split("/")[0] for name in names])
    ids = [number for name in names if (number := _id_of(name)) is not None]
    return clips.assign(id=ids) if len(set(ids)) == len(names) else clips


def audio_below(folder: Path) -> list[str]:
    """List the audio files in a folder and its sub-folders.

    Parameters
    ----------
    folder : Path
        Hidden files and folders are left out.

    Returns
    -------
    list of str
        Sorted paths relative to the folder, with slashes.

    Raises
    ------
    InputError
        When there are no audio files.
    """
    names = []
    links = [path for path in folder.glob("[!.]*") if path.is_symlink() and path.is_dir()]
    for place, below, files in chain.from_iterable(map(os.walk, [folder, *links])):
        below[:] = [name for name in below if not name.startswith(".")]
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in files if _is_audio(name)]
    if not names:
        raise InputError(f"{folder} holds no audio: no name in it ends in {', '.join(_ENDINGS)}.")
    return sorted(names)


def _is_audio(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and not name.startswith(".")


def _id_of(name: str) -> int | None:
    """The whole number that a file name consists of; None if there is none or it exceeds 64 bits."""
    stem = os.path.splitext(name)[0]
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) <= 18 else None


def files_by_id(folder: Path) -> dict[int | None, list[str]]:
    """Names of the audio files in a folder by the whole numbers they consist of, leading zeros ignored."""
    names = defaultdict(list)
    for name in sorted(filter(_is_audio, file_names(folder))):
        names[_id_of(name)].append(name)
    return names


def file_names(folder: Path | str) -> set[str]:
    """Names of the files in a folder; empty if the folder does not exist."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()
