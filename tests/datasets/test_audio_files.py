"""Finding audio: a folder per class, a flat folder, files by ids, and many of them."""

import os
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.datasets.audio_files import audio_below
from music_emotion.datasets.clips import read_clips, task_of
from music_emotion.files import InputError


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_a_folder_per_class_is_a_table_with_labels(tmp_path):
    names = ["Rock/b.mp3", "Rock/live/1.M4A", "Hip-Hop/ü.opus", ".cache/x.mp3", "Rock/.x.mp3", "Rock/a.txt"]
    clips = read_clips(folder_of(tmp_path, *names, "Rock/.old/y.mp3", "empty/notes.txt"))
    assert clips["id"].tolist() == [1, 2, 3]
    assert clips["path"].tolist() == [
        str(tmp_path.resolve() / name) for name in ("Hip-Hop/ü.opus", "Rock/b.mp3", "Rock/live/1.M4A")
    ]
    assert clips["label"].tolist() == ["Hip-Hop", "Rock", "Rock"]
    assert task_of(clips) == "genre"


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (("1042.mp3", "7.wav", "0.aac"), [0, 1042, 7]),
        (("007.mp3", "11.wma"), [7, 11]),
        (("7.mp3", "07.webm"), [1, 2]),
        (("7.mp3", "b.mp4"), [1, 2]),
        (("-7.mp3", "1.5.mp3"), [1, 2]),
        (("9999999999999999999.oga",), [1]),
    ],
)
def test_a_flat_folder_is_a_table_without_labels(tmp_path, names, ids):
    clips = read_clips(folder_of(tmp_path, *names))
    assert list(clips.columns) == ["id", "path"]
    assert clips["id"].tolist() == ids
    assert sorted(Path(path).name for path in clips["path"]) == sorted(names)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("a.txt", "b/c.pdf"), r"holds no audio: no name in it ends in \.aac, .*\.m4a, .*\.wma"),
        (("a.mp3", "Rock/b.mp3"), r"holds audio itself \(a\.mp3\) and in sub-folders \(Rock\)"),
        (("Rock/b\tc.mp3",), r"rename 'Rock/b\\tc\.mp3'; tables can't hold such names"),
    ],
)
def test_a_folder_that_is_no_set_of_clips_gets_a_sentence(tmp_path, names, sentence):
    with pytest.raises(InputError, match=sentence):
        read_clips(folder_of(tmp_path, *names))


def test_audio_is_listed_below_a_folder_whether_it_is_a_set_of_clips_or_not(tmp_path):
    folder_of(tmp_path, "b.mp3", "Rock/live/a.WAV", "Rock/.x.mp3", ".cache/x.mp3", "Rock/notes.txt")
    assert audio_below(tmp_path) == ["Rock/live/a.WAV", "b.mp3"]
    with pytest.raises(InputError, match="holds no audio"):
        audio_below(folder_of(tmp_path / "new", "a.txt"))


def test_a_folder_takes_no_audio_folder(tmp_path):
    with pytest.raises(InputError, match=r"--audio .* is for a table with ids, but .* is a folder"):
        read_clips(folder_of(tmp_path, "1.mp3"), tmp_path)


def test_ids_without_audio_or_with_too_much_are_named(tmp_path):
    folder_of(tmp_path / "audio", "7.wav", "07.mp3", "012.ogg", "8.txt")
    table = tmp_path / "clips.csv"
    table.write_text("id\n7\n8\n12\n9\n")
    with pytest.raises(InputError) as caught:
        read_clips(table, tmp_path / "audio")
    message = str(caught.value)
    assert f"2 ids have no audio file in {tmp_path / 'audio'}: line 3 (8), line 5 (9)" in message
    assert "1 id has several audio files in" in message
    assert "line 2 (07.mp3, 7.wav)" in message


def test_a_hundred_thousand_rows_are_checked_in_seconds(tmp_path, monkeypatch):
    """Files are looked for folder by folder; a question for each would take minutes on a remote disk."""
    listed = []
    monkeypatch.setattr(
        "music_emotion.datasets.audio_files._listed", lambda folder: listed.append(folder) or ["one.wav"]
    )
    monkeypatch.setattr(os.path, "isfile", None)
    clips = pd.DataFrame({"path": ["one.wav", "sub/../one.wav"] * 50_000, "start_seconds": range(100_000)})
    monkeypatch.setattr("music_emotion.datasets.windows.recording_seconds", lambda _: 1e6)
    clips.to_csv(tmp_path / "many.csv", index=False)
    assert len(read_clips(tmp_path / "many.csv")) == 100_000
    assert listed == [str(tmp_path.resolve())]
