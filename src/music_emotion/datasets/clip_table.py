"""A table of clips as text: its cells, the lines they stand on, and its faults, all at once."""

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion import files
from music_emotion.files import InputError, first_five

OWN_COLUMNS = ("id", "path", "start_seconds", "end_seconds", "label", "group")
_SPELLINGS = {"Id": "id", "Genre": "label", "genre": "label", "Path": "path", "file": "path"}
# What a word in the name of another column was probably meant for; the first that occurs counts.
_MEANT = {
    **{"start": "start_seconds", "begin": "start_seconds", "end": "end_seconds", "stop": "end_seconds"},
    **{"duration": "end_seconds", "artist": "group", "album": "group", "clip": "id", "id": "id"},
    **{"file": "path", "filename": "path", "path": "path", "class": "label"},
}


@dataclass
class Faults:
    """The faults of a table by kind, in the order in which they are found.

    Attributes
    ----------
    place : Path
        The table.
    kinds : dict of str to list of str
        The places of each kind of fault. A kind is a phrase with ``{s}`` where its noun takes a
        plural s and ``{are}``, ``{do}`` or ``{have}`` for its verb.
    """

    place: Path
    kinds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, details: pd.Series) -> None:
        """Note faults of one kind: what was found, indexed by line number; nothing when empty."""
        if len(details):
            places = [
                f"line {line}" + (f" ({detail})" if detail != "" else "") for line, detail in details.items()
            ]
            self.kinds.setdefault(kind, []).extend(places)

    def check(self) -> None:
        """Raise one `InputError` with all faults, if there are any."""
        if not self.kinds:
            return
        n_faults = sum(map(len, self.kinds.values()))
        faults = "1 fault" if n_faults == 1 else f"{n_faults} faults"
        kinds = f" in {len(self.kinds)} kinds" if len(self.kinds) > 1 else ""
        groups = [
            f"  {_counted(kind, len(places))}: {first_five(places)}" for kind, places in self.kinds.items()
        ]
        raise InputError("\n".join([f"{self.place}: {faults}{kinds}; nothing was extracted.", *groups]))


def _counted(kind: str, n: int) -> str:
    forms = {"s": ("", "s"), "are": ("is", "are"), "do": ("does", "do"), "have": ("has", "have")}
    for mark, (one, many) in forms.items():
        kind = kind.replace(f"{{{mark}}}", one if n == 1 else many)
    return f"{n} {kind}"


def read_cells(path: Path, faults: Faults) -> pd.DataFrame:
    """Read a table of clips as text.

    Parameters
    ----------
    path : Path
        CSV in UTF-8.
    faults : Faults
        Gets those of the header and of the rows' lengths.

    Returns
    -------
    pd.DataFrame
        Cells as they are written, "" where there are none, under our own names of the columns and
        those of the targets. The index is the line on which a row starts, as an editor counts them.

    Raises
    ------
    InputError
        When there is no such table, or it can't be read as one.
    """
    if not path.exists():
        raise InputError(f"The table of clips {path} does not exist.")
    table = files.read_cells(path, ",")
    header = table.iloc[0].dropna().tolist()
    _check_separator(path, header)
    if len(table) == 1:
        raise InputError(f"{path} has no rows.")
    width, rows = len(header), table.fillna("").iloc[1:]
    longer = table.iloc[1:].notna().sum(axis=1)[(rows.iloc[:, width:] != "").any(axis=1)]
    faults.add(f"row{{s}} {{are}} longer than the header of {width} columns", longer.map("{} cells".format))
    return _with_known_columns(rows.iloc[:, :width], header, table.index[0], faults)


def _check_separator(path: Path, header: list[str]) -> None:
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and mark in header[0]:
            raise InputError(f"{path} is separated by {name}; the separator must be a comma.")


def _with_known_columns(cells: pd.DataFrame, header: list[str], line: int, faults: Faults) -> pd.DataFrame:
    """Name the columns, and report those that are neither ours nor targets."""
    columns: dict[str, pd.Series] = {}
    unnamed, repeated, unknown = [], [], []
    for number, written in enumerate(header):
        name, column = _SPELLINGS.get(written, written), cells[number]
        if not name:
            unnamed += [f"column {number + 1}"] if (column != "").any() else []
        elif name in columns:
            repeated.append(f"'{written}'" if written == name else f"'{written}', which means '{name}'")
        elif name in OWN_COLUMNS:
            columns[name] = column
        elif doubt := _doubt(name, column):
            unknown.append(f"'{name}', {doubt}")
        else:
            columns[name] = column
    own = f"neither {', '.join(OWN_COLUMNS)} nor a target of numbers"
    for kind, details in (
        ("column{s} {have} no name", unnamed),
        ("column name{s} {are} used before", repeated),
        (f"unknown column{{s}}, {own}", unknown),
    ):
        faults.add(kind, pd.Series(details, index=[line] * len(details), dtype=object))
    return pd.DataFrame(columns, index=cells.index)


def _doubt(name: str, column: pd.Series) -> str:
    """Why a column should not be taken for a target; empty when it may be."""
    written = column[column != ""]
    is_numeric = len(written) > 0 and numbers(written).notna().mean() >= 0.5
    meant = next((own for word, own in _MEANT.items() if word in re.split("[^a-z]+", name.casefold())), None)
    if meant is None:  # a column of numbers must be very near, since 'pathos' may be felt too
        near = difflib.get_close_matches(name.casefold(), OWN_COLUMNS, 1, 0.85 if is_numeric else 0.6)
        meant = near[0] if near else None
    if meant:
        return f"did you mean '{meant}'?"
    return "" if is_numeric else "most of its cells are not numbers"


def numbers(cells: pd.Series) -> pd.Series:
    """Cells as floats; nan where they are no finite numbers."""
    return pd.to_numeric(cells, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)
