"""Work on many clips: recorded line by line, continued after a stop, and failures on record."""

import os

import pandas as pd
import pytest

from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets.parallel import Item, Outcome, Workers, items_of, work_through
from music_emotion.files import InputError

ONE = Item(1, "a, b.wav", 10, 5, 0.0, None, "x")
SEVEN = Item(7, 'q"uote, ç.wav', 10, 5, 1.1, 30.2, "x")
NINE = Item(9, "NA", 0, 0, 0.0, 2.0, "x")
HEADER = "id,path,bytes,modified_ns,start_seconds,end_seconds,settings,level,reason\n"


@pytest.fixture
def run(tmp_path):
    """Work on items, and give what was called and the outcome: `run([ONE], stop=7, fail=1)`."""

    def work(items, stop=None, fail=None, max_failed=1.0) -> tuple[list, Outcome]:
        called = []

        def function(item: Item) -> dict[str, float]:
            called.append(item.id)
            if item.id == stop:
                raise KeyboardInterrupt
            if item.id == fail:
                raise InputError("it is silent,\nnearly")
            return {"level": item.id + 1e-9, "more": 1}

        def prepare() -> None:
            called.append("prepare")

        path, workers = tmp_path / "done.csv", Workers(1)
        outcome = work_through(items, function, path, ("level",), workers, prepare, max_failed)
        return called, outcome

    return work


def test_a_stopped_run_goes_on_and_ends_as_an_undisturbed_one(tmp_path, run):
    with pytest.raises(KeyboardInterrupt, match="2 of 3 clips are done"):
        run([ONE, SEVEN, NINE], stop=9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.csv.part"]
    called, outcome = run([NINE, SEVEN, ONE])
    assert called == ["prepare", 9]
    assert str(outcome) == "3 clips: 1 done, 2 already there, 0 failed."
    assert outcome.record["level"].tolist() == pytest.approx([9, 7, 1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.csv"]
    lines = ["9,NA,0,0,0.0,2.0,x,9,", '7,"q""uote, ç.wav",10,5,1.1,30.2,x,7,', '1,"a, b.wav",10,5,0.0,,x,1,']
    assert (tmp_path / "done.csv").read_text(encoding="utf-8") == HEADER + "\n".join(lines) + "\n"
    assert run([ONE, SEVEN])[0] == []


def test_another_source_is_worked_on_again(run):
    changes = {"path": "b.wav", "bytes": 11, "modified_ns": 6, "start_seconds": 1.2, "end_seconds": None}
    for name, value in {**changes, "settings": "y", "id": 8}.items():
        run([SEVEN])
        changed = SEVEN._replace(**{name: value})
        assert run([changed])[0] == ["prepare", changed.id]
        assert run([changed])[0] == []  # the last line of a clip counts


def test_what_failed_is_recorded_tried_again_and_refused_beyond_the_share(tmp_path, run):
    called, outcome = run([ONE, SEVEN], fail=1, max_failed=0.5)
    assert (outcome.n_done, outcome.n_kept, outcome.n_failed) == (1, 0, 1)
    assert outcome.record["reason"].tolist() == ["it is silent, nearly", ""]
    with pytest.raises(InputError, match=r"(?s)1 of 2 .*0\.4 allowed:\n  clip 1: it is silent.*done\.csv"):
        run([ONE, SEVEN], fail=1, max_failed=0.4)
    assert "it is silent" in (tmp_path / "done.csv").read_text()
    called, outcome = run([ONE, SEVEN])
    assert called == ["prepare", 1]
    assert (outcome.n_done, outcome.n_kept, outcome.n_failed) == (1, 1, 0)


def test_a_line_cut_anywhere_costs_no_more_than_itself(tmp_path, run):
    with pytest.raises(KeyboardInterrupt):
        run([ONE, SEVEN, NINE], stop=9)
    part = tmp_path / "done.csv.part"
    whole = part.read_bytes()
    for end in range(whole.index(b"7,"), len(whole), 3):
        part.write_bytes(whole[:end])
        assert run([ONE, SEVEN])[0] == ["prepare", 7], end
        (tmp_path / "done.csv").unlink()


def test_what_is_another_table_is_not_replaced(tmp_path, run):
    for content in (b"id,path,valence\n7,c.wav,0.1\n", b"", b"\xff\xfe\0"):
        (tmp_path / "done.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"done\.csv exists and is another table\. Give another name"):
            run([ONE])
        assert (tmp_path / "done.csv").read_bytes() == content
    (tmp_path / "done.csv").unlink()
    (tmp_path / "done.csv").mkdir()
    with pytest.raises(InputError, match="exists and is another table"):
        run([ONE])


def test_what_a_spreadsheet_saved_is_read(tmp_path, run):
    run([SEVEN])
    text = (tmp_path / "done.csv").read_text(encoding="utf-8") + "seven,,,,,,,,,,\n"
    (tmp_path / "done.csv").write_text(text, encoding="utf-8-sig")
    assert run([SEVEN])[0] == []


def test_an_item_is_what_the_file_is_now(tmp_path):
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"1234")
    os.utime(audio, ns=(17, 17))
    clips = pd.DataFrame({"id": [3], "path": [str(audio)], "start_seconds": [0.5]})
    item = Item(3, str(audio), 4, 17, 0.5, None, "22050 Hz / 2048 / 512 / version 1")
    assert items_of(clips, FeatureSettings()) == [item]
    audio.unlink()
    assert items_of(clips, FeatureSettings()) == [item._replace(bytes=0, modified_ns=0)]
