"""Tables as text: what is no table, where lines are, and how faults are told."""

from pathlib import Path

import pytest

from music_emotion.datasets.clips import read_clips
from music_emotion.files import InputError


@pytest.fixture
def table(tmp_path):
    """Write `clips.csv` beside one.wav and two.flac, which are empty: their names are enough."""
    (tmp_path / "one.wav").touch()
    (tmp_path / "two.flac").touch()

    def write(text: str | bytes) -> Path:
        content = text.encode() if isinstance(text, str) else text
        (tmp_path / "clips.csv").write_bytes(content)
        return tmp_path / "clips.csv"

    return write


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", r"clips\.csv is empty"),
        ("\n\n", r"clips\.csv is empty"),
        ("path\n\n", r"clips\.csv has no rows"),
        ("path;label\none.wav;Rock\n", r"separated by semicolons; the separator must be a comma"),
        ("path\tlabel\none.wav\tRock\n", r"separated by tabs; the separator must be a comma"),
        (
            'path,label\none.wav,a\n\n"two.flac,b\n',
            r"clips\.csv line 4 can't be split into cells: unexpected end of data",
        ),
        (
            "path,label\none.wav,Röck\n".encode("latin-1"),
            r"not a text file in UTF-8: line 2 holds the byte 0xf6",
        ),
        ("path\none.wav\n".encode("utf-16"), r"line 1 holds the byte 0xff\. Save it as UTF-8"),
        ("path\none.wav\n".encode("utf-16-le"), r"line 1 holds the byte 0x00\. Save it as UTF-8"),
    ],
)
def test_what_is_no_table_gets_a_sentence(table, content, sentence):
    with pytest.raises(InputError, match=sentence):
        read_clips(table(content))


def test_all_faults_are_told_at_once(table):
    rows = [f"{n},none{n}.wav,1,0.{n}" for n in range(1, 8)]
    text = "\n".join(["id,path,strat,valence", *rows, "7,one.wav,1,x", "x,two.flac,1,"]) + "\n"
    with pytest.raises(InputError) as caught:
        read_clips(table(text))
    assert str(caught.value).split("clips.csv: ")[1].splitlines() == [
        "11 faults in 4 kinds; nothing was extracted.",
        "  1 id is not a whole number from 0 up: line 10 ('x')",
        "  7 audio files do not exist: line 2 (none1.wav), line 3 (none2.wav), line 4 (none3.wav), "
        "line 5 (none4.wav), line 6 (none5.wav), ...",
        "  1 id is used before: line 9 (7)",
        "  2 targets are not a number: line 9 (valence: 'x'), line 10 (valence: '')",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_those_of_an_editor(table, end):
    lines = ["", "path,label", "", 'one.wav,"a\tb"', "", "", "none.wav,c", "two.flac,", ""]
    with pytest.raises(InputError) as caught:
        read_clips(table(end.join(lines)))
    message = str(caught.value)
    assert "do not exist: line 7 (none.wav)" in message.replace("does", "do")
    assert "label is empty: line 8" in message
    assert "line break: line 4 (" in message
