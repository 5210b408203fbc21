"""4Q, MERGE and Soundtracks: every trap of their folders, and what becomes of it."""

import numpy as np
import pandas as pd
import pytest
from public_folders import merge, put, quadrants, soundtracks

from music_emotion.datasets.public_sets import write_dataset
from music_emotion.files import InputError, read_json


@pytest.fixture
def read(tmp_path):
    """Read a set: its clips by the names of their files, and what was said."""

    def run(name, folder, variant=None) -> tuple[pd.DataFrame, list[str]]:
        write_dataset(name, folder, tmp_path / "clips.csv", variant)
        clips = pd.read_csv(tmp_path / "clips.csv", dtype={"group": str})
        stems = clips["path"].str.extract(r"([^/]+)\.mp3$")[0]
        return clips.set_index(stems), read_json(tmp_path / "dataset.json")["notes"]

    return run


def test_4q_gives_quadrants_or_two_binary_targets_and_groups_by_artist(read, tmp_path):
    folder = quadrants(tmp_path / "set")
    (annotations,) = folder.rglob("*annotations.csv")
    put(annotations, annotations.read_bytes().decode() + "MT0099999999,Q5\r\n\r\n,\r\n")
    (folder / "MER_audio_taffc_dataset/Q1/MT0099999999.mp3").symlink_to(annotations)
    clips, notes = read("4q", folder)
    assert clips["label"].tolist() == ["Q1", "Q2", "Q3", "Q4"] * 3
    assert clips["group"].tolist() == [
        *('the "5" royales'.removeprefix("the "), "harry connick, jr.", "clip 3", "clip 4"),
        *("others", "others", "others", *"abcde"),
    ]
    assert "3 Q1, 3 Q2, 3 Q3, 3 Q4; quadrants come from mood tags." in notes
    assert "3 clips have no artist; each is a group of its own." in notes
    assert "1 clips have no label and are left out: MT0099999999." in notes
    binary, _ = read("4q", folder, "binary")
    assert binary["arousal"].tolist() == [1, 1, 0, 0] * 3
    assert binary["valence"].tolist() == [1, 0, 0, 1] * 3
    assert binary[["id", "path", "group"]].equals(clips[["id", "path", "group"]])


@pytest.mark.parametrize(
    ("part", "level", "lyrics"),
    [
        ("audio_complete", "", False),
        ("audio_balanced", "audio/", False),
        ("bimodal_complete", "audio/", True),
    ],
)
def test_merge_is_found_in_every_layout(part, level, lyrics, read, tmp_path):
    folder = merge(tmp_path / "set", part, level, lyrics)
    clips, notes = read("merge", folder.parent)
    assert notes[0] == f"12 songs of the part '{part.replace('_', ' ')}', split 70-15-15."
    assert clips["split"].value_counts().to_dict() == {"train": 8, "validation": 2, "test": 2}
    assert clips.loc[["A001", "A061-66", "MT0000004637"], "label"].tolist() == ["Q2", "Q3", "Q1"]
    assert clips.loc[["A001", "A061-66", "MT0000004637"], "group"].tolist() == ["beatles"] * 3
    assert clips["group"].nunique() == 10  # the song without an artist is a group of its own
    values, notes = read("merge", folder, "values-40-30-30")
    assert values["split"].value_counts().to_dict() == {"train": 5, "validation": 3, "test": 3}
    assert values["arousal"]["A061-66"] == 0.12
    assert "1 clips are in no split and are left out: A108." in notes
    assert "label" not in values
    assert values["id"].equals(clips["id"].drop("A108"))


def test_of_several_parts_of_merge_one_is_read_and_lyrics_alone_are_none(read, tmp_path):
    for part in ("audio_balanced", "audio_complete"):
        merge(tmp_path / "set", part)
    _, notes = read("merge", tmp_path / "set")
    assert "the part 'audio complete'" in notes[0]
    assert "There too, and not read: audio balanced." in notes[1]
    (tmp_path / "lyrics").mkdir()
    put(tmp_path / "lyrics/merge_lyrics_complete_metadata.csv", "Song,Quadrant\nL001,Q1\n")
    with pytest.raises(InputError, match=r"it holds: merge_lyrics_complete_metadata\.csv"):
        read("merge", tmp_path / "lyrics")


