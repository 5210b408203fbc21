"""Find the folders and files of the competition's layout, in every edition."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from music_emotion.config import Rate, Task
from music_emotion.files import InputError, first_five

Split = Literal["train", "test"]

SET_NAMES: dict[Task, str] = {"emotion": "multitask_dataset", "genre": "fma_genre_spectrograms"}
_RATE_SUFFIX: dict[Rate, str] = {"full": "", "beat": "_beat"}
_ALL_SETS = {name + suffix for name in SET_NAMES.values() for suffix in _RATE_SUFFIX.values()}
_LEVELS_TO_LOOK = 5  # Kaggle's newest mounts put the sets that deep under /kaggle/input


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split of a set.

    Attributes
    ----------
    folder : Path
        Where the arrays are.
    arrays : dict of int to Path
        The array file of every id.
    label_file : Path or None
        The label table; the emotion set has none for test.
    """

    folder: Path
    arrays: dict[int, Path]
    label_file: Path | None


def set_name(task: Task, rate: Rate) -> str:
    """Folder name of a set, such as ``multitask_dataset_beat``."""
    return SET_NAMES[task] + _RATE_SUFFIX[rate]


def rate_of(set_folder: Path) -> Rate:
    """Whether a set, by its name, is full-rate or beat-synchronous."""
    return "beat" if set_folder.name.endswith(_RATE_SUFFIX["beat"]) else "full"


def array_name(clip_id: int) -> str:
    """File name of a clip's array, the same in all eight folders."""
    return f"{clip_id}.fused.full.npy"


def leading_id(name: str) -> int | None:
    """The integer a file name or label starts with, or None; one beyond 64 bits is none.

    Examples
    --------
    >>> leading_id("1042.fused.full.npy.gz")
    1042
    """
    match = re.match(r"\s*0*(\d{1,19})(?!\d)", name, re.ASCII)
    return int(match.group(1)) if match and int(match.group(1)) < 2**63 else None


def find_set(root: Path, task: Task, rate: Rate = "full") -> Path:
    """Find a set's folder at or below a root.

    Parameters
    ----------
    root : Path
        The folder that the user names. It is searched a few levels deep, nearest folders first.
    task : {"emotion", "genre"}
    rate : {"full", "beat"}

    Returns
    -------
    Path
        Such as ``<root>/data/multitask_dataset``.

    Raises
    ------
    InputError
        When the root is missing, or not one such folder is found. The message says what was found instead,
        and whether the root lies inside a set.
    """
    name = set_name(task, rate)
    if not root.is_dir():
        raise InputError(f"The data root {root} is not a folder. Give the right one with --data.root.")
    if root.name == name:
        return root
    for depth in range(_LEVELS_TO_LOOK):
        found = sorted(folder for folder in root.glob("*/" * depth + name) if folder.is_dir())
        if len(found) > 1:
            named = first_five(found)
            raise InputError(f"Several folders {name} lie below {root}: {named}. Name one of them.")
        if found:
            return found[0]
    for folder in (root.resolve(), *root.resolve().parents):
        if folder.name in _ALL_SETS:
            right = f"Give --data.root {folder.parent} instead."
            raise InputError(f"The data root {root} lies inside the set {folder.name}. {right}")
    held = first_five(sorted(child.name for child in root.iterdir() if child.is_dir())) or "no folders"
    raise InputError(
        f"No folder {name} at or up to {_LEVELS_TO_LOOK} levels below the data root {root} "
        f"(it holds: {held}). Give the folder that holds {name} with --data.root, or make one "
        f"with music-emotion extract{' --beats' if rate == 'beat' else ''}."
    )


def has_split(set_folder: Path, split: Split) -> bool:
    """Whether a set has a folder for a split. Users' own sets may have no test split."""
    return (set_folder / split).is_dir()


def split_files(set_folder: Path, split: Split) -> SplitFiles:
    """List the arrays and the label file of one split.

    Raises
    ------
    InputError
        When the split's folder is missing, has no arrays, or has two of one id.
    """
    folder = set_folder / split
    if not folder.is_dir():
        raise InputError(f"{set_folder} has no folder '{split}'. Check that it was unpacked whole.")
    arrays: dict[int, Path] = {}
    with os.scandir(folder) as entries:  # tells files without a request for each
        names = [e.name for e in entries if e.name.endswith((".npy", ".npy.gz")) and e.is_file()]
    # '.npy' last, so that it wins over '.npy.gz'
    for path in sorted(map(folder.joinpath, names), key=lambda path: (path.suffix == ".npy", path.name)):
        clip_id = leading_id(path.name)
        if clip_id is None:
            continue
        if clip_id in arrays and arrays[clip_id].suffix == path.suffix:
            both = f"{arrays[clip_id].name} and {path.name}"
            raise InputError(f"{folder} holds two arrays of the id {clip_id}: {both}. Remove one.")
        arrays[clip_id] = path
    if not arrays:
        raise InputError(f"{folder} has no arrays named <id>....npy or <id>....npy.gz.")
    labels = set_folder / f"{split}_labels.txt"
    return SplitFiles(folder, dict(sorted(arrays.items())), labels if labels.exists() else None)


def too_many(n_bad: int, n: int, allow_bad_share: float) -> bool:
    """Whether more than the allowed share of clips is bad."""
    return n_bad > 0 and n_bad / n > allow_bad_share


def leave_out(n_bad: int, n: int) -> str:
    """The flag that allows so many bad clips, for messages."""
    return f"leave them out with --data.allow-bad-share {math.ceil(1000 * n_bad / n) / 1000:g}"
