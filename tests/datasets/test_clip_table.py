"""A user's clips: tables in their spellings, folders of classes, every fault at once, windows."""

import os
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from audio_files import folder_of

from music_emotion.audio.decode import read_waveform
from music_emotion.datasets import clip_table
from music_emotion.datasets.clip_table import Windows, cut_windows, read_clips, target_columns, task_of
from music_emotion.files import InputError

NAMES = (
    "one.wav",
    "two.flac",
    "sub/three.MP3",
    "audio/7.wav",
    "audio/0/012.ogg",
    "audio/7.txt",
    "müsik 1.oga",
)
RATE_HZ = 8000


def recording(path: Path, seconds: float) -> str:
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE_HZ)), RATE_HZ)
    return str(path)


@pytest.fixture
def table(tmp_path):
    """Write `clips.csv` beside audio: of 1 s in long.wav, else empty files."""
    folder_of(tmp_path, *NAMES)
    recording(tmp_path / "long.wav", 1)

    def write(text: str) -> Path:
        (tmp_path / "clips.csv").write_bytes(text.encode())
        return tmp_path / "clips.csv"

    return write


def test_paths_are_relative_to_the_table_and_ids_are_numbered(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = ("one.wav", "sub/three.MP3", "two.flac", "müsik 1.oga")
    for column in ("path", "Path", "file"):
        table(f"{column}\none.wav\nsub/../sub/three.MP3\n{tmp_path}/two.flac\nmüsik 1.oga\n")
        clips = read_clips(Path("clips.csv"))
        assert clips["id"].tolist() == [1, 2, 3, 4]
        assert clips["id"].dtype == np.int64
        assert clips["path"].tolist() == [str(tmp_path.resolve() / name) for name in expected]


def test_an_accent_on_disk_is_found_however_it_is_written_and_the_exact_name_wins(table, tmp_path):
    decomposed, composed = (unicodedata.normalize(form, "é") for form in ("NFD", "NFC"))
    names = [f"{decomposed}/{decomposed}.mp3", f"sub/{composed}.wav", f"sub/{decomposed}.wav"]
    folder_of(tmp_path, *names)
    clips = read_clips(table("\n".join(["path", f"{composed}/{composed}.mp3", *names[1:]])))
    assert clips["path"].tolist() == [str(tmp_path.resolve() / name) for name in names]


def test_audio_without_a_path_is_looked_up_by_id(table, tmp_path):
    for text in ("id,valence\n12,0.5\n7,0.25\n", "Id\n12\n7\n", "id,path\n12,audio/0/012.ogg\n7,\n"):
        clips = read_clips(table(text), tmp_path / "audio")
        assert clips["id"].tolist() == [12, 7]
        assert [Path(path).name for path in clips["path"]] == ["012.ogg", "7.wav"]
    clips = read_clips(table("id,path\n9007199254740993,one.wav\n0,two.flac\n"))
    assert clips["id"].tolist() == [9007199254740993, 0]  # not rounded
    folder_of(tmp_path / "audio", "copy/07.mp3", "8.txt")
    with pytest.raises(InputError) as caught:
        read_clips(table("id\n7\n8\n12\n9\n"), tmp_path / "audio")
    message = str(caught.value)
    assert f"An id has no audio file in {tmp_path / 'audio'}: line 3 (8), line 5 (9)" in message
    assert f"An id has several audio files in {tmp_path / 'audio'}: line 2 (7.wav, copy/07.mp3)" in message


@pytest.mark.parametrize(
    "name", ["musicId", "TrackId", "songID", "track_id", "Song ID", "clipid", "ID", "iD"]
)
def test_ids_are_those_of_the_table(table, tmp_path, capsys, name):
    music = folder_of(tmp_path / "music", "1.mp3", "2.mp3", "3.mp3")
    clips = read_clips(table(f"year,{name},valence\n1999,3,0.3\n1998,1,0.1\n1997,2.0,0.2\n"), music)
    assert [Path(path).stem for path in clips["path"]] == ["3", "1", "2"]
    assert clips["id"].tolist() == [3, 1, 2]
    assert target_columns(clips) == ["valence"]
    named = "" if name.lower() == "id" else f"ids are taken from the column '{name}'; "
    said = capsys.readouterr().out
    assert said.endswith(
        f": 3 clips; {named}targets: valence; left out: year (--targets names those to learn).\n"
    )
    # with all paths, ids that repeat are not needed
    text = "path,songId,valence\none.wav,7,1\ntwo.flac,7,2\n"
    assert read_clips(table(text), music)["id"].tolist() == [1, 2]
    assert "ids are counted from 1; targets: valence; left out: songId (" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["uid", "#", "nr", "No.", "index", "Unnamed: 0", "Track Number", "genre_id"])
