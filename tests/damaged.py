"""Strategies of Hypothesis for damaged files and altered documents.

`FUZZ_EXAMPLES` sets how many are tried of each kind. By default few are, and always the same ones.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from music_emotion.files import InputError

_ASKED = os.environ.get("FUZZ_EXAMPLES")
several = settings(
    max_examples=int(_ASKED or 10),
    derandomize=_ASKED is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

_NASTY = [
    *(b"", b" ", b"\0", b"\n", b"\r", b"\r\n", b"\t", b",", b";", b'"', b"'", b"#", b"=", b"\\"),
    *(b"-1", b"0", b"1.5", b"-0.0", b"1e400", b"-1e400", b"1e-400", b"nan", b"inf", b"-Infinity", b"NA"),
    *(b"9223372036854775808", b"99999999999999999999", b"9" * 400, b"9" * 5000, b"0x" + b"f" * 6000),
    *(b"1_000", b"0_1", b"1,5", b"0x10", b"1e3", b"1.0", b"true", b"null", b"None", b"2026-05-27"),
    *("\u0663".encode(), "\u00b2".encode(), "\u2028".encode(), b"\x0b", "\x85".encode()),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x80", b"a" * 140_000, b"a" * 300),
    *(b"[" * 3000, b"(" * 3000, b"{" * 3000, b"[[", b"]]", b"{}", b"[]", b"[1]", b"../x", b"/", b"~"),
]
_FIELD = re.compile(rb"[^,\t\n;:=\[\]{} ]+")
nasty = st.sampled_from(_NASTY)


@st.composite
def _one_fault(draw: st.DrawFn, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    spans = [match.span() for match in _FIELD.finditer(content)] or [(0, 0)]
    place, line = draw(st.integers(0, len(content))), draw(st.integers(0, len(lines) - 1))
    start, end = draw(st.sampled_from(spans))
    other_field = st.sampled_from(spans).map(lambda span: content[slice(*span)])
    text = st.text(max_size=9).map(lambda text: text.encode("utf-8", "replace"))
    other = draw(nasty | text | other_field)
    encoding = draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-16-le", "utf-32"]))
    faults = [
        content[:place],
        content[:place] + other + content[place:],
        content[:place] + draw(st.binary(min_size=1, max_size=1)) + content[place + 1 :],
        content[:start] + other + content[end:],
        content[:start] + draw(nasty) + content[end:],
        b"".join([*lines[: line + 1], *lines[line:]]),
        b"".join(lines[:line] + lines[line + 1 :]),
        content.decode("utf-8", "replace").encode(encoding),
    ]
    return draw(st.sampled_from(faults))


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """Valid content with one to four faults, or at times random bytes."""
    if draw(st.integers(0, 7)) == 0:
        return draw(st.binary(max_size=300))
    content = valid
    for _ in range(draw(st.integers(1, 4))):
        content = draw(_one_fault(content))
    return content


numbers = st.one_of(
    st.integers(-2, 12), st.integers(), st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**30]), st.floats()
)
values = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=6)
    | st.sampled_from(["none", "", "a" * 300, "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def altered(draw: st.DrawFn, document: Any) -> Any:
    """A document of dicts, lists and values, of which one to three parts are replaced, added or left out."""
    for _ in range(draw(st.integers(1, 3))):
        document = draw(_one_alteration(document))
    return document


@st.composite
def _one_alteration(draw: st.DrawFn, document: Any) -> Any:
    inner: Any = document if isinstance(document, dict) else {}
    if isinstance(document, list):
        inner = dict(enumerate(document))
    if not inner or draw(st.integers(0, 6)) == 0:
        return draw(values)
    key = draw(st.sampled_from(list(inner)))
    what = draw(st.integers(0, 9))
    if what == 0:
        inner = {name: value for name, value in inner.items() if name != key}
    elif what == 1:
        inner = {**inner, draw(st.text(max_size=5) | st.sampled_from(list(inner))): draw(values)}
    else:
        inner = {**inner, key: draw(_one_alteration(inner[key]))}
    return inner if isinstance(document, dict) else list(inner.values())


def only_sentences(read: Callable[[Path], Any], path: Path, content: bytes) -> Any:
    """What a reader makes of a file; None if it refuses it, in sentences that name the file."""
    path.write_bytes(content)
    try:
        return read(path)
    except InputError as error:
        said = str(error)
        assert path.name in said
        assert said[-1] in ".?" or "\n" in said, said[-200:]  # or a list of faults
        assert len(said) < 3000, len(said)
        return None
