"""List the audio files of a folder, as clips, as paths or by their ids."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.files import InputError, first_five, shortened

# Endings of formats that libsndfile or FFmpeg decodes, films with sound included.
ENDINGS = re.compile(
    r"\.(3gp|aac|ac3|adts|aif|aifc|aiff|amr|ape|asf|au|avi|caf|dff|dsf|dts|eac3|ec3|f4a|flac|flv|gsm|m2a|m4a|m4b"
    r"|m4p|m4r|m4v|mka|mkv|mov|mp2|mp3|mp4|mpa|mpc|mpeg|mpg|mpga|oga|ogg|ogv|ogx|opus|ra|rf64|rm|shn|snd|sph|spx"
    r"|tak|thd|tta|voc|w64|wav|wave|weba|webm|wma|wmv|wv)\Z",
    re.IGNORECASE,
)
_SHARD = re.compile(r"(?=\d\d)(0*(\d+))/(\1\d*|\d*\1|\2)\.")  # 048/48012.mp3: digits of the folder again
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}


def clips_of_folder(folder: Path) -> pd.DataFrame:
    """List the audio files of a folder as a table of clips, and print what its ids and classes are.

    Parameters
    ----------
    folder : Path
        Holds audio, or one sub-folder per class. Sub-folders such as the ``000`` of ``000/000002.mp3`` and
        the ``48`` of ``48/948.mp3`` are parts of numbers rather than classes.

    Returns
    -------
    pd.DataFrame
        As for `read_clips`, with the columns `id`, `path` and, with classes, `label`.

    Raises
    ------
    InputError
        When there is no audio, audio both in the folder itself and in sub-folders, or sub-folders that are
        splits.
    """
    names = audio_below(folder)
    loose = [name for name in names if "/" not in name]
    classes = Counter(name.split("/")[0] for name in names if "/" in name)
    if loose and classes:
        raise InputError(
            f"{folder} holds audio itself ({first_five(loose)}) and in sub-folders ({first_five(classes)}). "
            f"Sub-folders are classes: put every file into one, or all files into one folder without any."
        )
    if classes and _SPLITS.issuperset(map(str.casefold, classes)):
        raise InputError(
            f"The sub-folders of {folder} are splits ({first_five(classes)}), not classes. "
            f"Give one split at a time."
        )
    real = folder.resolve()
    clips = pd.DataFrame({"id": np.arange(1, len(names) + 1), "path": [f"{real / name}" for name in names]})
    ids = [number for name in names if (number := _id_of(name)) is not None]
    said = "ids count the sorted names from 1"
    if classes and not all(map(_SHARD.match, names)):
        counts = ", ".join(f"{name} ({count})" for name, count in classes.items())
        clips["label"] = [name.split("/")[0] for name in names]
        said += f"; the classes are its sub-folders: {shortened(counts, 500)}"
    elif len(set(ids)) == len(names):
        clips["id"] = ids
        said = "ids are the file names"
    print(f"{folder}: {len(names)} clips; {said}.")
    return clips


def audio_below(folder: Path) -> list[str]:
    """List the audio files in a folder and its sub-folders, and print how many other files there are.

    Parameters
    ----------
    folder : Path
        Hidden files and folders are left out. Links are followed, but no folder is listed twice.

    Returns
    -------
    list of str
        Sorted paths relative to the folder, with slashes.

    Raises
    ------
    InputError
        When there are no audio files.
    """
    names: list[str] = []
    skipped = Counter[str]()
    for name, kind in walk(folder):
        is_audio = bool(ENDINGS.search(name))
        if kind == "hidden":
            skipped.update([kind] * is_audio)
        elif kind != "file":
            skipped[kind] += 1
        elif is_audio:
            names.append(name)
        else:
            ending = os.path.splitext(name)[1].lower()
            skipped[ending if re.fullmatch(r"\.[a-z0-9]{1,8}", ending) else "no ending"] += 1
    kinds = ", ".join(f"{kind} ({count})" for kind, count in skipped.most_common())
    if not names:
        raise InputError(f"{folder} holds no audio. Skipped: {kinds or 'nothing'}.")
    if kinds:
        print(f"{folder}: {skipped.total()} files skipped: {shortened(kinds, 500)}.")
    return sorted(names)


def walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Walk through a folder and its sub-folders. Links are followed, but no folder is listed twice.

    Yields
    ------
    name : str
        Path relative to the folder, with slashes.
    kind : str
        "file", "hidden" (a file or a folder, which is not listed), or what else it is.
    """
    seen = set[str]()
    places, links = [""], list[str]()
    while places or links:
        place = (places or links).pop()  # folders before links to them
        real = os.path.realpath(folder / place)
        if real in seen:
            yield place, "a link to a listed folder"
            continue
        seen.add(real)
        try:
            with os.scandir(real) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            print(f"warning: {folder / place} can't be listed ({error.strerror}).")
            continue
        for entry in found:
            kind = _kind_of(entry)
            if re.match(r"\.[^.]", entry.name):  # but there are songs called "...Baby One More Time"
                yield place + entry.name, "hidden"
            elif kind == "folder":
                (links if entry.is_symlink() else places).append(f"{place}{entry.name}/")
            else:
                yield place + entry.name, kind


def _kind_of(entry: os.DirEntry[str]) -> str:
    with suppress(OSError):  # a link to itself
        if entry.is_file() or entry.is_dir():
            return "file" if entry.is_file() else "folder"
    return "neither file nor folder"


def _id_of(name: str) -> int | None:
    """The whole number that a file name consists of; None if there is none or it exceeds 64 bits."""
    stem = os.path.splitext(os.path.basename(name))[0]
    return int(stem) if stem.isascii() and stem.isdigit() and len(stem) <= 18 else None


def files_by_id(folder: Path) -> dict[int | None, list[str]]:
    """Audio files below a folder by the whole numbers that their names consist of, without leading zeros."""
    names = defaultdict(list)
    for name in audio_below(folder):
        names[_id_of(name)].append(name)
    return names
