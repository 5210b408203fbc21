"""Read and write the files of commands: atomic writing, locks, prediction tables, and their errors."""

import codecs
import csv
import difflib
import errno
import glob
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, get_args
from uuid import uuid4

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError

GROUP = "group"  # column of `truth.csv`


class InputError(ValueError):
    """Invalid input from the user, such as a file, a setting or a flag.

    The message says what is wrong, where, and what to do. Commands print it without a traceback and exit
    with status 2.
    """


class Diverged(InputError):
    """The loss of a training is no longer finite.

    The first argument describes the problem, with run, fold and epoch; the second is the remedy.
    """

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


@contextmanager
def telling_what_is_kept(kept: Callable[[], str]) -> Iterator[None]:
    """On Ctrl-C, raise a KeyboardInterrupt that says which results of long work are saved.

    Commands print the message, and that the same command continues.

    Parameters
    ----------
    kept : callable
        Returns the message of the KeyboardInterrupt, such as "runs/a: 2 of 5 folds are finished".
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
        The unknown name.
    words : iterable of str
        The known names.

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
    """The first five of many values, for a message."""
    items = [shortened(str(value), 300) for value in values]
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")


def shortened(text: str, longest: int = 60) -> str:
    """The beginning of a text, for a message."""
    return text if len(text) <= longest else text[:longest] + "..."


def printable(text: str) -> str:
    """Escape control characters except line ends, and bytes that are not UTF-8, as in some file names."""
    text = text.encode(errors="backslashreplace").decode()
    return re.sub("[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def file_name(text: str, suffix: str = "", longest: int = 240) -> str:
    """Make the name of a file from a user's text.

    Parameters
    ----------
    text : str
        Such as the name of a song, a run or a class.
    suffix : str
        End of the name, such as ".png".
    longest : int
        Largest length in bytes in UTF-8, with the suffix. File systems allow 255.

    Returns
    -------
    str
        The text and the suffix. A text that is too long is shortened, and slashes and control characters
        are replaced. Such a name contains a hash of the text, so that different texts have different names.
    """
    name = re.sub(r"[/\x00-\x1f\x7f]", "_", text)
    if name != text or len(_bytes(text + suffix)) > longest:
        suffix = f"-{hashlib.sha256(_bytes(text)).hexdigest()[:8]}{suffix}"
        name = _bytes(name)[: longest - len(_bytes(suffix))].decode(errors="ignore")
    return name + suffix


def beside(path: Path, before: str = "", after: str = "") -> Path:
    """Path of a temporary file or a lock beside a file: its name with text around it.

    `file_name` shortens a long name, so that there is room.
    """
    ending = path.suffix[-16:]
    return path.parent / (before + file_name(path.name.removesuffix(ending), ending + after, 200))


def _bytes(name: str) -> bytes:
    return name.encode(errors="surrogatepass")  # a name on disk need not be UTF-8


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
        Path of the file, for error messages.
    remedy : str
        A sentence on how to correct a wrong value.

    Raises
    ------
    InputError
        When the value is invalid. The message has a sentence for each wrong field, and the remedy.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{describe(error, str(place), kind)} {remedy}".rstrip()) from None


def describe(error: ValidationError, place: str, model: type[Any] | None = None) -> str:
    """Describe the errors of a pydantic validation in sentences; at most ten of them.

    Parameters
    ----------
    error : ValidationError
    place : str
        Source of the values, for the message.
    model : type, optional
        The type that the values were validated against; used to suggest a similar key.
    """
    sentences = [f"{place}: {_sentence(dict(item), model)}" for item in error.errors()[:10]]
    if error.error_count() > 10:
        sentences.append(f"There are {error.error_count() - 10} more.")
    return " ".join(sentences)


def _sentence(item: dict[str, Any], model: Any) -> str:
    """Describe one validation error: the key, the problem and the remedy."""
    key, message = shortened(".".join(map(str, item["loc"]))), item["msg"].removeprefix("Value error, ")
    if item["type"] in {"extra_forbidden", "unexpected_keyword_argument"} and model is not None:
        for name in [part for part in item["loc"][:-1] if isinstance(part, str)]:
            model = model.__pydantic_fields__[name].annotation
            model = next(iter(get_args(model)), model)  # of `Section | None` and `list[Section]`
        return f"unknown key '{key}'; {nearest(str(item['loc'][-1]), model.__pydantic_fields__)}"
    if item["type"] == "value_error" and message.endswith("."):  # a rule that names its settings
        return message
    held = "missing" if item["type"] == "missing" else _repr(item["input"])
    said = (f"{key} is {held}; " if key else "") + message[:1].lower() + message[1:]
    if item["type"] == "literal_error":
        choices = re.findall("'([^']*)'", item["ctx"]["expected"])
        if close := difflib.get_close_matches(held, choices, n=1, cutoff=0.3):
            return f"{said}; did you mean '{close[0]}'?"
    return f"{said}."


def _repr(value: Any) -> str:
    try:
        return shortened(repr(value), 200)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return "a huge number"


_UNFINISHED = ".writing-"


@contextmanager
def atomic_path(path: Path, may_copy: bool = True) -> Iterator[Path]:
    """Yield a temporary name to write to, and rename it to `path` when the block ends without an error.

    Parameters
    ----------
    path : Path
        The file to write. Missing parent folders are created.
    may_copy : bool
        Copy over the file where the disk refuses to rename, which a kill could cut short.

    Yields
    ------
    Path
        A temporary path in the same folder, with the same suffix. It is removed after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(path, f"{_UNFINISHED}{uuid4().hex[:12]}-")
    try:
        with naming_refusals(path):
            yield temporary
            (_replace if may_copy else os.replace)(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def together(directory: Path, last: str) -> Iterator[Path]:
    """Yield a temporary folder, and move its files to a directory when the block ends without an error.

    Parameters
    ----------
    directory : Path
        Destination of the files; created if missing.
    last : str
        Name of the file that describes the others. The old one is removed first and the new one is moved
        last. So it always describes the files beside it, even after a kill.

    Yields
    ------
    Path
        The temporary folder. After an error the directory is unchanged.
    """
    directory.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=_UNFINISHED, suffix=f"-{last}", dir=directory))
    try:
        yield fresh
        (directory / last).unlink(missing_ok=True)
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == last):
            _replace(path, directory / path.name)
    except OSError as error:
        if error.filename and Path(error.filename).parent == fresh:
            error.filename = str(directory / Path(error.filename).name)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _replace(source: Path, path: Path) -> None:
    """Move a file over another. Copy it where the disk, such as a network disk, refuses to rename."""
    try:
        os.replace(source, path)
    except OSError as refusal:
        if refusal.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO} or path.is_dir():
            raise
        try:
            with naming_refusals(path):
                shutil.copyfile(source, path)
        except BaseException:
            path.unlink(missing_ok=True)  # a part of the file
            raise
        source.unlink()


