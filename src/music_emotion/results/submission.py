"""Submissions: the form a leaderboard asks for, every rule checked, and a card beside the file."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion.errors import InputError, first_five
from music_emotion.files import write_json, write_table

_EDITION_SUFFIX = ".fused.full.npy.gz"


@dataclass(frozen=True)
class SubmissionForm:
    """What a submission file looks like.

    Attributes
    ----------
    id_header : str
        Name of the first column.
    id_suffix : str
        What follows the integer id in it; "" for the bare integer.
    targets : tuple of str
        The other columns, in order.
    ids : tuple of int
        The rows, in order.
    """

    id_header: str
    id_suffix: str
    targets: tuple[str, ...]
    ids: tuple[int, ...]


def default_form(targets: Sequence[str], ids: Sequence[int]) -> SubmissionForm:
    """The form of the competition's own editions of 2020 to 2022."""
    return SubmissionForm("Id" + _EDITION_SUFFIX, _EDITION_SUFFIX, tuple(targets), tuple(ids))


def read_form(sample: Path, targets: Sequence[str]) -> SubmissionForm:
    """Take header, id form, columns and row order from a sample submission.

    Parameters
    ----------
    sample : Path
        `sample_submission.csv`, or a file of the id column alone.
    targets : sequence of str
        What the run predicts.

    Returns
    -------
    SubmissionForm

    Raises
    ------
    InputError
        When the file is missing or empty, its columns are not the run's targets, or an id is
        not an integer with the same ending in every row, or occurs twice.
    """
    if not sample.is_file():
        raise InputError(f"The sample submission {sample} does not exist. Correct --sample, or leave it out.")
    table = pd.read_csv(sample, dtype=str)
    id_header, columns = str(table.columns[0]), [str(name) for name in table.columns[1:]]
    if columns and set(columns) != set(targets):
        raise InputError(
            f"{sample} asks for {', '.join(columns)}, but the run predicts {', '.join(targets)}. "
            f"Submit a run of the same targets."
        )
    if table.empty:
        raise InputError(f"{sample} has no rows.")
    parts = [re.fullmatch(r"(\d+)(\D.*)?", str(name)) for name in table[id_header]]
    for row, part in enumerate(parts, start=2):
        if part is None or part[2] != (parts[0] or part)[2]:
            raise InputError(
                f"{sample} row {row}: '{table[id_header][row - 2]}' is not an integer id with the "
                f"ending of row 2."
            )
    ids = tuple(int(part[1]) for part in parts if part)
    _check_unique(ids, str(sample))
    suffix = (parts[0] and parts[0][2]) or ""
    return SubmissionForm(id_header, suffix, tuple(columns or targets), ids)


def _check_unique(ids: Sequence[int], place: str) -> None:
    values = pd.Index(ids)
    if values.has_duplicates:
        repeated = values[values.duplicated()].unique()
        raise InputError(f"{place}: {len(repeated)} ids occur more than once: {first_five(repeated)}.")


def submission_table(predictions: pd.DataFrame, form: SubmissionForm) -> pd.DataFrame:
    """Lay predictions into a form, joined on the id and never on row order.

    Raises
    ------
    InputError
        When ids of the form have no prediction, or predictions no row; both are counted and
        five of each named.
    """
    asked = pd.Index(form.ids)
    missing, extra = asked.difference(predictions.index), predictions.index.difference(asked)
    if len(missing) or len(extra):
        raise InputError(
            f"The submission's ids are not the predicted ones: {len(missing)} have no prediction "
            f"({first_five(missing) or 'none'}) and {len(extra)} predictions have no row "
            f"({first_five(extra) or 'none'}). Check that the run is of the same test clips."
        )
    table = predictions.loc[asked, list(form.targets)].reset_index(drop=True)
    table.insert(0, form.id_header, [f"{clip_id}{form.id_suffix}" for clip_id in form.ids])
    return table


def write_submission(
    path: Path, predictions: pd.DataFrame, form: SubmissionForm, card: dict[str, Any], overwrite: bool = False
) -> None:
    """Write a submission atomically, read it back, check every rule, and write its card.

    Parameters
    ----------
    path : Path
        ``submissions/<name>-<date>.csv``; the card is the same with `.json`.
    predictions : pd.DataFrame
        Test predictions, indexed by `Id`.
    form : SubmissionForm
        What the leaderboard wants.
    card : dict
        What is known of the submission; the file's own facts are added.
    overwrite : bool
        Whether a different submission of the same name is replaced.

    Raises
    ------
    InputError
        When a rule is broken, or another submission of that name exists.
    """
    table = submission_table(predictions, form)
    if path.exists() and not overwrite and path.read_text(encoding="utf-8") != table.to_csv(index=False):
        raise InputError(f"{path} exists and is another submission. Give another --name, or --overwrite.")
    write_table(path, table)
    check_submission(path, form)
    facts = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "rows": len(table),
        "targets": list(form.targets),
    }
    write_json(path.with_suffix(".json"), facts | card)


def check_submission(path: Path, form: SubmissionForm) -> None:
    """Read a submission back and check every rule.

    Raises
    ------
    InputError
        Naming the rule that is broken.
    """
    table = pd.read_csv(path, dtype={0: str})
    header = [form.id_header, *form.targets]
    if list(table.columns) != header:
        raise InputError(f"{path}: the header is {', '.join(table.columns)}; expected {', '.join(header)}.")
    if len(table) != len(form.ids):
        raise InputError(f"{path} has {len(table)} rows; expected {len(form.ids)}.")
    _check_unique(form.ids, str(path))
    names = [f"{clip_id}{form.id_suffix}" for clip_id in form.ids]
    wrong = [
        name for name, cell in zip(names, table[form.id_header].astype(str), strict=True) if name != cell
    ]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} ids are missing or out of order: {first_five(wrong)}.")
    values = table[list(form.targets)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    broken = [name for name, row in zip(names, values, strict=True) if not np.isfinite(row).all()]
    if broken:
        raise InputError(f"{path}: {len(broken)} rows hold values that are not finite: {first_five(broken)}.")
