"""Labels and arrays, statistics or windows brought together, and what is missing counted and named."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import (
    join,
    load_clip_set,
    load_test_set,
    load_unlabelled,
    load_windows,
    read_tables,
)
from music_emotion.datasets.statistics_table import Statistics, families_of
from music_emotion.files import InputError


@pytest.fixture
def data(tmp_path):
    """Data section for sets written under `tmp_path`."""
    return lambda **settings: DataSection(root=str(tmp_path), stores=str(tmp_path / "stores"), **settings)


def write_set(folder: Path, split: str, ids: list[int], lines: list[str]) -> None:
    (folder / split).mkdir(parents=True)
    for clip_id in ids:
        np.save(folder / split / f"{clip_id}.fused.full.npy", np.full((140, 3), -float(clip_id % 50)))
    if lines:
        (folder / f"{split}_labels.txt").write_text("\n".join(lines) + "\n")


def write_emotion(root: Path, ids: list[int], labelled: list[int], split: str = "train") -> None:
    lines = ["Id,valence,energy", *(f"{clip_id},{clip_id / 1000},0.5" for clip_id in labelled)]
    write_set(root / "multitask_dataset", split, ids, lines if labelled else [])


def write_genre(root: Path, genres: dict[int, str], split: str = "train") -> None:
    lines = ["Id\tGenre", *(f"{clip_id}.full.fused.npy.gz\t{name}" for clip_id, name in genres.items())]
    write_set(root / "fma_genre_spectrograms", split, list(genres), lines)


def test_every_clip_gets_its_own_labels_and_its_own_array_whatever_the_order(tmp_path, data):
    write_emotion(tmp_path, ids=[3, 20, 100], labelled=[100, 3, 20])
    clips = load_clip_set(data(), "emotion", "train")
    assert clips.ids.tolist() == [3, 20, 100]
    assert clips.outputs == ("valence", "energy")
    np.testing.assert_allclose(clips.values, [[0.003, 0.5], [0.02, 0.5], [0.1, 0.5]])
    assert clips.values.dtype == np.float32
    assert clips.has_labels
    for clip_id in (3, 20, 100):
        assert (clips.store.frames_of(clip_id) == -(clip_id % 50)).all()
    assert clips.truth.loc[20].to_dict() == pytest.approx({"valence": 0.02, "energy": 0.5})
    for chosen in (np.array([2, 1]), np.array([False, True, True])):
        part = clips.select(chosen)
        np.testing.assert_allclose(part.values[:, 0], part.ids / 1000)
        assert (len(part), part.outputs) == (2, clips.outputs)
    assert load_clip_set(data(targets=("energy",)), "emotion", "train").outputs == ("energy",)


def test_beat_synchronous_sets_are_read_from_their_own_folder(competition, tmp_path):
    data = DataSection(root=str(competition), stores=str(tmp_path), rate="beat")
    assert load_clip_set(data, "emotion", "train").store.index["length"].between(15, 24).all()


def test_mismatches_and_unusable_arrays_within_the_allowed_share_are_left_out_and_listed(
    tmp_path, data, capsys
):
    write_emotion(tmp_path, ids=[*range(10, 28), 1], labelled=[50, *range(10, 28)])
    with pytest.raises(InputError, match="1 ids have no array"):
        load_clip_set(data(allow_bad_share=0.09), "emotion", "train")
    (tmp_path / "multitask_dataset" / "train" / "12.fused.full.npy").write_bytes(b"")
    clips = load_clip_set(data(allow_bad_share=0.1), "emotion", "train")
    assert clips.ids.tolist() == [10, 11, *range(13, 28)]
    np.testing.assert_allclose(clips.values[:, 0], clips.ids / 1000)
    printed = capsys.readouterr().out
    assert re.search(r"left out: .*1 ids have no array \(50\) and 1 arrays have no label \(1\)", printed)
    assert "left out: " in printed.split("\n")[1]


def test_classes_are_mapped_or_kept_and_the_test_split_has_those_of_training(tmp_path, data):
    write_genre(tmp_path, {1: "Rock", 2: "Soundtrack", 3: "Psych-Rock", 4: "Blues", 5: "Old-Time", 6: "Jazz"})
    clips = load_clip_set(data(), "genre", "train")
    assert clips.ids.tolist() == [1, 3, 4, 6]  # those left out lack nothing
    assert clips.outputs == ("Blues", "Jazz", "Rock")
    np.testing.assert_array_equal(clips.values, [[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0]])
    raw = ("Blues", "Jazz", "Old-Time", "Psych-Rock", "Rock", "Soundtrack")
    assert load_clip_set(data(genres={}), "genre", "train").outputs == raw
    write_genre(tmp_path, {9: "Rock", 8: "Blues"}, "test")
    test = load_test_set(data(), "genre", clips)
    assert test.outputs == clips.outputs
    np.testing.assert_array_equal(test.values, [[1, 0, 0], [0, 0, 1]])
    with pytest.raises(InputError, match="no training clip has the classes Blues"):
        load_clip_set(data(), "genre", "test", ("Rock",))


def test_unlabelled_clips_are_all_that_have_an_array_whatever_their_class(tmp_path, data):
    write_emotion(tmp_path, [1, 2], [1, 2])
    write_emotion(tmp_path, [12, 7, 100], [], "test")
    write_genre(tmp_path, {1: "Blues", 4: "Soundtrack", 6: "Post-Punk"})
    assert list(load_unlabelled(data(), ("genre",), ("energy",))) == ["genre-train"]
    assert list(load_unlabelled(data(), ("test",), ("energy",))) == ["test"]
    write_genre(tmp_path, {5: "Old-Time"}, "test")
    outputs = ("energy", "valence")
    sets = load_unlabelled(data(), ("genre", "test"), outputs)
    ids = {name: clips.ids.tolist() for name, clips in sets.items()}
    assert ids == {"test": [7, 12, 100], "genre-train": [1, 4, 6], "genre-test": [5]}
    for clips in (*sets.values(), load_clip_set(data(), "emotion", "test", outputs)):
        assert (clips.outputs, clips.has_labels) == (outputs, False)
        np.testing.assert_array_equal(clips.values, np.full((len(clips), 2), np.nan))


def test_joined_sets_keep_labels_and_arrays_and_no_id_stands_for_two_clips(tmp_path, data):
    write_emotion(tmp_path, [3, 20, 100], [3, 20, 100])
    write_emotion(tmp_path, [3, 20, 21], [], "test")
    write_genre(tmp_path, {500: "Blues", 700: "Soundtrack"})
    clips = load_clip_set(data(), "emotion", "train")
    others = load_unlabelled(data(), ("test", "genre"), clips.outputs)
    sets = [clips.select(np.array([0, 2])), *others.values()]  # the store holds more than the set
    joined = join(sets)
    assert joined.ids.tolist() == [3, 100, 1003, 1020, 1021, 1500, 1700]
    assert joined.store.index.index.tolist() == joined.ids.tolist()
    np.testing.assert_array_equal(joined.values, np.concatenate([each.values for each in sets]))
    for own_id, new_id in zip(np.concatenate([each.ids for each in sets]), joined.ids, strict=True):
        np.testing.assert_array_equal(joined.store.frames_of(new_id), np.full((3, 140), -(own_id % 50)))
        start = joined.store.index.loc[new_id, "start"]
        np.testing.assert_array_equal(joined.store.frames[start : start + 1, 128:], [[-(own_id % 50)] * 12])


@pytest.fixture
def table(tmp_path):
    """Statistics of the genre set's training clips, as they are written, in another order."""
    ids = np.arange(32, 0, -1)
    origin = dict.fromkeys(("path", "bytes", "modified_ns", "start_seconds", "end_seconds", "settings"), 1)
    values = {"mfcc0_mean_db": ids * 1.0, "mfcc1_mean_db": ids + 0.5, "centroid_hz": ids % 7}
    frame = pd.DataFrame({"id": ids, **origin, **values, "reason": np.nan})
    frame.to_csv(tmp_path / "statistics-train.csv", index=False)
    return tmp_path / "statistics-train.csv"