def test_ids_that_no_column_holds_for_certain_are_not_looked_up(table, tmp_path, name):
    folder_of(tmp_path / "music", "1.mp3", "2.mp3", "3.mp3")
    with pytest.raises(InputError, match=rf"needs a column 'id' .* it has \['{name}'\]\. Call the right"):
        read_clips(table(f"{name},valence\n3,0.3\n1,0.1\n2,0.2\n"), tmp_path / "music")
    for text in ("valence\n0.3\n0.1\n", ",valence\n1,0.1\n2,0.2\n", "path,valence\none.wav,1\n,2\n"):
        with pytest.raises(InputError, match=r"needs a column 'id' .* it has none\."):
            read_clips(table(text), tmp_path / "music")
    with pytest.raises(InputError, match=r"it has \['songId', 'track_id'\]\."):
        read_clips(table("path,songId,track_id,artists_id\none.wav,1,2,x\n"))
    with pytest.raises(InputError, match=r"An id is used before: line 3 \(3\)"):
        read_clips(table("musicId,valence\n3,0.3\n3,0.1\n"), tmp_path / "music")


def test_columns_that_rate_nothing_are_left_out_and_targets_can_be_named(table, capsys):
    header = ",trackId,path,releaseYear,Track Number,duration_ms,key,mode,mood,valence,valence_std,0 to 9"
    path = table(f"{header}\n5,70,one.wav,1999,3,200,4,1,5,.5,.1,7\n9,9,two.flac,2001,2,2,5,0,6,.6,.2,8\n")
    clips = read_clips(path)
    assert clips["id"].tolist() == [70, 9]
    assert target_columns(clips) == ["mood", "valence", "0 to 9"]
    said = capsys.readouterr().out
    assert "ids are taken from the column 'trackId'; targets: mood, valence, 0 to 9; left out: the f" in said
    left_out = "column, which has no name, releaseYear, Track Number, duration_ms, key, mode, valence_std ("
    assert left_out in said
    assert target_columns(read_clips(path, targets=["key", "valence"])) == ["key", "valence"]
    assert left_out.replace("key, mode", "mode, mood").replace(" (", ", 0 to 9 (") in capsys.readouterr().out
    with pytest.raises(InputError, match=r"target is not among the columns: line 1 \('valense'; did you"):
        read_clips(path, targets=["valense"])


def test_columns_say_what_a_table_is_for(table):
    cases = {
        "path,label\none.wav,Rock": ("genre", []),
        "path,genre,group\none.wav,Rock,7": ("genre", []),
        "path,label,\none.wav,Rock,": ("genre", []),
        "path,valence,energy\none.wav,0.1,0.2": ("emotion", ["valence", "energy"]),
        "path, start_seconds, end_seconds, group, arousal\nlong.wav, 0, 1, a, .2": ("emotion", ["arousal"]),
        "path,start_seconds\nlong.wav,0.5": (None, []),
    }
    for target in ("danceability", "tempo", "pathos", "Valence_mean", "arousal 2"):
        cases[f"path,{target}\none.wav,0.1"] = ("emotion", [target])
    for text, expected in cases.items():
        clips = read_clips(table(text))
        assert (task_of(clips), target_columns(clips)) == expected, text


