"""Store that packs all arrays of a split into one file, so that an excerpt is one contiguous read."""

import gzip
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion import files
from music_emotion.audio.settings import N_ROWS, row_slice
from music_emotion.config import Rows
from music_emotion.datasets.layout import SplitFiles, leave_out, too_many
from music_emotion.files import InputError, first_five, shortened


class StoredFrames:
    """Two-dimensional .npy file that reads its rows when sliced.

    It maps the file while it reads, so memory use stays small. It is thread-safe.

    Parameters
    ----------
    path : Path
        The file stays open. If it is replaced later, the old content is still read.
    known : os.stat_result, optional
        Status of the file that is expected there.

    Attributes
    ----------
    shape : tuple of int
    dtype : np.dtype

    Raises
    ------
    InputError
        When the file is another than the expected one.
    """

    def __init__(self, path: Path, known: os.stat_result | None = None):
        self.path = path
        self._file = path.open("rb")
        if known and not os.path.samestat(os.fstat(self._file.fileno()), known):
            raise InputError(f"{path} was packed again meanwhile. Give the same command again.")
        np.lib.format.read_magic(self._file)
        self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        self._first_byte = self._file.tell()

    def __reduce__(self) -> Any:
        """Another process opens the same file."""
        return StoredFrames, (self.path, os.fstat(self._file.fileno()))

    def __getitem__(self, place: slice | tuple[slice, slice]) -> np.ndarray:
        """Read consecutive frames, and all or some of their rows, into a new array.

        Raises
        ------
        InputError
            When the file is shorter than its header says.
        """
        try:  # the map is released after the call, which frees the memory
            mapped = np.memmap(self._file, self.dtype, "r", self._first_byte, self.shape)
        except ValueError:
            remedy = f"Delete {self.path.parent} to pack it again."
            raise InputError(f"{self.path} is shorter than its header says. {remedy}") from None
        return np.array(mapped[place])


class JoinedFrames:
    """Concatenation of the frames of several stores, without copying. A slice must lie within one store.

    Parameters
    ----------
    members : sequence of np.ndarray, StoredFrames or JoinedFrames
        Frames with the same rows.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, members: Sequence["np.ndarray | StoredFrames | JoinedFrames"]):
        self.members = tuple(members)
        self.starts = np.cumsum([0, *(member.shape[0] for member in self.members)])
        self.shape: tuple[int, int] = (int(self.starts[-1]), self.members[0].shape[1])

    def __getitem__(self, place: slice | tuple[slice, slice]) -> np.ndarray:
        """Read consecutive frames of one member, and all or some of their rows."""
        frames, rows = place if isinstance(place, tuple) else (place, slice(None))
        number = int(np.searchsorted(self.starts, frames.start, side="right")) - 1
        first, last = frames.start - self.starts[number], frames.stop - self.starts[number]
        return self.members[number][first:last, rows]


@dataclass(frozen=True, eq=False)
class Store:
    """Arrays of many clips, time first.

    Attributes
    ----------
    frames : np.ndarray, StoredFrames or JoinedFrames [shape=(sum of T, n_rows)]
        Frames of all clips, concatenated. T is the number of frames of a clip. Packed arrays have 140 rows
        in float16 and are read when sliced.
    index : pd.DataFrame
        `start` and `length` in frames, indexed by `Id`.
    is_fused : bool
        Whether rows are mel and chroma; False for statistics and windows.
    """

    frames: np.ndarray | StoredFrames | JoinedFrames
    index: pd.DataFrame
    is_fused: bool = True

    @classmethod
    def in_memory(cls, frames: np.ndarray, lengths: Any, ids: Any = None, is_fused: bool = True) -> "Store":
        """Make a store from concatenated clips in memory.

        Parameters
        ----------
        frames : np.ndarray [shape=(sum of T, n_rows)]
        lengths : sequence of int
            Number of frames T of every clip.
        ids : array of int, optional
            0, 1, ... by default.
        is_fused : bool
            Whether rows are mel and chroma.

        Returns
        -------
        Store
        """
        index = _index(lengths, np.arange(len(lengths)) if ids is None else ids)
        return cls(frames, index, is_fused)

    def frames_of(self, clip_id: int) -> np.ndarray:
        """Frames of one clip [shape=(T, n_rows)]."""
        start, length = self.index.loc[clip_id].to_numpy()
        return self.frames[start : start + length]

    def row_slice(self, rows: Rows) -> slice:
        """Rows of the mel spectrogram, the chromagram or both; all rows for statistics and windows."""
        return row_slice(rows) if self.is_fused else slice(None)


def open_store(split: SplitFiles, stores: Path, allow_bad_share: float = 0.0) -> Store:
    """Open the store of a split. Pack it first if it is missing or stale.

    Parameters
    ----------
    split : SplitFiles
        Array files. A store is stale if their names, sizes or modification times have changed.
    stores : Path
        Folder of all stores.
    allow_bad_share : float
        Largest accepted share of unusable arrays, 0 to 1. Their number and five of them are printed.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        When too many arrays are unreadable, don't have 140 rows, have no frames, or have values that are not
        finite. The message names five of them with the reason.
    """
    place = str(split.folder.resolve())
    short = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    folder = stores / f"{split.folder.parent.name}-{split.folder.name}-{short}"
    stats = ((clip_id, path.name, path.stat()) for clip_id, path in split.arrays.items())
    state = "".join(f"{clip_id} {name} {stat.st_size} {stat.st_mtime_ns}\n" for clip_id, name, stat in stats)
    source = {"folder": place, "fingerprint": hashlib.sha256(state.encode()).hexdigest()}
    given = (split, folder, source, allow_bad_share)
    store = _open(*given)
    if store is None:
        with files.in_turn(folder, f"packs {split.folder}"):  # another process may have packed it meanwhile
            store = _open(*given) or _pack(*given)
    return store


def _open(split: SplitFiles, folder: Path, source: dict[str, Any], allow_bad_share: float) -> Store | None:
    """Open a store; None if it is missing, damaged or stale, or leaves out too many arrays."""
    try:
        if files.read_json(folder / "source.json") != source:
            return None
        store = Store(StoredFrames(folder / "frames.npy"), pd.read_csv(folder / "index.csv", index_col="Id"))
    except (OSError, ValueError):
        return None
    n = len(split.arrays)
    return None if too_many(n - len(store.index), n, allow_bad_share) else store


def _pack(split: SplitFiles, folder: Path, source: dict[str, Any], allow_bad_share: float) -> Store:
    """Write a store atomically."""
    files.remove_unfinished(folder)
    with files.together(folder, "source.json") as fresh:
        with files.naming_refusals(folder / "frames.npy"):
            index, problems = _write_frames(split, fresh / "frames.npy")
        named = first_five(problem.removesuffix(".") for problem in problems)
        problem = f"{len(problems)} of {len(split.arrays)} arrays in {split.folder} can't be used: {named}"
        leave_out(len(problems), len(split.arrays), allow_bad_share, problem, "Replace them")
        index.to_csv(fresh / "index.csv")
        files.write_json(fresh / "source.json", source)
    return Store(StoredFrames(folder / "frames.npy"), index)


def _write_frames(split: SplitFiles, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Write all usable arrays into one .npy file. Return index and problems."""
    lengths: dict[int, int] = {}
    problems: list[str] = []
    with path.open("wb") as file:
        _write_header(file, 0)
        for clip_id, source in tqdm(split.arrays.items(), desc=f"pack {split.folder}", unit="clip"):
            try:
                frames = read_frames(source)
            except InputError as error:
                problems.append(str(error))
                continue
            file.write(frames.tobytes())
            lengths[clip_id] = len(frames)
        file.seek(0)
        _write_header(file, sum(lengths.values()))
    return _index(list(lengths.values()), list(lengths)), problems


