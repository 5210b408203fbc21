"""Predictions in tags: sound, other tags, links, times and mode stay, and faults leave files as they are."""

import os
import re
from pathlib import Path

import mutagen
import pandas as pd
import pytest
from audio_files import encoded, noise, written
from mutagen import flac, id3

from music_emotion.audio.decode import read_waveform
from music_emotion.listen.tags import update_tags

resource = pytest.importorskip("resource")  # not on Windows
pytestmark = pytest.mark.usefixtures("own_accelerate")
CODECS = {"wma": "wmav2", "wv": "wavpack"}
KEYS = {"aiff": "TXXX:{}", "mp3": "TXXX:{}", "wav": "TXXX:{}", "m4a": "----:com.apple.iTunes:{}"}
FORMATS = (*KEYS, "flac", "ogg", "opus", *CODECS)
V1 = b"TAG" + b"Another title".ljust(90, b"\0") + b"1999" + b"comment".ljust(31, b"\0")
TIMES, NONE = (1_600_000_000_123_456_789, 1_500_000_000_987_654_321), float("nan")


def song(path: Path) -> Path:
    """A song with other tags, pictures and chapters."""
    codec = CODECS.get(path.suffix[1:])
    file = mutagen.File(encoded(path, codec, noise(2)) if codec else written(path, noise(2)))
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, id3.ID3):
        chapter = id3.CHAP(element_id="a", start_time=0, end_time=9, sub_frames=[])
        for frame in (id3.TIT2(text=["Tïtle"]), id3.TYER(text=["1999"]), chapter, id3.APIC(data=b"PNG")):
            file.tags.add(frame)
        file.save(v2_version=3)
        path.write_bytes(path.read_bytes() + (V1 if path.suffix == ".mp3" else b""))
    else:
        file["\xa9nam" if path.suffix == ".m4a" else "title"] = ["Tïtle"]
        if path.suffix == ".flac":
            file.add_picture(flac.Picture())
        file.save()
    path.chmod(0o640)
    return path


def state(path: Path) -> tuple[object, ...]:
    """All of a file but tags of predictions: sound, other tags and mode."""
    file = mutagen.File(path)
    if isinstance(file.tags, id3.ID3):
        file.load(path, translate=False)
    tags = {key: repr(of) for key, of in dict(file.tags).items() if not re.search("valence|mood", key, re.I)}
    pictures = [repr(picture) for picture in getattr(file, "pictures", [])]
    return read_waveform(path).tobytes(), tags, len(pictures), path.stat().st_mode


def change(paths: list[Path], folder: Path, **values: float) -> tuple[int, list[str]]:
    """The number of changed files, and the reasons of the others."""
    failures, table = dict[str, str](), pd.DataFrame(values, [*map(str, paths)], dtype=float)
    n = update_tags(table, folder / "record.csv", failures)
    assert not [*folder.rglob(".writing-*")]
    return n, [reason.replace(f"{folder}/", "") for reason in failures]


def test_only_these_tags_change(tmp_path):
    paths = [song(tmp_path / f"song.{ending}") for ending in FORMATS]
    before = [state(path) for path in paths]
    for values in ({"valence": 0.6123, "mood": -0.5}, {"valence": 1, "mood": -0.5}):
        for path in paths:
            os.utime(path, ns=TIMES)
        assert change(paths, tmp_path, **values) == (len(FORMATS), [])
        assert [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in paths] == [TIMES] * len(paths)
        inodes = [path.stat().st_ino for path in paths]
        for path in paths:
            for name, value in values.items():
                (text,) = mutagen.File(path).tags[KEYS.get(path.suffix[1:], "{}").format(name.upper())]
                assert (text.decode() if isinstance(text, bytes) else str(text)) == f"{value:.3f}"
        assert [state(path) for path in paths] == before
        assert change(paths, tmp_path, **values) == (0, [])
        assert [path.stat().st_ino for path in paths] == inodes
    assert change(paths, tmp_path, valence=NONE, mood=NONE, unknown=NONE) == (len(FORMATS), [])
    assert [state(path) for path in paths] == before
    assert id3.ID3(tmp_path / "song.mp3").version == (2, 3, 0)
    assert (tmp_path / "song.mp3").read_bytes().endswith(V1)


