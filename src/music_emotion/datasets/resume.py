"""Work on many clips that goes on where it stopped: what is done is on disk as soon as it is done."""

import csv
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.parallel import Workers, map_clips
from music_emotion.files import InputError, atomic_path, first_five, telling_what_is_kept

SOURCE_COLUMNS = ("path", "bytes", "modified_ns", "start_seconds", "end_seconds", "settings")


@dataclass(frozen=True)
class Item:
    """One clip's work. If any of `SOURCE_COLUMNS` changes, what was made from it is stale.

    Attributes
    ----------
    clip_id : int
    path : str
        Of the recording, absolute, since workers may start elsewhere.
    bytes, modified_ns : int
        Size of the file, and when it was changed last; 0 for one that is gone.
    start_seconds : float
    end_seconds : float or None
        The span of the recording.
    settings : str
        How it is analysed.
    outputs : tuple of Path
        Files that the work leaves.
    """

    clip_id: int
    path: str
    bytes: int
    modified_ns: int
    start_seconds: float
    end_seconds: float | None
    settings: str
    outputs: tuple[Path, ...] = ()

    def source(self) -> list[str]:
        """The cells of `SOURCE_COLUMNS`."""
        values = (getattr(self, name) for name in SOURCE_COLUMNS)
        return ["" if value is None else str(value) for value in values]


def items_of(
    clips: pd.DataFrame,
    settings: FeatureSettings,
    outputs: Callable[[int], tuple[Path, ...]] = lambda _: (),
) -> list[Item]:
    """The work that a table of clips means, of the recordings as they are now.

    Parameters
    ----------
    clips : pd.DataFrame
        As `read_clips` gives it.
    settings : FeatureSettings
    outputs : callable
        Files that the work on a clip, given its id, leaves.
    """
    items = []
    spans = clips.reindex(columns=["start_seconds", "end_seconds"]).astype(float).to_numpy().tolist()
    for clip_id, path, (start, end) in zip(clips["id"].tolist(), clips["path"], spans, strict=True):
        audio = Path(path).absolute()
        try:
            status = audio.stat()
            file = (status.st_size, status.st_mtime_ns)
        except OSError:
            file = (0, 0)
        span = (0.0 if math.isnan(start) else start, None if math.isnan(end) else end)
        items.append(Item(clip_id, str(audio), *file, *span, str(settings), outputs(clip_id)))
    return items


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
        self.columns = ["id", *SOURCE_COLUMNS, *columns, "reason"]
        # lines as text: a hundred thousand clips then take what the file takes
        self._lines: dict[int, str] = {}
        for place in (path, self._part):
            rows = _rows(place)
            if next(rows, []) == self.columns:
                whole = (row for row in rows if len(row) == len(self.columns) and row[0].isdigit())
                self._lines.update((int(row[0]), _line(row)) for row in whole)
            elif place == path and path.exists():
                raise InputError(
                    f"{path} exists and is not what would be written there. Give another name, or remove it."
                )

    def holds(self, item: Item) -> bool:
        """Say whether a clip was done without failing, from the same source, and its outputs are there."""
        if item.clip_id not in self._lines:
            return False
        cells = next(csv.reader([self._lines[item.clip_id]]))
        is_same = cells[1 : 1 + len(SOURCE_COLUMNS)] == item.source() and cells[-1] == ""
        return is_same and all(path.exists() for path in item.outputs)

    @contextmanager
    def open(self) -> Iterator[Callable[[Item, dict[str, Any]], None]]:
        """Give a function that notes what was done for a clip."""
        self._write(self._part, self._lines)  # without lines that a kill cut short
        with self._part.open("a", encoding="utf-8", newline="") as file:

            def note(item: Item, values: dict[str, Any]) -> None:
                noted = [values.get(name) for name in self.columns[1 + len(SOURCE_COLUMNS) :]]
                self._lines[item.clip_id] = line = _line([item.clip_id, *item.source(), *noted])
                file.write(line)
                file.flush()

            yield note

    def finish(self, clip_ids: Sequence[int]) -> pd.DataFrame:
        """Write the file, and give it as a table: the lines of these clips, in this order."""
        lost = [clip_id for clip_id in clip_ids if clip_id not in self._lines]
        if lost:
            raise InputError(
                f"{len(lost)} clips did not come back: {first_five(lost)}. Give the same command."
            )
        self._write(self.path, clip_ids)
        self._part.unlink(missing_ok=True)
        table = pd.read_csv(self.path, dtype={"path": str, "settings": str, "reason": str})
        return table.fillna({"reason": ""})

    def _write(self, path: Path, clip_ids: Iterable[int]) -> None:
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(_line(self.columns))
            file.writelines(self._lines[clip_id] for clip_id in clip_ids)


