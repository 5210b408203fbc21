"""Writing files so that a reader never meets half of one."""

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from music_emotion.errors import InputError

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
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)  # a full disk does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Remove what killed writers left in a folder and below, of all files or those of a name.

    Nobody may be writing them meanwhile.
    """
    for path in folder.rglob(f"{_UNFINISHED}*-{name}"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        When the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Run the stage that writes it first.") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}). Delete it to write it anew.") from None


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
        When the file is missing or is not TOML.
    """
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"The {kind} {path} does not exist. See {examples}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV atomically, without its index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False)