def _index(lengths: Any, ids: Any) -> pd.DataFrame:
    places = {"start": np.cumsum(lengths) - lengths, "length": lengths}
    return pd.DataFrame(places, pd.Index(ids, name="Id"), dtype=np.int64)


def _write_header(file: Any, n_frames: int) -> None:
    # NumPy pads the header, so its size does not change with the number of frames
    header = {"descr": "<f2", "fortran_order": False, "shape": (n_frames, N_ROWS)}
    np.lib.format.write_array_header_1_0(file, header)


def read_frames(path: Path) -> np.ndarray:
    """Read and check the array of a clip.

    Parameters
    ----------
    path : Path
        A .npy or .npy.gz file [shape=(140, n_frames)].

    Returns
    -------
    np.ndarray [shape=(n_frames, 140)], float16

    Raises
    ------
    InputError
        When the file is damaged, or the array fails `check_array`.
    """
    return check_array(read_npy(path), str(path))


def check_array(array: np.ndarray, name: str) -> np.ndarray:
    """Check a fused array, and convert it to the format of stores: time first, half precision.

    Parameters
    ----------
    array : np.ndarray [shape=(140, n_frames)]
    name : str
        Name of the array in error messages.

    Returns
    -------
    np.ndarray [shape=(n_frames, 140)], float16

    Raises
    ------
    InputError
        When the shape or type is wrong, there are no frames, or values are not finite.
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
    """Read one array from a .npy or .npy.gz file, without unpickling.

    Parameters
    ----------
    path : Path
    mmap_mode : {"r"}, optional
        Map the array into memory instead of reading it; only for .npy files.

    Returns
    -------
    np.ndarray

    Raises
    ------
    InputError
        When the file is damaged or does not hold exactly one array.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if file.read(4) not in (b"\x93NUM", b"PK\x03\x04"):  # NumPy would suggest loading a pickle
                raise ValueError("it does not begin as an array does")
            file.seek(0)
            array = np.load(path if mmap_mode else file, mmap_mode=mmap_mode, allow_pickle=False)
    except Exception as error:  # damaged headers make NumPy raise many kinds of exceptions
        reason = shortened(str(error) or type(error).__name__, 200)
        raise InputError(f"{path} is not a whole array ({reason}).") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of several arrays.")
    return array