def test_statistics_are_clips_of_one_frame_that_follow_their_ids_and_labels(competition, table):
    path = str(table).replace("train", "{split}")
    data = DataSection(root=str(competition), statistics=path, columns=("mfcc*_mean_db",))
    clips = load_clip_set(data, "genre", "train")
    assert len(clips) == 24  # Soundtrack is left out by the course's mapping
    for clip_id, values in zip(clips.ids, clips.values, strict=True):
        assert clips.store.frames_of(clip_id).tolist() == [[clip_id, clip_id + 0.5]]
        expected = {1: "Folk", 2: "Rock", 0: "Blues"}[clip_id % 4]
        assert clips.outputs[values.argmax()] == expected
    assert list(read_tables({"": table})) == ["mfcc0_mean_db", "mfcc1_mean_db", "centroid_hz"]
    # another split has another table or none
    assert len(load_test_set(data, "genre", clips)) == 0
    frame = pd.read_csv(table).iloc[:12].assign(id=np.arange(5001, 5013))
    frame.to_csv(table.with_name("statistics-test.csv"), index=False)
    test = load_test_set(data, "genre", clips)
    assert (test.outputs, len(test)) == (clips.outputs, 9)
    frame[frame.columns[::-1]].to_csv(table.with_name("statistics-test.csv"), index=False)
    for clip_id in load_test_set(data, "genre", clips).ids:  # columns follow the order of training
        rows = frame.set_index("id").loc[[clip_id], ["mfcc0_mean_db", "mfcc1_mean_db"]]
        assert (
            load_test_set(data, "genre", clips).store.frames_of(clip_id).tolist() == rows.to_numpy().tolist()
        )
    frame.drop(columns="mfcc1_mean_db").to_csv(table.with_name("statistics-test.csv"), index=False)
    with pytest.raises(InputError, match=r"1 columns of the training split are missing \(mfcc1_mean_db\)"):
        load_test_set(data, "genre", clips)


