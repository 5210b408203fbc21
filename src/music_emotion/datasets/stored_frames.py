"""Frames in a .npy file, read when they are asked for, and such of several files as if of one."""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, SupportsIndex

import numpy as np

from music_emotion.files import InputError


class StoredFrames:
    """A .npy file of two axes that is sliced like the array it holds, one read a slice.

    Nothing that was read is kept, while the touched pages of a memory-mapped file count as memory of
    the process. Threads and forked processes may share one; a pickled one opens its file again.

    Parameters
    ----------
    path : Path
        Kept open: a file that takes its place later is not looked at.

    Attributes
    ----------
    shape : tuple of int
    dtype : np.dtype
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = path.open("rb", buffering=0)
        self._moving = Lock()
        np.lib.format.read_magic(self._file)
        self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._file)
        self._first_byte = self._file.tell()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> np.ndarray:
        """Frames that follow each other, or one, and of these all rows or some; a new array.

        Raises
        ------
        InputError
            When the file is shorter than it says.
        """
        frames: slice | SupportsIndex
        frames, rows = place if isinstance(place, tuple) else (place, slice(None))
        if not isinstance(frames, slice):
            number = range(len(self))[frames]
            return self._read(number, 1)[0, rows]
        start, stop, step = frames.indices(len(self))
        if step != 1:
            raise ValueError(f"{self.path} is read in one piece, not every {step} frames. Give a step of 1.")
        return self._read(start, max(stop - start, 0))[:, rows]

    def _read(self, start: int, n_frames: int) -> np.ndarray:
        block = np.empty((n_frames, self.shape[1]), self.dtype)
        bytes_left = block.reshape(-1).view(np.uint8).data
        position = self._first_byte + start * self.shape[1] * self.dtype.itemsize
        while len(bytes_left):  # one read gives 2 GB at most
            n_read = self._read_at(position, bytes_left)
            if n_read == 0:
                raise InputError(
                    f"{self.path} ends before frame {start + n_frames} of {len(self)}. Delete "
                    f"{self.path.parent}, so that it is packed again."
                )
            bytes_left, position = bytes_left[n_read:], position + n_read
        return block

    def _read_at(self, position: int, into: memoryview) -> int:
        """Fill what one read of the file fills, such that threads and processes do not disturb each other."""
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [into], position)
        with self._moving:  # Windows knows no reading at a position, and no forked processes either
            self._file.seek(position)
            return self._file.readinto(into) or 0

    def __reduce__(self) -> tuple[Any, ...]:
        return StoredFrames, (self.path,)


class JoinedFrames:
    """Frames of several stores, one after the other, sliced inside one of them at a time.

    Parameters
    ----------
    parts : sequence of np.ndarray or StoredFrames
        Of the same rows.

    Attributes
    ----------
    shape : tuple of int
    """

    def __init__(self, parts: Sequence["np.ndarray | StoredFrames | JoinedFrames"]):
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in self.parts])
        self.shape: tuple[int, int] = (int(self.ends[-1]), self.parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: Any) -> np.ndarray:
        """Frames of one part that follow each other, and of these all rows or some, as the part gives them.

        Raises
        ------
        ValueError
            When they are of two parts, or do not follow each other.
        """
        frames, rows = place if isinstance(place, tuple) else (place, slice(None))
        start, stop, step = frames.indices(len(self))
        number = min(int(np.searchsorted(self.ends, start, side="right")), len(self.parts) - 1)
        if step != 1 or stop > self.ends[number]:
            raise ValueError(f"Frames {start} to {stop} by {step} are not of one clip. Slice inside a clip.")
        first = start - (self.ends[number - 1] if number else 0)
        return self.parts[number][first : first + stop - start, rows]
