"""Packed arrays: exact, reused, rebuilt when stale, and never trusted half-written."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from music_emotion.datasets import store as store_module
from music_emotion.datasets.duplicates import fingerprint
from music_emotion.datasets.layout import SplitFiles, split_files
from music_emotion.datasets.store import open_store
from music_emotion.files import InputError

LENGTHS = {7: 30, 12: 1, 100: 45, 9: 12}


@pytest.fixture
def arrays(tmp_path) -> dict[int, np.ndarray]:
    """Arrays of a split, written under `tmp_path`/set/train."""
    rng = np.random.default_rng(0)
    made = {clip_id: rng.uniform(-80, 0, (140, length)) for clip_id, length in LENGTHS.items()}
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    for clip_id, array in made.items():
        np.save(folder / f"{clip_id}.fused.full.npy", array)
    return made


def files_of(tmp_path: Path) -> SplitFiles:
    return split_files(tmp_path / "set", "train")


def packed(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "stores").glob("[!.]*"))


def store_folder(tmp_path: Path) -> Path:
    (folder,) = packed(tmp_path)
    return folder


def array_path(tmp_path: Path, clip_id: int) -> Path:
    return tmp_path / "set" / "train" / f"{clip_id}.fused.full.npy"


def opened(tmp_path: Path, allow_bad_share: float = 0.0):
    return open_store(files_of(tmp_path), tmp_path / "stores", allow_bad_share)


def check_contents(store, arrays: dict[int, np.ndarray]) -> None:
    assert sorted(store.index.index) == sorted(arrays)
    assert store.frames.shape == (sum(array.shape[1] for array in arrays.values()), 140)
    for clip_id, array in arrays.items():
        start, length = store.index.loc[clip_id]
        np.testing.assert_array_equal(store.frames[start : start + length], array.T.astype(np.float16))


def test_a_store_holds_every_array_in_half_precision(tmp_path, arrays):
    store = opened(tmp_path)
    assert store.frames.dtype == np.float16
    check_contents(store, arrays)


def test_half_precision_is_within_a_thirtieth_of_a_decibel(tmp_path, arrays):
    store = opened(tmp_path)
    start, length = store.index.loc[100]
    np.testing.assert_allclose(store.frames[start : start + length].T, arrays[100], atol=1 / 30)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_float_type_and_memory_order_is_packed_alike(tmp_path, arrays, dtype, order):
    for clip_id, array in arrays.items():
        np.save(array_path(tmp_path, clip_id), np.asarray(array, dtype=dtype, order=order))
    check_contents(opened(tmp_path), {clip_id: array.astype(dtype) for clip_id, array in arrays.items()})


def test_compressed_arrays_are_packed_alike(tmp_path, arrays):
    path = array_path(tmp_path, 100)
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()
    check_contents(opened(tmp_path), arrays)


def test_a_second_opening_packs_nothing(tmp_path, arrays):
    opened(tmp_path)
    frames = store_folder(tmp_path) / "frames.npy"
    before = frames.stat()
    check_contents(opened(tmp_path), arrays)
    assert frames.stat().st_mtime_ns == before.st_mtime_ns
    assert frames.stat().st_ino == before.st_ino


def test_a_changed_array_rebuilds_the_store(tmp_path, arrays):
    opened(tmp_path)
    arrays[7] = arrays[7] / 2
    np.save(array_path(tmp_path, 7), arrays[7])
    os.utime(array_path(tmp_path, 7), ns=(1, 1))  # whatever the clock's resolution
    check_contents(opened(tmp_path), arrays)


def test_an_added_or_removed_array_rebuilds_the_store(tmp_path, arrays):
    opened(tmp_path)
    arrays[500] = arrays.pop(9)
    array_path(tmp_path, 9).rename(array_path(tmp_path, 500))
    check_contents(opened(tmp_path), arrays)


def test_sets_of_the_same_name_elsewhere_have_their_own_store(tmp_path, arrays):
    opened(tmp_path)
    other = tmp_path / "other" / "set"
    (other / "train").mkdir(parents=True)
    np.save(other / "train" / "7.npy", arrays[9])
    check_contents(open_store(split_files(other, "train"), tmp_path / "stores"), {7: arrays[9]})
    check_contents(opened(tmp_path), arrays)
    assert len(packed(tmp_path)) == 2


def spoil_with_nan(path: Path) -> None:
    array = np.load(path)
    array[3, :2] = np.nan
    np.save(path, array)


def spoil_rows(path: Path) -> None:
    np.save(path, np.zeros((128, 5)))


def spoil_dimensions(path: Path) -> None:
    np.save(path, np.zeros(140))


def spoil_frames(path: Path) -> None:
    np.save(path, np.zeros((140, 0)))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_text("404: not found")


def truncate_compressed(path: Path) -> None:
    content = gzip.compress(path.read_bytes())
    path.with_name(path.name + ".gz").write_bytes(content[: len(content) // 2])
    path.unlink()


def spoil_compressed(path: Path) -> None:
    content = bytearray(gzip.compress(path.read_bytes()))
    content[20:200] = bytes(180)
    path.with_name(path.name + ".gz").write_bytes(bytes(content))
    path.unlink()


SPOILT = [
    (spoil_with_nan, "holds 2 values that are not finite"),
    (spoil_rows, r"has shape \(128, 5\), expected \(140, frames\)"),
    (spoil_dimensions, r"has shape \(140,\), expected \(140, frames\)"),
    (spoil_frames, r"has shape \(140, 0\), expected \(140, frames\)"),
    (truncate, "is not a whole array"),
    (empty, "is not a whole array"),
    (replace_by_text, "is not a whole array"),
    (truncate_compressed, "is not a whole array"),
    (spoil_compressed, "is not a whole array"),
]


@pytest.mark.parametrize(("spoil", "reason"), SPOILT, ids=lambda item: getattr(item, "__name__", ""))
def test_an_unusable_array_is_refused_with_its_name_and_reason(tmp_path, arrays, spoil, reason):
    assert 12 in arrays
    spoil(array_path(tmp_path, 12) if spoil is not spoil_with_nan else array_path(tmp_path, 7))
    with pytest.raises(InputError, match=rf"1 of 4 arrays in .*\.fused\.full\.npy(\.gz)? {reason}"):
        opened(tmp_path)
    assert packed(tmp_path) == []


@pytest.mark.parametrize(("spoil", "reason"), SPOILT[:5], ids=lambda item: getattr(item, "__name__", ""))
def test_an_unusable_array_is_left_out_and_listed_where_a_share_is_allowed(
    tmp_path, arrays, capsys, spoil, reason
):
    del arrays[7], reason
    spoil(array_path(tmp_path, 7))
    store = opened(tmp_path, allow_bad_share=0.25)
    check_contents(store, arrays)
    assert "left out: " in capsys.readouterr().out
    with pytest.raises(InputError, match="1 of 4 arrays"):
        open_store(files_of(tmp_path), tmp_path / "other_stores", 0.24)


def test_what_a_lenient_opening_left_out_a_strict_one_refuses(tmp_path, arrays):
    truncate(array_path(tmp_path, 7))
    assert len(opened(tmp_path, allow_bad_share=0.5).index) == len(arrays) - 1
    with pytest.raises(InputError, match="1 of 4 arrays"):
        opened(tmp_path)


def test_an_interrupted_packing_is_never_trusted(tmp_path, arrays, monkeypatch):
    read_array, calls = store_module.read_frames, []

    def interrupt_at_the_third(path: Path) -> np.ndarray:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read_array(path)

    monkeypatch.setattr(store_module, "read_frames", interrupt_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path)
    assert packed(tmp_path) == []
    monkeypatch.undo()
    check_contents(opened(tmp_path), arrays)


def test_an_interrupted_repacking_leaves_the_old_store_stale(tmp_path, arrays, monkeypatch):
    opened(tmp_path)
    array_path(tmp_path, 7).unlink()

    def interrupt(_: Path) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(store_module, "read_frames", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path)
    monkeypatch.undo()
    del arrays[7]
    check_contents(opened(tmp_path), arrays)


@pytest.mark.parametrize("missing", ["source.json", "index.csv", "frames.npy"])
def test_a_store_with_a_file_missing_is_packed_again(tmp_path, arrays, missing):
    opened(tmp_path)
    (store_folder(tmp_path) / missing).unlink()
    check_contents(opened(tmp_path), arrays)


def recordings(tmp_path: Path) -> dict[int, np.ndarray]:
    """Arrays long enough to have fingerprints, written under `tmp_path`/set/train."""
    rng = np.random.default_rng(1)
    made = {clip_id: rng.uniform(-60, 0, (140, 400 + clip_id)) for clip_id in (3, 4)}
    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    for clip_id, array in made.items():
        np.save(folder / f"{clip_id}.fused.full.npy", array)
    return made


def test_fingerprints_are_made_while_each_array_is_read_once(tmp_path, monkeypatch):
    made = recordings(tmp_path)
    read_array, calls = store_module.read_frames, []

    def count(path: Path) -> np.ndarray:
        calls.append(path.name)
        return read_array(path)

    monkeypatch.setattr(store_module, "read_frames", count)
    first = opened(tmp_path).fingerprints
    assert calls == ["3.fused.full.npy", "4.fused.full.npy"]
    for number, array in enumerate(made.values()):
        np.testing.assert_array_equal(first[number], fingerprint(array.T.astype(np.float16), 24))
        assert first[number].any()
    monkeypatch.setattr(store_module, "fingerprint", None)  # the second opening computes none
    np.testing.assert_array_equal(opened(tmp_path).fingerprints, first)


@pytest.mark.parametrize("damage", [Path.unlink, empty, replace_by_text, truncate])
def test_a_store_without_fingerprints_gets_them_once_and_is_not_packed_again(tmp_path, monkeypatch, damage):
    recordings(tmp_path)
    first = opened(tmp_path).fingerprints
    damage(store_folder(tmp_path) / "fingerprints.npy")
    monkeypatch.setattr(store_module, "read_frames", None)
    np.testing.assert_array_equal(opened(tmp_path).fingerprints, first)
    monkeypatch.setattr(store_module, "fingerprint", None)
    np.testing.assert_array_equal(opened(tmp_path).fingerprints, first)


def test_a_store_that_can_only_be_read_is_used_as_it_is(tmp_path, monkeypatch):
    recordings(tmp_path)
    first = opened(tmp_path).fingerprints
    (store_folder(tmp_path) / "fingerprints.npy").unlink()

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(store_module.np, "save", refuse)
    np.testing.assert_array_equal(opened(tmp_path).fingerprints, first)
    assert not (store_folder(tmp_path) / "fingerprints.npy").exists()


def test_a_step_of_a_beat_synchronous_set_is_a_beat(tmp_path):
    array = np.random.default_rng(0).uniform(-60, 0, (140, 30))
    folder = tmp_path / "set_beat" / "train"
    folder.mkdir(parents=True)
    np.save(folder / "3.fused.full.npy", array)
    (kept,) = open_store(split_files(folder.parent, "train"), tmp_path / "stores").fingerprints
    np.testing.assert_array_equal(kept, fingerprint(array.T.astype(np.float16), 1))
    assert kept[28].any()
