"""Where the clips of an experiment come from: the layout's arrays, a table of statistics, or windows."""

from pathlib import Path

import numpy as np

from music_emotion.data.clip_set import ClipSet, load_layout
from music_emotion.data.layout import Split, find_set, has_split
from music_emotion.data.statistic_set import load_statistics, statistics_file
from music_emotion.data.window_set import load_windows
from music_emotion.sections import DataSection, Task


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


def _has_test(data: DataSection, task: Task) -> bool:
    if data.statistics != "none":
        return "{split}" in data.statistics and statistics_file(data, "test").exists()
    return has_split(find_set(Path(data.root), task, data.rate), "test")
