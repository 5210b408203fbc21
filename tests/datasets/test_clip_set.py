"""Labels and arrays brought together, and what is missing counted and named."""

import re
from pathlib import Path

import numpy as np
import pytest

from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import join, load_clip_set, load_unlabelled
from music_emotion.files import InputError


@pytest.fixture
def data(tmp_path):
    """Data section for sets written under `tmp_path`."""

    def build(**settings) -> DataSection:
        return DataSection(root=str(tmp_path), stores=str(tmp_path / "stores"), **settings)

    return build


def write_set(folder: Path, split: str, ids: list[int], lines: list[str]) -> None:
    (folder / split).mkdir(parents=True)
    for clip_id in ids:
        np.save(folder / split / f"{clip_id}.fused.full.npy", np.full((140, 3), -float(clip_id % 50)))
    if lines:
        (folder / f"{split}_labels.txt").write_text("\n".join(lines) + "\n")


def write_emotion(root: Path, ids: list[int], labelled: list[int], split: str = "train") -> None:
    lines = ["Id,valence,energy", *(f"{clip_id},{clip_id / 1000},0.5" for clip_id in labelled)]
    write_set(root / "multitask_dataset", split, ids, lines)


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
        assert clips.store.frames_of(clip_id)[0, 0] == -(clip_id % 50)
    assert clips.truth.loc[20].to_dict() == pytest.approx({"valence": 0.02, "energy": 0.5})


def test_the_asked_targets_are_kept(tmp_path, data):
    write_emotion(tmp_path, [1, 2], [1, 2])
    assert load_clip_set(data(targets=("energy",)), "emotion", "train").outputs == ("energy",)


def test_beat_synchronous_sets_are_read_from_their_own_folder(competition, tmp_path):
    settings = {"root": str(competition), "stores": str(tmp_path / "stores")}
    full = load_clip_set(DataSection(**settings), "emotion", "train")
    beat = load_clip_set(DataSection(**settings, rate="beat"), "emotion", "train")
    assert full.store.index["length"].min() >= 60
    assert beat.store.index["length"].max() < 30
    assert full.ids.tolist() == beat.ids.tolist()


def test_ids_without_files_and_files_without_labels_are_counted_and_five_named(tmp_path, data):
    write_emotion(tmp_path, ids=[*range(10, 20), 1, 2, 3], labelled=[*range(10, 20), *range(50, 57)])
    with pytest.raises(InputError) as error:
        load_clip_set(data(), "emotion", "train")
    message = str(error.value)
    assert "7 ids have no array (50, 51, 52, 53, 54, ...)" in message
    assert "3 arrays have no label (1, 2, 3)" in message
    assert "--data.allow-bad-share" in message


def test_mismatches_within_the_allowed_share_are_left_out_and_listed(tmp_path, data, capsys):
    write_emotion(tmp_path, ids=[*range(10, 28), 1], labelled=[*range(10, 28), 50])
    clips = load_clip_set(data(allow_bad_share=0.1), "emotion", "train")
    assert clips.ids.tolist() == list(range(10, 28))
    printed = capsys.readouterr().out
    assert re.search(r"left out: .*1 ids have no array \(50\) and 1 arrays have no label \(1\)", printed)
    with pytest.raises(InputError, match="1 ids have no array"):
        load_clip_set(data(allow_bad_share=0.09), "emotion", "train")


def test_an_unusable_array_takes_its_labels_with_it(tmp_path, data):
    write_emotion(tmp_path, ids=[1, 2, 3, 4], labelled=[4, 3, 2, 1])
    (tmp_path / "multitask_dataset" / "train" / "2.fused.full.npy").write_bytes(b"")
    clips = load_clip_set(data(allow_bad_share=0.25), "emotion", "train")
    assert clips.ids.tolist() == [1, 3, 4]
    np.testing.assert_allclose(clips.values[:, 0], [0.001, 0.003, 0.004])


def test_dropped_classes_are_left_out_without_complaint(tmp_path, data):
    write_genre(tmp_path, {1: "Rock", 2: "Soundtrack", 3: "Psych-Rock", 4: "Blues", 5: "Old-Time"})
    clips = load_clip_set(data(), "genre", "train")
    assert clips.ids.tolist() == [1, 3, 4]
    assert clips.outputs == ("Blues", "Rock")
    np.testing.assert_array_equal(clips.values, [[0, 1], [0, 1], [1, 0]])


def test_raw_classes_are_kept_with_an_empty_mapping(tmp_path, data):
    write_genre(tmp_path, {1: "Rock", 2: "Soundtrack", 3: "Psych-Rock"})
    assert load_clip_set(data(genres={}), "genre", "train").outputs == ("Psych-Rock", "Rock", "Soundtrack")


