"""Read the variables of a TensorFlow V2 checkpoint without TensorFlow."""

import math
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np

from music_emotion.files import InputError, shortened


def read_checkpoint(index: bytes, data: bytes, place: str) -> dict[str, np.ndarray]:
    """Read a checkpoint of float32 variables.

    Parameters
    ----------
    index : bytes
        The file `.index`, a LevelDB table of uncompressed blocks. The blocks' checksums are verified.
    data : bytes
        The file `.data-00000-of-00001`. Its checksums are not verified, since those of a zip file are.
    place : str
        Name of the checkpoint, for messages.

    Returns
    -------
    dict of str to np.ndarray
        Variables by name.

    Raises
    ------
    InputError
        When the checkpoint is damaged, or holds something else.
    """
    try:
        if index[-8:] != bytes.fromhex("57fb808b247547db"):
            raise ValueError("its end is missing")
        variables, footer = {}, BytesIO(index[-48:])
        _number(footer), _number(footer)  # the place of the filters
        blocks = [_block(index, BytesIO(handle)) for _, handle in _block(index, footer)]
        for key, value in [pair for block in blocks for pair in block][1:]:  # the first is a header
            entry = _fields(value)
            shape = [_fields(size)[1][0] for size in _fields(entry[2][0]).get(2, [])]
            start, n_bytes = entry.get(4, [0])[0], entry[5][0]
            if entry[1] != [1] or n_bytes != 4 * math.prod(shape):
                raise ValueError(f"{key.decode()} is not float32 of its shape")
            variables[key.decode()] = np.frombuffer(data[start : start + n_bytes], "<f4").reshape(shape)
    except (LookupError, ArithmeticError, TypeError, ValueError) as error:
        reason = shortened(repr(error), 200)
        raise InputError(f"{place} is not a whole checkpoint of TensorFlow ({reason}). Replace it.") from None
    return variables


def _number(stream: BytesIO) -> int:
    """Read an integer of variable length: seven bits a byte, the lowest first."""
    byte = stream.read(1)[0]
    return byte if byte < 128 else byte - 128 + (_number(stream) << 7)


def _block(table: bytes, handle: BytesIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of a LevelDB block; a key is stored as its difference from the one before."""
    start, size = _number(handle), _number(handle)
    block, checksum = table[start : start + size + 1], table[start + size + 1 : start + size + 5]
    crc = 0xFFFFFFFF
    for byte in block:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 & -(crc & 1))
    crc ^= 0xFFFFFFFF
    if int.from_bytes(checksum, "little") != ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF:
        raise ValueError("a checksum is wrong")
    stream, key = BytesIO(block[: size - 4 - 4 * int.from_bytes(block[-5:-1], "little")]), b""
    while stream.tell() < len(stream.getbuffer()):
        n_shared, n_own, n_value = _number(stream), _number(stream), _number(stream)
        key = key[:n_shared] + stream.read(n_own)
        yield key, stream.read(n_value)


def _fields(message: bytes) -> dict[int, list[Any]]:
    """Split a protocol buffer's message into its fields, by number."""
    stream, fields = BytesIO(message), dict[int, list[Any]]()
    while stream.tell() < len(message):
        field, kind = divmod(_number(stream), 8)  # kinds: 0 an integer, 2 bytes, 5 four bytes
        content = _number(stream) if kind == 0 else stream.read(4 if kind == 5 else _number(stream))
        fields.setdefault(field, []).append(content)
    return fields
