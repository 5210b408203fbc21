"""Label files of every edition as checked tables indexed by id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.datasets.layout import leading_id
from music_emotion.files import InputError, first_five, nearest, read_lines, shortened, split_line

DEFAULT_TARGETS = ("valence", "energy", "danceability")
_MOST_NAMED = 20


def read_targets(
    path: Path, targets: Sequence[str] = (), allowed: tuple[float, float] = (0.0, 1.0)
) -> pd.DataFrame:
    """Read a table of target values.

    Parameters
    ----------
    path : Path
        ``Id,valence,energy,danceability`` or any other targets; tab, comma or white space.
    targets : sequence of str
        The columns to keep, in this order; all when empty.
    allowed : tuple of float
        Smallest and largest allowed value.

    Returns
    -------
    pd.DataFrame
        Float columns, indexed by `Id`.

    Raises
    ------
    InputError
        Naming bad cells with their lines (the first twenty of many), a repeated id, or a target
        the file does not have.
    """
    header, rows, first_line = _read_rows(path)
    names = _target_names(path, header[1:]) if header else list(DEFAULT_TARGETS)
    ids = _ids(path, rows, first_line)
    wanted = list(targets) or names
    for name in wanted:
        if name not in names:
            raise InputError(f"{path} has no target '{shortened(name)}'; {nearest(name, names)}")
    values = np.full((len(rows), len(names)), np.nan)
    problems: list[str] = []
    for number, row in enumerate(rows):
        line = first_line + number
        if len(row) != len(names) + 1:
            problems.append(f"line {line} has {len(row)} fields, expected {len(names) + 1}")
            continue
        for column, cell in enumerate(row[1:]):
            values[number, column], problem = _number(cell, allowed)
            if problem and names[column] in wanted:
                problems.append(
                    f"line {line}: {shortened(names[column])} is {shortened(cell) or 'empty'}; {problem}"
                )
    if problems:
        more = ["..."] if len(problems) > _MOST_NAMED else []
        raise InputError(
            f"{path}: {len(problems)} cells can't be used: {'; '.join(problems[:_MOST_NAMED] + more)}. "
            f"Correct them, or set data.target_range."
        )
    return pd.DataFrame(values, ids, names)[wanted]


def _target_names(path: Path, names: list[str]) -> list[str]:
    """The names of a header, if each names another target."""
    wrong = [name for name in names if not name or names.count(name) > 1 or np.isfinite(_number(name)[0])]
    if wrong or not names:
        held = first_five(f"'{shortened(name)}'" for name in names) or "no names"
        raise InputError(
            f"{path} line 1 has {held} after the id; expected the targets' names, each once, such as "
            f"{', '.join(DEFAULT_TARGETS)}."
        )
    return names


def _number(cell: str, allowed: tuple[float, float] = (-np.inf, np.inf)) -> tuple[float, str]:
    low, high = allowed
    try:
        value = float(cell.replace("_", "?"))  # Python takes 0_1 for 1
    except ValueError:
        return np.nan, "expected a number"
    return value, "" if low <= value <= high else f"expected {low:g} to {high:g}"


def read_genres(path: Path) -> pd.Series:
    """Read a table of raw genres.

    Parameters
    ----------
    path : Path
        ``Id<TAB>Genre``; the id is the leading integer of the file name in the first column.

    Returns
    -------
    pd.Series
        Raw classes, indexed by `Id`.

    Raises
    ------
    InputError
        For a repeated id, or a line without a genre.
    """
    _, rows, first_line = _read_rows(path)
    ids = _ids(path, rows, first_line)
    return pd.Series(_cells(path, rows, first_line, 1, "genre"), ids, name="Genre", dtype=object)


def map_genres(raw: pd.Series, mapping: dict[str, str], place: str) -> pd.Series:
    """Map raw classes to classes.

    Parameters
    ----------
    raw : pd.Series
        As `read_genres` gives them.
    mapping : dict of str to str
        Raw class to class; "none" leaves a class out. Empty keeps the raw classes.
    place : str
        Where the classes come from, for the message.

    Returns
    -------
    pd.Series
        Classes, indexed by `Id`; clips of classes left out are not in it.

    Raises
    ------
    InputError
        For a class the mapping does not know.
    """
    if not mapping:
        return raw
    unknown = sorted(set(raw) - set(mapping))
    if unknown:
        raise InputError(
            f"{place}: the genres {first_five(unknown)} are not in data.genres. Map each to a class "
            f"or to 'none' there, or give an empty mapping to keep the raw classes."
        )
    classes = raw.map(mapping)
    return classes[classes != "none"]


def read_groups(path: Path) -> pd.Series:
    """Read a table of groups: clips of one group stay on one side of a split.

    Parameters
    ----------
    path : Path
        ``Id,group``; of a table with more columns, the one named `group`.

    Returns
    -------
    pd.Series
        Group names, indexed by `Id`.

    Raises
    ------
    InputError
        For a missing file, a repeated id, or a line without a group.
    """
    if not path.is_file():
        raise InputError(f"The group file {path} does not exist. Correct folds.groups, or set it to 'none'.")
    header, rows, first_line = _read_rows(path)
    ids = _ids(path, rows, first_line)
    column = header.index("group") if header and "group" in header else 1
    return pd.Series(_cells(path, rows, first_line, column, "group"), ids, name="group", dtype=object)


def _cells(path: Path, rows: list[list[str]], first_line: int, column: int, what: str) -> list[str]:
    for number, row in enumerate(rows):
        if len(row) <= column or not row[column]:
            raise InputError(f"{path} line {first_line + number}: there is no {what} after the id.")
    return [row[column] for row in rows]


def _read_rows(path: Path) -> tuple[list[str] | None, list[list[str]], int]:
    """The header, if there is one, the other rows' fields, and the number of their first line."""
    lines = read_lines(path)
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path} is empty. Replace it.")
    separator = next((mark for mark in ("\t", ",") if mark in lines[0]), None)
    rows = [
        split_line(path, number, line, separator) if separator else line.split()
        for number, line in enumerate(lines, start=1)
    ]
    rows = [[cell.strip() for cell in row] for row in rows]
    has_header = not (rows[0] and rows[0][0][:1].isdigit())
    header = rows.pop(0) if has_header else None
    if not rows:
        raise InputError(f"{path} has a header but no rows. Replace it.")
    return header, rows, 2 if has_header else 1


def _ids(path: Path, rows: list[list[str]], first_line: int) -> pd.Index:
    ids = [leading_id(row[0] if row else "") for row in rows]
    for number, clip_id in enumerate(ids):
        if clip_id is None:
            raise InputError(
                f"{path} line {first_line + number}: '{shortened(' '.join(rows[number]))}' does not start "
                f"with an id, a whole number."
            )
    index = pd.Index(ids, name="Id", dtype=np.int64)
    repeated = index[index.duplicated()].unique()
    if len(repeated):
        raise InputError(
            f"{path}: {len(repeated)} ids occur more than once: {first_five(repeated)}. Keep one."
        )
    return index
