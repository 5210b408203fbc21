"""Write predictions into the tags of songs, or remove them: the one place where a user's audio is changed."""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import mutagen
import pandas as pd
from mutagen.id3 import ID3, TXXX, ID3FileType
from mutagen.mp4 import MP4FreeForm, MP4Tags
from tqdm import tqdm

from music_emotion.failures import collecting
from music_emotion.files import InputError, alone_at, atomic_path, regular_file, remove_unfinished

_VERSION, _ID3V1_BYTES = ["bytes", "modified_ns"], 128


def update_tags(values: pd.DataFrame, record: Path, failures: dict[str, str]) -> int:
    """Set or remove tags of songs. Sound, other tags, times and mode of the files stay.

    A file is copied, the copy is changed and takes the place of the file. A link stays a link to the changed
    file. A hard link becomes a file of its own. A file whose tags are right is left alone.

    Parameters
    ----------
    values : pd.DataFrame
        One row per song, with its path as index, and one column per tag. Names become upper case, and values
        get three digits after the point. NaN removes a tag.
    record : Path
        `record.csv` of `predict_library`, which may be missing. The songs in it get their new size, so that
        they are not predicted again.
    failures : dict of str to str
        Gets the reasons why files could not be changed, as in `collecting`. These files are as before.

    Returns
    -------
    int
        Number of changed files.

    Raises
    ------
    InputError
        When another process is at work on the record.
    OSError
        When the record can't be written.
    """
    text: dict[str, Any] = {"dtype": object, "keep_default_na": False, "encoding_errors": "surrogateescape"}
    n_changed, is_there = 0, record.exists()
    with alone_at(record, "give another --out") if is_there else nullcontext():
        known = pd.read_csv(record, **text).set_index("path", drop=False) if is_there else pd.DataFrame()
        try:
            for song, row in tqdm(values.to_dict("index").items(), "tags", unit="song"):
                with collecting(failures, song):
                    before = _version(song)
                    if _retag(Path(song), row):
                        n_changed += 1
                        if song in known.index and [*known.loc[song, _VERSION]] == before:
                            known.loc[song, _VERSION] = _version(song)
        finally:
            if n_changed and len(known):
                with atomic_path(record) as temporary:
                    known.to_csv(temporary, index=False, errors="surrogateescape")
    return n_changed


def _version(song: str) -> list[str]:
    """Size and time of a file, as in a record."""
    status = regular_file(Path(song), remedy="Correct the path.").stat()
    return [str(status.st_size), str(status.st_mtime_ns)]


def _retag(song: Path, values: Mapping[str, float]) -> bool:
    """Set or remove tags of a file; returns whether this changed the file."""
    real = Path(os.path.realpath(song))
    try:
        status, file = real.stat(), mutagen.File(real)
        if (file is None or file.tags is None) and pd.isna([*values.values()]).all():
            return False
        if file is None:
            raise ValueError("its format holds no tags")
        if isinstance(file.tags, ID3):  # once more, and now without changes to other tags
            file.load(real, translate=False, load_v1=file.tags.version < (2,))
        elif file.tags is None:
            file.add_tags()
        if changed := _set(file.tags, values):
            _replace(real, file, values, status)
        return changed
    except Exception as error:  # mutagen raises errors of any kind for damaged files
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise InputError(f"{song}: its tags can't be changed ({reason}). The file is as before.") from None


def _set(tags: Any, values: Mapping[str, float]) -> bool:
    """Set or remove tags; returns whether this changed any."""
    changed = False
    for name, value in values.items():
        key, wanted = name.upper(), [] if pd.isna(value) else [f"{value:.3f}"]
        fresh: Any = wanted
        if isinstance(tags, ID3):
            fresh, key = TXXX(encoding=3, desc=key, text=wanted), f"TXXX:{key}"
        elif isinstance(tags, MP4Tags):
            fresh, key = [MP4FreeForm(text.encode()) for text in wanted], f"----:com.apple.iTunes:{key}"
        old = [each.decode() if isinstance(each, bytes) else str(each) for each in tags.get(key, [])]
        is_of_others = not all(re.fullmatch(r"-?\d*\.?\d+", text) for text in old)
        if is_of_others and wanted:
            raise ValueError(f"another program's {key} is {old[0]!r}")
        if is_of_others or old == wanted:
            continue
        changed = True
        if wanted:
            tags[key] = fresh
        else:
            del tags[key]
    return changed


def _replace(real: Path, file: Any, values: Mapping[str, float], status: os.stat_result) -> None:
    """Put a copy with other tags in the place of a file."""
    if not (os.access(real, os.W_OK) and status.st_mode & 0o222):
        raise ValueError("it is read-only")
    remove_unfinished(real)
    with atomic_path(real, may_copy=False) as copy:
        shutil.copyfile(real, copy)
        is_old = isinstance(file.tags, ID3) and (2,) < file.tags.version < (2, 4)
        file.save(copy, **({"v2_version": 3, "v23_sep": None} if is_old else {}))
        if isinstance(file, ID3FileType):  # the oldest kind of tags, at the end, stays
            with real.open("rb") as old, copy.open("r+b") as new:
                old.seek(-_ID3V1_BYTES, os.SEEK_END)
                if (last := old.read()).startswith(b"TAG"):
                    new.seek(-_ID3V1_BYTES, os.SEEK_END)
                    new.write(last)
        saved = mutagen.File(copy)
        if saved.info.length != file.info.length or _set(saved.tags or {}, values):
            raise ValueError("they would be lost, since its header is wrong")
        with suppress(OSError, AttributeError):  # another's file, or Windows
            os.chown(copy, status.st_uid, status.st_gid)
        shutil.copystat(real, copy)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
