"""A Dask scheduler and its workers as processes of this machine."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

PATIENCE_SECONDS = 120


def wait_until(true: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def started(*arguments: str, log: Path) -> Iterator[subprocess.Popen]:
    """A process of Dask's own command line, ended with the block. One lost worker is enough for its blame."""
    own = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "dask", *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | own)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


@contextmanager
def dask_scheduler(folder: Path) -> Iterator[str]:
    """A scheduler; gives its address."""
    address = folder / "scheduler.json"
    flags = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(address))
    with started("scheduler", *flags, log=folder / "log") as process:
        wait_until(lambda: address.exists() and address.stat().st_size > 0, process)
        found = re.search(r"tcp://[\d.]+:\d+", address.read_text())
        assert found is not None
        yield found[0]


@contextmanager
def worker(scheduler: str, folder: Path, nanny: str = "--no-nanny") -> Iterator[subprocess.Popen]:
    """A worker process; a nanny starts it again when it dies."""
    folder.mkdir()
    flags = ("--name", folder.name, "--nthreads", "1", nanny, "--no-dashboard")
    place = ("--local-directory", str(folder))
    with started("worker", scheduler, *flags, *place, log=folder / "log") as process:
        yield process


def is_busy(client: Client, name: str) -> Callable[[], bool]:
    """Whether a worker has its share of the work."""
    known = client.scheduler_info()["workers"].items()
    address = next(address for address, info in known if info["name"] == name)
    return lambda: bool(client.processing().get(address))