def test_cells_are_taken_as_they_are_written(table):
    text = 'path,label,group,energy\n"one.wav", None ,007,0.123456789012345678\ntwo.flac,"Drum, Bass",1e3,0\n'
    clips = read_clips(table(text))
    assert clips["label"].tolist() == ["None", "Drum, Bass"]
    assert clips["group"].tolist() == ["007", "1e3"]
    assert clips["energy"].tolist() == [0.123456789012345678, 0]
    spans = read_clips(table("path,start_seconds,end_seconds\none.wav,,\nlong.wav,0.5,1.05\n"))
    np.testing.assert_array_equal(spans[["start_seconds", "end_seconds"]], [[np.nan, np.nan], [0.5, 1.05]])


def test_decimal_commas_are_read_where_they_can_not_separate_thousands(table):
    clips = read_clips(
        table("Path;start_seconds;valence;tempo\nlong.wav;0,5;,5;99,5\none.wav;;-0,125;1,234\n")
    )
    assert clips[["valence", "tempo"]].to_numpy().tolist() == [[0.5, 99.5], [-0.125, 1.234]]
    assert clips["start_seconds"][0] == 0.5


def test_clips_of_one_recording_are_a_group(table):
    text = "path,start_seconds,valence\nlong.wav,0,1\none.wav,0,1\n./long.wav,0.5,1\n"
    clips = read_clips(table(text))
    assert clips["group"].tolist() == [1, 2, 1]
    assert target_columns(clips) == ["valence"]
    assert read_clips(table(text.replace("valence", "group")))["group"].tolist() == ["1", "1", "1"]
    assert "group" not in read_clips(table("path\nlong.wav\none.wav\n"))


COLUMN = (
    "An unknown column, neither id, path, start_seconds, end_seconds, label, group, split nor a numeric targ"
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,valence\none.wav,1\n,1\n", "A path is empty: line 3$"),
        ("id,valence\n3,0.5\n", r"A column is missing: line 1 \('path'; add it, or give --audio FOLDER\)"),
        ("id,path\n99999999999999999999,one.wav\n", "An id is not a whole number from 0 up: line 2"),
        ("path\none.wav\n./one.wav\n", r"A row has the audio and the span of an earlier one: line 3 \(one"),
        ("path,start_seconds,x\nlong.wav,0,1\nlong.wav,,2\n", "audio and the span of an earlier one: line 3"),
        ("path,split\none.wav,dev\n", r"A split is not train, validation, test: line 2 \('dev'\)"),
        ("path,start_seconds\none.wav,x\n", r"A time is not a number: line 2 \(start_seconds: 'x'\)"),
        ("path,start_seconds\none.wav,-0.5\n", r"A start is negative: line 2 \(-0.5 s\)"),
        ("path,start_seconds,end_seconds\none.wav,5,5\n", r"end is not after the start: line 2 \(5 s to 5 s"),
        ("path,start_seconds\nlong.wav,1\n", r"start is not before the recording's end: line 2 \(1 s of 1 s"),
        ("path,end_seconds\nlong.wav,1.11\n", r"end is after the recording's end: line 2 \(1\.11 s of 1 s"),
        ("path,label\none.wav, \n", "A label is empty: line 2$"),
        ("path,label,valence\none.wav,a\tb,1\n", r"A label has a tab or a line break: line 2 \('a\\tb'\)"),
        ('path,group\none.wav,"a\ntwo.flac,b"\n', "A group has a tab or a line break: line 2"),
        ("path,group\none.wav,\n", "A group is empty: line 2$"),
        ("path,valence\none.wav,1\ntwo.flac,inf\n", r"A target is not a number: line 3 \(valence: 'inf'\)"),
        ("path,label,artist\none.wav,Rock,Bob\n", r"'artist', did you mean 'group'"),
        ("path,label,notes\none.wav,a,\n", r"'notes', most of its cells are not numbers"),
        ("path,id,Id\none.wav,1,2\n", r"A column is there twice: line 1 \(Id\)"),
        ("path,1.5\none.wav,1\n", r"A target can't be called 'mean' or like a number: line 1 \('1\.5'\)"),
        ("path,mean\none.wav,1\n", r"A target can't be called .*: line 1 \('mean'\)"),
        ("path,valence,\none.wav,0,5\n", r"A column has no name: line 1 \(column 3\)"),
        ("path,valence\none.wav,0,5\n", r"2 columns \(cells with commas need quotes\): line 2 \(3 cells\)"),
        ("path;x\none.wav;1,234", r"A target is not a number with a decimal point: line 2 \(x: '1,234'\)"),
        ("path;x\none.wav;0,5\ntwo.flac;.5", "A target is not a number with a decimal point: line 2"),
        ("id,path\n1e3,one.wav\n", r"An id is not a whole number from 0 up: line 2 \('1e3'\)"),
        ("path,start_seconds,duration\nlong.wav,0,1\n", "'duration', did you mean 'end_seconds'"),
        ("path,group_id\none.wav,0\n", "'group_id', did you mean 'group'"),
    ],
)
def test_a_fault_gets_a_sentence(table, text, sentence):
    start = r"clips\.csv has 1 fault; nothing was done\. Correct it:\n  .*"
    with pytest.raises(InputError, match=start + sentence):
        read_clips(table(text))


