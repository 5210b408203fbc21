"""Frames on disk: sliced like an array, by threads and processes alike, and never kept in memory."""

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from music_emotion.datasets.store import JoinedFrames, StoredFrames
from music_emotion.files import InputError

SHAPE = (300, 140)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(-40, 20, SHAPE).astype(np.float16)


@pytest.fixture
def path(tmp_path, array) -> Path:
    np.save(tmp_path / "frames.npy", array)
    return tmp_path / "frames.npy"


@pytest.fixture(params=["pread", "seek"])
def reads(request, monkeypatch) -> None:
    """Reading as POSIX systems do, and as Windows does."""
    if request.param == "seek":
        monkeypatch.delattr(os, "pread")


PLACES = [
    *(slice(10, 50), slice(0, 300), slice(290, 400), slice(300, 310), slice(50, 10), slice(-20, None)),
    *(slice(None), slice(np.int64(3), np.int64(4))),
    *((slice(10, 50), slice(0, 128)), (slice(10, 50), slice(128, 140))),
]


@pytest.mark.usefixtures("reads")
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_slice_is_numpys(path, array, place):
    frames = StoredFrames(path)
    assert (frames.shape, frames.dtype, len(frames)) == (SHAPE, np.float16, 300)
    np.testing.assert_array_equal(frames[place], array[place])


def test_what_was_read_is_not_shared_with_later_reads(path, array):
    frames = StoredFrames(path)
    frames[0:5][:] = 1
    np.testing.assert_array_equal(frames[0:5], array[0:5])


@pytest.mark.usefixtures("reads")
def test_a_shortened_file_is_refused_where_it_ends(path, array):
    path.write_bytes(path.read_bytes()[:-1])
    frames = StoredFrames(path)
    np.testing.assert_array_equal(frames[200:299], array[200:299])
    with pytest.raises(InputError, match=r"frames\.npy ends before frame 300 of 300\. Delete .* again"):
        frames[200:300]


def test_a_file_that_is_replaced_is_read_on(path, array, tmp_path):
    frames = StoredFrames(path)
    np.save(tmp_path / "new.npy", array + 1)
    (tmp_path / "new.npy").rename(path)
    np.testing.assert_array_equal(frames[100:200], array[100:200])
    np.testing.assert_array_equal(StoredFrames(path)[100:200], array[100:200] + 1)


def _sums(frames: StoredFrames, first: int) -> list[float]:
    return [float(frames[start : start + 10].sum(dtype=np.float64)) for start in range(first, 290, 7)]


def test_threads_share_one_where_reading_moves_the_file(path, monkeypatch):
    frames = StoredFrames(path)
    expected = [_sums(frames, first) for first in range(8)] * 4
    monkeypatch.delattr(os, "pread")
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(partial(_sums, frames), [*range(8)] * 4)) == expected


def test_threads_and_forked_processes_share_one(path):
    frames = StoredFrames(path)
    expected = [_sums(frames, first) for first in range(8)] * 4
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(_sums, [frames] * 32, [*range(8)] * 4)) == expected
    results = multiprocessing.get_context("fork").Queue()
    workers = [
        multiprocessing.get_context("fork").Process(target=lambda: results.put(_sums(frames, 0)))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    read = [results.get(timeout=30) for _ in workers]
    for worker in workers:
        worker.join()
    assert read == [expected[0]] * 3


def test_a_pickled_one_opens_its_file_again(path, array):
    frames = pickle.loads(pickle.dumps(StoredFrames(path)))
    np.testing.assert_array_equal(frames[40:60], array[40:60])


def test_reading_a_whole_file_takes_no_memory(tmp_path):
    n_frames = 200_000  # 56 MB
    np.save(tmp_path / "large.npy", np.ones((n_frames, 140), np.float16))
    frames, process = StoredFrames(tmp_path / "large.npy"), psutil.Process()
    assert frames[:1000].sum(dtype=np.int64) == 140_000
    before = process.memory_info().rss
    for start in range(0, n_frames, 1000):
        frames[start : start + 1000]
    assert process.memory_info().rss - before < 20e6


@pytest.mark.parametrize("kind", ["in memory", "on disk"])
def test_joined_frames_are_those_of_their_parts_and_never_of_two(path, array, kind):
    first = array[:40] + np.float16(1)
    whole = np.concatenate([first, array, array[::-1]])
    last = array[::-1] if kind == "in memory" else JoinedFrames([array[::-1]])
    frames = pickle.loads(pickle.dumps(JoinedFrames([first, StoredFrames(path), last])))
    assert (frames.shape, len(frames)) == ((640, 140), 640)
    for start, stop in ((0, 40), (3, 7), (40, 340), (41, 42), (339, 340), (340, 640), (639, 640), (9, 9)):
        np.testing.assert_array_equal(frames[start:stop], whole[start:stop])
        np.testing.assert_array_equal(frames[np.int64(start) : stop, 128:], whole[start:stop, 128:])
    for start, stop in ((39, 41), (0, 640), (300, 341)):
        with pytest.raises(ValueError, match=f"Frames {start} to {stop} are not of one clip"):
            frames[start:stop]
