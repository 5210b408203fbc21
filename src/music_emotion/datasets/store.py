"""All arrays of a split packed into one file, so that an excerpt is one contiguous read."""

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.features import N_ROWS, row_slice
from music_emotion.config import Rows
from music_emotion.datasets.duplicates import FRAMES_PER_STEP, N_BANDS, N_STEPS, fingerprint
from music_emotion.datasets.layout import SplitFiles, leave_out, rate_of, too_many
from music_emotion.files import (
    InputError,
    atomic_path,
    first_five,
    in_turn,
    naming_refusals,
    read_json,
    shortened,
    write_json,
    write_table,
)


class StoredFrames:
    """Rows of a .npy file of two axes, read when they are sliced.

    Unlike the touched pages of a memory-mapped file, nothing that was read stays in memory. Threads and
    forked processes may share one; a pickled one opens its file again.

    Parameters
    ----------
    path : Path
        Stays open: a file that replaces it later is not read.

    Attributes
    ----------
    shape : tuple of int
    dtype : np.dtype
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("rb")
        self._moving = Lock()
        np.lib.format.read_magic(self._file)
        self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        self._first_byte = self._file.tell()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: slice | tuple[slice, slice]) -> np.ndarray:
        """Consecutive frames, and all or some of their rows, as a new array.

        Raises
        ------
        InputError
            When the file is shorter than its header says.
        """
        frames, rows = place if isinstance(place, tuple) else (place, slice(None))
        start, stop, _ = frames.indices(len(self))
        n_frames, frame_bytes = max(stop - start, 0), self.shape[1] * self.dtype.itemsize
        content = self._read(self._first_byte + start * frame_bytes, n_frames * frame_bytes)
        if len(content) < n_frames * frame_bytes:
            raise InputError(
                f"{self.path} ends before frame {stop} of {len(self)}. Delete {self.path.parent}, so that it "
                f"is packed again."
            )
        return np.frombuffer(bytearray(content), self.dtype).reshape(n_frames, self.shape[1])[:, rows]

    def _read(self, position: int, n_bytes: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), n_bytes, position)
        with self._moving:  # Windows cannot read at a position, and does not fork
            self._file.seek(position)
            return self._file.read(n_bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredFrames, (self.path,)


class JoinedFrames:
    """Frames of several stores, one after the other; a slice must lie in one of them.

    Parameters
    ----------
    members : sequence of np.ndarray, StoredFrames or JoinedFrames
        Of the same rows.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, members: Sequence["np.ndarray | StoredFrames | JoinedFrames"]):
        self.members = tuple(members)
        self.ends = np.cumsum([len(member) for member in self.members])
        self.shape: tuple[int, int] = (int(self.ends[-1]), self.members[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: slice | tuple[slice, slice]) -> np.ndarray:
        """Consecutive frames of one member, and all or some of their rows.

        Raises
        ------
        ValueError
            When the frames lie in two members.
        """
        frames, rows = place if isinstance(place, tuple) else (place, slice(None))
        start, stop, _ = frames.indices(len(self))
        number = min(int(np.searchsorted(self.ends, start, side="right")), len(self.members) - 1)
        if stop > self.ends[number]:
            raise ValueError(f"Frames {start} to {stop} are not of one clip. Slice inside a clip.")
        first = start - (self.ends[number - 1] if number else 0)
        return self.members[number][first : first + stop - start, rows]


@dataclass(frozen=True)
class Store:
    """Arrays of many clips, time first.

    Attributes
    ----------
    frames : np.ndarray, StoredFrames or JoinedFrames [shape=(sum of T, n_rows)]
        All clips one after the other. Packed arrays have 140 rows, float16, and are read from disk in slices.
    index : pd.DataFrame
        `start` and `length` in frames, indexed by `Id`.
    is_fused : bool
        Whether a frame is mel and chroma; false for statistics and windows.
    fingerprints : np.ndarray [shape=(n_clips, n_steps, n_bands)], float16, or None
        In the order of the index; None for arrays that are not packed.
    """

    frames: np.ndarray | StoredFrames | JoinedFrames
    index: pd.DataFrame
    is_fused: bool = True
    fingerprints: np.ndarray | None = None

    @classmethod
    def in_memory(cls, frames: np.ndarray, lengths: Any, ids: Any = None, is_fused: bool = True) -> "Store":
        """Wrap clips that follow each other in an array.

        Parameters
        ----------
        frames : np.ndarray [shape=(sum of T, n_rows)]
        lengths : sequence of int
            T of every clip.
        ids : array of int, optional
            0, 1, ... if not given.
        is_fused : bool
        """
        places = {"start": np.cumsum(lengths) - lengths, "length": lengths}
        index = pd.Index(np.arange(len(lengths)) if ids is None else ids, name="Id")
        return cls(frames, pd.DataFrame(places, index), is_fused)

    def frames_of(self, clip_id: int) -> np.ndarray:
        """The frames of one clip [shape=(T, n_rows)]."""
        start, length = self.index.loc[clip_id].to_numpy()
        return self.frames[start : start + length]

    def row_slice(self, rows: Rows) -> slice:
        """The rows of a frame that hold a representation; all of them in statistics and windows."""
        return row_slice(rows) if self.is_fused else slice(None)


def open_store(files: SplitFiles, stores: Path, allow_bad_share: float = 0.0) -> Store:
    """Open the store of a split. Pack it first if it is missing or stale.

    Parameters
    ----------
    files : SplitFiles
        The arrays. A store is stale when their names, sizes or times have changed.
    stores : Path
        Folder of all stores.
    allow_bad_share : float
        Share of arrays, 0 to 1, that may be unusable; they are listed and left out.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        When more arrays than allowed are unreadable, have other than 140 rows, no frames, or
        values that are not finite. The message names five and what is wrong with each.
    """
    place = str(files.folder.resolve())
    short = hashlib.sha256(place.encode()).hexdigest()[:8]
    folder = stores / f"{files.folder.parent.name}-{files.folder.name}-{short}"
    stats = ((clip_id, path.name, path.stat()) for clip_id, path in files.arrays.items())
    state = "".join(f"{clip_id} {name} {stat.st_size} {stat.st_mtime_ns}\n" for clip_id, name, stat in stats)
    source = {"folder": place, "fingerprint": hashlib.sha256(state.encode()).hexdigest()}
    if not _is_current(folder, source, files, allow_bad_share):
        with in_turn(folder, f"packs {files.folder}"):
            if not _is_current(folder, source, files, allow_bad_share):  # another process may have packed it
                _pack(files, folder, source, allow_bad_share)
    index = pd.read_csv(folder / "index.csv", index_col="Id")
    frames = StoredFrames(folder / "frames.npy")
    path = folder / "fingerprints.npy"
    with suppress(OSError, ValueError, EOFError):  # missing or damaged: computed below
        kept = np.load(path, allow_pickle=False)
        if kept.shape == (len(index), N_STEPS, N_BANDS):
            return Store(frames, index, fingerprints=np.asarray(kept))
    store = Store(frames, index)
    clips = map(store.frames_of, tqdm(index.index, desc=f"fingerprints of {folder}", unit="clip"))
    made = _stack([fingerprint(clip, _frames_per_step(files)) for clip in clips])
    with suppress(OSError), atomic_path(path) as temporary:  # a store may be on a read-only disk
        np.save(temporary, made)
    return Store(frames, index, fingerprints=made)


def _frames_per_step(files: SplitFiles) -> int:
    return FRAMES_PER_STEP[rate_of(files.folder.parent)]


def _stack(fingerprints: list[np.ndarray]) -> np.ndarray:
    return np.array(fingerprints, np.float16).reshape(-1, N_STEPS, N_BANDS)


def _is_current(folder: Path, source: dict[str, Any], files: SplitFiles, allow_bad_share: float) -> bool:
    """Whether a store is whole, holds these files, and lacks no more of them than is allowed now."""
    if not all((folder / name).exists() for name in ("frames.npy", "index.csv", "source.json")):
        return False
    n_left_out = len(files.arrays) - len(pd.read_csv(folder / "index.csv"))
    return read_json(folder / "source.json") == source and not too_many(
        n_left_out, len(files.arrays), allow_bad_share
    )


def _pack(files: SplitFiles, folder: Path, source: dict[str, Any], allow_bad_share: float) -> None:
    """Write a store under a temporary name; rename it when it is whole."""
    prefix = f".packing-{folder.name}-"
    for left in folder.parent.glob(f"{prefix}*"):  # by a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as temporary:
        building = Path(temporary) / folder.name
        building.mkdir()
        with naming_refusals(folder / "frames.npy"):
            index, fingerprints, problems = _write_frames(files, building / "frames.npy")
        if too_many(len(problems), len(files.arrays), allow_bad_share):
            raise InputError(
                f"{len(problems)} of {len(files.arrays)} arrays in {files.folder} can't be used: "
                f"{first_five(problem.removesuffix('.') for problem in problems)}. Replace them, or "
                f"{leave_out(len(problems), len(files.arrays))}."
            )
        for problem in problems:
            print(f"left out: {problem}")
        np.save(building / "fingerprints.npy", _stack(fingerprints))
        write_table(building / "index.csv", index)
        write_json(building / "source.json", source)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)


