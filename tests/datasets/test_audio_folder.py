"""Folders of audio: what is found, what is skipped and counted, and what is taken for ids and classes."""

import os
import re

import av
import pandas as pd
import pytest
import soundfile
from audio_files import folder_of

from music_emotion.datasets.audio_folder import ENDINGS, audio_below
from music_emotion.datasets.clip_table import read_clips
from music_emotion.files import InputError


def test_the_endings_are_those_of_the_decoders_and_other_spellings_of_them():
    known = {name.lower() for name in soundfile.available_formats()}
    for name in av.formats_available:
        try:
            known |= av.ContainerFormat(name).extensions
        except ValueError:  # a device
            continue
    endings = set(re.findall(r"\w+", ENDINGS.pattern[: ENDINGS.pattern.index(")")]))
    assert endings - known == {"dff", "dsf", "f4a", "m4p", "m4r", "mpga", "ogx", "snd", "wave", "weba"}
    assert endings >= {"mp3", "caf", "m4b", "mka", "wv", "mp2"}


def test_what_is_skipped_is_counted_and_nothing_but_files_is_opened(tmp_path, capsys):
    audio = ["...Baby One More Time.mp3", "A/b.CAF", "A/c.m4b", "A/d.mka", "A/e.wv", "A/f.mp2"]
    others = ["A/x.xyz", "A/y.jpg", "z.jpg", "README", "Mr. Foo é", ".DS_Store", "._a.mp3", ".hidden/g.mp3"]
    music = folder_of(tmp_path / "music", *audio, *others, "../else/h.wav")
    os.mkfifo(music / "fifo.mp3")
    for link, target in {
        **{"gone.mp3": "nowhere", "loop.mp3": "loop.mp3", "self": ".", "A/up": "../..", "again": "A"},
        "A/linked": "../../else",
    }.items():
        (music / link).symlink_to(target)
    found = sorted([*audio, "A/up/else/h.wav"])
    assert audio_below(music) == found
    assert capsys.readouterr().out == (
        f"{music}: 13 files skipped: a link to a listed folder (4), neither file nor folder (3), "
        f"no ending (2), .jpg (2), hidden (1), .xyz (1).\n"
    )


def test_a_folder_that_can_not_be_listed_is_named(tmp_path, capsys, monkeypatch):
    music, scandir = folder_of(tmp_path / "music", "Pop/a.mp3", "Rock/b.mp3"), os.scandir

    def refuse(path: str) -> object:
        if path.endswith("Rock"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert audio_below(music) == ["Pop/a.mp3"]
    assert capsys.readouterr().out == f"warning: {music}/Rock can't be listed (Permission denied).\n"


@pytest.mark.parametrize(
    ("names", "ids", "classes", "said"),
    [
        (["000/000002.mp3", "133/133297.mp3"], [2, 133297], None, "ids are the file names"),  # FMA
        (["05/5.mp3", "48/948.mp3"], [5, 948], None, "ids are the file names"),  # MTG-Jamendo
        (["00/7400.low.mp3", "48/948.low.mp3"], [1, 2], None, "ids count the sorted names from 1"),
        (["01/7.mp3", "02/8.mp3"], [1, 2], ["01", "02"], "; the classes are its sub-folders: 01 (1), 02 (1)"),
        (["1/12.mp3", "1/13.mp3"], [1, 2], ["1", "1"], "; the classes are its sub-folders: 1 (2)"),
        (["R/b.mp3", "R/live/ü.M4A", "Old/a.au"], [1, 2, 3], ["Old", "R", "R"], "folders: Old (1), R (2)"),
        (["jazz/jazz.1.au", "test/a.au"], [1, 2], ["jazz", "test"], "sub-folders: jazz (1), test (1)"),
        (["1042.mp3", "7.wav", "0.aac"], [0, 1042, 7], None, "3 clips; ids are the file names"),
        (["7.mp3", "b.mp4"], [1, 2], None, "2 clips; ids count the sorted names from 1"),
        (["9999999999999999999.oga"], [1], None, "1 clips; ids count the sorted names from 1"),
        (["3.mp3", "03.wav"], [1, 2], None, "2 clips; ids count the sorted names from 1"),
    ],
)
def test_ids_and_classes_that_were_inferred_are_printed(tmp_path, capsys, names, ids, classes, said):
    clips = read_clips(folder_of(tmp_path, *names))
    assert clips["id"].tolist() == ids
    assert clips["path"].tolist() == [str(tmp_path.resolve() / name) for name in sorted(names)]
    assert list(clips.columns[2:]) == ([] if classes is None else ["label"])
    assert clips.get("label", pd.Series(dtype=str)).tolist() == (classes or [])
    assert capsys.readouterr().out.endswith(f"{said}.\n")


def test_splits_are_not_classes(tmp_path):
    with pytest.raises(InputError, match=r"sub-folders of .* are splits \(Train, test\), not classes"):
        read_clips(folder_of(tmp_path, "Train/Rock/a.mp3", "test/Rock/b.mp3"))