@contextmanager
def naming_refusals(path: Path) -> Iterator[None]:
    """Add the path to an OSError that names none, such as the error of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise


def remove_unfinished(place: Path) -> None:
    """Remove temporary files that killed processes left below a folder, or beside a file.

    The caller must hold the lock of the folder or file.
    """
    own = f"{_UNFINISHED}{'?' * 12}-{glob.escape(beside(place).name)}"
    for path in [*(place.rglob(f"{_UNFINISHED}*") if place.is_dir() else place.parent.glob(own))]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8. Bytes of a path that are not UTF-8 are escaped as in JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, with indentation."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def regular_file(path: Path, what: str = "", remedy: str = "Run the command that writes it first.") -> Path:
    """Refuse a path that is not a file on a disk. A pipe or a device may never open, or never end.

    Parameters
    ----------
    path : Path
        A file to read.
    what : str
        What the file is for, such as "The model file", for the message.
    remedy : str
        What to do when the file does not exist.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    InputError
        When there is no file, or it is a folder, a named pipe, a socket or a device.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a ValueError for a zero byte
        raise InputError(f"{what} {path} does not exist. {remedy}".lstrip()) from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise InputError(f"{path} is {kind}. Put a file in its place.")
    return path


def read_cells(path: Path, separator: str = " ") -> pd.DataFrame:
    """Read a table as text, as a spreadsheet would.

    Parameters
    ----------
    path : Path
        Text in UTF-8, or in UTF-16 with a byte order mark. Cells are separated by the first tab, comma or
        semicolon of the first row. Quoted cells may contain separators and line breaks.
    separator : str
        Separator of a table whose first row has none of these. Several spaces count as one.

    Returns
    -------
    pd.DataFrame
        Stripped text in columns 0, 1, ...; None where a row is too short. A header is the first row. The
        index is the number of the line in the file where the row begins, starting at 1. Left out are blank
        rows, blank columns on the right, and an unnamed first column that only counts the rows.

    Raises
    ------
    InputError
        When the file is missing, is empty, is not text, or has a row whose quotes do not close.
    """
    content = regular_file(path).read_bytes()
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig").lstrip("\ufeff")
        before, zero, _ = text.partition("\0")  # UTF-16 without a byte order mark has zeros
        wrong = 0 if zero else None
    except UnicodeDecodeError as error:
        before, wrong = content[: error.start].decode("latin-1"), content[error.start]
    if wrong is not None:
        line = before.count("\n") + 1
        problem = f"{path} is not a text file in UTF-8: line {line} holds the byte 0x{wrong:02x}."
        raise InputError(f"{problem} Save it as UTF-8, or replace it.")
    lines = io.StringIO(text, newline=None)  # any line end becomes a line feed
    first = next((line for line in lines if line.strip()), "")
    lines.seek(0)
    mark = re.search("[\t,;]", re.sub('"[^"]*("|$)', "", first))
    reader = csv.reader(lines, delimiter=mark[0] if mark else separator, skipinitialspace=True, strict=True)
    rows, line = dict[int, list[str]](), 1
    try:
        for row in reader:
            if any(cells := [cell.strip() for cell in row]):
                rows[line] = cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path} line {line} can't be split into cells: {error}.") from None
    if not rows:
        raise InputError(f"{path} is empty. Replace it.")
    columns = list(zip_longest(*rows.values()))
    while not any(columns[-1]):
        columns.pop()
    name, *counted = columns[0]
    if name in ("", "Unnamed: 0") and len(columns) > 1:  # as pandas writes and reads the index of a table
        columns = columns[any(counted == [*map(str, range(k, k + len(counted)))] for k in (0, 1)) :]
    return pd.DataFrame(dict(enumerate(columns)), pd.Index(rows, name="line"), dtype=object)


