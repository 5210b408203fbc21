"""Extraction by real processes: killed halfway, interrupted, and on a cluster that loses a worker."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import soundfile
from dask_cluster import PATIENCE_SECONDS, dask_scheduler, is_busy, wait_until, worker
from distributed import Client

from music_emotion.datasets import parallel
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.extract import extract_clips
from music_emotion.datasets.parallel import Item, Outcome, Workers, work_through
from music_emotion.files import InputError

SCRIPT = Path(__file__).parents[2] / "scripts" / "extract.py"
N_CLIPS = 30
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers don't find what it imports


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Clips of four seconds in a folder whose name has spaces and is not ASCII."""
    folder = tmp_path_factory.mktemp("ä clip's folder")
    rng = np.random.default_rng(0)
    for number in range(N_CLIPS):
        samples = 0.05 * rng.standard_normal(4 * 22050)
        samples[:: 22050 // 2] = 0.9
        soundfile.write(folder / f"çlip {number}.flac", samples, 22050)
    rows = "".join(f"çlip {number}.flac,{number / N_CLIPS}\n" for number in range(N_CLIPS))
    (folder / "clips.csv").write_text("path,valence\n" + rows, encoding="utf-8")
    return folder / "clips.csv"


@pytest.fixture(scope="module")
def local(table, tmp_path_factory) -> Path:
    """The same clips, extracted in this process without a break."""
    root = tmp_path_factory.mktemp("local")
    extract_clips(read_clips(table), root, "emotion", "train", workers=Workers(n_jobs=1))
    return root


def command(table: Path, root: Path, *flags: str) -> list[str]:
    return [sys.executable, str(SCRIPT), str(table), "--out", str(root), *flags]


def n_arrays(root: Path) -> int:
    return len(list((root / "multitask_dataset" / "train").glob("[0-9]*.npy")))


def assert_same_set(root: Path, local: Path) -> None:
    files = [sorted((place / "multitask_dataset").glob("*/*.npy")) for place in (root, local)]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert len(files[0]) == N_CLIPS
    for ours, theirs in zip(*files, strict=True):
        np.testing.assert_array_equal(np.load(ours), np.load(theirs))
    labels = [place / "multitask_dataset" / "train_labels.txt" for place in (root, local)]
    assert labels[0].read_text() == labels[1].read_text()


def test_a_killed_run_loses_only_the_clips_in_flight(table, local, tmp_path):
    process = subprocess.Popen(
        command(table, tmp_path, "--jobs", "2"),
        stderr=subprocess.PIPE,
        start_new_session=True,
        # nothing is compiled yet: workers that compile at once would crash
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")},
    )
    wait_until(lambda: n_arrays(tmp_path) >= 4, process)
    os.killpg(process.pid, signal.SIGKILL)  # workers too, in the middle of whatever they do
    process.communicate()
    assert any((tmp_path / "numba").rglob("*.nbc"))
    finished = n_arrays(tmp_path)
    assert finished < N_CLIPS
    again = extract_clips(read_clips(table), tmp_path, "emotion", "train", workers=Workers(n_jobs=1))
    # two were being done, and two more may have ended without having been noted
    assert again.n_kept >= finished - 4
    assert again.n_done + again.n_kept == N_CLIPS
    assert_same_set(tmp_path, local)


def test_an_interrupted_run_says_that_it_goes_on(table, tmp_path):
    windows = ("--window", "1", "--hop", "0.05", "--jobs", "2")  # so many that it can't end before
    process = subprocess.Popen(
        command(table, tmp_path, *windows),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # what is started in the background inherits that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: n_arrays(tmp_path) >= 40, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = r"interrupted: \S+/multitask_dataset: (\d+) of \d+ clips are done; the same command goes on\.\n"
    assert int(re.search(kept, said)[1]) >= 30  # arrays of the last may not be noted yet
    assert "Traceback" not in said


def _suffer(item: Item) -> dict[str, int]:
    if item.id == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    if item.id == 4:
        raise ZeroDivisionError("by\nzero")
    if item.id == 5:
        np.empty(2**56)
    if item.id == 6:
        raise OSError(errno.EIO, "Bad sector", item.path)
    return {}


def _fill(item: Item) -> dict[str, int]:
    raise OSError(errno.ENOSPC, "No space left on device", f"{item.id}.npy")


def _die(_: Item) -> dict[str, int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def work(
    workers: Workers, folder: Path, function: Callable[[Item], dict[str, int]] = _suffer, n: int = 9
) -> Outcome:
    items = [Item(number, f"/{number}.wav", 0, 0, 0.0, None, "") for number in range(n)]
    return work_through(items, function, folder / "record.csv", (), workers, lambda: None, 0.5)


def assert_each_has_its_own_reason(workers: Workers, folder: Path) -> None:
    outcome = work(workers, folder)
    reasons = outcome.record["reason"].tolist()
    expected = {
        3: r": its worker process ended twice \((SIGSEGV|KilledWorker)\), the second time with nothing .*",
        4: r" failed \(ZeroDivisionError: by zero\)\.",
        5: r" failed \(.*MemoryError: Unable to allocate .*\)\.",
        6: r" failed \(OSError: .* Bad sector: '/6.wav'\)\.",
    }
    for number, reason in enumerate(reasons):
        assert re.fullmatch(rf"/{number}\.wav{expected[number]}" if number in expected else "", reason)
    assert (outcome.n_done, outcome.n_kept, outcome.n_failed) == (5, 0, 4)


def test_a_clip_that_fails_or_ends_its_worker_gets_a_reason_and_the_others_are_done(tmp_path, capfd):
    assert_each_has_its_own_reason(Workers(2), tmp_path)
    assert capfd.readouterr().err.count("Traceback") == 1  # of the first error that is unexpected
    assert work(Workers(2), tmp_path, n=3).n_kept == 3


def test_where_every_clip_ends_its_worker_the_run_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "_MOST_LOST", 1)
    with pytest.raises(InputError, match=r"1 clips ended their workers, and none is .*SIGKILL.*fewer --jobs"):
        work(Workers(2), tmp_path, _die)
    assert (tmp_path / "record.csv.part").read_text().count("SIGKILL") == 1


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_that_concerns_all_clips_ends_the_run(n_jobs, tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: '\d+\.npy'"):
        work(Workers(n_jobs), tmp_path, _fill)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory) -> Iterator[str]:
    with dask_scheduler(tmp_path_factory.mktemp("scheduler")) as address:
        yield address


def test_a_cluster_that_loses_a_worker_gives_the_local_result(scheduler, table, local, tmp_path):
    root = tmp_path / "root"
    with worker(scheduler, tmp_path / "one") as victim, worker(scheduler, tmp_path / "two") as survivor:
        with ThreadPoolExecutor(1) as thread, Client(scheduler) as client:
            client.wait_for_workers(2, timeout=PATIENCE_SECONDS)
            workers = Workers(scheduler=scheduler)
            done = thread.submit(extract_clips, read_clips(table), root, "emotion", "train", workers=workers)
            wait_until(lambda: n_arrays(root) >= N_CLIPS // 3, survivor)
            # the victim has its share of the work when it dies
            wait_until(is_busy(client, "one"), survivor)
            victim.kill()
            outcome = done.result(timeout=300)
            assert (outcome.n_done, outcome.n_failed) == (N_CLIPS, 0)
        assert survivor.poll() is None
    assert_same_set(root, local)


def test_a_cluster_does_the_other_clips_where_some_fail_or_end_their_workers(scheduler, tmp_path):
    with worker(scheduler, tmp_path / "one", "--nanny"), worker(scheduler, tmp_path / "two", "--nanny"):
        assert_each_has_its_own_reason(Workers(scheduler=scheduler), tmp_path)


def test_a_scheduler_without_workers_gets_a_sentence(scheduler, monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "_PATIENCE_SECONDS", 1)
    with pytest.raises(InputError, match=r"Only 0/1 workers arrived after 1.*then 'dask worker'"):
        work(Workers(scheduler=scheduler), tmp_path)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tcp://", "nonsense", "http://127.0.0.1:9"])
def test_an_address_where_no_scheduler_answers_gets_a_sentence(address, monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "_PATIENCE_SECONDS", 1)
    with pytest.raises(InputError, match=rf"{address} (\(Timed|is not the address).*'dask scheduler'"):
        work(Workers(scheduler=address), tmp_path)


def test_without_dask_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'music-emotion\[cluster\]'"):
        work(Workers(scheduler="tcp://x:1"), tmp_path)


class _Blind:
    """A cluster one of whose workers has another file system."""

    def run(self, function: Callable[[str], bool], path: str) -> dict[str, bool]:
        return {"tcp://10.0.0.1:1": function(path), "tcp://10.0.0.2:1": function("/nowhere" + path)}


def test_workers_that_do_not_see_the_folder_are_named(tmp_path):
    with pytest.raises(InputError, match=r"1 of 2 workers do not see .*: tcp://10\.0\.0\.2:1"):
        parallel._check_workers(_Blind(), lambda: None, tmp_path)
    assert list(tmp_path.iterdir()) == []
