"""The table that later stages exchange: `Id` and one column per target or class.

Written by training (`valid.csv`, `test.csv`), read by scores, ensemble and submission.
In memory it is a DataFrame of floats indexed by integer `Id`.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.errors import InputError, first_five
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
    try:
        table = pd.read_csv(path, dtype=str)  # as text, for Python reads a number to the last bit
        if table.columns[0] != "Id":
            raise InputError(f"{path}: the first column is '{table.columns[0]}'; expected 'Id'.")
        numbers = table.astype({"Id": np.int64}).set_index("Id").astype(np.float64)
    except InputError:
        raise
    except ValueError as error:  # pandas' errors of parsing are among them
        raise InputError(f"{path} is not a table of predictions: {error}.") from None
    return check_predictions(numbers, str(path))
