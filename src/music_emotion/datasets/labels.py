"""Read and check the label files of all editions of the competition, and tables of groups."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import DataSection
from music_emotion.datasets.layout import SPLITS, leading_id
from music_emotion.files import InputError, first_five, nearest, numbers, read_cells, regular_file, shortened

DEFAULT_TARGETS = ("valence", "energy", "danceability")
_MOST_NAMED = 20


def read_targets(
    path: Path, targets: Sequence[str] = (), allowed: tuple[float, float] = (0.0, 1.0)
) -> pd.DataFrame:
    """Read a table of target values.

    Parameters
    ----------
    path : Path
        Table with the columns ``Id,valence,energy,danceability`` or any other targets, as `read_cells` reads
        it.
    targets : sequence of str
        Columns to keep, in this order; all when empty.
    allowed : tuple of float
        Smallest and largest allowed value.

    Returns
    -------
    pd.DataFrame
        Float columns, indexed by `Id`.

    Raises
    ------
    InputError
        For cells that are not allowed numbers (the message names the first twenty with line numbers), a
        repeated id, or a missing target.
    """
    header, ids, cells = _read(path)
    names = header[1:] if header else list(DEFAULT_TARGETS)
    if not names or "" in names or len(set(names)) < len(names) or numbers(pd.Series(names)).notna().any():
        held = first_five(f"'{shortened(name)}'" for name in names) or "no names"
        expected = f"the targets' names, each once, such as {', '.join(DEFAULT_TARGETS)}"
        raise InputError(f"{path} line 1 has {held} after the id; expected {expected}.")
    wanted = list(targets) or names
    for name in wanted:
        if name not in names:
            raise InputError(f"{path} has no target '{shortened(name)}'; {nearest(name, names)}")
    low, high = allowed
    written = cells.reindex(columns=range(1, len(names) + 1), fill_value="").fillna("")
    table = written.apply(numbers).set_axis(names, axis=1)
    problems = []
    for line, row, values in zip(cells.index, cells.to_numpy(), table[wanted].to_numpy(), strict=True):
        if (n := sum(cell is not None for cell in row)) != len(names) + 1:
            doubt = " (cells with commas need quotes)" if n > len(names) + 1 else ""
            problems.append(f"line {line} has {n} fields, expected {len(names) + 1}{doubt}")
            continue
        for name, value in zip(wanted, values, strict=True):
            if not low <= value <= high:
                held = shortened(row[names.index(name) + 1]) or "empty"
                number = "a number" + " with a decimal point" * ("," in held)
                expected = number if np.isnan(value) else f"{low:g} to {high:g}"
                problems.append(f"line {line}: {shortened(name)} is {held}; expected {expected}")
    if problems:
        named = "; ".join(problems[:_MOST_NAMED] + ["..."] * (len(problems) > _MOST_NAMED))
        remedy = "Correct them, or set data.target_range."
        raise InputError(f"{path}: {len(problems)} cells can't be used: {named}. {remedy}")
    return table.set_axis(ids)[wanted]


def read_genres(path: Path) -> pd.Series:
    """Read a table of raw genres.

    Parameters
    ----------
    path : Path
        Table with the columns ``Id<TAB>Genre``. The id is the leading integer of a file name.

    Returns
    -------
    pd.Series
        Raw genres, indexed by `Id`.

    Raises
    ------
    InputError
        For a repeated id, or a line without a genre.
    """
    return _read_names(path, "genre")


def map_genres(raw: pd.Series, mapping: Mapping[str, str | None], place: str) -> pd.Series:
    """Map raw genres to classes.

    Parameters
    ----------
    raw : pd.Series
        Raw genres from `read_genres`.
    mapping : dict of str to str or None
        Raw genre to class; None leaves its clips out. An empty mapping keeps the raw genres. So does the
        default one, of the competition, if none of its genres is there.
    place : str
        File of the genres, for error messages.

    Returns
    -------
    pd.Series
        Classes, indexed by `Id`, without clips that are left out. Names are in the Unicode form NFC, so that
        accents are the same text however they were typed.

    Raises
    ------
    InputError
        For a genre that is not in the mapping.
    """
    raw, nfc = raw.str.normalize("NFC"), partial(unicodedata.normalize, "NFC")
    if mapping == DataSection().genres and not set(raw) & set(mapping):
        print(f"{place}: no genre is one of the competition's, so each is a class of its own.")
        mapping = {}
    if not mapping:
        return raw
    mapping = {nfc(name): own and nfc(own) for name, own in mapping.items()}
    unknown = sorted(set(raw) - set(mapping))
    if unknown:
        raise InputError(
            f"{place}: the genres {first_five(unknown)} are not in data.genres. Map each to a class "
            f"there, or to false to leave it out, or give an empty mapping to keep the raw classes."
        )
    return raw.map(mapping).dropna()


def read_groups(path: Path) -> pd.Series:
    """Read a table of groups, for example artists. Clips of one group are always in the same fold.

    Parameters
    ----------
    path : Path
        Table with the columns ``Id,group``. Other columns are ignored.

    Returns
    -------
    pd.Series
        Group names in the Unicode form NFC, indexed by `Id`.

    Raises
    ------
    InputError
        For a missing file, a repeated id, or a line without a group.
    """
    remedy = "Correct folds.groups, or leave it out."
    return _read_names(regular_file(path, "The group file", remedy), "group").str.normalize("NFC")


def read_splits(path: Path) -> pd.Series:
    """Read `splits.csv` of a set: "train", "validation" or "test", indexed by `Id`.

    Raises
    ------
    InputError
        For a missing file, a repeated id, or another split.
    """
    remedy = "Extract clips that have a column 'split', or give another --folds.split than 'published'."
    splits = _read_names(regular_file(path, "The table of the published split", remedy), "split")
    if len(wrong := splits[~splits.isin(SPLITS)]):
        raise InputError(f"{path}: {first_five(wrong.unique())} is none of {', '.join(SPLITS)}. Correct it.")
    return splits


def _read_names(path: Path, name: str) -> pd.Series:
    """Read the column with the given name, or else the second of two columns."""
    header, ids, cells = _read(path)
    lowered = [column.casefold() for column in header]
    if name not in lowered and cells.shape[1] > 2:
        raise InputError(f"{path} has {cells.shape[1]} columns. Call the one of the {name} '{name}'.")
    column = lowered.index(name) if name in lowered else 1
    names = cells.reindex(columns=[column], fill_value="").fillna("")[column]
    without = names.index[names == ""]
    if len(without):
        raise InputError(f"{path} line {without[0]}: there is no {name} after the id.")
    return pd.Series(names.to_numpy(), ids, name=name)


def _read(path: Path) -> tuple[list[str], pd.Index, pd.DataFrame]:
    """Read the header (empty if there is none), the ids, and all cells, indexed by line number.

    The ids are the first column, unless a later one is called Id.
    """
    cells = read_cells(path)
    header: list[str] = []
    if not str(cells.iloc[0, 0])[:1].isdigit():
        called = cells.iloc[0].fillna("").str.fullmatch(r"id(\..*)?", case=False)
        order = sorted(cells, key=lambda column: column != called.idxmax())
        cells = cells[order].set_axis(range(len(order)), axis=1)
        header, cells = cells.iloc[0].dropna().tolist(), cells[1:]
    if not len(cells):
        raise InputError(f"{path} has a header but no rows. Replace it.")
    # no id are 1.5, 1e3, and "1 0" of a table with several separators
    other = re.compile(r"[0-9]+(\.0*[1-9]|\.?[0-9]*e|\s)", re.IGNORECASE)
    ids = [None if other.match(cell) else leading_id(cell) for cell in cells[0].fillna("")]
    if None in ids:
        row = cells.iloc[ids.index(None)]
        held = shortened(" ".join(row.dropna()))
        raise InputError(f"{path} line {row.name}: '{held}' does not start with an id, a whole number.")
    index = pd.Index(ids, name="Id", dtype=np.int64)
    repeated = index[index.duplicated()].unique()
    if len(repeated):
        named = first_five(repeated)
        raise InputError(f"{path}: {len(repeated)} ids occur more than once: {named}. Keep one.")
    return header, index, cells
