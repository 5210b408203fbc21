"""What has been done for each clip, on disk as soon as it is done, so that a killed run goes on."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TextIO

import pandas as pd

from music_emotion.audio.features import FeatureSettings
from music_emotion.files import InputError, atomic_path


@dataclass(frozen=True)
class Source:
    """What a clip was made from. If any of this changes, what was made is stale.

    Attributes
    ----------
    path : str
        Of the recording, absolute: folders of classes hold files of equal names.
    bytes, modified_ns : int
        Size of the file, and when it was changed last; 0 for one that is gone.
    start_seconds : float
    end_seconds : float or None
        The span of the recording.
    settings : str
        How it is analysed.
    """

    path: str
    bytes: int
    modified_ns: int
    start_seconds: float
    end_seconds: float | None
    settings: str


def source_of(
    audio: Path, start_seconds: float, end_seconds: float | None, settings: FeatureSettings
) -> Source:
    """Look at the file of a clip as it is now."""
    try:
        status = audio.stat()
        size, modified_ns = status.st_size, status.st_mtime_ns
    except OSError:
        size, modified_ns = 0, 0
    return Source(str(audio), size, modified_ns, start_seconds, end_seconds, str(settings))


class Journal:
    """A CSV file of what was done, which gains a line as each clip ends.

    While work goes on the lines are in ``<path>.part``; `path` itself is only ever whole.

    Parameters
    ----------
    path : Path
        The file; what it and its part hold from earlier runs is read.
    columns : sequence of str
        What is noted of a clip beside its id and source; `reason`, empty or why it failed, comes
        last.

    Raises
    ------
    InputError
        When `path` is a table of other columns, which is not ours to replace.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self._part = path, path.with_name(path.name + ".part")
        self.columns = ["id", *(field.name for field in fields(Source)), *columns, "reason"]
        if path.exists() and _header(path) != self.columns:
            raise InputError(
                f"{path} exists and is not what would be written there. Give another name, or remove it."
            )
        # lines as text: a hundred thousand clips then take what the file takes
        self._lines = dict([*_read(path, self.columns), *_read(self._part, self.columns)])
        self._file: TextIO | None = None

    def holds(self, clip_id: int, source: Source) -> bool:
        """Say whether a clip was done without failing, from the same source."""
        if clip_id not in self._lines:
            return False
        _, *cells, reason = next(csv.reader([self._lines[clip_id]]))
        return reason == "" and cells[: len(fields(Source))] == _texts(source)

    def notes(self, clip_id: int) -> bool:
        """Say whether there is a line of a clip, done or failed."""
        return clip_id in self._lines

    def __enter__(self) -> Self:
        self._write(self._part, self._lines)  # without lines that a kill cut short
        self._file = self._part.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def note(self, clip_id: int, source: Source, values: Mapping[str, Any]) -> None:
        """Add a clip's line; call it within the journal's `with` block."""
        assert self._file is not None
        noted = [values[name] for name in self.columns[1 + len(fields(Source)) :]]
        line = _line([clip_id, *_texts(source), *noted])
        self._lines[clip_id] = line
        self._file.write(line)
        self._file.flush()

    def finish(self, clip_ids: Sequence[int]) -> None:
        """Write the file: the lines of these clips, in this order."""
        self._write(self.path, clip_ids)
        self._part.unlink(missing_ok=True)

    def _write(self, path: Path, clip_ids: Iterable[int]) -> None:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(_line(self.columns))
            file.writelines(self._lines[clip_id] for clip_id in clip_ids)

    def table(self, clip_ids: Sequence[int]) -> pd.DataFrame:
        """The lines of some clips, in this order, numbers as numbers."""
        text = "".join([_line(self.columns), *(self._lines[clip_id] for clip_id in clip_ids)])
        frame = pd.read_csv(io.StringIO(text), dtype={"path": str, "settings": str, "reason": str})
        return frame.assign(reason=frame["reason"].fillna(""))


def _texts(source: Source) -> list[str]:
    values = (getattr(source, field.name) for field in fields(source))
    return ["" if value is None else str(value) for value in values]


def _line(cells: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _header(path: Path) -> list[str]:
    try:
        return next(_rows(path), [])
    except (csv.Error, IsADirectoryError):
        return []


def _rows(path: Path) -> Iterator[list[str]]:
    # a kill may have cut a line within a letter, and spreadsheets put a mark before the first
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        yield from csv.reader(file)


def _read(path: Path, columns: list[str]) -> Iterator[tuple[int, str]]:
    """Id and line of each clip; whole lines only, and none where the columns are others."""
    if not path.exists() or _header(path) != columns:
        return
    for row in _rows(path):
        if len(row) == len(columns) and row[0].isdigit():
            yield int(row[0]), _line(row)
