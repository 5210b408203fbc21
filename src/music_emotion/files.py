"""Writing files so that a reader never meets half of one."""

import csv
import errno
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from music_emotion.errors import InputError, shortened

_UNFINISHED = ".writing-"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes `path` when the block ends without an error.

    Parameters
    ----------
    path : Path
        The file to write. Missing parent folders are made.

    Yields
    ------
    Path
        A name in the same folder with the same ending, renamed to `path` on success and
        removed on failure.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_UNFINISHED}{uuid4().hex[:12]}-{path.name}")
    try:
        with naming_refusals(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def together(directory: Path, last: str) -> Iterator[Path]:
    """Give an empty folder whose files take their places in a directory when all of them are whole.

    Parameters
    ----------
    directory : Path
        Where they go; made if it is missing.
    last : str
        Name of the one that speaks of the others. The old one is removed before they take their
        places, and the new one takes its own last, so that after a kill it never speaks of others.

    Yields
    ------
    Path
        The folder. After an error the directory is as it was.
    """
    directory.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=_UNFINISHED, suffix=f"-{last}", dir=directory))
    try:
        yield fresh
        (directory / last).unlink(missing_ok=True)
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == last):
            os.replace(path, directory / path.name)
    except OSError as error:
        if error.filename and Path(error.filename).parent == fresh:
            error.filename = str(directory / Path(error.filename).name)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def naming_refusals(path: Path) -> Iterator[None]:
    """Let a disk that refuses what the block writes say where; a full one does not."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise


def remove_unfinished(place: Path) -> None:
    """Remove what killed writers left in a folder and below, or beside a file of that file.

    Nobody may be writing there meanwhile.
    """
    if place.is_dir():
        left = [*place.rglob(f"{_UNFINISHED}*")]
    else:
        left = [*place.parent.glob(f"{_UNFINISHED}*-{place.name}")]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file as an editor counts them.

    Raises
    ------
    InputError
        When it is a folder, or is not text in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except IsADirectoryError:
        raise InputError(f"{path} is a folder. Put a file in its place.") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # as UTF-16 has where UTF-8 has letters
        raise InputError(f"{path} is not a text file in UTF-8. Save it as UTF-8, or replace it.")
    return text.lstrip("\ufeff").split("\n")


def split_line(path: Path, number: int, line: str, separator: str) -> list[str]:
    """Split one line of a table into its cells; none goes on in the next, so that rows are lines.

    Raises
    ------
    InputError
        For quotes that do not close, or a cell beyond what Python's csv allows.
    """
    try:
        return next(csv.reader([line], delimiter=separator, strict=True), [])
    except csv.Error as error:
        raise InputError(f"{path} line {number} can't be split into cells: {error}.") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        When the file is missing, is a folder, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Run the stage that writes it first.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder. Delete it to write the file anew.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}). Delete it to write it anew.") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file whose value has names, as all of ours have.

    Raises
    ------
    InputError
        As `read_json` does, and when it holds another value, such as a list.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object. Delete it to write it anew.")
    return value


def read_toml(path: Path, kind: str, examples: str) -> dict[str, Any]:
    """Read a TOML file.

    Parameters
    ----------
    path : Path
    kind : str
        What the file is, for messages, such as "study".
    examples : str
        Where such files are, for messages.

    Raises
    ------
    InputError
        When the file is missing, is a folder, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except IsADirectoryError:
        raise InputError(f"The {kind} {path} is a folder. See {examples}.") from None
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
            raise
        name = shortened(str(path), 300)
        raise InputError(f"The {kind} {name} does not exist. See {examples}.") from None
    except (ValueError, RecursionError) as error:  # numbers and lists beyond Python's bounds, too
        raise InputError(f"{path} is not valid TOML: {error}.") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV atomically, without its index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
