"""Predictions in tags: sound, other tags, links, times and mode stay, and faults leave files as they are."""

import os
import re
import resource
from hashlib import sha256
from pathlib import Path

import mutagen
import pandas as pd
import pytest
from audio_files import encoded, noise, written
from mutagen import id3
from mutagen.flac import Picture
from mutagen.mp4 import MP4Cover

from music_emotion.audio.decode import read_waveform
from music_emotion.listen.tags import update_tags

pytestmark = pytest.mark.usefixtures("own_accelerate")
CODECS = {"wma": "wmav2", "wv": "wavpack"}
FORMATS = ("aiff", "flac", "m4a", "mp3", "ogg", "opus", "wav", *CODECS)
KEYS = {"m4a": "----:com.apple.iTunes:{}"} | dict.fromkeys(("aiff", "mp3", "wav"), "TXXX:{}")
V1 = b"TAG" + b"Another title".ljust(90, b"\0") + b"1999" + b"comment".ljust(31, b"\0")


def song(folder: Path, ending: str) -> Path:
    """A song with other tags: a title, and a picture, chapters, or tags of two versions."""
    path = folder / f"song.{ending}"
    encoded(path, CODECS[ending], noise(2)) if ending in CODECS else written(path, noise(1))
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, id3.ID3):
        file.tags.clear()
        title, moment = id3.TIT2(text=["Tïtle"]), {"start_time": 0, "end_time": 9, "sub_frames": []}
        for frame in (title, id3.TYER(text=["1999"]), id3.CHAP(element_id="a", **moment)):
            file.tags.add(frame)
        file.tags.add(id3.APIC(mime="image/png", data=b"PNG"))
        file.save(v2_version=3)
        path.write_bytes(path.read_bytes() + (V1 if ending == "mp3" else b""))
    elif ending == "m4a":
        file["\xa9nam"], file["covr"] = ["Tïtle"], [MP4Cover(b"PNG")]
        file["----:com.apple.iTunes:energy"] = [b"of others"]
        file.save()
    else:
        file["title"] = ["Tïtle"]
        if ending == "flac":
            picture = Picture()
            picture.data = b"PNG"
            file.add_picture(picture)
        file.save()
    return path


def others(path: Path) -> dict[str, str]:
    """Tags of a file, without those of predictions."""
    file = mutagen.File(path)
    if isinstance(file.tags, id3.ID3):
        file.load(path, translate=False)
    found = {key: repr(file.tags[key]) for key in file.tags.keys() if "VALENCE" not in key.upper()}  # noqa: SIM118
    return found | {"pictures": repr([each.data for each in getattr(file, "pictures", [])])}


def sound(path: Path) -> str:
    return sha256(read_waveform(path).tobytes()).hexdigest()


def change(paths: list[Path], folder: Path, **values: float) -> tuple[int, list[str]]:
    failures = dict[str, str]()
    table = pd.DataFrame(values, [*map(str, paths)], dtype=float)
    n = update_tags(table, folder / "record.csv", failures)
    assert not [*folder.rglob(".writing-*")]
    assert not any(failures.values())
    return n, [reason.replace(f"{folder}/", "") for reason in failures]


def test_only_these_tags_change(tmp_path):
    paths = [song(tmp_path, ending) for ending in FORMATS]
    for path in paths:
        path.chmod(0o640)
        os.utime(path, ns=(1_600_000_000_123_456_789, 1_500_000_000_987_654_321))
    before = [(others(path), sound(path)) for path in paths]
    assert "TYER" in before[FORMATS.index("mp3")][0]
    for values in ({"valence": 0.6123, "mood": -0.5}, {"valence": 1, "mood": -0.5}):
        assert change(paths, tmp_path, **values) == (len(FORMATS), [])
        statuses = [path.stat() for path in paths]
        assert {(status.st_mtime_ns, oct(status.st_mode)[-3:]) for status in statuses} == {
            (1_500_000_000_987_654_321, "640")
        }
        for path, (_, heard) in zip(paths, before, strict=True):
            tags, key = mutagen.File(path).tags, KEYS.get(path.suffix[1:], "{}")
            for name, value in values.items():
                (text,) = tags[key.format(name.upper())]
                assert (text.decode() if isinstance(text, bytes) else str(text)) == f"{value:.3f}"
            assert sound(path) == heard
        assert change(paths, tmp_path, **values) == (0, [])
        assert [path.stat().st_ino for path in paths] == [status.st_ino for status in statuses]
    none = float("nan")
    assert change(paths, tmp_path, valence=none, mood=none, unknown=none) == (len(FORMATS), [])
    assert [(others(path), sound(path)) for path in paths] == before
    assert id3.ID3(tmp_path / "song.mp3").version == (2, 3, 0)
    assert (tmp_path / "song.mp3").read_bytes().endswith(V1)