def test_all_faults_are_told_at_once_with_the_lines_of_an_editor(table):
    names = ["gone/1.wav", "none2.wav", "audio", "none4.wav", "none5.wav", "none6.wav", "none7.wav"]
    rows = [f"{n},{name},1,0.{n}" for n, name in enumerate(names, 1)]
    text = ["", "id,path,start,valence", "", *rows, '7,"one.wav",1,x', "x,two.flac,1,", ""]
    with pytest.raises(InputError) as caught:
        read_clips(table("\r\n".join(text)))
    assert str(caught.value).split("clips.csv ")[1].splitlines() == [
        "has 12 faults; nothing was done. Correct it:",
        f"  {COLUMN}et: line 2 ('start', did you mean 'start_seconds'?)",
        "  An id is not a whole number from 0 up: line 12 ('x')",
        "  An id is used before: line 11 (7)",
        "  An audio file does not exist: line 4 (gone/1.wav), line 5 (none2.wav), line 6 (audio), "
        "line 7 (none4.wav), line 8 (none5.wav), ... (7 in all)",
        "  A target is not a number: line 11 (valence: 'x'), line 12 (valence: '')",
    ]


def test_what_is_no_set_of_clips_gets_a_sentence(table, tmp_path):
    refused = {
        "has no rows": lambda: table("path\n\n"),
        r"csv line 4 can't be split into cells: unexp": lambda: table(
            'path,label\none.wav,a\n\n"two.flac,b\n'
        ),
        r"holds audio itself \(a\.mp3\) and in sub-folders \(Rock\)": (
            lambda: folder_of(tmp_path / "2", "a.mp3", "Rock/b.mp3")
        ),
        r"rename '.*Rock/b\\tc\.mp3'; tables can't hold": lambda: folder_of(tmp_path / "3", "Rock/b\tc.mp3"),
    }
    for sentence, source in refused.items():
        with pytest.raises(InputError, match=sentence):
            read_clips(source())
    with pytest.raises(InputError, match=r"The audio folder .*nowhere does not exist"):
        read_clips(table("id\n7\n"), tmp_path / "nowhere")
    for arguments in ([tmp_path], [None, ["valence"]]):
        with pytest.raises(InputError, match=r"--audio and --targets are for a table, but .* is a folder"):
            read_clips(tmp_path, *arguments)
    for window, hop, sentence in (
        *((None, 1.0, "--hop is given without --window"), (np.nan, 1.0, "--window is nan s")),
        (1.0, -2.0, r"--hop is -2\.0 s; it must"),
    ):
        with pytest.raises(InputError, match=sentence):
            Windows(window, hop)