def _write_frames(files: SplitFiles, path: Path) -> tuple[pd.DataFrame, list[np.ndarray], list[str]]:
    """Append every usable array to one .npy file whose length is known only at the end."""
    places: list[tuple[int, int, int]] = []
    fingerprints: list[np.ndarray] = []
    problems: list[str] = []
    n_frames = 0
    with path.open("wb") as file:
        _write_header(file, 0)
        for clip_id, source in tqdm(files.arrays.items(), desc=f"pack {files.folder}", unit="clip"):
            try:
                frames = read_frames(source)
            except InputError as error:
                problems.append(str(error))
                continue
            file.write(frames.tobytes())
            places.append((clip_id, n_frames, len(frames)))
            fingerprints.append(fingerprint(frames, _frames_per_step(files)))
            n_frames += len(frames)
        file.seek(0)
        _write_header(file, n_frames)
    return pd.DataFrame(places, columns=["Id", "start", "length"]), fingerprints, problems


def _write_header(file: Any, n_frames: int) -> None:
    # NumPy pads the header so that its size stays the same when the first axis grows.
    header = {"descr": "<f2", "fortran_order": False, "shape": (n_frames, N_ROWS)}
    np.lib.format.write_array_header_1_0(file, header)


def read_frames(path: Path) -> np.ndarray:
    """Read a clip's array (.npy or .npy.gz) as the store holds it.

    Returns
    -------
    np.ndarray [shape=(n_frames, 140)], float16

    Raises
    ------
    InputError
        When the file is damaged, or as `check_array`.
    """
    return check_array(read_npy(path), str(path))


