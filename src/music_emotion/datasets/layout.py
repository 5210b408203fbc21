"""Find the folders and files of the competition's layout, in all its editions."""

import math
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from music_emotion.audio.settings import FeatureSettings
from music_emotion.config import Rate, Task
from music_emotion.files import InputError, checked, first_five, read_object

Split = Literal["train", "test"]

SPLITS = ("train", "validation", "test")  # of clip tables, and of `SPLIT_FILE` beside the label files
SPLIT_FILE = "splits.csv"
CARD = "dataset.json"  # in a set's folder: what `music-emotion dataset` knows of it
SET_NAMES: dict[Task, str] = {"emotion": "multitask_dataset", "genre": "fma_genre_spectrograms"}
_RATE_SUFFIX: dict[Rate, str] = {"full": "", "beat": "_beat"}
_ALL_SETS = {name + suffix for name in SET_NAMES.values() for suffix in _RATE_SUFFIX.values()}
_LEVELS_TO_LOOK = 5  # depth at which Kaggle mounts the sets under /kaggle/input


@dataclass(frozen=True)
class SplitFiles:
    """Array files and label file of one split of a set.

    Attributes
    ----------
    folder : Path
        Folder of the arrays.
    arrays : dict of int to Path
        Clip id to array file.
    label_file : Path or None
        Table of labels, or None. The emotion test split has no labels.
    """

    folder: Path
    arrays: dict[int, Path]
    label_file: Path | None


def set_name(task: Task, rate: Rate) -> str:
    """Folder name of a set, for example ``multitask_dataset_beat``."""
    return SET_NAMES[task] + _RATE_SUFFIX[rate]


def array_name(clip_id: int) -> str:
    """File name of a clip's array; the same in all sets and splits."""
    return f"{clip_id}.fused.full.npy"


def leading_id(name: str) -> int | None:
    """Parse the integer at the start of a file name. None if there is none or it exceeds 64 bits.

    Examples
    --------
    >>> leading_id("1042.fused.full.npy.gz")
    1042
    """
    match = re.match(r"\s*0*(\d{1,19})(?!\d)", name, re.ASCII)
    return int(match.group(1)) if match and int(match.group(1)) < 2**63 else None


def find_set(root: Path, task: Task, rate: Rate = "full") -> Path:
    """Find the folder of a set at or below a root.

    Parameters
    ----------
    root : Path
        Folder to search, a few levels deep, nearest folders first.
    task : {"emotion", "genre"}
    rate : {"full", "beat"}

    Returns
    -------
    Path
        For example ``<root>/data/multitask_dataset``.

    Raises
    ------
    InputError
        When the root is missing, or no such folder or several are found. The message says what was found,
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


def read_settings(set_folder: Path) -> FeatureSettings:
    """Read the feature settings of a set from its `settings.json`.

    Parameters
    ----------
    set_folder : Path
        Folder of the set.

    Returns
    -------
    FeatureSettings
        The settings of the competition's arrays if the file does not exist.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    path = set_folder / "settings.json"
    if not path.exists():
        return FeatureSettings()
    held = read_object(path)
    settings = {field.name: held.get(field.name) for field in fields(FeatureSettings)}
    return checked(FeatureSettings, settings, path, "Extract the set anew.")


def card_of(table: Path) -> Path:
    """Where `music-emotion dataset` describes a table: `CARD` for clips.csv, NAME-`CARD` for others."""
    return table.parent / (CARD if table.stem == "clips" else f"{table.stem}-{CARD}")


def read_scales(set_folder: Path) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of each target in the set's own scale, from its `dataset.json`, if any."""
    if not (path := set_folder / CARD).exists():
        return {}
    remedy = "Delete it, or write it again with music-emotion dataset."
    return checked(dict[str, tuple[float, float]], read_object(path).get("scales", {}), path, remedy)


def split_files(set_folder: Path, split: Split) -> SplitFiles:
    """List the array files and the label file of one split.

    Parameters
    ----------
    set_folder : Path
        From `find_set`.
    split : {"train", "test"}

    Returns
    -------
    SplitFiles

    Raises
    ------
    InputError
        When the folder of the split is missing, has no arrays, or has two arrays of one id.
    """
    folder = set_folder / split
    if not folder.is_dir():
        raise InputError(f"{set_folder} has no folder '{split}'. Check that it was unpacked whole.")
    arrays: dict[int, Path] = {}
    with os.scandir(folder) as entries:  # tells files from folders without a request per file
        names = [e.name for e in entries if e.name.endswith((".npy", ".npy.gz")) and e.is_file()]
    # '.npy' last, so that it takes precedence over '.npy.gz'
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
    """Whether the share of bad clips exceeds the allowed share."""
    return n_bad > 0 and n_bad / n > allow_bad_share


def leave_out(n_bad: int, n: int, allow_bad_share: float, problem: str, remedy: str) -> None:
    """Print which clips are left out, or refuse too many.

    Raises
    ------
    InputError
        When the share of bad clips exceeds the allowed share.
    """
    if too_many(n_bad, n, allow_bad_share):
        share = math.ceil(1000 * n_bad / n) / 1000
        raise InputError(f"{problem}. {remedy}, or leave them out with --data.allow-bad-share {share:g}.")
    if n_bad:
        print(f"left out: {problem}.")
