"""Where the clips of an experiment come from: the layout's arrays, a table of statistics, or windows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from music_emotion.config import DataSection, Task, Unlabelled
from music_emotion.datasets.clip_set import ClipSet, load_arrays, load_layout
from music_emotion.datasets.layout import Split, find_set, has_split
from music_emotion.datasets.statistic_set import load_statistics, statistics_file
from music_emotion.datasets.window_set import load_windows


def load_clip_set(data: DataSection, task: Task, split: Split, outputs: tuple[str, ...] = ()) -> ClipSet:
    """Find, check and read a split of the set that an experiment names.

    Parameters
    ----------
    data : DataSection
        Where and how.
    task : {"emotion", "genre"}
    split : {"train", "test"}
    outputs : tuple of str
        The training split's targets or classes, when the test split is loaded.

    Returns
    -------
    ClipSet

    Raises
    ------
    InputError
        When a folder or a file is missing or wrong; when ids lack files or files lack labels beyond
        ``data.allow_bad_share``.
    """
    if data.windows != "none":
        return load_windows(data, split, outputs)
    if data.statistics != "none":
        return load_statistics(data, task, split, outputs)
    return load_layout(data, task, split, outputs)


def load_test_set(data: DataSection, task: Task, clips: ClipSet) -> ClipSet:
    """The test split to a training split; empty where the set has none.

    Raises
    ------
    InputError
        As `load_clip_set`.
    """
    if _has_test(data, task):
        return load_clip_set(data, task, "test", clips.outputs)
    print(f"{data.root} has no test split, so clips are predicted in validation alone.")
    return clips.select(np.zeros(0, np.int64))


def load_unlabelled(
    data: DataSection, kinds: Sequence[Unlabelled], outputs: tuple[str, ...]
) -> dict[str, ClipSet]:
    """Clips in the layout whose targets are not known, by the name of their set.

    Parameters
    ----------
    data : DataSection
        Where and how.
    kinds : sequence of {"test", "genre"}
        The test split of the emotion set ("test"), and all clips of the genre set ("genre-train",
        and "genre-test" where there is one), those too whose class is left out.
    outputs : tuple of str
        The targets.

    Returns
    -------
    dict of str to ClipSet

    Raises
    ------
    InputError
        When a set is missing, or arrays are unusable.
    """
    sets = {}
    if "test" in kinds:
        sets["test"] = load_arrays(data, "emotion", "test", outputs)
    if "genre" in kinds:
        folder = find_set(Path(data.root), "genre", data.rate)
        splits: list[Split] = ["train", "test"] if has_split(folder, "test") else ["train"]
        sets |= {f"genre-{split}": load_arrays(data, "genre", split, outputs) for split in splits}
    return sets


def _has_test(data: DataSection, task: Task) -> bool:
    if data.statistics != "none":
        return "{split}" in data.statistics and statistics_file(data, "test").exists()
    return has_split(find_set(Path(data.root), task, data.rate), "test")
