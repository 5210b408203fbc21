"""Keep an error in one clip, song or picture from ending the others."""

import errno
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from music_emotion.files import InputError

# Errors of a full or read-only disk, and of paths that cannot be read or written.
DISK_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT),  # a file in place of a folder, or the reverse
    *(errno.EFBIG, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EBUSY, errno.ESTALE, errno.ENOTCONN, errno.ENOTSUP),  # of network disks
}


@contextmanager
def collecting(failures: dict[str, str], place: str | Path, results: Path | None = None) -> Iterator[None]:
    """Collect the error of one clip, file or picture, so that the others go on.

    Errors of the disk with the results, such as a full disk, concern all of them and are raised.

    Parameters
    ----------
    failures : dict of str to str
        Gets the reason in one sentence, and the traceback where the error is neither an `InputError` nor a
        lack of memory; otherwise "".
    place : str or Path
        The file that is worked on.
    results : Path, optional
        The folder of the results. By default, any file outside `place` is taken for a result.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            file = Path(str(error.filename))
            if file.parent == results if results else not file.is_relative_to(place):
                raise
        what = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
        reason = str(error) if isinstance(error, InputError) else f"{place} failed ({what})."
        failures[reason] = "" if isinstance(error, (InputError, MemoryError)) else traceback.format_exc()


def raise_collected(failures: dict[str, str], n_all: int, done: str) -> None:
    """Raise an `InputError` that lists failures of `collecting`, if any, and print the first traceback."""
    print(next(filter(None, failures.values()), ""), end="", file=sys.stderr)
    if failures:
        raise InputError("\n".join([f"{len(failures)} of {n_all} could not be {done}:", *failures]))


@contextmanager
def drawing(picture: Path, kind: str = "picture") -> Iterator[None]:
    """Turn an error while a picture is drawn into a warning; the caller has written what it shows already.

    Parameters
    ----------
    picture : Path
        The file to draw. After an error, an older picture there is removed. A full or read-only disk is
        still an error.
    kind : str
        Word for the file in the warning.
    """
    failures = dict[str, str]()
    with collecting(failures, f"the {kind} {picture}", picture.parent):
        yield
    for reason in failures:
        picture.unlink(missing_ok=True)
        print(f"warning: {reason} Its numbers are written.", file=sys.stderr)
