"""What has been done for each clip, on disk as soon as it is done, so that a killed run goes on."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TextIO

import pandas as pd

from music_emotion.files import atomic_path
from music_emotion.sound.spectrogram import FeatureSettings


@dataclass(frozen=True)
class Source:
    """What a clip was made from. If any of this changes, what was made is stale.

    Attributes
    ----------
    name : str
        File name without its folders, so that a moved folder stays fresh.
    bytes, modified_ns : int
        Size of the file, and when it was changed last; 0 for one that is gone.
    start_seconds : float
    end_seconds : float or None
        The span of the recording.
    settings : str
        How it is analysed.
    """

    name: str
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
    return Source(audio.name, size, modified_ns, start_seconds, end_seconds, str(settings))


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

    Attributes
    ----------
    rows : dict of int to dict of str to str
        By id, the last whole line of each clip.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self._part = path, path.with_name(path.name + ".part")
        self.columns = ["id", *Source.__dataclass_fields__, *columns, "reason"]
        self.rows = _read(path, self.columns) | _read(self._part, self.columns)
        self._file: TextIO | None = None

    def holds(self, clip_id: int, source: Source) -> bool:
        """Say whether a clip was done without failing, from the same source."""
        row = self.rows.get(clip_id)
        return (
            row is not None
            and row["reason"] == ""
            and all(row[name] == _text(value) for name, value in asdict(source).items())
        )

    def __enter__(self) -> Self:
        self._write(self._part, self.rows)  # without lines that a kill cut short
        self._file = self._part.open("a", encoding="utf-8", newline="")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def note(self, clip_id: int, source: Source, values: Mapping[str, Any]) -> None:
        """Add a clip's line; call it within the journal's `with` block."""
        assert self._file is not None
        row = {"id": clip_id, **asdict(source), **values}
        self.rows[clip_id] = {name: _text(row[name]) for name in self.columns}
        csv.writer(self._file, lineterminator="\n").writerow(self.rows[clip_id].values())
        self._file.flush()

    def finish(self, clip_ids: Sequence[int]) -> None:
        """Write the file: the lines of these clips, in this order."""
        self._write(self.path, clip_ids)
        self._part.unlink(missing_ok=True)

    def _write(self, path: Path, clip_ids: Iterable[int]) -> None:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self.rows[clip_id].values() for clip_id in clip_ids)

    def table(self, clip_ids: Sequence[int]) -> pd.DataFrame:
        """The lines of some clips, in this order, numbers as numbers."""
        frame = pd.DataFrame([self.rows[clip_id] for clip_id in clip_ids], columns=self.columns)
        for column in frame.columns.difference(["name", "settings", "reason"]):
            frame[column] = pd.to_numeric(frame[column])
        return frame


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _read(path: Path, columns: list[str]) -> dict[int, dict[str, str]]:
    """Whole lines only: a file of other columns counts as empty, and so does a cut line."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        if next(lines, None) != columns:
            return {}
        rows = (dict(zip(columns, line, strict=True)) for line in lines if len(line) == len(columns))
        return {int(row["id"]): row for row in rows}
