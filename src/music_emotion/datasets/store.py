"""All arrays of a split in one file, so that an excerpt is one contiguous read."""

import gzip
import hashlib
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.spectrogram import N_ROWS, row_slice
from music_emotion.config import Rows
from music_emotion.datasets.fingerprint import FRAMES_PER_STEP, N_BANDS, N_STEPS, fingerprint
from music_emotion.datasets.layout import SplitFiles, leave_out, rate_of, too_many
from music_emotion.datasets.stored_frames import JoinedFrames, StoredFrames
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

_PRINTS = "fingerprints.npy"
_NPY, _ZIP = b"\x93NUM", b"PK\x03\x04"


@dataclass(frozen=True)
class Store:
    """Arrays of many clips, time first.

    Attributes
    ----------
    frames : np.ndarray, StoredFrames or JoinedFrames [shape=(sum of T, n_rows)]
        All clips one after the other: of the layout 140 rows, float16, read in slices from a file.
    index : pd.DataFrame
        `start` and `length` in frames, indexed by `Id`.
    is_fused : bool
        Whether a frame is mel and chroma, and not, say, the statistics of a clip.
    fingerprints : np.ndarray [shape=(n_clips, n_steps, n_bands)], float16, or None
        Of every clip, in the order of the index; None where arrays have not been packed.
    """

    frames: np.ndarray | StoredFrames | JoinedFrames
    index: pd.DataFrame
    is_fused: bool = True
    fingerprints: np.ndarray | None = None

    def part(self, rows: Rows) -> slice:
        """The rows of a frame that hold a representation; all where it is not mel and chroma."""
        return row_slice(rows) if self.is_fused else slice(None)


def open_store(files: SplitFiles, stores: Path, allow_bad_share: float = 0.0) -> Store:
    """Open the store of a split, packing it first when it is missing or stale.

    Parameters
    ----------
    files : SplitFiles
        The arrays to pack; only their names, sizes and times are looked at when the store is
        up to date.
    stores : Path
        Folder of all stores.
    allow_bad_share : float
        Share of arrays, 0 to 1, that may be unusable; they are then listed and left out.

    Returns
    -------
    Store

    Raises
    ------
    InputError
        When more arrays than allowed are unreadable, have other than 140 rows, no frames, or
        values that are not finite; the message names five and what is wrong with each.
    """
    folder = stores / _store_name(files.folder)
    source = {"folder": str(files.folder.resolve()), "fingerprint": _fingerprint(files)}
    if not _is_current(folder, source, files, allow_bad_share):
        with in_turn(folder, f"packs {files.folder}"):
            if not _is_current(folder, source, files, allow_bad_share):  # by now
                _pack(files, folder, source, allow_bad_share)
    index = pd.read_csv(folder / "index.csv", index_col="Id")
    frames = StoredFrames(folder / "frames.npy")
    return Store(frames, index, fingerprints=_fingerprints(folder, frames, index, _step(files)))


def _step(files: SplitFiles) -> int:
    return FRAMES_PER_STEP[rate_of(files.folder.parent)]


def _fingerprints(folder: Path, frames: StoredFrames, index: pd.DataFrame, step: int) -> np.ndarray:
    """The fingerprints of a store; one that was packed before there were any gets them here."""
    shape = (len(index), N_STEPS, N_BANDS)
    with suppress(OSError, ValueError, EOFError):  # missing or damaged: made anew
        kept = np.load(folder / _PRINTS, allow_pickle=False)
        if kept.shape == shape:
            return np.asarray(kept)
    places = tqdm(index.to_numpy(), desc=f"fingerprints of {folder}", unit="clip")
    made = _stacked([fingerprint(frames[start : start + length], step) for start, length in places])
    with suppress(OSError), atomic_path(folder / _PRINTS) as temporary:  # some stores are only for reading
        np.save(temporary, made)
    return made


def _stacked(fingerprints: list[np.ndarray]) -> np.ndarray:
    return np.array(fingerprints, np.float16).reshape(-1, N_STEPS, N_BANDS)


def _store_name(folder: Path) -> str:
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    return f"{folder.parent.name}-{folder.name}-{place}"


