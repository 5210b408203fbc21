"""Process many clips in parallel, on this machine or a Dask cluster, and resume interrupted runs."""

import csv
import io
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import current_thread, main_thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import joblib
import pandas as pd
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.clip_table import spans_of
from music_emotion.files import InputError, atomic_path, beside, first_five, telling_what_is_kept

_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Workers:
    """Number of local processes, or the address of a Dask cluster.

    Attributes
    ----------
    n_jobs : int
        Processes on this machine, as in joblib; -1 means one per core.
    scheduler : str, optional
        Address of a Dask scheduler, for example ``tcp://10.0.0.5:8786``. Its workers need this package and
        must see the same folders under the same paths. None runs on this machine.

    Raises
    ------
    InputError
        When `n_jobs` is 0.
    """

    n_jobs: int = -1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.n_jobs == 0:
            raise InputError("--jobs is 0. Give a number of processes, or -1 for one per core.")


class Item(NamedTuple):
    """Source of one clip. If any attribute changes, the clip is processed again.

    Attributes
    ----------
    id : int
    path : str
        Absolute path of the recording, because workers may have another working directory.
    bytes, modified_ns : int
        Size and modification time of the file; 0 if it is missing.
    start_seconds : float
    end_seconds : float or None
        Span of the recording; an end of None means the end of the recording.
    settings : str
        Feature settings as text.
    """

    id: int
    path: str
    bytes: int
    modified_ns: int
    start_seconds: float
    end_seconds: float | None
    settings: str


SOURCE_COLUMNS = Item._fields


def items_of(clips: pd.DataFrame, settings: FeatureSettings) -> list[Item]:
    """Make an `Item` for each clip, with the current size and time of its file.

    Parameters
    ----------
    clips : pd.DataFrame
        Clip table from `read_clips`.
    settings : FeatureSettings

    Returns
    -------
    list of Item
    """
    items = []
    starts, ends = (column.tolist() for column in spans_of(clips))
    for clip_id, path, start, end in zip(clips["id"].tolist(), clips["path"], starts, ends, strict=True):
        audio = Path(path).absolute()
        status = audio.stat() if audio.exists() else None
        file = (status.st_size, status.st_mtime_ns) if status else (0, 0)
        items.append(Item(clip_id, str(audio), *file, start, None if math.isnan(end) else end, str(settings)))
    return items


@dataclass(frozen=True)
class Outcome:
    """Result of `work_through`.

    Attributes
    ----------
    record : pd.DataFrame
        One row per clip in the given order: `SOURCE_COLUMNS` as text, the results, and `reason` (why the
        clip failed, or empty).
    n_done, n_kept, n_failed : int
        Numbers of clips processed now, processed by earlier runs, and failed.
    """

    record: pd.DataFrame
    n_done: int
    n_kept: int
    n_failed: int

    def __str__(self) -> str:
        n = len(self.record)
        return f"{n} clips: {self.n_done} done, {self.n_kept} already there, {self.n_failed} failed."


def work_through(
    items: Sequence[Item],
    function: Callable[[Item], dict[str, Any]],
    path: Path,
    columns: Sequence[str],
    workers: Workers,
    prepare: Callable[[], object],
    max_failed: float,
    outputs: Callable[[int], Sequence[Path]] = lambda _: (),
) -> Outcome:
    """Process the clips that are not yet in a record.

    Each finished clip appends a line to ``<path>.part``, so a killed run loses only the clips in progress.
    `path` is written atomically at the end.

    Parameters
    ----------
    items : sequence of Item
        Sources of the clips.
    function : callable
        Processes one clip and returns its results. It must be picklable. If it raises `InputError`, the
        clip fails and the message becomes its `reason`. If a worker dies, its clip may be processed twice.
    path : Path
        The record, a CSV file. Failed clips in it are tried again.
    columns : sequence of str
        Names of the results to record. `seconds` is the processing time of the clip.
    workers : Workers
    prepare : callable
        Runs before the first clip to compile functions into a cache: once on this machine, or on the cluster
        workers one after another.
    max_failed : float
        Largest accepted share of failed clips, 0 to 1.
    outputs : callable, optional
        Maps a clip id to its output files. A clip with a missing file is processed again.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `path` is another kind of table, too many clips fail, or workers are unusable or lost.
    """
    record = _read_record(path, columns)
    done = set(record.loc[record["reason"] == "", list(SOURCE_COLUMNS)].itertuples(index=False, name=None))
    missing = [i for i in items if _cells(i) not in done or not all(map(Path.exists, outputs(i.id)))]
    n_kept, n_done = len(items) - len(missing), 0
    part = _part_of(path)
    _write_record(part, record)  # drops a line that a kill cut short
    if missing:
        cluster, folder = workers.scheduler, path.parent
        with (
            part.open("a", encoding="utf-8", newline="") as file,
            telling_what_is_kept(lambda: f"{folder}: {n_kept + n_done} of {len(items)} clips are done"),
            _cluster(cluster, prepare, folder) if cluster else _cores(workers.n_jobs, prepare),
        ):
            lines = csv.DictWriter(file, record.columns, extrasaction="ignore", lineterminator="\n")
            calls = (joblib.delayed(_call)(function, item) for item in missing)
            # batches of one, so that a killed run loses only the clips in progress
            results = joblib.Parallel(return_as="generator_unordered", batch_size=1)(calls)
            for result in tqdm(results, path.stem, len(missing), unit="clip"):
                lines.writerow(result)
                file.flush()
                n_done += result["reason"] == ""
    record = _read_record(path, columns).set_index("id", drop=False)
    record = record.loc[[str(item.id) for item in items]].reset_index(drop=True)
    _write_record(path, record)
    part.unlink()
    failed = record[record["reason"] != ""]
    if len(failed) > max_failed * len(record):
        reasons = "".join(f"\n  clip {row.id}: {row.reason}" for row in failed.head().itertuples())
        raise InputError(
            f"{len(failed)} of {len(record)} clips failed, more than the share {max_failed} allowed:{reasons}"
            f"\nAll reasons are in {path}. Repair or remove such clips, or raise --max-failed."
        )
    return Outcome(record, n_done, n_kept, len(failed))