def check_array(array: np.ndarray, name: str) -> np.ndarray:
    """Check a fused array and give it as the store holds it.

    Parameters
    ----------
    array : np.ndarray [shape=(140, n_frames)]
    name : str
        What it is, for the message.

    Returns
    -------
    np.ndarray [shape=(n_frames, 140)], float16

    Raises
    ------
    InputError
        When it has another shape or type, no frames, or values that are not finite.
    """
    if array.ndim != 2 or array.shape[0] != N_ROWS or array.shape[1] == 0:
        raise InputError(f"{name} has shape {array.shape}, expected ({N_ROWS}, frames).")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name} holds {array.dtype}, expected real numbers.")
    with np.errstate(over="ignore"):
        frames = np.ascontiguousarray(array.T, dtype=np.float16)
    n_broken = int((~np.isfinite(frames)).sum())
    if n_broken:
        raise InputError(f"{name} holds {n_broken} values that are not finite, or far beyond decibels.")
    return frames


def read_npy(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """Read one array of numbers or text from a .npy or .npy.gz file.

    Raises
    ------
    InputError
        When the file is not one whole array.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if file.read(4) not in (b"\x93NUM", b"PK\x03\x04"):  # NumPy would suggest loading a pickle
                raise ValueError("it does not begin as an array does")
            file.seek(0)
            array = np.load(path if mmap_mode else file, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as error:  # NumPy raises any exception at a damaged header
        reason = shortened(str(error) or type(error).__name__, 200)
        raise InputError(f"{path} is not a whole array ({reason}).") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of several arrays.")
    return array
