"""GTZAN as it is on disk: other endings than in the lists, a broken file, files of Marsyas."""

import re
from pathlib import Path

import pandas as pd
import pytest
from command_line import call
from public_folders import gtzan

from music_emotion.datasets.public import gtzan as reader
from music_emotion.datasets.public_sets import write_dataset
from music_emotion.files import sha256

CLIPS = [  # for training, validation, test, and of no list
    *("blues.00029", "jazz.00054", "blues.00000", "hiphop.00026", "hiphop.00027", "jazz.00099"),
    "classical.00042",
]


def test_the_lists_are_the_published_ones():
    folder = Path(reader.__file__).with_name("splits")
    lists = {part: folder / f"gtzan-{part}.txt" for part in ("train", "valid", "test")}
    assert {part: len(path.read_text().splitlines()) for part, path in lists.items()} == {
        **{"train": 443, "valid": 197, "test": 290}
    }
    assert [sha256(path)[:8] for path in lists.values()] == ["2b04966c", "f8fbee7c", "09cafa6a"]
    notice = (folder / "NOTICE-gtzan.txt").read_text()
    assert "Copyright (c) 2017 Jongpil Lee" in notice
    assert all(sha256(path)[:8] in notice for path in lists.values())


@pytest.mark.parametrize(("top", "ending"), [("Data/genres_original", ".wav"), ("genres", ".au")])
def test_the_filtered_split_matches_by_stem(tmp_path, capsys, top, ending):
    gtzan(tmp_path, CLIPS, top, ending)
    write_dataset("gtzan", tmp_path, tmp_path / "clips.csv")
    clips = pd.read_csv(tmp_path / "clips.csv")
    names = clips["path"].map(lambda path: Path(path).stem)
    assert dict(zip(names, clips["split"], strict=True)) == {
        **{"blues.00000": "validation", "blues.00029": "train", "hiphop.00026": "test"},
        **{"hiphop.00027": "test", "jazz.00054": "train", "jazz.00099": "test"},
    }
    assert clips["label"].tolist() == names.str.partition(".")[0].tolist()
    said = capsys.readouterr().out
    assert "924 of 930 clips have no audio file" in said
    assert "1 clips are in no part of the split" in said
    assert "jazz/jazz.00054 can be read here" in said
    assert re.search(r"2 files skipped: .*\.mf \(1\)", said)


@pytest.mark.parametrize("variant", ["filtered", "all"])
def test_the_broken_clip_is_left_out(tmp_path, capsys, variant):
    gtzan(tmp_path, CLIPS)
    (tmp_path / "genres" / "jazz" / "jazz.00054.wav").write_bytes(bytes(1000))
    assert call("dataset.py", "gtzan", tmp_path, "--out", tmp_path / "c.csv", "--variant", variant) == 0
    clips = pd.read_csv(tmp_path / "c.csv")
    assert not clips["path"].str.contains("jazz.00054").any()
    assert len(clips) == {"filtered": 5, "all": 6}[variant]
    assert ("split" in clips) == (variant == "filtered")
    assert clips["label"].value_counts().to_dict() == {
        **{"blues": 2, "hiphop": 2, "jazz": 1},
        **({"classical": 1} if variant == "all" else {}),
    }
    assert "jazz/jazz.00054 is left out" in capsys.readouterr().out
