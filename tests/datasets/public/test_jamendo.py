"""MTG-Jamendo's mood tags as they are on disk: ragged rows, five splits of the same file names."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from public_folders import jamendo

from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.public_sets import write_dataset
from music_emotion.files import InputError

TRACKS = {  # artist, seconds, tags
    948: (87, 36.2, "calm melodic relaxing soft"),
    7400: (87, 33.0, "happy"),
    11839: (1780, 30.4, "dark happy"),
    108: (3, 31.6, "dark"),
    109: (3, 32.0, "calm"),  # not downloaded
    5: (4, 32.0, "horror"),  # in no split
}
SPLITS = [  # training, validation, test
    ([948, 7400], [11839], [108, 109]),
    ([108, 109], [11839], [948, 7400]),
]


@pytest.fixture(scope="module", params=["{}.mp3", "{}.low.mp3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return jamendo(tmp_path_factory.mktemp("jamendo"), TRACKS, SPLITS, request.param, missing=[109])


def test_tags_splits_and_spans(folder, tmp_path, capsys):
    write_dataset("jamendo", folder, tmp_path / "clips.csv")
    clips = pd.read_csv(tmp_path / "clips.csv").set_index("id")
    assert clips["split"].to_dict() == {108: "test", 948: "train", 7400: "train", 11839: "validation"}
    assert clips["group"].tolist() == ["artist_000003", "artist_000087", "artist_000087", "artist_001780"]
    tags = ["calm", "dark", "happy", "melodic", "relaxing", "soft"]
    assert list(clips.columns[-6:]) == tags  # without horror, which is in no split
    assert clips.loc[948, tags].tolist() == [1, 0, 0, 1, 1, 1]
    assert clips.loc[11839, tags].tolist() == [0, 1, 1, 0, 0, 0]
    assert clips.loc[948, ["start_seconds", "end_seconds"]].tolist() == [3.1, 33.1]
    assert clips.loc[7400, ["start_seconds", "end_seconds"]].tolist() == [1.5, 31.5]
    assert clips.loc[11839, ["start_seconds", "end_seconds"]].isna().all()
    said = capsys.readouterr().out
    assert "1 tracks are left out, since split-0 has only tracks with the 6 more frequent tags: 5." in said
    assert "the middle 30 s; 1 shorter tracks are whole." in said
    assert "1 of 5 clips have no audio file and are left out: 09/109." in said


@pytest.mark.parametrize("folder", ["{}.low.mp3"], indirect=True)
def test_another_split_through_the_command_line(folder, tmp_path):
    out = tmp_path / "clips.csv"
    command = [sys.executable, "-m", "music_emotion", "dataset", "jamendo", str(folder), "--out", str(out)]
    done = subprocess.run([*command, "--variant", "split-1"], capture_output=True, text=True, check=True)
    assert "4 clips of MTG-Jamendo mood/theme (1 train, 1 validation, 2 test)" in done.stdout
    clips = read_clips(out)  # which compares spans with audio
    assert [Path(path).name for path in clips["path"]] == [f"{number}.low.mp3" for number in clips["id"]]
    with pytest.raises(InputError, match="holds no split-2/autotagging_moodtheme-train"):
        write_dataset("jamendo", folder, out, "split-2")
