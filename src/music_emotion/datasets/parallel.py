"""Long work on many clips: on the cores of this machine or on a Dask cluster, and only on what is missing."""

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
from music_emotion.files import InputError, atomic_path, first_five, telling_what_is_kept

_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Workers:
    """Processes that share the work.

    Attributes
    ----------
    n_jobs : int
        Processes on this machine, as joblib counts them; -1 is one per core.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``. Its workers need this package and
        must see the same folders under the same names. None for this machine.

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
    """The source of one clip. When any part changes, the clip is processed again.

    Attributes
    ----------
    id : int
    path : str
        Absolute path of the recording, since workers may start in another folder.
    bytes, modified_ns : int
        Size and modification time of the file; 0 if it is missing.
    start_seconds : float
    end_seconds : float or None
        The span of the recording; None for its end.
    settings : str
        The feature settings.
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
    """List the sources of the clips of a table (from `read_clips`), with their files as they are now."""
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
    """What a run did.

    Attributes
    ----------
    record : pd.DataFrame
        One row per clip, in the order given: `SOURCE_COLUMNS` as text, the results, and `reason`, which is
        empty unless the clip failed.
    n_done, n_kept, n_failed : int
        Clips done now, clips done earlier, and clips that failed.
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
    """Process the clips that a record does not hold yet.

    While the work goes on, every finished clip adds a line to ``<path>.part``. A killed run loses only the
    clips in work. `path` itself is only ever whole.

    Parameters
    ----------
    items : sequence of Item
    function : callable
        Processes one clip and returns its results. It must belong to a module, so that other processes can
        import it. Raises `InputError` when the clip is unusable; the sentence becomes its `reason`. A clip
        whose worker died may be processed twice.
    path : Path
        The record, a CSV file. Clips that failed earlier are tried again.
    columns : sequence of str
        The results to record. `seconds` is the time that the clip took.
    workers : Workers
    prepare : callable
        Compiles functions into a cache before any clip is processed: once on this machine, or on one
        cluster worker after the other.
    max_failed : float
        Share of clips, 0 to 1, that may fail.
    outputs : callable, optional
        Gives the files that a clip, named by its id, leaves. A clip that lacks one is processed again.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `path` is another table, more clips than allowed failed, or workers are unusable or lost.
    """
    record = _read_record(path, columns)
    done = set(record.loc[record["reason"] == "", list(SOURCE_COLUMNS)].itertuples(index=False, name=None))
    missing = [i for i in items if _cells(i) not in done or not all(map(Path.exists, outputs(i.id)))]
    n_kept, n_done = len(items) - len(missing), 0
    part = _part_of(path)
    _write_record(part, record)  # without the line that a kill cut short
    if missing:
        cluster, folder = workers.scheduler, path.parent
        with (
            part.open("a", encoding="utf-8", newline="") as file,
            telling_what_is_kept(lambda: f"{folder}: {n_kept + n_done} of {len(items)} clips are done"),
            _cluster(cluster, prepare, folder) if cluster else _cores(workers.n_jobs, prepare),
        ):
            lines = csv.DictWriter(file, record.columns, extrasaction="ignore", lineterminator="\n")
            calls = (joblib.delayed(_call)(function, item) for item in missing)
            # batches of one: a killed run then loses no more than the clips in work
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
    return path.with_name(f"{path.name}.part")


def _read_record(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The last line of every clip in a record and its part, as far as these exist."""
    names, tables = [*SOURCE_COLUMNS, *columns, "reason"], []
    for place in (path, _part_of(path)):
        if not place.exists():
            continue
        try:
            # a kill may cut a line inside a letter, and spreadsheets put a byte order mark first
            lines = place.read_text(encoding="utf-8-sig", errors="replace")
            table = pd.read_csv(
                io.StringIO(lines[: lines.rfind("\n") + 1]),
                dtype=dict.fromkeys([*SOURCE_COLUMNS, "reason"], str),
                keep_default_na=False,
                na_values=dict.fromkeys(columns, ""),
                on_bad_lines="skip",
                index_col=False,
            )
        except (IsADirectoryError, ValueError):  # pandas' errors of parsing are ValueErrors
            table = pd.DataFrame()
        if list(table.columns) == names:
            tables += [table[table["id"].str.isdigit()]] if len(table) else []
        elif place == path:
            raise InputError(f"{path} exists and is another table. Give another name, or remove it.")
    return pd.concat(tables or [pd.DataFrame(columns=names)]).drop_duplicates("id", keep="last")


def _write_record(path: Path, record: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        # six digits tell any two clips apart, and keep the table of a hundred thousand readable
        record.to_csv(temporary, index=False, float_format="%.6g")


def _call(function: Callable[[Item], dict[str, Any]], item: Item) -> dict[str, Any]:
    """Process one clip, on one thread: workers share the cores, and sums are rounded alike everywhere."""
    if parent_process() is not None and current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
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
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", scheduler):  # Dask's client would leave a thread behind
        raise InputError(f"{scheduler} is not the address of a Dask scheduler. {remedy}, and give it here.")
    tqdm.write(f"Connecting to {scheduler}.")
    try:
        client = Client(scheduler, timeout=_PATIENCE_SECONDS)
        client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
    except OSError as error:  # no answer, or no workers
        problem = f"No Dask worker can be reached at {scheduler} ({error})."
        raise InputError(f"{problem} {remedy}, and give it here.") from None
    with client:
        _check_workers(client, prepare, folder)
        try:
            with joblib.parallel_config("dask", n_jobs=-1):
                yield
        except (KilledWorker, CancelledError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # a worker's full disk, say
                raise
            lost = f"The scheduler, or one worker after another, was lost ({type(error).__name__}: {error})."
            raise InputError(f"{lost} See their logs, then give the same command; it goes on.") from None


def _check_workers(client: Any, prepare: Callable[[], object], folder: Path) -> None:
    """Refuse workers that do not see a file made here or lack a package; prepare the others."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(prefix=".seen-by-workers-", dir=folder) as probe:
        seen = client.run(os.path.exists, probe.name)
    blind = [worker for worker, sees in seen.items() if not sees]
    if blind:
        named = f"{len(blind)} of {len(seen)} workers do not see {folder}: {first_five(blind)}."
        raise InputError(f"{named} Audio and output must lie in folders that all share.")
    # one worker of each host after the other, since hosts may share a cache; then the rest
    first = {str(urlsplit(worker).hostname): worker for worker in seen}
    for workers in [*([worker] for worker in first.values()), None]:
        for worker, answer in client.run(prepare, workers=workers, on_error="return").items():
            if isinstance(answer, Exception) and not isinstance(answer, OSError):  # OSError: lost meanwhile
                problem = f"The worker {worker} can't do the work ({type(answer).__name__}: {answer})."
                raise InputError(f"{problem} Install the same versions of this package there as here.")
