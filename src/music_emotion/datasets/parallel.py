"""Process many clips in parallel, on this machine or a Dask cluster, and resume interrupted runs."""

import csv
import io
import math
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import joblib
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.datasets.clip_table import spans_of
from music_emotion.failures import collecting
from music_emotion.files import InputError, atomic_path, beside, first_five, telling_what_is_kept

_PATIENCE_SECONDS = 30
_BYTES: Final = "surrogateescape"  # names of files need not be UTF-8
_MOST_LOST = 10  # clips that lose their workers before any clip is finished
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Workers:
    """Number of local processes, or the address of a Dask cluster.

    Attributes
    ----------
    n_jobs : int
        Processes on this machine, as in joblib; -1 means one per core. 1 works in this process, which a
        crash of a decoder ends.
    scheduler : str, optional
        Address of a Dask scheduler, for example ``tcp://10.0.0.5:8786``. Its workers need this package and
        must see the same folders under the same paths. None runs on this machine.
    in_threads : bool
        Work in threads of this process, which start at once, in place of processes. A crash ends them all.

    Raises
    ------
    InputError
        When `n_jobs` is 0.
    """

    n_jobs: int = -1
    scheduler: str | None = None
    in_threads: bool = False

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
        Size and modification time of the file; 0 if it is missing or can't be reached.
    start_seconds : float
    end_seconds : float or None
        Span of the recording; an end of None means the end of the recording.
    settings : str
        Settings of the processing as text.
    """

    id: int
    path: str
    bytes: int
    modified_ns: int
    start_seconds: float
    end_seconds: float | None
    settings: str


SOURCE_COLUMNS = Item._fields


def items_of(clips: pd.DataFrame, settings: object) -> list[Item]:
    """Make an `Item` for each clip, with the current size and time of its file.

    Parameters
    ----------
    clips : pd.DataFrame
        Clip table from `read_clips`.
    settings : object
        Settings of the processing; their text is kept.

    Returns
    -------
    list of Item
    """
    items = []
    starts, ends = (column.tolist() for column in spans_of(clips))
    for clip_id, path, start, end in zip(clips["id"].tolist(), clips["path"], starts, ends, strict=True):
        audio = Path(path).absolute()
        status = audio.stat() if os.path.exists(audio) else None  # unlike Path.exists, it raises no error
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

    @property
    def counts(self) -> str:
        """The numbers as a sentence."""
        n = len(self.record)
        return f"{n} clips: {self.n_done} done, {self.n_kept} already there, {self.n_failed} failed."

    @property
    def reasons(self) -> str:
        """A line for each of the first five failed clips."""
        failed = self.record[self.record["reason"] != ""].head()
        return "".join(f"\n  clip {row.id}: {row.reason}" for row in failed.itertuples())

    def __str__(self) -> str:
        return self.counts + self.reasons


def work_through(
    items: Sequence[Item],
    function: Callable[[Item], dict[str, Any]],
    path: Path,
    columns: Sequence[str],
    workers: Workers,
    prepare: Callable[[], object],
    max_failed: float,
    outputs: Callable[[int], Sequence[Path]] = lambda _: (),
    texts: Sequence[str] = (),
    keeps_others: bool = False,
) -> Outcome:
    """Process the clips that are not yet in a record.

    Each finished clip appends a line to ``<path>.part``, so a killed run loses only the clips in progress.
    `path` is written atomically at the end.

    Parameters
    ----------
    items : sequence of Item
        Sources of the clips.
    function : callable
        Processes one clip and returns its results. It must be picklable. If it raises an error or its worker
        dies, this becomes the `reason` of the clip, and the others go on. If a worker dies, its clip is
        processed twice, and so may be other clips.
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
    texts : sequence of str, optional
        Those of `columns` that are text, such as titles; the others are numbers.
    keeps_others : bool, default False
        Whether clips that are not among `items` stay in the record.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `path` is another kind of table, too many clips fail, or all workers are unusable or lost.
    OSError
        When the results can't be written, for example on a full disk.
    """
    record = _read_record(path, columns, texts)
    done = set(record.loc[record["reason"] == "", list(SOURCE_COLUMNS)].itertuples(index=False, name=None))
    missing = [i for i in items if _cells(i) not in done or not all(map(Path.exists, outputs(i.id)))]
    n_kept, n_done = len(items) - len(missing), 0
    part = beside(path, after=".part")
    _write_record(part, record)  # drops a line that a kill cut short
    if missing:
        cluster, folder = workers.scheduler, path.parent
        with (
            part.open("a", encoding="utf-8", errors=_BYTES, newline="") as file,
            telling_what_is_kept(lambda: f"{folder}: {n_kept + n_done} of {len(items)} clips are done"),
            _cluster(cluster, prepare, folder)
            if cluster
            else _cores(workers, prepare, len(missing)) as results_of,
        ):
            lines = csv.DictWriter(file, record.columns, extrasaction="ignore", lineterminator="\n")
            results, traceback = results_of(partial(_call, function), missing), ""
            for result in tqdm(results, path.stem, len(missing), unit="clip"):
                lines.writerow(result)
                file.flush()
                n_done += result["reason"] == ""
                if not traceback and (traceback := result.get("traceback", "")):  # of many, one is enough
                    tqdm.write(f"{result['path']}:\n{traceback}", sys.stderr)
    whole = _read_record(path, columns, texts).set_index("id", drop=False)
    record = whole.loc[[str(item.id) for item in items]].reset_index(drop=True)
    others = whole[~whole.index.isin(record["id"])] if keeps_others else whole[:0]
    _write_record(path, pd.concat([record, others]))
    part.unlink()
    n, n_failed = len(record), int((record["reason"] != "").sum())
    outcome = Outcome(record, n_done, n_kept, n_failed)
    if n_failed > max_failed * n:
        raise InputError(
            f"{n_failed} of {n} clips failed, more than the share {max_failed} allowed:{outcome.reasons}"
            f"\nAll reasons are in {path}. Repair or remove such clips, or raise --max-failed."
        )
    return outcome


def _cells(item: Item) -> tuple[str, ...]:
    return tuple("" if value is None else str(value) for value in item)


def _read_record(path: Path, columns: Sequence[str], texts: Sequence[str]) -> pd.DataFrame:
    """Read the last line of each clip from a record and its ``.part`` file, if they exist."""
    names, tables = [*SOURCE_COLUMNS, *columns, "reason"], []
    for place in (path, beside(path, after=".part")):
        if not place.exists():
            continue
        try:
            # a kill may cut a line inside a character; spreadsheets add a byte order mark
            lines = place.read_text(encoding="utf-8-sig", errors=_BYTES)
            table = pd.read_csv(
                io.StringIO(lines[: lines.rfind("\n") + 1]),
                dtype=dict.fromkeys([*SOURCE_COLUMNS, *texts, "reason"], str),
                keep_default_na=False,
                na_values=dict.fromkeys(set(columns).difference(texts), ""),
                on_bad_lines="skip",
                index_col=False,
                encoding_errors=_BYTES,
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
        record.to_csv(temporary, index=False, float_format="%.6g", errors=_BYTES)


_Function = Callable[[Any], dict[str, Any]]  # of an Item, or another named tuple with a path
_Results = Callable[[_Function, Iterable[Any]], Iterable[dict[str, Any]]]


def _call(function: _Function, item: Item) -> dict[str, Any]:
    """Process one clip on one thread, so that workers don't compete for cores and sums round equally."""
    started, results, failures = time.perf_counter(), {}, dict[str, str]()
    with collecting(failures, item.path), threadpool_limits(1):
        results = function(item)
    seconds = round(time.perf_counter() - started, 3)
    reason, traceback = next(iter(failures.items()), ("", ""))
    told = {"seconds": seconds, "reason": " ".join(reason.split("\n")), "traceback": traceback}
    return {**item._asdict(), **results, **told}


