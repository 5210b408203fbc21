"""The table that later stages exchange: `Id` and one column per target or class.

Written by training (`valid.csv`, `test.csv`), read by scores, ensemble and submission.
In memory it is a DataFrame of floats indexed by integer `Id`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.errors import InputError, first_five, shortened
from music_emotion.files import write_table


def prediction_table(ids: np.ndarray, values: np.ndarray, columns: tuple[str, ...]) -> pd.DataFrame:
    """Make a prediction table, sorted by id.

    Parameters
    ----------
    ids : np.ndarray [shape=(n,)], integer
        One id per clip.
    values : np.ndarray [shape=(n, n_columns)]
        Predictions in the units of the targets, or class probabilities.
    columns : tuple of str
        Names of the targets or classes.

    Returns
    -------
    pd.DataFrame
        Indexed by `Id`, ascending.
    """
    index = pd.Index(np.asarray(ids, dtype=np.int64), name="Id")
    return pd.DataFrame(np.asarray(values, dtype=np.float64), index, list(columns)).sort_index()


def check_predictions(table: pd.DataFrame, place: str) -> pd.DataFrame:
    """Refuse a prediction table with repeated ids or values that are not finite.

    Parameters
    ----------
    table : pd.DataFrame
        Indexed by `Id`.
    place : str
        Where the table comes from, for the message.

    Returns
    -------
    pd.DataFrame
        The same table.

    Raises
    ------
    InputError
        Naming the first five offending ids.
    """
    repeated = table.index[table.index.duplicated()].unique()
    if len(repeated):
        raise InputError(f"{place}: {len(repeated)} ids occur more than once: {first_five(repeated)}.")
    broken = table.index[~np.isfinite(table.to_numpy(dtype=np.float64)).all(axis=1)]
    if len(broken):
        raise InputError(
            f"{place}: {len(broken)} clips have predictions that are not finite numbers: "
            f"{first_five(broken)}. Train that fold again with a smaller learning rate."
        )
    return table


def write_predictions(path: Path, table: pd.DataFrame) -> None:
    """Check a prediction table and write it atomically as CSV."""
    check_predictions(table, str(path))
    write_table(path, table.reset_index())


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a prediction table.

    Raises
    ------
    InputError
        When the file is missing, is no CSV of numbers, has no `Id` column, or fails
        `check_predictions`.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist. Run the stage that writes it first.")
    remedy = "Run the stage that writes it again."
    try:
        # as text, for Python reads a number to the last bit; and pandas would rename names given twice
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
        names, rows = cells.iloc[0].tolist(), cells.iloc[1:]
        _check_names(names, path)
        ids = pd.Index(rows[0].astype(np.int64), name="Id")
        numbers = pd.DataFrame(
            rows.iloc[:, 1:].replace("", "nan").to_numpy().astype(np.float64), ids, names[1:]
        )
    except InputError:
        raise
    except (ValueError, OverflowError, OSError) as error:  # pandas' errors of parsing are ValueErrors
        reason = shortened(str(error).strip(), 200)
        raise InputError(f"{path} is not a table of predictions: {reason}. {remedy}") from None
    return check_predictions(numbers, str(path))


def _check_names(names: list[str], path: Path) -> None:
    if names[0] != "Id":
        raise InputError(f"{path}: the first column is '{shortened(names[0])}'; expected 'Id'.")
    wrong = [f"'{shortened(name)}'" for name in names[1:] if not name or names.count(name) > 1]
    if wrong or len(names) == 1:
        held = first_five(wrong) or "no names"
        raise InputError(f"{path} has {held} beside 'Id'; expected targets or classes, each once.")
