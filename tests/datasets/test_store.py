"""Packed arrays: exact, reused, packed again when stale, never trusted half-written, and read in slices."""

import gzip
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from music_emotion.datasets import store as store_module
from music_emotion.datasets.layout import split_files
from music_emotion.datasets.store import Store, StoredFrames, open_store
from music_emotion.files import InputError

LENGTHS = {7: 430, 12: 1, 100: 405, 9: 12}


@pytest.fixture
def arrays(tmp_path) -> dict[int, np.ndarray]:
    """Arrays of a split, written under `tmp_path`/set/train."""
    rng = np.random.default_rng(0)
    made = {clip_id: rng.uniform(-80, 0, (140, length)) for clip_id, length in LENGTHS.items()}
    (tmp_path / "set" / "train").mkdir(parents=True)
    for clip_id, array in made.items():
        np.save(array_path(tmp_path, clip_id), array)
    return made


def array_path(tmp_path: Path, clip_id: int) -> Path:
    return tmp_path / "set" / "train" / f"{clip_id}.fused.full.npy"


def stores(tmp_path: Path) -> list[Path]:
    """Whole stores."""
    return [path.parent for path in (tmp_path / "stores").glob("*/source.json")]


@pytest.fixture
def opened(tmp_path) -> Callable[..., Store]:
    """Open the store of the arrays as they are now."""
    return lambda allowed=0.0, name="set": open_store(
        split_files(tmp_path / name, "train"), tmp_path / "stores", allowed
    )


def check_contents(store: Store, arrays: dict[int, np.ndarray]) -> None:
    assert store.index.index.tolist() == sorted(arrays)
    assert store.frames.shape == (sum(array.shape[1] for array in arrays.values()), 140)
    assert store.frames.dtype == np.float16
    for clip_id, array in arrays.items():
        np.testing.assert_array_equal(store.frames_of(clip_id), array.T.astype(np.float16))


def test_a_store_holds_every_array_and_is_packed_once(opened, arrays, monkeypatch):
    check_contents(opened(), arrays)
    monkeypatch.setattr(store_module, "read_frames", None)
    check_contents(opened(), arrays)


def test_a_changed_added_or_removed_array_rebuilds_the_store(tmp_path, opened, arrays):
    opened()
    arrays[7] = arrays[7] / 2
    np.save(array_path(tmp_path, 7), arrays[7])
    os.utime(array_path(tmp_path, 7), ns=(1, 1))  # whatever the clock's resolution
    check_contents(opened(), arrays)
    arrays[500] = arrays.pop(9)
    array_path(tmp_path, 9).rename(array_path(tmp_path, 500))
    check_contents(opened(), arrays)
    # a set of the same name elsewhere has a store of its own
    other = tmp_path / "other" / "set"
    (other / "train").mkdir(parents=True)
    np.save(other / "train" / "7.npy", arrays[12])
    check_contents(open_store(split_files(other, "train"), tmp_path / "stores"), {7: arrays[12]})
    check_contents(opened(), arrays)
    assert len(stores(tmp_path)) == 2


def test_an_unusable_array_is_refused_or_left_out_where_a_share_is_allowed(tmp_path, opened, arrays, capsys):
    path = array_path(tmp_path, 7)
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes())[:5000])
    path.unlink()
    with pytest.raises(InputError, match=r"1 of 4 arrays in .*\.fused\.full\.npy\.gz is not a whole array"):
        opened(0.24)
    assert stores(tmp_path) == []
    del arrays[7]
    check_contents(opened(0.25), arrays)
    assert "left out: " in capsys.readouterr().out
    with pytest.raises(InputError, match="1 of 4 arrays"):  # what a lenient opening left out
        opened()


@pytest.mark.parametrize("n_read", [0, 2])
def test_an_interrupted_packing_is_never_trusted(tmp_path, opened, arrays, monkeypatch, n_read):
    opened()
    array_path(tmp_path, 7).unlink()
    del arrays[7]
    read_array, calls = store_module.read_frames, []

    def interrupt(path: Path) -> np.ndarray:
        calls.append(path)
        if len(calls) > n_read:
            raise KeyboardInterrupt
        return read_array(path)

    monkeypatch.setattr(store_module, "read_frames", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened()
    assert not list((tmp_path / "stores").rglob(".writing-*"))
    monkeypatch.undo()
    check_contents(opened(), arrays)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, Path.unlink) for name in ("source.json", "index.csv", "frames.npy")),
        ("index.csv", lambda path: path.write_text("Id,start,length\n7,0,430\n")),
        ("source.json", lambda path: path.write_text("{")),
    ],
)
def test_a_store_with_a_file_missing_or_damaged_is_packed_again(tmp_path, opened, arrays, name, damage):
    opened()
    damage(stores(tmp_path)[0] / name)
    check_contents(opened(), arrays)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(-40, 20, (300, 140)).astype(np.float16)


@pytest.fixture
def path(tmp_path, array) -> Path:
    np.save(tmp_path / "frames.npy", array)
    return tmp_path / "frames.npy"


PLACES = [
    *(slice(10, 50), slice(0, 300), slice(290, 400), slice(300, 310), slice(50, 10), slice(-20, None)),
    *(slice(None), slice(np.int64(3), np.int64(4)), (slice(10, 50), slice(128, 140))),
]


def test_slices_are_numpys_though_the_file_is_replaced_and_a_shortened_one_is_refused(tmp_path, path, array):
    frames = StoredFrames(path)
    assert (frames.shape, frames.dtype) == ((300, 140), np.float16)
    for place in PLACES:
        np.testing.assert_array_equal(frames[place], array[place], str(place))
    frames[:5][:] = 1  # is not shared with later reads
    np.testing.assert_array_equal(frames[:5], array[:5])
    pickled = pickle.dumps(frames)
    np.testing.assert_array_equal(pickle.loads(pickled)[10:50], array[10:50])
    np.save(tmp_path / "new.npy", array + 1)
    (tmp_path / "new.npy").rename(path)
    np.testing.assert_array_equal(frames[100:200], array[100:200])
    with pytest.raises(InputError, match=r"frames\.npy was packed again meanwhile"):
        pickle.loads(pickled)
    frames = StoredFrames(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"frames\.npy is shorter than its header says\. Delete .* again"):
        frames[200:300]


def test_threads_share_one(path, array):
    frames, starts = StoredFrames(path), [*range(290)] * 4
    with ThreadPoolExecutor(8) as threads:
        parts = list(threads.map(lambda start: frames[start : start + 10], starts))
    np.testing.assert_array_equal(parts, [array[start : start + 10] for start in starts])


def test_reading_a_whole_file_takes_no_memory(tmp_path):
    n_frames = 200_000  # 56 MB
    np.save(tmp_path / "large.npy", np.ones((n_frames, 140), np.float16))
    frames, process = StoredFrames(tmp_path / "large.npy"), psutil.Process()
    assert frames[:1000].sum(dtype=np.int64) == 140_000
    before = process.memory_info().rss
    for start in range(0, n_frames, 1000):
        frames[start : start + 1000]
    assert process.memory_info().rss - before < 20e6