def test_clips_that_failed_are_left_out_as_far_as_allowed(competition, table):
    frame = pd.read_csv(table).astype({"reason": object})
    frame.loc[0, ["mfcc0_mean_db", "reason"]] = [np.nan, "too short"]
    frame.to_csv(table, index=False)
    data = {"root": str(competition), "statistics": str(table)}
    with pytest.raises(InputError, match=r"1 ids have no array \(32\)"):
        load_clip_set(DataSection(**data), "genre", "train")
    assert len(load_clip_set(DataSection(**data, allow_bad_share=0.1), "genre", "train")) == 23


def test_damaged_statistics_get_a_sentence(tmp_path):
    path = tmp_path / "statistics.csv"
    with pytest.raises(InputError, match=r"does not exist\. Make it with music-emotion statistics"):
        read_tables({"": path})
    for content, sentence in {
        b"\xff\xfe\x00": "is not a table of statistics",
        b"id,a,b\n1,0,5,0,7\n2,0,6,0,8\n": "is not a table of statistics: Length of header",
        b"a,b\n1,2\n": "has no column 'id' with one row for each clip",
        b"id,b\n1,2\n1,3\n": "has no column 'id' with one row for each clip",
        b"id,b\n1,2\n": r"has no columns like mfcc\*",
        b"id,mfcc0\n1,loud\n": "not finite numbers in mfcc0",
    }.items():
        path.write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            read_tables({"": path}, ("mfcc*",))


def test_embeddings_stand_beside_arrays_or_statistics_of_their_ids(tmp_path, data, capsys):
    write_emotion(tmp_path, [1, 2, 3], [1, 2, 3])
    write_emotion(tmp_path, [2, 9], [], "test")
    assert load_clip_set(data(columns=("x",)), "emotion", "train").table is None  # columns of no table
    texts = {
        "ear-train": "id,path,msd:0,msd:1,reason\n3,c,.3,30,\n2,b,,,broken\n7,x,.7,70,\n1,a,.1,10,\n",
        "ear-test": "id,msd:1,msd:0\n9,90,.9\n2,20,.2\n",
        "mine": "id,0,1\n1,-1,100\n2,-2,200\n3,-3,300\n9,-9,900\n",
        "s-train": "id,x,msd:0\n3,33,1\n1,11,2\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.csv").write_text(text)
    ear, mine, s = (str(tmp_path / f"{name}.csv") for name in ("ear-{split}", "mine", "s-{split}"))
    with pytest.raises(InputError, match=r"ear-train.csv: 1 of 3 clips have no row \(2\).*share 0.334"):
        load_clip_set(data(embeddings=(ear, mine)), "emotion", "train")
    section = data(embeddings=(ear, mine), columns=("msd*", "table2:1"), allow_bad_share=0.4)
    clips, statistics = load_clip_set(section, "emotion", "train"), Statistics(section, "emotion")
    assert "left out" in capsys.readouterr().out
    known = statistics.of(clips.select(np.array([1, 0])))
    assert known.index.tolist() == [3, 1]
    families = families_of(known)
    assert families[-3:] == ("msd", "msd", "table2")
    assert len(set(families)) == 24
    np.testing.assert_allclose(known.iloc[:, -3:], [[0.3, 30, 300], [0.1, 10, 100]])
    # in the test split, columns follow the order of training
    tested = statistics.of(load_test_set(section, "emotion", clips))
    np.testing.assert_allclose(tested.iloc[:, -3:], [[0.2, 20, 200], [0.9, 90, 900]])
    (tmp_path / "ear-test.csv").write_text("id,msd:0\n9,1\n2,1\n")
    with pytest.raises(
        InputError, match=r"ear-test.csv.*: 1 columns of the training split are missing \(msd:1\)"
    ):
        statistics.of(load_test_set(section, "emotion", clips))
    heard = "id,msd:0,msd:1,settings\n"
    (tmp_path / "ear-test.csv").write_text(f"{heard}9,1,1,hop 94\n2,1,1,hop 94\n")
    with pytest.raises(InputError, match=r"ear-test.csv.* was made with other settings .* the same flags"):
        statistics.of(load_test_set(section, "emotion", clips))
    # one vector for a network
    section = data(statistics=s, embeddings=(mine,), allow_bad_share=0.4)
    clips = load_clip_set(section, "emotion", "train")
    assert (clips.ids.tolist(), clips.store.frames_of(3).tolist()) == ([1, 3], [[33, 1, -3, 300]])
    assert families_of(Statistics(section, "emotion").of(clips)) == ("", "msd", "table1", "table1")
    with pytest.raises(InputError, match=r"s-train.csv, .*ear-train.csv have the same columns: msd:0\. Name"):
        read_tables({"": tmp_path / "s-train.csv", "table1": tmp_path / "ear-train.csv"})