def numbers(cells: pd.Series) -> pd.Series:
    """Convert text to numbers.

    Parameters
    ----------
    cells : pd.Series
        One column of `read_cells`, without missing cells.

    Returns
    -------
    pd.Series
        Floats; NaN for cells that are not finite numbers. Commas are decimal points if the column has no
        points, and a comma in it that can't separate thousands, such as that of 0,125 or 3,5.
    """
    no_thousands = "(?![+-]?[1-9][0-9]{0,2},[0-9]{3}$)[+-]?[0-9]*,[0-9]+"
    if cells.str.fullmatch(no_thousands).any() and not cells.str.contains(".", regex=False).any():
        cells = cells.str.replace(",", ".", n=1)
    return pd.to_numeric(cells, errors="coerce").astype(float).replace([np.inf, -np.inf], np.nan)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        When the file is missing, is a folder, or is not JSON.
    """
    content = regular_file(path).read_bytes()
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}). Delete it to write it anew.") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises
    ------
    InputError
        As in `read_json`, and when the file holds another value, such as a list.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object. Delete it to write it anew.")
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    InputError
        When the file is missing, is a folder, or is not TOML.
    """
    content = regular_file(path).read_bytes()
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also for numbers and nesting beyond Python's limits
        raise InputError(f"{path} is not valid TOML: {error}.") from None


def sha256(path: Path) -> str:
    """Hash a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_table(path: Path, table: pd.DataFrame, separator: str = ",") -> None:
    """Write a table as CSV atomically, without its index."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, sep=separator, index=False)


@contextmanager
def alone_at(place: Path, remedy: str) -> Iterator[None]:
    """Lock the file or folder that a command writes to, or refuse to start.

    Parameters
    ----------
    place : Path
        The file or folder, which need not exist. Missing parent folders are made.
    remedy : str
        What the user can do instead of waiting, such as "give another --name".

    Raises
    ------
    InputError
        When another process holds the lock.
    """
    held = lock(_lock_of(place))
    if held is None:
        raise InputError(
            f"Another process is at work on {place}. Wait until it ends and give the same command, or "
            f"{remedy}."
        )
    with held:
        yield


@contextmanager
def in_turn(place: Path, what: str) -> Iterator[int]:
    """Lock a file or folder; print a line and wait while another process holds the lock.

    Parameters
    ----------
    place : Path
        The file or folder, which need not exist. Missing parent folders are made.
    what : str
        Work of the other process, such as "packs data", for the printed line.

    Yields
    ------
    int
        The lock's file descriptor. A child process that inherits it holds the lock too.
    """
    if (held := lock(_lock_of(place))) is None:
        print(f"waiting for another process that {what} ...", flush=True)
    with held or awaited_lock(_lock_of(place)) as file:
        yield file.fileno()