def test_a_file_that_can_not_be_changed_is_as_before_and_the_others_go_on(tmp_path):
    reasons = {
        "a.aac": "doesn't support tags",
        "b.webm": "its format holds no tags",
        "c.wav": "they would be lost, since its header is wrong",
        "d.flac": "another program's ENERGY is 'high'",
        "e.mp3": "'e.mp3' ID3v2.9 not supported",
        "f.wav": "it is read-only",
        "g.flac": "File too large",
    }
    paths = [tmp_path / name for name in reasons]
    for path in paths:
        encoded(path, "aac", noise(1)) if path.suffix == ".aac" else written(path, noise(1))
    aac, _, cut, foreign, newer, locked, good = paths
    cut.write_bytes(b"RIFF\x64\0\0\0" + cut.read_bytes()[8:])  # it ends before its sound
    file = mutagen.File(foreign)
    file["ENERGY"] = "high"
    file.save()
    newer.write_bytes(b"ID3\x09\0\0\0\0\0\0" + newer.read_bytes())
    locked.chmod(0o440)
    contents = [path.read_bytes() for path in paths]
    said = [
        f"{name}: its tags can't be changed ({why}). The file is as before." for name, why in reasons.items()
    ]
    assert change(paths[:-1], tmp_path, energy=0.5) == (0, said[:-1])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # as a full disk does
    try:
        full = change([good, tmp_path / "h.mp3"], tmp_path, energy=0.5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full == (0, [said[-1], "h.mp3 does not exist. Correct the path."])
    assert [path.read_bytes() for path in paths] == contents
    assert change(paths, tmp_path, energy=0.5) == (1, said[:-1])
    assert change([foreign, aac], tmp_path, energy=NONE) == (0, [])


def test_predict_writes_and_removes_tags_and_predicts_no_song_again(tmp_path, run_script, monkeypatch):
    folder, elsewhere, hard = tmp_path / "mu,sic", tmp_path / "elsewhere.flac", tmp_path / "hard.flac"
    folder.mkdir()
    songs = [written(folder / f'{number} "x".flac', (1 + number) / 3 * noise(2)) for number in range(3)]
    songs[1].rename(elsewhere)
    songs[1].symlink_to(elsewhere)
    os.link(songs[2], hard)
    untagged = hard.read_bytes()
    command = ("predict.py", str(folder), "--out", str(tmp_path / "out"), "--jobs", "1")

    def replace(source: Path, path: Path, to=os.replace) -> None:
        if path == elsewhere:
            raise KeyboardInterrupt
        to(source, path)

    with monkeypatch.context() as patch:  # Ctrl-C at the last moment
        patch.setattr(os, "replace", replace)
        first = run_script(*command, "--write-tags")
        assert first[0] == 130, first
    assert not [*tmp_path.rglob(".writing-*")]
    left = elsewhere.with_name(f".writing-0123456789ab-{elsewhere.name}")  # of a killed run
    left.touch()
    status, said, _ = run_script(*command, "--write-tags")
    assert (status, left.exists(), songs[1].is_symlink(), hard.read_bytes()) == (0, False, True, untagged)
    assert "3 clips: 0 done, 3 already there, 0 failed." in said
    assert "2 of 3 songs have new tags (valence, energy, danceability)." in said
    table = pd.read_csv(tmp_path / "out/predictions.csv").set_index("path")
    for path in songs:
        for name in ("valence", "energy", "danceability"):
            assert mutagen.File(path)[name] == [f"{table.loc[str(path), name]:.3f}"]
    assert "--remove-tags predicts nothing." in run_script(*command, "--remove-tags", "--timeline")[2]
    written(folder / "new.flac", noise(1))
    assert "3 of 4 files had tags of predictions" in run_script(*command, "--remove-tags")[1]
    assert not any(mutagen.File(path).tags for path in songs)
    assert "4 clips: 1 done, 3 already there, 0 failed." in run_script(*command)[1]
