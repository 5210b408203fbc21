"""Submissions: the form a leaderboard asks for, every rule checked, and a card beside the file."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from music_emotion.datasets.layout import leading_id
from music_emotion.files import (
    InputError,
    alone_at,
    atomic_path,
    check_predictions,
    first_five,
    read_lines,
    read_object,
    remove_unfinished,
    shortened,
    split_line,
    write_json,
)

_EDITION_SUFFIX = ".fused.full.npy.gz"
_NAME = re.compile(r"[0-9]+(\..*)?")


@dataclass(frozen=True)
class SubmissionForm:
    """What a submission file looks like.

    Attributes
    ----------
    id_header : str
        Name of the first column.
    names : tuple of str
        The first column itself, in the order of the rows; each starts with the clip's id.
    targets : tuple of str
        The other columns, in order.
    """

    id_header: str
    names: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def ids(self) -> list[int]:
        """The integer each name starts with."""
        return [int(name.partition(".")[0]) for name in self.names]


def default_form(targets: Sequence[str], ids: Sequence[int]) -> SubmissionForm:
    """The form of the competition's own editions of 2020 to 2022."""
    names = tuple(f"{clip_id}{_EDITION_SUFFIX}" for clip_id in ids)
    return SubmissionForm("Id" + _EDITION_SUFFIX, names, tuple(targets))


def read_form(sample: Path, targets: Sequence[str]) -> SubmissionForm:
    """Take header, ids, columns and row order from a sample submission.

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
        When the file is missing or empty, has no header, its columns are not the run's targets,
        or an id is not an integer with the same ending in every row, or occurs twice.
    """
    if not sample.is_file():
        raise InputError(f"The sample submission {sample} does not exist. Correct --sample, or leave it out.")
    lines = [(number, line) for number, line in enumerate(read_lines(sample), start=1) if line.strip()]
    if len(lines) < 2:
        raise InputError(f"{sample} has no rows.")
    (_, header), *rows = [(number, split_line(sample, number, line, ",")) for number, line in lines]
    _check_header(header, targets, sample)
    columns = header[1:] or list(targets)
    form = SubmissionForm(header[0], tuple(cells[0] for _, cells in rows), tuple(columns))
    _check_names([number for number, _ in rows], form.names, sample)
    _check_unique(form.ids, str(sample))
    return form


def _check_header(header: list[str], targets: Sequence[str], sample: Path) -> None:
    """The name of the ids, and no others than the targets'."""
    name, *columns = header
    if name[:1].isdigit():
        raise InputError(f"{sample} line 1: '{shortened(name)}' is an id where the header should be.")
    if columns and sorted(columns) != sorted(targets):
        raise InputError(
            f"{sample} asks for {first_five(columns)}, but the run predicts {first_five(targets)}. "
            f"Submit a run of the same targets."
        )
    if not name or name in targets:
        raise InputError(f"{sample} line 1: '{name}' can't name the ids. Give them a name, such as Id.")


def _check_names(numbers: list[int], names: Sequence[str], sample: Path) -> None:
    """Every name is an integer and the ending that the first one has."""
    ending = names[0].lstrip("0123456789")
    for number, name in zip(numbers, names, strict=True):
        if not _NAME.fullmatch(name) or leading_id(name) is None or name.lstrip("0123456789") != ending:
            wanted = "an integer id"
            if ending.startswith("."):
                wanted += f" followed by '{shortened(ending)}'"
            raise InputError(f"{sample} line {number}: '{shortened(name)}' is not {wanted}.")


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
    table.insert(0, form.id_header, form.names)
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
        When a rule is broken, another submission of that name exists, or another process writes it.
    """
    table = submission_table(check_predictions(predictions, "the test predictions"), form)
    with alone_at(path, "give another --name"):
        for written in (path, path.with_suffix(".json")):
            remove_unfinished(written)
        _write(path, table, form, card, overwrite)


def _write(
    path: Path, table: pd.DataFrame, form: SubmissionForm, card: dict[str, Any], overwrite: bool
) -> None:
    if path.exists() and not overwrite and path.read_bytes() != table.to_csv(index=False).encode():
        raise InputError(f"{path} exists and is another submission. Give another --name, or --overwrite.")
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
        check_submission(temporary, form)  # a file that breaks a rule never gets its name
    facts = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "rows": len(table),
        "targets": list(form.targets),
    }
    card_path = path.with_suffix(".json")
    known = read_object(card_path) if card_path.exists() else {}
    if known.get("sha256") == facts["sha256"]:  # the same file: its score stays known
        card = card | {"leaderboard": known.get("leaderboard")}
    write_json(card_path, card | facts)


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
    given = table[form.id_header].tolist()
    wrong = [name for name, cell in zip(form.names, given, strict=True) if name != cell]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} ids are missing or out of order: {first_five(wrong)}.")
    values = table[list(form.targets)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    broken = [name for name, row in zip(form.names, values, strict=True) if not np.isfinite(row).all()]
    if broken:
        raise InputError(f"{path}: {len(broken)} rows hold values that are not finite: {first_five(broken)}.")
