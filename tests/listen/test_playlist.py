"""Playlists of the songs that meet a condition, and conditions that are wrong."""

import os
from pathlib import Path

import pandas as pd
import pytest
from audio_files import noise, written

from music_emotion.listen.playlist import check_playlist, write_playlist

pytestmark = pytest.mark.usefixtures("own_accelerate")
COLUMNS = ("path", "title", "artist", "valence", "energy", "unlike", "genre_Hip-Hop")
ROWS = [
    ("out/b.wav", "B", "Björk", 0.7, 0.1, False, 0.5),
    ("in/lists/#1 ü.flac", "One", "", 0.9, 0.8, False, 0.1),
    ("in/lists/a.webm", "A", "X, Y", 0.65, 0.6, True, 0.1),
    ("in/lists/line\nend.wav", "L", "", 0.99, 0.9, False, 0.1),
    (os.fsdecode(b"caf\xe9.wav"), "C", "", 0.2, 0.9, False, 0.1),
]
CHOSEN = {
    "valence > .6 and not energy < .5 and title != 'L'": ["#1", "a.webm"],
    " (.6 < valence < .8) or energy == -1": ["a.webm", "b.wav"],
    "not unlike and `genre_Hip-Hop` >= .5": ["b.wav"],
    "title in ['B', 'A'] and artist != 'nobody'": ["a.webm", "b.wav"],
    "valence > 1": [],
}
WRONG = {
    "title.upper() == 'A'": "--where can't hold 'title.upper()'.",
    "@x > 1": "--where '@x > 1' can't be read: invalid syntax.",
    "valence + 1 > 1": "--where can't hold 'valence + 1'.",
    "(" * 999: "can't be read",
    "joy > .5": "--where: there is no column joy. The columns are path, title, artist, valence, energy,",
    "`a b` > 1": "there is no column a b.",
    "title > 3": "can't be applied",
    "valence": "is no condition on the songs.",
    "1 < 2": "is no condition on the songs.",
}


def test_a_playlist_holds_the_songs_that_meet_a_condition(tmp_path):
    table = pd.DataFrame([(f"{tmp_path}/{row[0]}", *row[1:]) for row in ROWS], columns=COLUMNS)
    for path in table["path"][:4]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        written(Path(path), noise(1.6))
    failures, lists = dict[str, str](), tmp_path / "in/lists"
    assert write_playlist(lists / "all.m3u8", table, None, failures) == 3
    lines = ["#EXTM3U", "#EXTINF:2,One", "./#1 ü.flac", "#EXTINF:-1,X, Y - A", "a.webm"]
    expected = "\n".join([*lines, "#EXTINF:2,Björk - B", f"{tmp_path}/out/b.wav", ""])
    assert (lists / "all.m3u8").read_bytes().decode() == expected
    assert ["line\\nend" in reason or "caf\\udce9" in reason for reason in failures] == [True, True]
    for where, names in CHOSEN.items():
        assert write_playlist(lists / "some.m3u8", table, where, {}) == len(names)
        text = (lists / "some.m3u8").read_text(encoding="utf-8")
        assert all(name in text for name in names)


def test_a_wrong_condition_gets_a_sentence_before_anything_is_predicted(tmp_path, run_script):
    song, out = written(tmp_path / "a.wav", noise(1)), tmp_path / "out"
    command = ("predict.py", str(song), "--jobs", "1", "--out", str(out))
    for number, (where, said) in enumerate(WRONG.items()):
        playlist = ("--playlist", str(tmp_path / "a.m3u8"))
        status, _, errors = run_script(*command, *playlist, "--where", where)
        assert status == 2
        assert said in errors
        assert out.exists() == (number > 5)  # types are known once there are predictions
    for flags, said in {
        ("--where", "energy > 1"): "--where is for a playlist.",
        ("--playlist", str(song)): f"--playlist {song} would not be a playlist.",
    }.items():
        assert said in run_script(*command, *flags)[2]
    check_playlist(tmp_path / "a.m3u8", "unlike or energy_percentile > 5", [])
