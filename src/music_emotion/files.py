"""Files that stages exchange: atomic writing, locks, prediction tables, and the one error users meet."""

import csv
import difflib
import errno
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args
from uuid import uuid4

import numpy as np
import pandas as pd
from filelock import BaseFileLock, FileLock, Timeout
from pydantic import TypeAdapter, ValidationError


class InputError(ValueError):
    """Something given to the pipeline is wrong.

    The message is one or more whole sentences: the value, the place and the remedy.
    Scripts print it without a traceback and exit with status 2.
    """


class Diverged(InputError):
    """The loss of a training is no longer finite.

    Its arguments are what happened, with place and epoch, and the remedy; the message is both.
    """

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


@contextmanager
def telling_what_is_kept(kept: Callable[[], str]) -> Iterator[None]:
    """Have Ctrl-C tell what long work has come to; scripts print it and how to go on.

    Parameters
    ----------
    kept : callable
        Gives what is kept then, such as "runs/a: 2 of 5 folds are finished".

    Raises
    ------
    KeyboardInterrupt
        With that as its message.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(kept()) from interrupt


def nearest(word: str, words: Iterable[str]) -> str:
    """Suggest the right spelling of a word.

    Parameters
    ----------
    word : str
        What was written.
    words : iterable of str
        What could have been written.

    Returns
    -------
    str
        ``"did you mean 'x'?"``, or the list of choices when none is close.
    """
    choices = sorted(words)
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if match:
        return f"did you mean '{shortened(match[0])}'?"
    return f"choose from {', '.join(map(shortened, choices))}."


def first_five(values: Iterable[object]) -> str:
    """Name the first five of many, so that a message stays readable."""
    items = [shortened(str(value), 300) for value in values]
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")


def shortened(text: str, longest: int = 60) -> str:
    """The beginning of a text, so that a message stays readable whatever a file holds."""
    return text if len(text) <= longest else text[:longest] + "..."


_MOST_NAMED = 10

_Checked = TypeVar("_Checked")


def checked(kind: type[_Checked], value: Any, place: str | Path, remedy: str = "") -> _Checked:
    """Validate a value that was read from a file.

    Parameters
    ----------
    kind : type
        A pydantic model or dataclass.
    value : Any
        What the file holds, usually a dict.
    place : str or Path
        The file, for messages.
    remedy : str
        What to do about a wrong value, as a sentence.

    Raises
    ------
    InputError
        With a sentence for each wrong field, and the remedy.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{describe(error, str(place), kind)} {remedy}".rstrip()) from None


def describe(error: ValidationError, place: str, model: type[Any] | None = None) -> str:
    """Say what pydantic refused, as sentences.

    Parameters
    ----------
    error : ValidationError
    place : str
        Where the values come from.
    model : type, optional
        What was validated, to suggest the nearest right key.
    """
    sentences = [f"{place}: {_sentence(dict(item), model)}" for item in error.errors()[:_MOST_NAMED]]
    if error.error_count() > _MOST_NAMED:
        sentences.append(f"There are {error.error_count() - _MOST_NAMED} more.")
    return " ".join(sentences)


def _sentence(item: dict[str, Any], model: Any) -> str:
    """One refusal, from the key to the remedy."""
    key, message = shortened(".".join(map(str, item["loc"]))), item["msg"].removeprefix("Value error, ")
    if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"} and model is not None:
        for name in [part for part in item["loc"][:-1] if isinstance(part, str)]:
            model = model.__pydantic_fields__[name].annotation
            model = next(iter(get_args(model)), model)  # of `Section | None` and `list[Section]`
        return f"unknown key '{key}'; {nearest(str(item['loc'][-1]), model.__pydantic_fields__)}"
    if item["type"] == "value_error" and message.endswith("."):  # a rule between settings, which it names
        return message
    held = "missing" if item["type"] == "missing" else _repr(item["input"])
    said = (f"{key} is {held}; " if key else "") + message[:1].lower() + message[1:]
    if item["type"] == "literal_error":
        choices = [word.strip("' ") for word in item["ctx"]["expected"].replace(" or ", ",").split(",")]
        if close := difflib.get_close_matches(held, choices, n=1, cutoff=0.3):
            return f"{said}; did you mean '{close[0]}'?"
    return f"{said}."