def _cells(item: Item) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in item)


def _part_of(path: Path) -> Path:
    return beside(path, after=".part")


def _read_record(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read the last line of each clip from a record and its ``.part`` file, if they exist."""
    names, tables = [*SOURCE_COLUMNS, *columns, "reason"], []
    for place in (path, _part_of(path)):
        if not place.exists():
            continue
        try:
            # a kill may cut a line inside a character; spreadsheets add a byte order mark
            lines = place.read_text(encoding="utf-8-sig", errors="replace")
            table = pd.read_csv(
                io.StringIO(lines[: lines.rfind("\n") + 1]),
                dtype=dict.fromkeys([*SOURCE_COLUMNS, "reason"], str),
                keep_default_na=False,
                na_values=dict.fromkeys(columns, ""),
                on_bad_lines="skip",
                index_col=False,
            )
        except (IsADirectoryError, ValueError):  # pandas raises ValueError for malformed tables
            table = pd.DataFrame()
        if list(table.columns) == names:
            tables += [table[table["id"].str.isdigit()]] if len(table) else []
        elif place == path:
            raise InputError(f"{path} exists and is another table. Give another name, or remove it.")
    return pd.concat(tables or [pd.DataFrame(columns=names)]).drop_duplicates("id", keep="last")


def _write_record(path: Path, record: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        # six digits distinguish all clips and keep the table small
        record.to_csv(temporary, index=False, float_format="%.6g")


def _call(function: Callable[[Item], dict[str, Any]], item: Item) -> dict[str, Any]:
    """Process one clip on one thread, so that workers don't compete for cores and sums round equally."""
    if parent_process() is not None and current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent ends its workers
    started, results, reason = time.perf_counter(), {}, ""
    try:
        with threadpool_limits(1):
            results = function(item)
    except InputError as error:
        reason = " ".join(str(error).split("\n"))
    seconds = round(time.perf_counter() - started, 3)
    return {**item._asdict(), "seconds": seconds, **results, "reason": reason}


@contextmanager
def _cores(n_jobs: int, prepare: Callable[[], object]) -> Iterator[None]:
    tqdm.write("Preparing. The first time, compiling takes half a minute.")
    prepare()
    with joblib.parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        try:
            yield
        except BrokenProcessPool:
            problem = "A worker process was ended from outside, perhaps because memory ran out."
            raise InputError(f"{problem} Give the same command fewer --jobs; it goes on.") from None


@contextmanager
def _cluster(scheduler: str, prepare: Callable[[], object], folder: Path) -> Iterator[None]:
    try:
        from distributed import CancelledError, Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        remedy = "pip install 'music-emotion[cluster]', here and on the workers."
        raise InputError(f"--scheduler needs Dask: {remedy}") from None
    remedy = "Start 'dask scheduler', then 'dask worker' with the tcp:// address that it prints"
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", scheduler):  # Dask's client would leave a thread running
        raise InputError(f"{scheduler} is not the address of a Dask scheduler. {remedy}, and give it here.")
    tqdm.write(f"Connecting to {scheduler}.")
    try:
        client = Client(scheduler, timeout=_PATIENCE_SECONDS)
        client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
    except OSError as error:  # the scheduler does not answer, or has no workers
        problem = f"No Dask worker can be reached at {scheduler} ({error})."
        raise InputError(f"{problem} {remedy}, and give it here.") from None
    with client:
        _check_workers(client, prepare, folder)
        try:
            with joblib.parallel_config("dask", n_jobs=-1):
                yield
        except (KilledWorker, CancelledError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # for example, a full disk
                raise
            lost = f"The scheduler, or one worker after another, was lost ({type(error).__name__}: {error})."
            raise InputError(f"{lost} See their logs, then give the same command; it goes on.") from None


def _check_workers(client: Any, prepare: Callable[[], object], folder: Path) -> None:
    """Check that all workers see a file made here and have the packages. Run `prepare` on each."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(prefix=".seen-by-workers-", dir=folder) as probe:
        seen = client.run(os.path.exists, probe.name)
    blind = [worker for worker, sees in seen.items() if not sees]
    if blind:
        named = f"{len(blind)} of {len(seen)} workers do not see {folder}: {first_five(blind)}."
        raise InputError(f"{named} Audio and output must lie in folders that all share.")
    # first one worker per host in turn, since hosts may share a cache; then all workers
    first = {str(urlsplit(worker).hostname): worker for worker in seen}
    for workers in [*([worker] for worker in first.values()), None]:
        for worker, answer in client.run(prepare, workers=workers, on_error="return").items():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):  # OSError: worker lost
                problem = f"The worker {worker} can't do the work ({type(answer).__name__}: {answer})."
                raise InputError(f"{problem} Install the same versions of this package there as here.")