def test_a_file_that_can_not_be_changed_is_as_before_and_the_others_go_on(tmp_path):
    names = ("a.aac", "b.webm", "c.wav", "d.flac", "e.mp3", "f.ogg", "g.wav", "h.flac")
    aac, webm, cut, foreign, newer, text, locked, good = paths = [tmp_path / name for name in names]
    encoded(aac, "aac", noise(1))
    for path in (webm, cut, foreign, newer, locked, good):
        written(path, noise(1))
    cut.write_bytes(b"RIFF\x64\0\0\0" + cut.read_bytes()[8:])  # for a reader, it ends before its sound
    file = mutagen.File(foreign)
    file["ENERGY"] = "high"
    file.save()
    newer.write_bytes(b"ID3\x09\0\0\0\0\0\0" + newer.read_bytes())
    text.write_text("no sound")
    locked.chmod(0o440)
    contents = [path.read_bytes() for path in paths]
    n, reasons = change(paths, tmp_path, energy=0.5)
    assert n == 1
    assert [path.read_bytes() for path in paths[:-1]] == contents[:-1]
    told = {
        "a.aac": "doesn't support tags",
        "b.webm": "its format holds no tags",
        "c.wav": "they would be lost, since its header is wrong",
        "d.flac": "another program's ENERGY is 'high'",
        "e.mp3": ".*2.9.0.*",
        "f.ogg": ".+",
        "g.wav": "it is read-only",
    }
    assert len(reasons) == len(told)
    for reason, (name, why) in zip(reasons, told.items(), strict=True):
        assert re.fullmatch(rf"{name}: its tags can't be changed \({why}\)\. The file is as before\.", reason)
    assert change([foreign, aac], tmp_path, energy=float("nan")) == (0, [])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, limits[1]))  # as a full disk does
    try:
        said = change([good, tmp_path / "none.mp3"], tmp_path, energy=0.25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    full = "h.flac: its tags can't be changed (File too large). The file is as before."
    assert said == (0, [full, "none.mp3 does not exist. Run the command that writes it first."])


def test_predict_writes_and_removes_tags_and_predicts_no_song_again(tmp_path, run_script, monkeypatch):
    folder, out = tmp_path / "mu,sic", tmp_path / "out"
    folder.mkdir()
    for number in range(3):
        written(folder / f'{number} "x".flac', (1 + number) / 3 * noise(2))
    _, second, third = songs = sorted(folder.iterdir())
    elsewhere, hard = tmp_path / "elsewhere.flac", tmp_path / "hard.flac"
    second.rename(elsewhere)
    second.symlink_to(elsewhere)
    os.link(third, hard)
    untagged = hard.read_bytes()
    command = ("predict.py", str(folder), "--out", str(out), "--jobs", "1")

    def replace(source: Path, path: Path, to=os.replace) -> None:
        if path == elsewhere:
            raise KeyboardInterrupt
        to(source, path)

    with monkeypatch.context() as patch:  # Ctrl-C at the last moment
        patch.setattr(os, "replace", replace)
        assert run_script(*command, "--write-tags")[0] == 130
    assert not [*tmp_path.rglob(".writing-*")]
    left = elsewhere.with_name(f".writing-0123456789ab-{elsewhere.name}")  # of a killed run
    left.write_text("half")
    status, said, _ = run_script(*command, "--write-tags")
    assert status == 0
    assert "3 clips: 0 done, 3 already there, 0 failed." in said
    assert "2 of 3 songs have new tags (valence, energy, danceability)." in said
    assert (left.exists(), second.is_symlink(), hard.read_bytes()) == (False, True, untagged)
    table = pd.read_csv(out / "predictions.csv").set_index("path")
    for path in songs:
        tags = mutagen.File(path).tags
        for name in ("valence", "energy", "danceability"):
            assert tags[name] == [f"{table.loc[str(path), name]:.3f}"]
    inodes = [path.stat().st_ino for path in songs]
    assert "0 of 3 songs have new tags" in run_script(*command, "--write-tags")[1]
    assert [path.stat().st_ino for path in songs] == inodes
    status, said, errors = run_script(*command, "--remove-tags", "--timeline")
    assert (status, errors) == (2, "error: --remove-tags predicts nothing. Give it without other work.\n")
    written(folder / "new.flac", noise(1))
    assert "3 of 4 files had tags of predictions" in run_script(*command, "--remove-tags")[1]
    assert not any(mutagen.File(path).tags for path in songs)
    assert "4 clips: 1 done, 3 already there, 0 failed." in run_script(*command)[1]