def test_a_recording_is_opened_once_and_only_for_a_span(table, monkeypatch):
    opened = []
    with monkeypatch.context() as patch:
        patch.setattr(clip_table, "recording_seconds", lambda path: opened.append(path.name) or 1.0)
        patch.setattr(os.path, "isfile", lambda _: True)
        rows = "long.wav,0,0.5\nlong.wav,0.5,1\none.wav,,\nsub/../two.flac,0,\n"
        read_clips(table("path,start_seconds,end_seconds\n" + rows))
    assert opened == ["long.wav"]
    # one that can't be opened is no fault of the table
    clips = read_clips(table("path,start_seconds,end_seconds\none.wav,100,200\n"))
    assert clips["start_seconds"].tolist() == [100.0]


def test_windows_fill_a_recording_and_the_rest_is_dropped(tmp_path):
    for seconds, windows, starts in (
        *((12.0, Windows(5.0), [0, 5]), (4.95, Windows(5.0, 5.0), [0]), (3.0, Windows(0.5, 2.0), [0, 2])),
        (0.6, Windows(0.3, 0.1), [0, 0.1, 0.2, 0.3]),
    ):
        clips = pd.DataFrame({"id": [7], "path": [recording(tmp_path / "a.wav", seconds)]})
        cut = cut_windows(clips, windows)
        assert cut["start_seconds"].tolist() == starts
        np.testing.assert_allclose(cut["end_seconds"] - starts, windows.window_seconds)
        for start, end in zip(starts, cut["end_seconds"], strict=True):
            waveform = read_waveform(tmp_path / "a.wav", RATE_HZ, start, end)
            assert len(waveform) / RATE_HZ == pytest.approx(windows.window_seconds, abs=0.1)


def test_windows_stay_within_the_span_of_their_clip(tmp_path):
    path = recording(tmp_path / "a.wav", 20)
    clips = pd.DataFrame(
        {"id": [7, 3], "path": path, "start_seconds": [np.nan, 13.0], "end_seconds": [5.0, np.nan]}
    )
    windows = cut_windows(clips, Windows(2.0))
    assert windows["start_seconds"].tolist() == [0, 2, 13, 15, 17]
    assert windows["id"].tolist() == [1, 2, 3, 4, 5]
    assert windows["clip"].tolist() == [7, 7, 3, 3, 3]
    with pytest.raises(InputError, match=r"1 clips are shorter than a window of 6 s: 7 \(5 s\)"):
        cut_windows(clips, Windows(6.0))


def test_windows_keep_what_is_known_of_their_clip(tmp_path):
    recording(tmp_path / "a.wav", 4), recording(tmp_path / "b.wav", 2)
    for text, groups in {
        "path,label,valence\na.wav,Rock,0.5\nb.wav,Folk,1": [1, 1, 2],
        "path,start_seconds,end_seconds\na.wav,0,2\na.wav,2,4\nb.wav,,": [1, 1, 2],
        "path,group\na.wav,x\nb.wav,x": ["x", "x", "x"],
    }.items():
        (tmp_path / "clips.csv").write_text(text)
        clips = read_clips(tmp_path / "clips.csv")
        windows = cut_windows(clips, Windows(2.0))
        assert list(windows.columns[:5]) == ["id", "path", "start_seconds", "end_seconds", "clip"]
        assert windows["group"].tolist() == groups
        for column in clips.columns.intersection(["label", "valence"]):
            assert windows[column].tolist() == clips.set_index("id")[column][windows["clip"]].tolist()


def test_a_recording_without_a_window_keeps_a_row_that_fails_with_a_reason(tmp_path):
    path = Path(recording(tmp_path / "a.wav", 3))
    clips = pd.DataFrame({"id": [7], "path": [str(path)], "start_seconds": [1.0]})
    for content, reason in (
        (path.read_bytes(), r"clip ends at 6\.0 s"),
        (b"this is not audio", "audio can't"),
    ):
        path.write_bytes(content)
        windows = cut_windows(clips, Windows(5.0))
        assert windows[["start_seconds", "end_seconds", "clip"]].to_numpy().tolist() == [[1.0, 6.0, 7]]
        with pytest.raises(InputError, match=rf"a\.wav: the {reason}"):
            read_waveform(path, RATE_HZ, 1.0, 6.0)
