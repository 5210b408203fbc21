"""Labelled clips of one split, ready to be cut into excerpts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import DataSection, Task
from music_emotion.datasets.labels import map_genres, read_genres, read_targets
from music_emotion.datasets.layout import Split, find_set, leave_out, split_files, too_many
from music_emotion.datasets.store import Store, open_store
from music_emotion.datasets.stored_frames import JoinedFrames
from music_emotion.files import InputError, first_five


@dataclass(frozen=True)
class ClipSet:
    """Clips, their arrays, and what is known about them.

    Attributes
    ----------
    ids : np.ndarray [shape=(n,)], integer
        Ascending.
    store : Store
        Holds at least these clips.
    outputs : tuple of str
        Names of the targets, or the classes in alphabetical order.
    values : np.ndarray [shape=(n, n_outputs)], float32
        Target values, or one 1 per row for the class; NaN where labels are not known.
    """

    ids: np.ndarray
    store: Store
    outputs: tuple[str, ...]
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, chosen: np.ndarray) -> "ClipSet":
        """The clips at some positions, or where a mask is true."""
        return replace(self, ids=self.ids[chosen], values=self.values[chosen])

    @property
    def truth(self) -> pd.DataFrame:
        """Values as a table like those of predictions."""
        return pd.DataFrame(self.values, pd.Index(self.ids, name="Id"), list(self.outputs), dtype=np.float64)

    @property
    def has_labels(self) -> bool:
        """Whether every clip's values are known."""
        return bool(np.isfinite(self.values).all())


def load_layout(data: DataSection, task: Task, split: Split, outputs: tuple[str, ...] = ()) -> ClipSet:
    """Find, check and pack a split of a set in the competition's layout.

    Takes, gives and raises what `load_clip_set` does.
    """
    files = split_files(find_set(Path(data.root), task, data.rate), split)
    if files.label_file is None and split == "train":
        raise InputError(f"{files.folder.parent} has no train_labels.txt. Check that it was unpacked whole.")
    if files.label_file is None:
        return load_arrays(data, task, split, outputs)
    listed, values = read_values(files.label_file, data, task, outputs)
    check_match(files.label_file, listed, pd.Index(files.arrays), data.allow_bad_share)
    store = open_store(files, Path(data.stores), data.allow_bad_share)
    table = values[values.index.isin(store.index.index)].sort_index()
    return ClipSet(table.index.to_numpy(), store, tuple(table.columns), table.to_numpy(np.float32))


def load_arrays(data: DataSection, task: Task, split: Split, outputs: tuple[str, ...]) -> ClipSet:
    """All clips of a split that have an array, whatever labels there are; no value is known."""
    files = split_files(find_set(Path(data.root), task, data.rate), split)
    store = open_store(files, Path(data.stores), data.allow_bad_share)
    ids = store.index.index.to_numpy()
    return ClipSet(ids, store, outputs, np.full((len(ids), len(outputs)), np.nan, np.float32))


def join(sets: Sequence[ClipSet]) -> ClipSet:
    """Clips of several sets as one set, whose arrays stay where they are.

    Parameters
    ----------
    sets : sequence of ClipSet
        Of the same outputs, all of the layout's arrays or all of other ones. Their ids are unrelated.

    Returns
    -------
    ClipSet
        In the order given. The first set's clips keep their ids; those of every other are moved above
        all ids before them, and stay as far apart.
    """
    ids, indexes, n_frames = [sets[0].ids], [], 0
    for clips in sets[1:]:
        ids.append(clips.ids + max(int(ids[-1].max()) + 1 - int(clips.ids.min()), 0))
    for clips, new_ids in zip(sets, ids, strict=True):
        index = clips.store.index.loc[clips.ids].set_axis(pd.Index(new_ids, name="Id"))
        indexes.append(index.assign(start=index["start"] + n_frames))
        n_frames += len(clips.store.frames)
    frames = JoinedFrames([clips.store.frames for clips in sets])
    store = Store(frames, pd.concat(indexes), sets[0].store.is_fused)
    return ClipSet(np.concatenate(ids), store, sets[0].outputs, np.concatenate([c.values for c in sets]))


def read_values(
    path: Path, data: DataSection, task: Task, outputs: tuple[str, ...]
) -> tuple[pd.Index, pd.DataFrame]:
    """All ids in a label file, and the values of those whose class is not left out."""
    if task == "emotion":
        table = read_targets(path, outputs or data.targets, data.target_range)
        return table.index, table
    raw = read_genres(path)
    genres = map_genres(raw, data.genres, str(path))
    classes = outputs or tuple(sorted(set(genres)))
    unknown = sorted(set(genres) - set(classes))
    if unknown:
        raise InputError(f"{path}: no training clip has the classes {first_five(unknown)}.")
    return raw.index, pd.DataFrame(one_hot(genres, classes), genres.index, list(classes))


def one_hot(labels: pd.Series | np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """One row per label with a 1 for its class [shape=(n, n_classes)], float32."""
    return (np.asarray(labels, dtype=object)[:, None] == np.array(classes, dtype=object)).astype(np.float32)


def check_match(path: Path, listed: pd.Index, arrays: pd.Index, allow_bad_share: float) -> None:
    """Refuse a label table and arrays that do not belong together.

    Raises
    ------
    InputError
        When more than a share of all ids has no label or no array; counts both and names five.
    """
    fileless, unlabelled = listed.difference(arrays), arrays.difference(listed)
    n_bad = len(fileless) + len(unlabelled)
    if not n_bad:
        return
    sentence = (
        f"{path}: {len(fileless)} ids have no array ({first_five(fileless) or 'none'}) and "
        f"{len(unlabelled)} arrays have no label ({first_five(unlabelled) or 'none'})"
    )
    n = len(listed.union(arrays))
    if too_many(n_bad, n, allow_bad_share):
        raise InputError(f"{sentence}. Complete the set, or {leave_out(n_bad, n)}.")
    print(f"left out: {sentence}.")
