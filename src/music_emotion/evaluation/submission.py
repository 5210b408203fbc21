"""Write and check submissions, each with a card (JSON file) that describes it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion import files
from music_emotion.datasets.layout import leading_id
from music_emotion.files import InputError, first_five, shortened

_EDITION_SUFFIX = ".fused.full.npy.gz"
_NAME = re.compile(r"([0-9]+)(\..*)?")


def default_sample(targets: Sequence[str], ids: Sequence[int]) -> pd.DataFrame:
    """Make the sample submission of the competition's editions of 2020 to 2022. See `read_sample`."""
    header, names = f"Id{_EDITION_SUFFIX}", [f"{clip_id}{_EDITION_SUFFIX}" for clip_id in ids]
    return pd.DataFrame({header: names}, pd.Index(ids, name="Id"), [header, *targets])


def read_sample(path: Path, targets: Sequence[str]) -> pd.DataFrame:
    """Read the required ids and columns from a sample submission.

    Parameters
    ----------
    path : Path
        `sample_submission.csv`, or a file with only the column of ids.
    targets : sequence of str
        Targets that the run predicts.

    Returns
    -------
    pd.DataFrame
        A submission without predictions, indexed by integer ids. The first column holds the ids in the
        leaderboard's spelling, for example "1042.fused.full.npy". The others are the targets.

    Raises
    ------
    InputError
        When the file is missing or empty, has no header, or has other targets than the run. When an id does
        not start with an integer, is repeated, or has another ending than the first id.
    """
    files.regular_file(path, "The sample submission", "Correct --sample, or leave it out.")
    cells = files.read_cells(path, ",")
    names = cells.iloc[1:, 0]
    header, *columns = cells.iloc[0].dropna()
    if names.empty:
        raise InputError(f"{path} has no rows.")
    if header[:1].isdigit():
        raise InputError(f"{path} line 1: '{shortened(header)}' is an id where the header should be.")
    if columns and sorted(columns) != sorted(targets):
        asked = f"{path} asks for {first_five(columns)}, but the run predicts {first_five(targets)}."
        raise InputError(f"{asked} Submit a run of the same targets.")
    if not header or header in targets:
        raise InputError(f"{path} line 1: '{header}' can't name the ids. Give them a name, such as Id.")
    ending = names.iloc[0].lstrip("0123456789")
    for line, name in names.items():
        if not _NAME.fullmatch(name) or leading_id(name) is None or name.lstrip("0123456789") != ending:
            end = f" followed by '{shortened(ending)}'" if ending.startswith(".") else ""
            raise InputError(f"{path} line {line}: '{shortened(name)}' is not an integer id{end}.")
    ids = pd.Index(names.map(leading_id), dtype=np.int64, name="Id")
    sample = pd.DataFrame({header: names.to_numpy()}, ids, [header, *(columns or targets)])
    files.check_predictions(sample[[]], str(path))  # refuses repeated ids
    return sample


def submission_table(predictions: pd.DataFrame, sample: pd.DataFrame) -> pd.DataFrame:
    """Fill a sample submission with predictions. Rows are matched by id.

    Parameters
    ----------
    predictions : pd.DataFrame
        Test predictions, indexed by `Id`.
    sample : pd.DataFrame
        From `read_sample`.

    Returns
    -------
    pd.DataFrame
        The submission, in the order of the sample.

    Raises
    ------
    InputError
        When an id has no prediction, or a prediction has no id. The message names five of each.
    """
    missing, extra = sample.index.difference(predictions.index), predictions.index.difference(sample.index)
    if len(missing) or len(extra):
        raise InputError(
            f"Of the sample's ids, {len(missing)} have no prediction ({first_five(missing) or 'none'}); "
            f"{len(extra)} predictions have no row ({first_five(extra) or 'none'}). Submit a run that "
            f"predicts the sample's clips."
        )
    table, targets = sample.copy(), list(sample.columns[1:])
    table[targets] = predictions.loc[sample.index, targets]
    return table


def write_submission(
    path: Path, predictions: pd.DataFrame, sample: pd.DataFrame, card: dict[str, Any], overwrite: bool = False
) -> None:
    """Write a submission atomically, and then its card.

    Parameters
    ----------
    path : Path
        ``submissions/<name>-<date>.csv``. The card has the same name with `.json`.
    predictions : pd.DataFrame
        Test predictions, indexed by `Id`.
    sample : pd.DataFrame
        From `read_sample`.
    card : dict
        Information about the submission. File name, sha256, number of rows and targets are added. If the
        file is unchanged, its leaderboard score is kept.
    overwrite : bool
        Replace a different submission of the same name.

    Raises
    ------
    InputError
        When a prediction is missing or not finite, a different submission has the name, or another process
        writes it.
    """
    table = submission_table(files.check_predictions(predictions, "the test predictions"), sample)
    card_path = path.with_suffix(".json")
    with files.alone_at(path, "give another --name"):
        for written in (path, card_path):
            files.remove_unfinished(written)
        if path.exists() and not overwrite and path.read_bytes() != table.to_csv(index=False).encode():
            raise InputError(f"{path} exists and is another submission. Give another --name, or --overwrite.")
        write_form(path, table)
        sha256 = files.sha256(path)
        known = files.read_object(card_path) if card_path.exists() else {}
        if known.get("sha256") == sha256:
            card = card | {"leaderboard": known.get("leaderboard")}
        facts = {"file": path.name, "sha256": sha256, "rows": len(table)}
        files.write_json(card_path, card | facts | {"targets": list(sample.columns[1:])})


def write_form(path: Path, table: pd.DataFrame) -> None:
    """Write a submission atomically, after it was read back unchanged.

    Parameters
    ----------
    path : Path
    table : pd.DataFrame
        From `submission_table`.

    Raises
    ------
    InputError
        When ids, columns or values differ from the table's. There is no file then.
    """
    with files.atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
        read = pd.read_csv(temporary, dtype={0: str})
        same_rows = list(read) == list(table) and list(read.iloc[:, 0]) == list(table.iloc[:, 0])
        if not same_rows or not np.allclose(read.iloc[:, 1:], table.iloc[:, 1:], rtol=1e-12, atol=0):
            raise InputError(f"{path} is not as it was written. Give the same command again.")