def _fingerprint(files: SplitFiles) -> str:
    digest = hashlib.sha256()
    for clip_id, path in files.arrays.items():
        status = path.stat()
        digest.update(f"{clip_id} {path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _is_current(folder: Path, source: dict[str, Any], files: SplitFiles, allow_bad_share: float) -> bool:
    """Whether a store is whole, of these files, and lacks no more of them than is allowed now."""
    whole = all((folder / name).exists() for name in ("frames.npy", "index.csv", "source.json"))
    return (
        whole
        and read_json(folder / "source.json") == source
        and not too_many(_n_left_out(folder, files), len(files.arrays), allow_bad_share)
    )


def _n_left_out(folder: Path, files: SplitFiles) -> int:
    """Arrays that an earlier, more lenient opening found unusable."""
    return len(files.arrays) - len(pd.read_csv(folder / "index.csv"))


def _pack(files: SplitFiles, folder: Path, source: dict[str, Any], allow_bad_share: float) -> None:
    """Write a store under a temporary name; it gets its own only when it is whole."""
    prefix = f".packing-{folder.name}-"
    for left in folder.parent.glob(f"{prefix}*"):  # by a packing that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as temporary:
        building = Path(temporary) / folder.name
        building.mkdir()
        with naming_refusals(folder / "frames.npy"):
            index, fingerprints, problems = _write_frames(files, building / "frames.npy")
        if too_many(len(problems), len(files.arrays), allow_bad_share):
            raise InputError(
                f"{len(problems)} of {len(files.arrays)} arrays in {files.folder} can't be used: "
                f"{first_five(problems)}. Replace them, or {leave_out(len(problems), len(files.arrays))}."
            )
        for problem in problems:
            print(f"left out: {problem}")
        np.save(building / _PRINTS, fingerprints)
        write_table(building / "index.csv", index)
        write_json(building / "source.json", source)
        shutil.rmtree(folder, ignore_errors=True)
        building.rename(folder)


def _write_frames(files: SplitFiles, path: Path) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Append every usable array to one .npy file whose length is known only at the end."""
    rows: list[tuple[int, int, int]] = []
    fingerprints: list[np.ndarray] = []
    problems: list[str] = []
    total = 0
    with path.open("wb") as file:
        _write_header(file, 0)
        for clip_id, source in tqdm(files.arrays.items(), desc=f"pack {files.folder}", unit="clip"):
            try:
                frames = read_frames(source)
            except InputError as error:
                problems.append(str(error))
                continue
            file.write(frames.tobytes())
            rows.append((clip_id, total, len(frames)))
            fingerprints.append(fingerprint(frames, _step(files)))
            total += len(frames)
        file.seek(0)
        _write_header(file, total)
    return pd.DataFrame(rows, columns=["Id", "start", "length"]), _stacked(fingerprints), problems


def _write_header(file: Any, n_frames: int) -> None:
    # NumPy pads the header so that its size stays the same when the first axis grows.
    header = {"descr": "<f2", "fortran_order": False, "shape": (n_frames, N_ROWS)}
    np.lib.format.write_array_header_1_0(file, header)


def read_frames(path: Path) -> np.ndarray:
    """A clip's array, time first, as the store holds it."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            if file.read(4) not in (_NPY, _ZIP):  # for NumPy would say how to load a pickle
                raise ValueError("it does not begin as an array does")
            file.seek(0)
            array = np.load(file, allow_pickle=False)
    except Exception as error:  # NumPy's parsing of a foreign header raises whatever it meets
        reason = shortened(str(error) or type(error).__name__, 200)
        raise InputError(f"{path} is not a whole array ({reason})") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of several arrays")
    if array.ndim != 2 or array.shape[0] != N_ROWS or array.shape[1] == 0:
        raise InputError(f"{path} has shape {array.shape}, expected ({N_ROWS}, frames)")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype}, expected real numbers")
    with np.errstate(over="ignore"):
        frames = np.ascontiguousarray(array.T, dtype=np.float16)
    if not np.isfinite(frames).all():
        n_broken = int((~np.isfinite(frames)).sum())
        raise InputError(f"{path} holds {n_broken} values that are not finite, or far beyond decibels")
    return frames
