"""What was done, on disk line by line, and whole lines only."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.audio.features import FeatureSettings
from music_emotion.datasets.resume import Item, Journal, items_of
from music_emotion.files import InputError

ONE = Item(1, "a, b.wav", 10, 5, 0.0, None, "x")
SEVEN = Item(7, 'q"uote, ç.wav', 10, 5, 1.1, 30.2, "x")


def open_journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "done.csv", ("seconds",))


def test_what_was_noted_is_held_by_the_next_run_finished_or_not(tmp_path):
    journal = open_journal(tmp_path)
    with journal.open() as note:
        note(ONE, {"seconds": 0.25, "reason": ""})
        note(SEVEN, {"seconds": 0.5, "reason": ""})
        assert open_journal(tmp_path).holds(SEVEN)  # as after a kill
        assert not (tmp_path / "done.csv").exists()
    assert journal.finish([7, 1])["seconds"].tolist() == [0.5, 0.25]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.csv"]
    again = open_journal(tmp_path)
    assert again.holds(ONE)
    assert again.holds(SEVEN)
    with pytest.raises(InputError, match="1 clips did not come back: 8"):
        again.finish([7, 8])


@pytest.mark.parametrize(
    "change",
    [
        *({"path": "b.wav"}, {"bytes": 11}, {"modified_ns": 6}, {"start_seconds": 1.2}, {"settings": "y"}),
        *({"end_seconds": None}, {"clip_id": 8}, {"outputs": (Path("gone.npy"),)}),
    ],
)
def test_another_source_is_not_held(tmp_path, change):
    with open_journal(tmp_path).open() as note:
        note(SEVEN, {"seconds": 0.5, "reason": ""})
    assert open_journal(tmp_path).holds(SEVEN)
    assert not open_journal(tmp_path).holds(replace(SEVEN, **change))


def test_the_last_line_of_a_clip_counts_and_what_failed_is_not_held(tmp_path):
    with open_journal(tmp_path).open() as note:
        note(replace(ONE, bytes=11), {"seconds": 0.5, "reason": ""})
        note(ONE, {"seconds": 0.5, "reason": ""})
        note(SEVEN, {"seconds": 0.5, "reason": "it is silent"})
    again = open_journal(tmp_path)
    assert again.holds(ONE)
    assert not again.holds(replace(ONE, bytes=11))
    assert not again.holds(SEVEN)


def test_a_line_cut_anywhere_costs_no_more_than_itself(tmp_path):
    with open_journal(tmp_path).open() as note:
        note(ONE, {"seconds": 0.25, "reason": ""})
        note(SEVEN, {"seconds": 0.5, "reason": "a, b"})
    part = tmp_path / "done.csv.part"
    whole = part.read_bytes()
    start = whole.index(b"7,")
    for end in range(start, len(whole)):
        part.write_bytes(whole[:end])
        cut = open_journal(tmp_path)
        assert cut.holds(ONE)
        assert not cut.holds(SEVEN)
        with cut.open() as note:
            note(SEVEN, {"seconds": 1, "reason": ""})
        assert open_journal(tmp_path).holds(SEVEN), end


@pytest.mark.parametrize("content", [b"id,path,valence\n7,c.wav,0.1\n", b"", b"\xff\xfe\0"])
def test_a_file_that_is_another_table_is_not_replaced(tmp_path, content):
    (tmp_path / "done.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"done\.csv exists and is not what would be written there"):
        open_journal(tmp_path)
    assert (tmp_path / "done.csv").read_bytes() == content


def test_what_a_spreadsheet_saved_is_read(tmp_path):
    journal = open_journal(tmp_path)
    with journal.open() as note:
        note(SEVEN, {"seconds": 0.5, "reason": ""})
    journal.finish([7])
    text = (tmp_path / "done.csv").read_text() + "seven,,,,,,,,\n"
    (tmp_path / "done.csv").write_text(text, encoding="utf-8-sig")
    assert open_journal(tmp_path).holds(SEVEN)


def test_an_item_is_what_the_file_is_now(tmp_path):
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"1234")
    os.utime(audio, ns=(17, 17))
    clips = pd.DataFrame({"id": [3], "path": [str(audio)], "start_seconds": [0.5]})
    item = Item(3, str(audio), 4, 17, 0.5, None, "22050 Hz / 2048 / 512 / version 1")
    assert items_of(clips, FeatureSettings()) == [item]
    audio.unlink()
    assert items_of(clips, FeatureSettings()) == [replace(item, bytes=0, modified_ns=0)]