def _as_finished(
    pool: Callable[[], tuple[Executor, int]], lost: type[Exception], call: _Function, items: Iterable[Any]
) -> Iterator[dict[str, Any]]:
    """Yield the results of clips in any order. `pool` gives an executor and how many clips it takes at once.

    When a worker is lost, the clips in progress are tried again alone. One that loses it again fails.
    """
    waiting, suspects, running = deque(items), deque[Any](), dict[Future[Any], Any]()
    alone, n_finished, n_lost = False, 0, 0
    while waiting or suspects or running:
        executor, most = pool()
        alone = alone if running else bool(suspects)
        queue, most = (suspects, 1) if alone or suspects else (waiting, most)
        with suppress(lost):  # another worker may be lost just now
            while queue and len(running) < most:
                running[executor.submit(call, queue[0])] = queue[0]
                queue.popleft()
        for future in wait(running, _PATIENCE_SECONDS, FIRST_COMPLETED).done:
            item = running.pop(future)
            try:
                yield future.result()
                n_finished += 1
            except lost as error:
                if not alone:
                    if not suspects:
                        tqdm.write("A worker was lost; what was running is tried again alone.", sys.stderr)
                    suspects.append(item)
                    continue
                how = ", ".join(re.findall("SIG[A-Z]+", str(error))) or type(error).__name__
                reason = f"its worker process ended twice ({how}), the second time with nothing else running"
                reason = f"{item.path}: {reason}. Perhaps memory ran out, or a library crashed."
                yield {**item._asdict(), "reason": reason}
                n_lost += 1
                if n_lost == _MOST_LOST and not n_finished:
                    tried = f"{n_lost} clips ended their workers, and none is finished. {reason}"
                    raise InputError(f"{tried} Give fewer --jobs, or free memory.") from None