CLASSES = ("blues", "classical", "hiphop", "rock")


@pytest.fixture
def windows(tmp_path):
    """Write windows of a split and give their features and data section: `windows("train", 8, (26,))`."""

    def write(split: str, n: int, shape: tuple[int, ...], **settings) -> tuple[np.ndarray, DataSection]:
        (tmp_path / split).mkdir(exist_ok=True)
        features = np.random.default_rng(0).normal(size=(n, *shape))
        np.save(tmp_path / split / "X.npy", features)
        np.save(tmp_path / split / "labels.npy", np.array(CLASSES)[np.arange(n) % 4])
        return features, DataSection(windows=str(tmp_path / "{split}"), **{"genres": {}, **settings})

    return write


@pytest.mark.parametrize("shape", [(21, 128), (26,)])
def test_windows_are_clips_of_their_frames_and_vectors_of_one(windows, shape):
    features, data = windows("train", 12, shape)
    clips = load_clip_set(data, "genre", "train")
    assert clips.outputs == CLASSES
    assert clips.values.argmax(axis=1).tolist() == [0, 1, 2, 3] * 3
    for clip_id in clips.ids:
        np.testing.assert_array_equal(clips.store.frames_of(clip_id), np.atleast_2d(features[clip_id]))


def test_labels_of_windows_are_names_numbers_or_bytes_and_are_mapped(tmp_path, windows):
    mapping = {"blues": "old", "classical": "old", "hiphop": None, "rock": "new"}
    clips = load_windows(windows("train", 8, (26,), genres=mapping)[1], "train")
    assert clips.outputs == ("new", "old")
    assert clips.ids.tolist() == [0, 1, 3, 4, 5, 7]  # those left out keep their numbers
    assert clips.values.argmax(axis=1).tolist() == [1, 1, 0, 1, 1, 0]
    for labels in (np.arange(8) % 2, np.array([b"0", b"1"] * 4)):
        np.save(tmp_path / "train" / "labels.npy", labels)
        data = DataSection(windows=str(tmp_path / "{split}"), genres={})
        assert load_windows(data, "train").outputs == ("0", "1")


def test_damaged_windows_get_a_sentence(tmp_path, windows):
    for name, array, sentence in (
        ("X.npy", np.zeros((8, 2, 3, 4)), r"X\.npy has shape \(8, 2, 3, 4\) of float64"),
        ("X.npy", np.zeros((8, 26), int), r"X\.npy has shape \(8, 26\) of int64"),
        ("X.npy", np.zeros((7, 26)), r"X\.npy has 7 windows, but labels\.npy 8 labels"),
        ("X.npy", np.full((8, 26), np.nan), "8 windows have values that are not finite"),
        ("labels.npy", np.array(["a", {}] * 4, object), r"labels\.npy is not a whole array"),
        ("labels.npy", np.zeros((8, 2)), r"labels\.npy has shape \(8, 2\) of float64"),
        ("labels.npy", np.array(["jazz"] * 8), "no training clip has the classes jazz"),
    ):
        _, data = windows("val", 8, (26,))
        np.save(tmp_path / "val" / name, array)
        with pytest.raises(InputError, match=sentence):
            load_windows(data, "val", CLASSES)
    (tmp_path / "val" / "X.npy").unlink()
    with pytest.raises(InputError, match=r"X\.npy does not exist\. Correct data\.windows"):
        load_windows(data, "val")
    with pytest.raises(InputError, match=r"Put \{split\} where train, val and test differ"):
        load_windows(DataSection(windows="windows"), "train")