@pytest.mark.parametrize("spare", ["", ",,"])
def test_soundtracks_takes_ratings_by_name_and_scales_them(spare, read, tmp_path):
    folder = soundtracks(tmp_path / "set", spare=spare)
    clips, notes = read("soundtracks", folder)
    assert clips.index.tolist() == [f"{n:03}" for n in range(1, 13)]
    assert clips["id"].tolist() == list(range(1, 13))
    targets = ["valence", "energy", "tension", "anger", "fear", "happy", "sad", "tender"]
    assert clips.columns.tolist() == ["id", "path", "group", *targets]
    np.testing.assert_allclose(clips[targets].mean(axis=1), (1 + clips["id"] / 100) / 8)
    assert clips["group"].nunique() == 12
    assert notes == [
        "12 excerpts of set1; ratings from 1 to 9.",
        "Albums are unknown without set1_tracklist.csv, so there are no groups by album.",
    ]


@pytest.mark.parametrize("audio", ["Set{n}/Set{n}", "set{n}/mp3/files", "Soundtrack{size}_mp3", "set {n}"])
def test_both_sets_of_soundtracks_have_the_same_numbers_and_are_kept_apart(audio, read, tmp_path):
    folder = soundtracks(tmp_path / "set", (1, 2))
    for n, size in ((1, 360), (2, 110)):
        place = folder / "audio" / audio.format(n=n, size=size)
        place.parent.mkdir(parents=True, exist_ok=True)
        (folder / f"Set{n}").rename(folder / f"old{n}")
        (folder / f"old{n}/Set{n}").rename(place)
    for variant, place, low in ((None, 1, 2), ("set1", 1, 2), ("set2", 2, 5)):
        clips, notes = read("soundtracks", folder, variant)
        inside = str(folder / "audio" / audio.format(n=place, size={1: 360, 2: 110}[place]))
        assert clips["path"].str.startswith(inside).all()
        np.testing.assert_allclose(clips["valence"], (low + clips["id"] / 100 - 1) / 8)
        other = {1: "set2", 2: "set1"}[place]
        assert f"The ratings of {other} are there too: --variant {other} reads them." in notes
    np.testing.assert_allclose(clips["beauty"], (7.77 - 1) / 8)
    assert "Seven excerpts occur twice, with two ratings, by the set's list: 010 = 095, 019" in " ".join(
        notes
    )
    assert clips.loc[["010", "095"], "group"].tolist() == ["oliver twist"] * 2
    assert clips.loc[["001", "002"], "group"].tolist() == ["grizzly man"] * 2  # spelt in two ways


def test_albums_of_soundtracks_come_from_the_list_of_tracks_or_from_what_is_known(read, tmp_path):
    folder = soundtracks(tmp_path / "set", (2,))
    ratings = folder / "mean_ratings_set2.csv"
    cut = pd.read_csv(ratings, dtype=str).drop(columns=["soundtrack", "link"])
    cut.to_csv(ratings, index=False)
    clips, notes = read("soundtracks", folder)
    assert clips.loc[["010", "095", "084", "088"], "group"].tolist() == ["10 and 95"] * 2 + ["84 and 88"] * 2
    assert clips["group"].nunique() == 7
    assert any("Albums are unknown" in note for note in notes)
    albums = {10: "Oliver Twist", 95: "Oliver Twist ", 17: "The Untouchables", 1: "The Portait of a Lady"}
    rows = [f"{n:03},Anger High,{albums.get(int(n), n)},7,00:01-00:16\n" for n in cut["Number"]]
    put(folder / "set2_tracklist.csv", "Nro,Emotion,Album name,Track,Min:Sec\n" + "".join(rows) + "\n")
    clips, notes = read("soundtracks", folder)
    groups = clips.loc[["010", "095", "017", "001"], "group"].tolist()
    assert groups == ["oliver twist", "oliver twist", "fifth element", "portrait of a lady"]
    assert not any("Albums are unknown" in note for note in notes)
