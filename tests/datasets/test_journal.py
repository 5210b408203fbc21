"""What was done, on disk line by line, and whole lines only."""

import os
from pathlib import Path

import pytest

from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.journal import Journal, Source, source_of
from music_emotion.files import InputError

ONE = Source("a, b.wav", 10, 5, 0.0, None, "x")
SPAN = Source("c.wav", 10, 5, 1.1, 30.2, "x")


def open_journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "done.csv", ("seconds",))


def test_what_was_noted_is_held_by_the_next_run_finished_or_not(tmp_path):
    journal = open_journal(tmp_path)
    with journal:
        journal.note(1, ONE, {"seconds": 0.25, "reason": ""})
        journal.note(7, SPAN, {"seconds": 0.5, "reason": ""})
        assert open_journal(tmp_path).holds(7, SPAN)  # as after a kill
        assert not (tmp_path / "done.csv").exists()
    journal.finish([7, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.csv"]
    again = open_journal(tmp_path)
    assert again.holds(1, ONE)
    assert again.holds(7, SPAN)
    assert again.table([7, 1])["seconds"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    "other",
    [
        Source("b.wav", 10, 5, 1.1, 30.2, "x"),
        Source("c.wav", 11, 5, 1.1, 30.2, "x"),
        Source("c.wav", 10, 6, 1.1, 30.2, "x"),
        Source("c.wav", 10, 5, 1.2, 30.2, "x"),
        Source("c.wav", 10, 5, 1.1, None, "x"),
        Source("c.wav", 10, 5, 1.1, 30.2, "y"),
    ],
)
def test_another_source_is_not_held(tmp_path, other):
    with open_journal(tmp_path) as journal:
        journal.note(7, SPAN, {"seconds": 0.5, "reason": ""})
        assert journal.holds(7, SPAN)
        assert not journal.holds(7, other)
        assert not journal.holds(8, SPAN)


def test_what_failed_is_not_held(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.note(7, SPAN, {"seconds": 0.5, "reason": "it is silent"})
    assert not open_journal(tmp_path).holds(7, SPAN)


def test_the_last_line_of_a_clip_counts(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.note(7, ONE, {"seconds": 0.5, "reason": ""})
        journal.note(7, SPAN, {"seconds": 0.5, "reason": ""})
    again = open_journal(tmp_path)
    assert again.holds(7, SPAN)
    assert not again.holds(7, ONE)


def test_a_line_cut_anywhere_costs_no_more_than_itself(tmp_path):
    with open_journal(tmp_path) as journal:
        journal.note(1, ONE, {"seconds": 0.25, "reason": ""})
        journal.note(7, Source('q"uote, ç.wav', 10, 5, 1.1, 30.2, "x"), {"seconds": 0.5, "reason": "a, b"})
    part = tmp_path / "done.csv.part"
    whole = part.read_bytes()
    start = whole.index(b"7,")
    for end in range(start, len(whole)):
        part.write_bytes(whole[:end])
        with open_journal(tmp_path) as cut:
            assert cut.holds(1, ONE)
            assert not cut.holds(7, SPAN)
            cut.note(7, SPAN, {"seconds": 1, "reason": ""})
        assert open_journal(tmp_path).holds(7, SPAN), end


@pytest.mark.parametrize("content", [b"id,path,valence\n7,c.wav,0.1\n", b"", b"\xff\xfe\0"])
def test_a_file_that_is_another_table_is_not_replaced(tmp_path, content):
    (tmp_path / "done.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"done\.csv exists and is not what would be written there"):
        open_journal(tmp_path)
    assert (tmp_path / "done.csv").read_bytes() == content


def test_what_a_spreadsheet_saved_is_read(tmp_path):
    journal = open_journal(tmp_path)
    with journal:
        journal.note(7, SPAN, {"seconds": 0.5, "reason": ""})
    journal.finish([7])
    text = (tmp_path / "done.csv").read_text() + "seven,,,,,,,,\n"
    (tmp_path / "done.csv").write_text(text, encoding="utf-8-sig")
    assert open_journal(tmp_path).holds(7, SPAN)


def test_a_source_is_what_the_file_is_now(tmp_path):
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"1234")
    os.utime(audio, ns=(17, 17))
    assert source_of(audio, 0.5, None, FeatureSettings()) == Source(
        str(audio), 4, 17, 0.5, None, "22050 Hz / 2048 / 512 / version 1"
    )
    audio.unlink()
    assert source_of(audio, 0.5, None, FeatureSettings()) == Source(
        str(audio), 0, 0, 0.5, None, "22050 Hz / 2048 / 512 / version 1"
    )
