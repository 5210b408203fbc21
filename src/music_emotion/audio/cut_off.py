"""Files that end too early although they decode: half a download of a wav, aiff or ogg."""

import os
from pathlib import Path

_LONGEST_OGG_PAGE = 65307  # bytes
_SLACK_BYTES = 4096  # some writers count a chunk too much; a twentieth of a second of CD sound
_UNKNOWN_SIZE = 0x7FFF0000  # what is written to a pipe has a size of about 2 or 4 GB


def is_cut_off(path: Path) -> bool:
    """Say whether a file lacks its end by what its container states.

    libsndfile reads such a file as a shorter recording. A wav or aiff begins with its size, and
    the last page of an Ogg stream is marked as such (RFC 3533, section 6); what other formats lack
    shows when they are decoded.
    """
    with path.open("rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        if head[:4] in (b"RIFF", b"FORM"):
            promised = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
            return 0 < promised < _UNKNOWN_SIZE and size < 8 + promised - _SLACK_BYTES
        if head[:4] == b"OggS":
            file.seek(max(0, size - _LONGEST_OGG_PAGE))
            tail = file.read()
            flags_at = tail.rfind(b"OggS") + 5
            return flags_at < 5 or flags_at >= len(tail) or not tail[flags_at] & 4
    return False