def _line(cells: Sequence[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _rows(path: Path) -> Iterator[list[str]]:
    """The rows of a file that end in a line break, as far as it is there and a table."""
    try:
        # a kill may have cut a line within a letter, and spreadsheets put a mark before the first
        text = path.read_text(encoding="utf-8-sig", errors="replace")
        yield from csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    except (FileNotFoundError, IsADirectoryError, csv.Error):
        return


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes
    ----------
    record : pd.DataFrame
        One row per clip, in the order given: `id`, its source, what was noted, `reason` it failed.
    n_done, n_kept, n_failed : int
        Clips done now, those that were there, and those that can't be done.
    """

    record: pd.DataFrame
    n_done: int
    n_kept: int
    n_failed: int

    def __str__(self) -> str:
        return (
            f"{len(self.record)} clips: {self.n_done} done, {self.n_kept} already there, "
            f"{self.n_failed} failed."
        )


def work_through(
    items: Sequence[Item],
    function: Callable[[Item], dict[str, Any]],
    journal: Journal,
    workers: Workers,
    prepare: Callable[[], object],
    description: str,
    max_failed: float,
) -> Outcome:
    """Do what the journal does not hold, and note each clip as it ends.

    Parameters
    ----------
    items : sequence of Item
    function : callable
        Does one, writes its outputs and returns what to note. Raises `InputError` when the clip can't
        be done; the sentence is noted as `reason`. `seconds` of work are noted where there is such a column.
    journal : Journal
        Clips that failed before are tried again.
    workers : Workers
    prepare, description
        As in `map_clips`.
    max_failed : float
        Share of clips, 0 to 1, that may fail.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When more clips failed, with the first five reasons and the file that holds them all.
    """
    folder, missing = journal.path.parent, [item for item in items if not journal.holds(item)]

    def kept() -> str:
        return f"{folder}: {sum(map(journal.holds, items))} of {len(items)} clips are done"

    with journal.open() as note, telling_what_is_kept(kept):
        arguments = [(function, item) for item in missing]
        for item, values in map_clips(_call, arguments, workers, prepare, folder, description):
            note(item, values)
    record = journal.finish([item.clip_id for item in items])
    failed = record[record["reason"] != ""]
    if len(failed) > max_failed * len(record):
        reasons = "".join(f"\n  clip {row.id}: {row.reason}" for row in failed.head().itertuples())
        raise InputError(
            f"{len(failed)} of {len(record)} clips failed, more than the share {max_failed} allowed:{reasons}"
            f"\nAll reasons are in {journal.path}. Mend or remove such clips, or raise --max-failed."
        )
    return Outcome(record, len(missing) - len(failed), len(items) - len(missing), len(failed))


def _call(function: Callable[[Item], dict[str, Any]], item: Item) -> tuple[Item, dict[str, Any]]:
    started, reason = time.perf_counter(), ""
    try:
        values = function(item)
    except InputError as error:
        values, reason = {}, str(error)
    return item, {"seconds": round(time.perf_counter() - started, 3), **values, "reason": reason}
