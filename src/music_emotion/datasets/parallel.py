"""One function over many clips: on the cores of this machine, or on a Dask cluster."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import current_thread, main_thread
from typing import Any
from urllib.parse import urlsplit

import joblib
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.files import InputError, first_five

_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Attributes
    ----------
    n_jobs : int
        Processes on this machine, as joblib counts them; -1 is one per core.
    scheduler : str, optional
        Address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``, whose workers see the
        same folders under the same names and have this package; None for this machine.

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


def map_clips(
    function: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]],
    workers: Workers,
    prepare: Callable[[], object],
    folder: Path,
    description: str,
) -> Iterator[Any]:
    """Call a function once per clip and give the results as they come, in any order.

    Parameters
    ----------
    function : callable
        Of a module, so that other processes can import it. A clip whose worker died may be
        given to it twice.
    arguments : sequence of tuple
        One for each call.
    workers : Workers
    prepare : callable
        Run once, before any call, where functions are compiled into a cache: on this machine,
        or on one cluster worker after the other.
    folder : Path
        One that the calls write into.
    description : str
        What the progress bar says.

    Yields
    ------
    object
        What the function returned.

    Raises
    ------
    InputError
        When the cluster can't be reached or does not see `folder`, or a worker is lost for good.
    """
    if not arguments:
        return
    calls = (joblib.delayed(_on_one_thread)(function, *each) for each in arguments)
    with _cluster(workers.scheduler, prepare, folder) if workers.scheduler else _cores(workers, prepare):
        # batches of one: a killed run then loses no more than the clips in flight
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1)
        yield from tqdm(parallel(calls), total=len(arguments), desc=description, unit="clip")


def _on_one_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Workers that share a machine stay out of each other's way, and sums come out the same on all."""
    if parent_process() is not None and current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    with threadpool_limits(1):
        return function(*arguments)


@contextmanager
def _cores(workers: Workers, prepare: Callable[[], object]) -> Iterator[None]:
    tqdm.write("Preparing; the very first time, half a minute of compiling.")
    prepare()
    with joblib.parallel_config("loky", n_jobs=workers.n_jobs, inner_max_num_threads=1):
        try:
            yield
        except BrokenProcessPool:
            raise InputError(
                "A worker process was ended from outside, perhaps for want of memory. What was finished "
                "is kept; give the same command fewer --jobs."
            ) from None


@contextmanager
def _cluster(scheduler: str, prepare: Callable[[], object], folder: Path) -> Iterator[None]:
    try:
        from distributed import CancelledError, Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise InputError(
            "--scheduler needs Dask: pip install 'music-emotion[cluster]', here and on the workers."
        ) from None
    remedy = "Start one with 'dask scheduler' and give the tcp:// address it prints."
    if not scheduler.startswith(("tcp://", "tls://")):
        raise InputError(f"{scheduler} is not the address of a Dask scheduler. {remedy}")
    tqdm.write(f"Connecting to {scheduler}.")
    try:
        client = Client(scheduler, timeout=_PATIENCE_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(f"No Dask scheduler answers at {scheduler} ({error}). {remedy}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_SECONDS)
        except TimeoutError:
            raise InputError(
                f"The scheduler {scheduler} has no workers. Start some with 'dask worker {scheduler}'."
            ) from None
        _check_workers(client, prepare, folder)
        try:
            with joblib.parallel_config("dask", n_jobs=-1):
                yield
        except (KilledWorker, CancelledError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # a worker's full disk, say
                raise
            raise InputError(
                f"The scheduler, or one worker after another, was lost ({type(error).__name__}: {error}). "
                f"What was finished is kept; look at their own logs, then give the same command."
            ) from None


def _check_workers(client: Any, prepare: Callable[[], object], folder: Path) -> None:
    """Refuse workers that do not see a file made here, or can't do the work; prepare the others."""
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(prefix=".seen-by-workers-", dir=folder) as probe:
        seen = client.run(os.path.exists, probe.name)
    blind = [worker for worker, sees in seen.items() if not sees]
    if blind:
        raise InputError(
            f"{len(blind)} of {len(seen)} workers do not see {folder}: {first_five(blind)}. "
            f"Audio and output must lie in folders that all share."
        )
    # one worker of each host after the other, since hosts may share a cache; then the rest
    first = {str(urlsplit(worker).hostname): worker for worker in seen}
    for workers in [*([worker] for worker in first.values()), None]:
        for worker, answer in client.run(prepare, workers=workers, on_error="return").items():
            # one that is lost meanwhile is the scheduler's business
            if isinstance(answer, Exception) and not isinstance(answer, OSError):
                raise InputError(
                    f"The worker {worker} can't do the work ({type(answer).__name__}: {answer}). Install "
                    f"this package with the same versions there as here."
                )
