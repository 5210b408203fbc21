"""FMA as it is on disk: several head lines, line breaks in cells, nested subsets, broken audio."""

import json
from pathlib import Path

import pandas as pd
import pytest
from command_line import call
from public_folders import fma_audio, fma_metadata, put_rows

from music_emotion.datasets.clip_table import read_clips, target_columns
from music_emotion.datasets.public_sets import write_dataset
from music_emotion.files import InputError

TRACKS = {  # subset, split, artist, genre
    2: ("small", "training", "1", "Hip-Hop"),
    3: ("medium", "training", "1", "Hip-Hop"),
    5: ("small", "training", "1", "Hip-Hop"),
    10: ("small", "validation", "6", "Pop"),
    20: ("large", "training", "4", ""),  # of several roots
    134: ("medium", "test", "1", "Hip-Hop"),
    1486: ("medium", "test", "7", "Old-Time / Historic"),  # broken
    98565: ("small", "training", "8", "Rock"),  # broken
    133297: ("small", "training", "9", "Rock"),  # broken
    133298: ("small", "test", "9", "Rock"),  # not downloaded
}
ECHONEST = {  # danceability, energy, valence; one of them has no audio
    2: (0.675894, 0.634476, 0.576661),
    10: (0.658179, 0.924525, 0.963590),
    134: (0.513238, 0.560410, 0.894072),
    133298: (0.5, 0.5, 0.5),
}


@pytest.fixture(scope="module", params=[False, True], ids=["several head lines", "one head line"])
def fma(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fma")
    fma_metadata(folder / "fma_metadata", TRACKS, ECHONEST, request.param)
    fma_audio(folder / "fma_small", 2, 5, 10, 98565, 133297)
    fma_audio(folder / "audio" / "fma_large", *TRACKS.keys() - {133298})
    (folder / "fma_small" / "checksums").write_text("0  000/000002.mp3\n")
    return folder


@pytest.mark.parametrize(
    ("variant", "ids", "labels", "splits", "said"),
    [
        (None, [2, 5, 10], ["Hip-Hop", "Hip-Hop", "Pop"], ["train", "train", "validation"], ""),
        ("medium", [2, 3, 5, 10, 134], ["Hip-Hop"] * 3 + ["Pop", "Hip-Hop"], None, ""),
        ("large", [2, 3, 5, 10, 134], None, None, "1 clips have no label and are left out: 20."),
    ],
)
def test_genres_of_nested_subsets(fma, tmp_path, capsys, variant, ids, labels, splits, said):
    write_dataset("fma", fma, tmp_path / "clips.csv", variant)
    clips = pd.read_csv(tmp_path / "clips.csv")
    assert clips["id"].tolist() == ids
    assert labels is None or clips["label"].tolist() == labels
    assert splits is None or clips["split"].tolist() == splits
    assert clips["group"].str.partition("-")[0].eq("artist").all()
    assert clips["group"].iloc[0] == "artist-1"
    small = fma.resolve() / "fma_small"
    assert clips["path"][0] == str(small / "000" / "000002.mp3")  # rather than the copy in fma_large
    printed = capsys.readouterr().out
    broken = "98565, 133297" if variant is None else "1486, 98565, 133297"
    assert f"except in fma_full: {broken}." in printed
    assert "have no audio file and are left out: 133/133298." in printed
    assert said in printed


def test_the_targets_of_echonest_through_the_command(fma, tmp_path, capsys):
    assert call("dataset.py", "fma", fma, "--variant", "echonest", "--out", tmp_path / "e.csv") == 0
    said = capsys.readouterr().out
    assert "1 of 4 clips have no audio file and are left out: 133/133298." in said
    assert "3 clips of FMA (1 train, 1 validation, 1 test); targets: valence, energy, danceability" in said
    clips = read_clips(tmp_path / "e.csv").set_index("id")
    assert target_columns(clips) == ["valence", "energy", "danceability"]
    assert clips.loc[10, ["valence", "energy", "danceability"]].tolist() == [0.963590, 0.924525, 0.658179]
    assert clips["path"][134].endswith("audio/fma_large/000/000134.mp3")
    described = json.loads((tmp_path / "e-dataset.json").read_text())
    assert described["splits"] == {"train": 1, "validation": 1, "test": 1}
    assert "not ratings" in described["notes"][0]


def test_broken_clips_are_taken_from_the_whole_songs(tmp_path, capsys):
    fma_metadata(tmp_path / "fma_metadata", TRACKS, ECHONEST)
    fma_audio(tmp_path / "fma_small", 2, 5, 10, 98565, 133297)
    fma_audio(tmp_path / "fma_full", 10, 98565)
    write_dataset("fma", tmp_path, tmp_path / "out" / "clips.csv")
    paths = pd.read_csv(tmp_path / "out" / "clips.csv", index_col="id")["path"]
    assert [Path(path).parts[-3] for path in paths] == ["fma_small"] * 3 + ["fma_full"]
    assert paths.index.tolist() == [2, 5, 10, 98565]
    assert "1 clips are the whole songs of fma_full" in capsys.readouterr().out


def test_a_table_of_another_kind_is_refused(tmp_path):
    fma_audio(tmp_path, 2)
    put_rows(tmp_path / "tracks.csv", [["track_id", "title"], ["2", "Food"]])
    with pytest.raises(InputError, match=r"tracks.csv can't be read as a table: .*'set_split'"):
        write_dataset("fma", tmp_path, tmp_path / "clips.csv")
    fma_metadata(tmp_path / "fma_metadata", TRACKS, ECHONEST)
    (tmp_path / "tracks.csv").unlink()
    table = tmp_path / "fma_metadata" / "tracks.csv"
    table.write_text(table.read_text().replace("\n134,", "\ntrack 134,"))
    with pytest.raises(InputError, match=r"FMA.*'track 134'.*Download"):
        write_dataset("fma", tmp_path, tmp_path / "clips.csv")
