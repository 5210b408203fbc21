"""Playlists of the songs that meet a condition, and conditions that are wrong."""

from pathlib import Path

import pandas as pd
import pytest
from audio_files import noise, written

from music_emotion.listen.playlist import write_playlist

pytestmark = pytest.mark.usefixtures("own_accelerate")
COLUMNS = ("path", "title", "artist", "valence", "energy", "unlike", "genre_Hip-Hop")
ROWS = [
    ("out/b.wav", "B", "Björk", 0.7, 0.1, False, 0.5),
    ("in/#1 ü.flac", "One", "", 0.9, 0.8, False, 0.1),
    ("in/a.webm", "A", "X, Y", 0.65, 0.6, True, 0.1),
    ("in/line\nend.wav", "L", "", 0.99, 0.9, False, 0.1),
]
CHOSEN = {
    "valence > .6 and not energy < .5 and title != 'L'": ["#1", "a.webm"],
    " (.6 < valence < .8) or energy == -1": ["a.webm", "b.wav"],
    "not unlike and `genre_Hip-Hop` >= .5": ["b.wav"],
    "title in ['B', 'A'] and valence > 1": [],
    "title.str.contains('One') and valence - energy > 0": ["#1"],
}
WRONG = {
    "joy > .5": "can't be applied (name 'joy' is not defined). The columns are path, title, artist, valence,",
    "`a b` > 1": "_a_b' is not defined",
    "valence >": "can't be applied (invalid syntax",
    "@x > 1": "'x' is not defined",
    "title > 3": "can't be applied",
    "valence": "is no condition on the songs.",
}


def test_a_playlist_holds_the_songs_that_meet_a_condition(tmp_path):
    table = pd.DataFrame([(f"{tmp_path}/{row[0]}", *row[1:]) for row in ROWS], columns=COLUMNS)
    for path in map(Path, table["path"][:3]):
        path.parent.mkdir(exist_ok=True)
        written(path, noise(1.6))
    failures, lists = dict[str, str](), tmp_path / "in"
    assert write_playlist(lists / "all.m3u8", table, None, failures) == 3
    lines = ["#EXTM3U", "#EXTINF:2,One", "./#1 ü.flac", "#EXTINF:-1,X, Y - A", "a.webm"]
    expected = "\n".join([*lines, "#EXTINF:2,Björk - B", f"{tmp_path}/out/b.wav", ""])
    assert (lists / "all.m3u8").read_text(encoding="utf-8") == expected
    assert ["line\\nend.wav': a playlist can't hold this name" in reason for reason in failures] == [True]
    for where, names in CHOSEN.items():
        assert write_playlist(lists / "some.m3u8", table, where, {}) == len(names)
        text = (lists / "some.m3u8").read_text(encoding="utf-8")
        assert all(name in text for name in names)


def test_a_wrong_condition_gets_a_sentence_before_anything_is_predicted(tmp_path, run_script):
    song, out = written(tmp_path / "a.wav", noise(1)), tmp_path / "out"
    command = ("predict.py", str(song), "--jobs", "1", "--out", str(out))
    wrong = {
        ("--playlist", str(tmp_path / "a.m3u8"), "--where", where): said for where, said in WRONG.items()
    }
    wrong = {
        ("--where", "energy > 1"): "is for a playlist.",
        ("--playlist", str(song)): "ends in .m3u8.",
        **wrong,
    }
    for flags, said in wrong.items():
        status, _, errors = run_script(*command, *flags)
        assert (status, said in errors) == (2, True), errors
        assert not out.exists()


def test_the_engine_that_is_asked_for_also_checks_the_condition(tmp_path, run_script, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    song, playlist = written(tmp_path / "a.wav", noise(1)), tmp_path / "a.m3u8"
    flags = ("--playlist", str(playlist), "--where", "valence > -1", "--write-tags", "--engine", "torch")
    status, said, errors = run_script("predict.py", str(song), "--out", str(tmp_path / "out"), *flags)
    assert status == 0, errors
    assert "Exporting" not in said
    assert not (tmp_path / "cache/music-emotion/onnx").exists()