def compiling() -> AbstractContextManager[int]:
    """Hold this lock while functions of numba or librosa may be compiled; it is held in turn.

    Processes that compile the same functions at the same time can corrupt numba's cache, so that every later
    one crashes (numba issue 10128).
    """
    user = getattr(os, "getuid", int)()  # nobody may lock the files of others in a shared folder
    return in_turn(Path(tempfile.gettempdir(), f"music-emotion-{user}"), "compiles functions")


_WITHOUT_LOCKS: list[Path] = []  # folders, after a warning


def lock(path: Path) -> BinaryIO | None:
    """Lock a file, unless another process holds the lock.

    Parameters
    ----------
    path : Path
        The file, which exists only to be locked. It is created, and never removed.

    Returns
    -------
    BinaryIO or None
        The open file, whose closing ends the lock; None when another process holds it. Where the disk does
        not support locks, the file is not locked, and a warning is printed once.
    """
    is_of_others = path.exists() and not os.access(path, os.W_OK)
    file: BinaryIO = path.open("rb" if is_of_others else "ab")  # a network disk locks only what is written
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EACCES}:
            file.close()
            return None
        if not _WITHOUT_LOCKS:
            print(
                f"warning: The folder {path.parent} does not support locks ({error.strerror}), so two "
                f"commands at once could overwrite each other's files there. Start one at a time.",
                flush=True,
            )
        _WITHOUT_LOCKS.append(path.parent)
    return file


def awaited_lock(path: Path) -> BinaryIO:
    """Wait while another process holds the lock of a file, then lock it."""
    while (held := lock(path)) is None:
        time.sleep(0.1)
    return held


def _lock_of(place: Path) -> Path:
    """The lock of a file or folder, beside it; missing parent folders are made."""
    if place.name in {"", ".."}:
        place = place.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    return beside(place, ".", ".lock")


def prediction_table(ids: np.ndarray, values: np.ndarray, columns: tuple[str, ...]) -> pd.DataFrame:
    """Build a prediction table, sorted by id.

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


def check_predictions(table: pd.DataFrame, place: str, may_lack: bool = False) -> pd.DataFrame:
    """Refuse a prediction table with repeated ids or values that are not finite.

    Parameters
    ----------
    table : pd.DataFrame
        Indexed by `Id`.
    place : str
        Source of the table, for the message.
    may_lack : bool, default False
        Accept NaN: the table is the truth of several sets, and a clip may lack a target.

    Returns
    -------
    pd.DataFrame
        The same table.

    Raises
    ------
    InputError
        When ids or values are wrong. The message names up to five of the ids.
    """
    repeated = table.index[table.index.duplicated()].unique()
    if len(repeated):
        raise InputError(f"{place}: {len(repeated)} ids occur more than once: {first_five(repeated)}.")
    values = (table.fillna(0.0) if may_lack else table).to_numpy(dtype=np.float64)
    broken = table.index[~np.isfinite(values).all(axis=1)]
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


def read_predictions(path: Path, is_truth: bool = False) -> pd.DataFrame:
    """Read and check a prediction table.

    Parameters
    ----------
    path : Path
    is_truth : bool
        Whether these are labels, which may be missing, beside groups, which are left out.

    Raises
    ------
    InputError
        When the file is missing, is not a CSV of numbers, has no `Id` column, or fails
        `check_predictions`.
    """
    cells = read_cells(path, ",")
    cells = cells.loc[:, cells.iloc[0] != GROUP] if is_truth else cells
    names, rows = cells.iloc[0].tolist(), cells.iloc[1:]
    if names[0] != "Id" or len(names) == 1 or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"{path} has the columns {first_five(map(repr, names))}; expected 'Id' and targets or classes."
        )
    try:
        ids = pd.Index(rows[0].astype(np.int64), name="Id")
        numbers = pd.DataFrame(rows.iloc[:, 1:].replace("", "nan").to_numpy(np.float64), ids, names[1:])
    except (ValueError, OverflowError) as error:
        reason = f"{shortened(str(error), 200)}. Run the command that writes it again."
        raise InputError(f"{path} is not a table of predictions: {reason}") from None
    return check_predictions(numbers, str(path), is_truth)


def read_truth(path: Path) -> pd.DataFrame:
    """Read the target values of a run's `truth.csv`, without the groups. See `read_predictions`."""
    return read_predictions(path, is_truth=True)


def package_data(name: Literal["experiments", "kaggle"]) -> Path:
    """Folder of built-in experiments or Kaggle templates, in the installed package or in its checkout."""
    package = Path(__file__).parent
    installed = package / {"experiments": "experiments", "kaggle": "kaggle/templates"}[name]
    return installed if installed.is_dir() else package.parents[1] / name
