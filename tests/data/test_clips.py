"""A user's table of clips in its spellings."""

from pathlib import Path

import pandas as pd
import pytest

from music_emotion.data.clips import read_clips, target_columns, task_of
from music_emotion.errors import InputError


@pytest.fixture
def table(tmp_path):
    """Write `clips.csv` beside a folder of audio files (empty ones: only their names are read)."""
    for name in ("one.wav", "two.flac", "sub/three.MP3", "audio/7.wav", "audio/12.ogg", "audio/7.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    def write(text: str) -> Path:
        (tmp_path / "clips.csv").write_text(text)
        return tmp_path / "clips.csv"

    return write


@pytest.mark.parametrize("column", ["path", "Path", "file"])
def test_paths_are_relative_to_the_table_and_ids_are_numbered(table, tmp_path, column):
    clips = read_clips(table(f"{column}\none.wav\nsub/three.MP3\n{tmp_path}/two.flac\n"))
    assert clips["id"].tolist() == [1, 2, 3]
    assert [Path(path).relative_to(tmp_path).as_posix() for path in clips["path"]] == [
        "one.wav",
        "sub/three.MP3",
        "two.flac",
    ]


@pytest.mark.parametrize("column", ["id", "Id"])
def test_ids_are_kept_and_their_audio_looked_up(table, tmp_path, column):
    clips = read_clips(table(f"{column},valence\n12,0.5\n7,0.25\n"), tmp_path / "audio")
    assert clips["id"].tolist() == [12, 7]
    assert [Path(path).name for path in clips["path"]] == ["12.ogg", "7.wav"]


@pytest.mark.parametrize(
    ("header", "row", "task", "targets"),
    [
        ("path,label", "one.wav,Rock", "genre", []),
        ("path,Genre", "one.wav,Rock", "genre", []),
        ("path,genre,group", "one.wav,Rock,7", "genre", []),
        ("path,valence,energy", "one.wav,0.1,0.2", "emotion", ["valence", "energy"]),
        ("path,start_seconds,end_seconds,group,arousal", "one.wav,0,30,a,0.2", "emotion", ["arousal"]),
        ("path,start_seconds", "one.wav,5", None, []),
    ],
)
def test_columns_say_what_a_table_is_for(table, header, row, task, targets):
    clips = read_clips(table(f"{header}\n{row}\n"))
    assert task_of(clips) == task
    assert target_columns(clips) == targets


def test_empty_spans_stay_empty(table):
    clips = read_clips(table("path,start_seconds,end_seconds\none.wav,,\ntwo.flac,5,9.5\n"))
    assert clips["end_seconds"].isna().tolist() == [True, False]
    assert pd.notna(clips["start_seconds"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,path\n3,one.wav\n3,two.flac\n", "ids occur more than once: 3"),
        ("path\nnone.wav\none.wav\nnil.wav\n", r"2 audio files are missing: .*none\.wav, .*nil\.wav"),
        ('path\none.wav\n""\n', "row 2 of the column 'path' is empty"),
        ("id,valence\n3,0.5\n", "has no column 'path'. Add one, or give --audio FOLDER"),
        ("id,path\nabc,one.wav\n", "the column 'id' holds abc; expected whole numbers from 0 up"),
        ("id,path\n1.5,one.wav\n", r"the column 'id' holds 1\.5; expected whole numbers from 0 up"),
        ("id,path\n-4,one.wav\n", "the column 'id' holds -4; expected whole numbers from 0 up"),
        ("id,path\n,one.wav\n", "the column 'id' holds nan; expected whole numbers from 0 up"),
        ("", r"clips\.csv is not a table"),
        ("path\n", "has no rows"),
    ],
)
def test_a_wrong_table_gets_a_sentence(table, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_clips(table(text))


def test_ids_without_audio_are_counted_and_named(table, tmp_path):
    with pytest.raises(InputError, match=r"2 ids have no audio file in .*audio: 8, 9"):
        read_clips(table("id\n7\n8\n9\n"), tmp_path / "audio")


def test_a_missing_table_or_audio_folder_gets_a_sentence(table, tmp_path):
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        read_clips(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"The audio folder .*nowhere does not exist"):
        read_clips(table("id\n7\n"), tmp_path / "nowhere")