@contextmanager
def _cores(workers: Workers, prepare: Callable[[], object], n_most: int) -> Iterator[_Results]:
    prepare()
    if workers.n_jobs == 1:
        yield map
        return
    n = min(joblib.effective_n_jobs(workers.n_jobs), n_most)
    if not workers.in_threads:
        with local_workers(n) as results_of:
            yield results_of
        return
    with threadpool_limits(1), ThreadPoolExecutor(n) as executor:
        try:
            yield lambda call, items: (
                future.result() for future in as_completed([executor.submit(call, item) for item in items])
            )
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def local_workers(n: int) -> Iterator[_Results]:
    """Start processes with one thread each.

    Parameters
    ----------
    n : int
        Number of processes.

    Yields
    ------
    callable
        Maps a picklable function and its items to the results, as they are finished. Items are named tuples
        with a `path`; results are dicts with a `reason`, the reason of a failure or "". An item that loses
        its worker is tried again alone; if it does so again, its failure is the result.
    """
    # on Ctrl-C, this process ends the workers; another folder needs others, since they work where they began
    own = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    own["env"] = _ONE_THREAD | {"PWD": os.getcwd()}
    executor = partial(get_reusable_executor, n, timeout=60, **own)
    try:
        yield partial(_as_finished, lambda: (executor(), n), BrokenProcessPool)
    except BaseException:
        executor().shutdown(kill_workers=True)
        raise


@contextmanager
def _cluster(scheduler: str, prepare: Callable[[], object], folder: Path) -> Iterator[_Results]:
    try:
        from distributed import CancelledError, Client, KilledWorker
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
        executor = client.get_executor(pure=False)

        def pool() -> tuple[Executor, int]:
            client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
            return executor, 2 * sum(client.nthreads().values())  # so that no worker waits

        try:
            yield partial(_as_finished, pool, KilledWorker)
        except (CancelledError, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # for example, a full disk; 0 for no workers
                raise
            lost = f"The scheduler, or all workers, were lost ({type(error).__name__}: {error})."
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