def test_the_test_split_is_read_with_the_training_splits_class_list(tmp_path, data):
    write_genre(tmp_path, {1: "Rock", 2: "Blues", 3: "Jazz"})
    write_genre(tmp_path, {9: "Rock", 8: "Blues"}, "test")
    outputs = load_clip_set(data(), "genre", "train").outputs
    test = load_clip_set(data(), "genre", "test", outputs)
    assert test.outputs == outputs == ("Blues", "Jazz", "Rock")
    np.testing.assert_array_equal(test.values, [[1, 0, 0], [0, 0, 1]])


def test_a_test_class_without_training_clips_is_named(tmp_path, data):
    write_genre(tmp_path, {1: "Rock"})
    write_genre(tmp_path, {9: "Jazz"}, "test")
    with pytest.raises(InputError, match="no training clip has the classes Jazz"):
        load_clip_set(data(), "genre", "test", ("Rock",))


def test_a_test_split_without_labels_lists_its_folder(tmp_path, data):
    write_set(tmp_path / "multitask_dataset", "test", [12, 7, 100], [])
    clips = load_clip_set(data(), "emotion", "test", ("valence", "energy"))
    assert clips.ids.tolist() == [7, 12, 100]
    assert clips.values.shape == (3, 2)
    assert np.isnan(clips.values).all()
    assert not clips.has_labels


def test_a_training_split_without_labels_gets_a_sentence(tmp_path, data):
    write_set(tmp_path / "multitask_dataset", "train", [1], [])
    with pytest.raises(InputError, match=r"multitask_dataset has no train_labels\.txt"):
        load_clip_set(data(), "emotion", "train")


def test_a_selection_keeps_ids_and_values_together(tmp_path, data):
    write_emotion(tmp_path, [1, 2, 3, 4], [1, 2, 3, 4])
    clips = load_clip_set(data(), "emotion", "train")
    for chosen in (np.array([3, 1]), np.array([False, True, False, True])):
        part = clips.select(chosen)
        assert len(part) == 2
        np.testing.assert_allclose(part.values[:, 0], part.ids / 1000)
        assert part.outputs == clips.outputs


def test_unlabelled_clips_are_all_that_have_an_array_whatever_their_class(tmp_path, data):
    write_emotion(tmp_path, [1, 2], [1, 2])
    write_emotion(tmp_path, [1, 8], [], "test")
    write_genre(tmp_path, {1: "Blues", 4: "Soundtrack", 6: "Post-Punk"})
    write_genre(tmp_path, {5: "Old-Time"}, "test")
    sets = load_unlabelled(data(), ("genre", "test"), ("energy", "valence"))
    ids = {name: clips.ids.tolist() for name, clips in sets.items()}
    assert ids == {"test": [1, 8], "genre-train": [1, 4, 6], "genre-test": [5]}
    for clips in sets.values():
        assert clips.outputs == ("energy", "valence")
        assert clips.values.shape == (len(clips), 2)
        assert np.isnan(clips.values).all()
    assert list(load_unlabelled(data(), ("test",), ("energy",))) == ["test"]


def test_a_genre_set_without_a_test_split_gives_what_it_has(tmp_path, data):
    write_genre(tmp_path, {1: "Blues"})
    assert list(load_unlabelled(data(), ("genre",), ("energy",))) == ["genre-train"]


def test_joined_sets_keep_labels_and_arrays_and_no_id_stands_for_two_clips(tmp_path, data):
    write_emotion(tmp_path, [3, 20, 100], [3, 20, 100])
    write_emotion(tmp_path, [3, 20, 21], [], "test")
    write_genre(tmp_path, {500: "Blues", 700: "Soundtrack"})
    clips = load_clip_set(data(), "emotion", "train")
    others = load_unlabelled(data(), ("test", "genre"), clips.outputs)
    parts = [clips.select(np.array([0, 2])), *others.values()]  # the store holds more than the set
    joined = join(parts)
    assert joined.ids.tolist() == [3, 100, 101, 118, 119, 500, 700]
    assert joined.store.index.index.tolist() == joined.ids.tolist()
    np.testing.assert_array_equal(joined.values, np.concatenate([part.values for part in parts]))
    own_ids = np.concatenate([part.ids for part in parts])
    for own_id, (start, length) in zip(own_ids, joined.store.index.loc[joined.ids].to_numpy(), strict=True):
        np.testing.assert_array_equal(
            joined.store.frames[start : start + length], np.full((3, 140), -(own_id % 50))
        )
