"""Arrays and folders of arrays of other people, whole and damaged."""

import gzip
import io
import struct

import numpy as np
import pytest
from damaged import altered, damaged, only_sentences, several
from hypothesis import example, given
from hypothesis import strategies as st

from music_emotion.datasets.store import read_frames


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


ARRAY = npy(np.linspace(-80, 0, 140 * 3, dtype=np.float32).reshape(140, 3))
GZIP = gzip.compress(ARRAY)
ZIP = io.BytesIO()
np.savez(ZIP, frames=np.zeros((140, 2)))


def check_frames(folder, name, content):
    frames = only_sentences(read_frames, folder / name, content)
    if frames is not None:
        assert frames.dtype == np.float16
        assert frames.shape[1] == 140
        assert len(frames)
        assert np.isfinite(frames).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


@several
@example(b"PK\3\4 not an archive", "1.npy")
@given(damaged(ARRAY) | damaged(ZIP.getvalue()) | damaged(GZIP), st.sampled_from(["1.npy", "1.npy.gz"]))
def test_a_damaged_array(folder, content, name):
    check_frames(folder, name, content)


LIE = {"descr": "<f4", "fortran_order": False, "shape": (140, 3)}
kinds = st.sampled_from(
    ["<f4", ">f8", "|O", "|b1", "<c8", "<U3", "<M8[s]", "|V8", "f", "", "<f9", "(140,)<f4"]
)
shapes = st.lists(st.sampled_from([0, 1, 3, 140, -1, 2**40, 2**63, 10**30]), max_size=3).map(tuple)
lies = st.builds(lambda kind, shape: LIE | {"descr": kind, "shape": shape}, kinds, shapes) | altered(LIE)


@several
@example("(" * 3000, b"\1\0", 0, "1.npy")
@example(repr(LIE | {"shape": (140, 10**30)}), b"\1\0", 0, "1.npy")
@example(repr(LIE | {"shape": (140, 2**40)}), b"\1\0", 7, "1.npy")
@example(repr(LIE | {"shape": (140, 2**40)}), b"\1\0", 7, "1.npy.gz")
@example(repr(LIE | {"shape": (140, -1)}), b"\1\0", 1680, "1.npy")
@example(repr(LIE | {1: 2}), b"\1\0", 1680, "1.npy")
@given(
    lies.map(repr) | st.text(max_size=30),
    st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\4\1"]),
    st.sampled_from([0, 7, 1680, 3360]),
    st.sampled_from(["1.npy", "1.npy.gz"]),
)
def test_a_header_that_lies(folder, header, version, n_bytes, name):
    text = header.encode("utf-8", "replace") + b"\n"
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    content = b"\x93NUMPY" + version + length + text + bytes(n_bytes)
    check_frames(folder, name, gzip.compress(content, 1) if name.endswith("gz") else content)


@pytest.mark.parametrize("kind", [np.float16, ">f8", np.int8, np.longdouble])
def test_a_valid_array_is_read_as_it_was_written(folder, kind):
    array = np.asarray(np.random.default_rng(0).integers(0, 100, (140, 3)), kind, order="F")
    (folder / "2.npy").write_bytes(npy(array))
    (folder / "2.npy.gz").write_bytes(gzip.compress(npy(array)))
    for name in ("2.npy", "2.npy.gz"):
        np.testing.assert_array_equal(read_frames(folder / name), array.T)
