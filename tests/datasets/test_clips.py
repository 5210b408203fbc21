"""A user's clips: tables in their spellings, folders of classes, and every fault at once."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_emotion.datasets.clips import read_clips, target_columns, task_of
from music_emotion.files import InputError

NAMES = ("one.wav", "two.flac", "sub/three.MP3", "audio/7.wav", "audio/012.ogg", "audio/7.txt", "müsik 1.oga")


@pytest.fixture
def table(tmp_path):
    """Write `clips.csv` beside audio: of 1 s in long.wav, else empty files, read by name alone."""
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    soundfile.write(tmp_path / "long.wav", np.full(8000, 0.1), 8000)

    def write(text: str) -> Path:
        (tmp_path / "clips.csv").write_bytes(text.encode())
        return tmp_path / "clips.csv"

    return write


@pytest.mark.parametrize("column", ["path", "Path", "file"])
def test_paths_are_relative_to_the_table_and_ids_are_numbered(table, tmp_path, column):
    clips = read_clips(table(f"{column}\none.wav\nsub/../sub/three.MP3\n{tmp_path}/two.flac\nmüsik 1.oga\n"))
    assert clips["id"].tolist() == [1, 2, 3, 4]
    assert clips["id"].dtype == np.int64
    expected = ("one.wav", "sub/three.MP3", "two.flac", "müsik 1.oga")
    assert clips["path"].tolist() == [str(tmp_path.resolve() / name) for name in expected]


def test_paths_are_absolute_when_the_tables_is_not(table, tmp_path, monkeypatch):
    table("path\none.wav\n")
    monkeypatch.chdir(tmp_path)
    assert read_clips(Path("clips.csv"))["path"].tolist() == [str(tmp_path.resolve() / "one.wav")]


@pytest.mark.parametrize("column", ["id", "Id"])
def test_ids_are_kept_and_their_audio_looked_up(table, tmp_path, column):
    clips = read_clips(table(f"{column},valence\n12,0.5\n7,0.25\n"), tmp_path / "audio")
    assert clips["id"].tolist() == [12, 7]
    assert [Path(path).name for path in clips["path"]] == ["012.ogg", "7.wav"]


def test_a_path_goes_before_the_audio_folder(table, tmp_path):
    clips = read_clips(table("id,path\n12,one.wav\n7,\n"), tmp_path / "audio")
    assert [Path(path).name for path in clips["path"]] == ["one.wav", "7.wav"]


def test_ids_are_not_rounded(table):
    clips = read_clips(table("id,path\n9007199254740993,one.wav\n0,two.flac\n"))
    assert clips["id"].tolist() == [9007199254740993, 0]


@pytest.mark.parametrize(
    ("header", "row", "task", "targets"),
    [
        ("path,label", "one.wav,Rock", "genre", []),
        ("path,Genre", "one.wav,Rock", "genre", []),
        ("path,genre,group", "one.wav,Rock,7", "genre", []),
        ("path,label,energy", "one.wav,Rock,1e-1", "genre", ["energy"]),
        ("path,valence,energy", "one.wav,0.1,0.2", "emotion", ["valence", "energy"]),
        ("path, start_seconds, end_seconds, group, arousal", "long.wav, 0, 1, a, .2", "emotion", ["arousal"]),
        ("path,start_seconds", "long.wav,0.5", None, []),
        ("path,label,", "one.wav,Rock,", "genre", []),
    ],
)
def test_columns_say_what_a_table_is_for(table, header, row, task, targets):
    clips = read_clips(table(f"{header}\n{row}\n"))
    assert task_of(clips) == task
    assert target_columns(clips) == targets


@pytest.mark.parametrize(
    "target",
    [
        *("valence", "energy", "danceability", "arousal", "tension", "dominance", "pleasure", "liking"),
        *("mood", "tempo", "loudness", "happy", "sad", "pathos", "groove", "Valence_mean", "arousal 2"),
    ],
)
def test_any_column_of_numbers_is_a_target(table, target):
    clips = read_clips(table(f"path,{target}\none.wav,0.1\ntwo.flac,0.123456789012345678\n"))
    assert target_columns(clips) == [target]
    assert clips[target].tolist() == [0.1, 0.123456789012345678]


def test_empty_spans_stay_empty(table):
    clips = read_clips(table("path,start_seconds,end_seconds\none.wav,,\nlong.wav,0.5,1.05\n"))
    assert clips["end_seconds"].isna().tolist() == [True, False]
    assert clips["start_seconds"].isna().tolist() == [True, False]
    assert clips["end_seconds"].dtype == np.float64


def test_text_is_taken_as_it_is_written(table):
    clips = read_clips(table('path,label,group\n"one.wav", None ,007\ntwo.flac,"Drum, Bass",1e3\n'))
    assert clips["label"].tolist() == ["None", "Drum, Bass"]
    assert clips["group"].tolist() == ["007", "1e3"]


def test_clips_of_one_recording_are_a_group(table):
    text = "path,start_seconds,valence\nlong.wav,0,1\none.wav,0,1\n./long.wav,0.5,1\n"
    clips = read_clips(table(text))
    assert clips["group"].tolist() == [1, 2, 1]
    assert target_columns(clips) == ["valence"]
    assert read_clips(table(text.replace("valence", "group")))["group"].tolist() == ["1", "1", "1"]
    assert "group" not in read_clips(table("path\nlong.wav\none.wav\n"))


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_may_come_from_any_system(table, mark, end):
    clips = read_clips(table(f"{mark}path,label{end}one.wav,Röck{end}"))
    assert clips["label"].tolist() == ["Röck"]


COLUMN = "unknown column, neither id, path, start_seconds, end_seconds, label, group nor a target of numbers"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path\none.wav\naudio\n", r"1 audio file does not exist: line 3 \(audio\)$"),
        ('path\none.wav\n""\n', "1 path is empty: line 3$"),
        ("id,valence\n3,0.5\n", r"1 column is missing: line 1 \('path'; add it, or give --audio FOLDER\)"),
        ("id,path\nabc,one.wav\n", r"1 id is not a whole number from 0 up: line 2 \('abc'\)"),
        ("id,path\n1.5,one.wav\n", r"1 id is not a whole number from 0 up: line 2 \('1\.5'\)"),
        ("id,path\n-4,one.wav\n", r"1 id is not a whole number from 0 up: line 2 \('-4'\)"),
        ("id,path\n,one.wav\n", r"1 id is not a whole number from 0 up: line 2 \(''\)"),
        ("id,path\n99999999999999999999,one.wav\n", "1 id is not a whole number from 0 up: line 2"),
        ("id,path\n1000003,one.wav\n1000003,two.flac\n", r"1 id is used before: line 3 \(1000003\)"),
        ("path\none.wav\n./one.wav\n", r"1 row has the audio and the span of an earlier one: line 3 \(one"),
        ("path,start_seconds\nlong.wav,0\nlong.wav,\n", "the audio and the span of an earlier one: line 3"),
        ("path,start_seconds\none.wav,x\n", r"1 time is not a number: line 2 \(start_seconds: 'x'\)"),
        ("path,end_seconds\none.wav,nan\n", r"1 time is not a number: line 2 \(end_seconds: 'nan'\)"),
        ("path,start_seconds\none.wav,-0.5\n", r"1 start is negative: line 2 \(-0.5 s\)"),
        ("path,start_seconds,end_seconds\none.wav,5,5\n", r"end is not after the start: line 2 \(5 s to 5 s"),
        ("path,end_seconds\none.wav,0\n", r"1 end is not after the start: line 2 \(0 s to 0 s\)"),
        ("path,start_seconds\nlong.wav,1\n", r"start is not before the recording's end: line 2 \(1 s of 1 s"),
        ("path,end_seconds\nlong.wav,1.11\n", r"end is after the recording's end: line 2 \(1\.11 s of 1 s"),
        ("path,label\none.wav, \n", "1 label is empty: line 2$"),
        ("path,label,valence\none.wav,a\tb,1\n", r"1 label has a tab or a line break: line 2 \('a\\tb'\)"),
        ("path,group\none.wav,\n", "1 group is empty: line 2$"),
        ("path,valence\none.wav,1\ntwo.flac,\n", r"1 target is not a number: line 3 \(valence: ''\)"),
        ("path,label,valence\none.wav,a,1\ntwo.flac,b,hi\n", r"is not a number: line 3 \(valence: 'hi'\)"),
        ("path,valence\none.wav,1\ntwo.flac,inf\n", r"1 target is not a number: line 3 \(valence: 'inf'\)"),
        (
            "path,start_secnds\none.wav,1\n",
            rf"{COLUMN}: line 1 \('start_secnds', did you mean 'start_seconds'",
        ),
        ("path,start\none.wav,1\n", r"'start', did you mean 'start_seconds'"),
        ("path,t_start\none.wav,1\n", r"'t_start', did you mean 'start_seconds'"),
        ("path,End (s)\none.wav,1\n", r"'End \(s\)', did you mean 'end_seconds'"),
        ("path,duration_seconds\none.wav,1\n", r"'duration_seconds', did you mean 'end_seconds'"),
        ("path,song_id\none.wav,1\n", r"'song_id', did you mean 'id'"),
        ("path,ID\none.wav,1\n", r"'ID', did you mean 'id'"),
        ("path,clip\none.wav,1\n", r"'clip', did you mean 'id'"),
        ("path,groups\none.wav,1\n", r"'groups', did you mean 'group'"),
        ("path,lable\none.wav,Rock\n", r"'lable', did you mean 'label'"),
        ("path,label,artist\none.wav,Rock,Bob\n", r"'artist', did you mean 'group'"),
        ("path,label,notes\none.wav,a,b\n", rf"{COLUMN}: line 1 \('notes', most of its cells are not numb"),
        ("path,label,notes\none.wav,a,\n", r"'notes', most of its cells are not numbers"),
        ("path,valence,valence\none.wav,1,2\n", r"1 column name is used before: line 1 \('valence'\)"),
        ("path,id,Id\none.wav,1,2\n", r"1 column name is used before: line 1 \('Id', which means 'id'\)"),
        (",path\n1,one.wav\n", r"1 column has no name: line 1 \(column 1\)"),
        ("path,label\none.wav,a,b\n", r"1 row is longer than the header of 2 columns: line 2 \(3 cells\)"),
    ],
)
def test_a_fault_gets_a_sentence(table, text, sentence):
    with pytest.raises(InputError, match=r"clips\.csv: 1 fault; nothing was extracted\.\n  .*" + sentence):
        read_clips(table(text))


def test_a_recording_that_cannot_be_opened_is_no_fault(table):
    clips = read_clips(table("path,start_seconds,end_seconds\none.wav,100,200\n"))
    assert clips["start_seconds"].tolist() == [100.0]


def test_a_recording_is_opened_once_and_only_for_a_span(table, monkeypatch):
    opened = []
    monkeypatch.setattr(
        "music_emotion.datasets.windows.recording_seconds", lambda path: opened.append(path.name) or 1.0
    )
    text = "path,start_seconds,end_seconds\nlong.wav,0,0.5\nlong.wav,0.5,1\none.wav,,\ntwo.flac,0,\n"
    read_clips(table(text))
    assert opened == ["long.wav"]


def test_a_missing_table_or_audio_folder_gets_a_sentence(table, tmp_path):
    with pytest.raises(InputError, match=r"The table of clips .*none\.csv does not exist"):
        read_clips(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"The audio folder .*nowhere does not exist"):
        read_clips(table("id\n7\n"), tmp_path / "nowhere")
