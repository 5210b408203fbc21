"""Clips as rows of a table of statistics, in place of their arrays."""

from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import DataSection, Task
from music_emotion.datasets.clip_set import ClipSet, check_match, read_values
from music_emotion.datasets.journal import Source
from music_emotion.datasets.layout import Split, find_set
from music_emotion.datasets.store import Store
from music_emotion.files import InputError, first_five

_NOT_STATISTICS = ("id", *(field.name for field in fields(Source)), "reason")


def load_statistics(data: DataSection, task: Task, split: Split, outputs: tuple[str, ...] = ()) -> ClipSet:
    """Read the statistics of a split, and its labels from the layout.

    Parameters
    ----------
    data : DataSection
        ``statistics`` and ``columns`` name the table; under ``root`` lie the labels.
    task : {"emotion", "genre"}
    split : {"train", "test"}
    outputs : tuple of str
        The training split's targets or classes, when the test split is read.

    Returns
    -------
    ClipSet
        Every clip is one frame whose rows are the statistics.

    Raises
    ------
    InputError
        When the table is missing or damaged, no column fits a pattern, or clips and labels do not
        belong together beyond ``data.allow_bad_share``.
    """
    table = read_statistics(statistics_file(data, split), data.columns)
    label_file = find_set(Path(data.root), task) / f"{split}_labels.txt"
    if label_file.exists():
        listed, values = read_values(label_file, data, task, outputs)
        check_match(label_file, listed, table.index, data.allow_bad_share)
        values = values[values.index.isin(table.index)].sort_index()
    elif split == "test":
        values = pd.DataFrame(np.nan, table.index, list(outputs)).sort_index()
    else:
        raise InputError(f"{label_file} does not exist, but holds the labels of {data.statistics}.")
    index = pd.DataFrame({"start": np.arange(len(table)), "length": 1}, table.index)
    store = Store(table.to_numpy(np.float32), index, is_fused=False)
    return ClipSet(values.index.to_numpy(), store, tuple(values.columns), values.to_numpy(np.float32))


def statistics_file(data: DataSection, split: Split) -> Path:
    """The table of a split."""
    return Path(data.statistics.replace("{split}", split))


def read_statistics(path: Path, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table of scripts/summarise.py; clips that failed there are left out.

    Parameters
    ----------
    path : Path
    columns : tuple of str
        Patterns of the columns, in which * stands for anything; all when empty.

    Returns
    -------
    pd.DataFrame
        One column per statistic, indexed by `Id`.

    Raises
    ------
    InputError
        When the file is missing or no such table, or a pattern fits nothing.
    """
    if not path.is_file():
        raise InputError(f"The table {path} does not exist. Make it with scripts/summarise.py.")
    try:
        table = pd.read_csv(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a table of statistics: {error}.") from None
    if "id" not in table or table["id"].duplicated().any():
        raise InputError(f"{path} has no column 'id' with one row for each clip. Make it with summarise.py.")
    failed = table["reason"].notna() if "reason" in table else pd.Series(False, table.index)
    whole = table[~failed].set_index(table["id"][~failed].rename("Id"))
    whole = whole.drop(columns=[column for column in _NOT_STATISTICS if column in whole])
    chosen = [
        name for name in map(str, whole) if not columns or any(fnmatchcase(name, each) for each in columns)
    ]
    idle = [each for each in columns if not any(fnmatchcase(name, each) for name in chosen)]
    if idle:
        raise InputError(f"{path} has no columns like {first_five(idle)}. Correct data.columns.")
    numbers = whole[chosen].apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers.to_numpy()).all():
        bad = [name for name in chosen if not np.isfinite(numbers[name].to_numpy()).all()]
        raise InputError(
            f"{path}: values that are not finite numbers in {first_five(bad)}. Make the table anew, or "
            f"choose others with data.columns."
        )
    return numbers