def _repr(value: Any) -> str:
    try:
        return shortened(repr(value), 200)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        return "a huge number"


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
        content = path.read_bytes()
        text, wrong = content.decode("utf-8-sig"), content.find(b"\0")  # UTF-16 without a mark has zeros
    except IsADirectoryError:
        raise InputError(f"{path} is a folder. Put a file in its place.") from None
    except UnicodeDecodeError as error:
        text, wrong = "", error.start
    if wrong >= 0:
        line = content.count(b"\n", 0, wrong) + 1
        raise InputError(
            f"{path} is not a text file in UTF-8: line {line} holds the byte 0x{content[wrong]:02x}. "
            f"Save it as UTF-8, or replace it."
        )
    return re.split("\r\n|\r|\n", text.lstrip("\ufeff"))


def read_cells(path: Path, separator: str | None = None) -> pd.DataFrame:
    """Read a table as text, one row per line that is not blank.

    Parameters
    ----------
    path : Path
        CSV or the like. Quotes may hold separators, but no line breaks.
    separator : str, optional
        Between cells. By default a tab, a comma or white space, whichever the first row has.

    Returns
    -------
    pd.DataFrame
        Text without spaces around it, in columns 0, 1, ...; None where a row has no such cell. The first
        row is the header, if there is one. The index is the row's line, as an editor counts them.

    Raises
    ------
    InputError
        When the file is empty, is not text in UTF-8, or has a line whose quotes do not close.
    """
    lines = {number: line for number, line in enumerate(read_lines(path), start=1) if line.strip()}
    if not lines:
        raise InputError(f"{path} is empty. Replace it.")
    first = next(iter(lines.values()))
    separator = separator or next((mark for mark in "\t," if mark in first), None)
    rows: list[list[str]] = []
    for number, line in lines.items():
        cells = split_line(path, number, line, separator) if separator else line.split()
        rows.append([cell.strip() for cell in cells])
    columns = dict(enumerate(zip_longest(*rows)))
    return pd.DataFrame(columns, pd.Index(lines, name="line"), dtype=object)


def split_line(path: Path, number: int, line: str, separator: str) -> list[str]:
    """Split one line of a table into its cells; none goes on in the next, so that rows are lines.

    Raises
    ------
    InputError
        For quotes that do not close, or a cell beyond what Python's csv allows.
    """
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), [])
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


def write_table(path: Path, table: pd.DataFrame, separator: str = ",") -> None:
    """Write a table as CSV atomically, without its index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep=separator, index=False)


def lock_of(place: Path) -> Path:
    """The lock file of a file or folder, which need not exist."""
    if place.name in {"", ".."}:
        place = place.resolve()
    return place.with_name(f".{place.name}.lock")


@contextmanager
def alone_at(place: Path, remedy: str) -> Iterator[None]:
    """Hold what a command writes to, and refuse to begin while another process does.

    Parameters
    ----------
    place : Path
        The file or folder, which need not exist. Missing parent folders are made.
    remedy : str
        What to do instead of waiting, such as "give another --name".

    Raises
    ------
    InputError
        When another process holds it.
    """
    try:
        held = _lock(place).acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"Another process is at work on {place}. Wait until it ends and give the same command, or "
            f"{remedy}."
        ) from None
    with held:
        yield


@contextmanager
def in_turn(place: Path, what: str) -> Iterator[int | None]:
    """Wait until no other process makes the same thing, and keep others waiting.

    Parameters
    ----------
    place : Path
        What is made; it need not exist. Missing parent folders are made.
    what : str
        What the others do, such as "packs data", for the user who waits.

    Yields
    ------
    int or None
        The lock's file descriptor. A child that is given it holds the lock too.
    """
    lock = _lock(place)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for another process that {what} ...", flush=True)
        held = lock.acquire()
    with held:
        yield lock._context.lock_file_fd


def _lock(place: Path) -> BaseFileLock:
    lock = lock_of(place)
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


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


def package_data(name: Literal["experiments", "kaggle"]) -> Path:
    """Folder of built-in experiments or Kaggle templates: in the installed package, or in its checkout."""
    package = Path(__file__).parent
    installed = package / {"experiments": "experiments", "kaggle": "kaggle/templates"}[name]
    return installed if installed.is_dir() else package.parents[1] / name
