"""The competition's folders, however deep and whichever edition."""

from pathlib import Path

import pytest

from music_emotion.config import Rate, Task
from music_emotion.datasets.layout import (
    array_name,
    find_set,
    leading_id,
    leave_out,
    set_name,
    split_files,
    too_many,
)
from music_emotion.files import InputError

SETS: dict[tuple[Task, Rate], str] = {
    ("emotion", "full"): "multitask_dataset",
    ("emotion", "beat"): "multitask_dataset_beat",
    ("genre", "full"): "fma_genre_spectrograms",
    ("genre", "beat"): "fma_genre_spectrograms_beat",
}


def make_sets(folder: Path) -> Path:
    for name in SETS.values():
        for split in ("train", "test"):
            (folder / name / split).mkdir(parents=True)
            (folder / name / split / "7.fused.full.npy").write_bytes(b"")
    return folder


@pytest.mark.parametrize(("task", "rate"), SETS)
@pytest.mark.parametrize(
    "below",
    [
        "",
        "data",
        "patreco3-multitask-affective-music/data",
        "geoparslp/patreco3-multitask-affective-music/data",
    ],
)
def test_a_set_is_found_at_or_below_the_root(tmp_path, task, rate, below):
    folder = make_sets(tmp_path / below)
    assert set_name(task, rate) == SETS[task, rate]
    assert find_set(tmp_path, task, rate) == folder / SETS[task, rate]


@pytest.mark.parametrize(
    "mount",
    [
        "input/patreco3-multitask-affective-music/data",
        "input/datasets/geoparslp/patreco3-multitask-affective-music/data",
    ],
)
def test_both_of_kaggles_mounts_are_found_from_the_data_sets_folder_and_from_above(tmp_path, mount):
    folder = make_sets(tmp_path / mount)
    expected = folder / "multitask_dataset"
    assert find_set(folder, "emotion") == expected
    assert find_set(folder.parent, "emotion") == expected
    assert find_set(tmp_path / "input", "emotion") == expected


def test_the_root_may_be_the_set_itself(tmp_path):
    folder = make_sets(tmp_path) / "multitask_dataset"
    assert find_set(folder, "emotion") == folder


def test_full_and_beat_synchronous_sets_are_not_mixed_up(tmp_path):
    (tmp_path / "multitask_dataset_beat" / "train").mkdir(parents=True)
    assert find_set(tmp_path, "emotion", "beat").name == "multitask_dataset_beat"
    with pytest.raises(InputError, match=r"No folder multitask_dataset at .*holds: multitask_dataset_beat"):
        find_set(tmp_path, "emotion", "full")


def test_the_nearest_of_several_sets_is_taken(tmp_path):
    make_sets(tmp_path / "a_copy" / "data")
    make_sets(tmp_path / "z")
    assert find_set(tmp_path, "genre") == tmp_path / "z" / "fma_genre_spectrograms"


@pytest.mark.parametrize("inside", ["train", "train/deeper"])
def test_a_root_inside_a_set_gets_the_right_one_named(tmp_path, inside):
    make_sets(tmp_path / "data")
    folder = tmp_path / "data" / "multitask_dataset" / inside
    folder.mkdir(exist_ok=True)
    right = str(tmp_path / "data")
    with pytest.raises(InputError, match=f"lies inside the set multitask_dataset. Give --data.root {right} "):
        find_set(folder, "emotion")


@pytest.mark.parametrize("inside", [".", "train"])
def test_a_root_inside_another_set_gets_the_right_one_named(tmp_path, inside):
    make_sets(tmp_path / "data")
    right = str(tmp_path / "data")
    with pytest.raises(InputError, match=f"lies inside the set multitask_dataset. Give --data.root {right} "):
        find_set(tmp_path / "data" / "multitask_dataset" / inside, "genre", "beat")


def test_a_root_that_is_too_high_names_what_it_holds(tmp_path):
    make_sets(tmp_path / "a" / "b" / "c" / "d" / "e" / "f")
    with pytest.raises(
        InputError, match=r"No folder multitask_dataset at or up to 5 levels below .*holds: a\)"
    ):
        find_set(tmp_path, "emotion")


def test_an_empty_root_says_so(tmp_path):
    with pytest.raises(InputError, match="holds: no folders"):
        find_set(tmp_path, "emotion")


def test_a_missing_root_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"none is not a folder. Give the right one with --data\.root"):
        find_set(tmp_path / "none", "emotion")


@pytest.mark.parametrize(
    ("name", "clip_id"),
    [
        ("1042.fused.full.npy.gz", 1042),
        ("1042.full.fused.npy.gz", 1042),
        ("1042.beatsync.fused.npy.gz", 1042),
        ("1004", 1004),
        (" 007.npy", 7),
        ("readme.txt", None),
        ("", None),
        ("-3", None),
    ],
)
def test_the_id_is_the_leading_integer(name, clip_id):
    assert leading_id(name) == clip_id


def test_array_names_are_those_of_the_competition():
    assert array_name(1042) == "1042.fused.full.npy"


def test_arrays_are_listed_by_id_in_every_spelling(tmp_path):
    names = {
        30: "30.fused.full.npy",
        4: "4.full.fused.npy.gz",
        100: "100.beatsync.fused.npy",
        2: "2.npy",
    }
    folder = tmp_path / "multitask_dataset" / "train"
    folder.mkdir(parents=True)
    for name in [*names.values(), "notes.txt", "5.txt", ".hidden", "mean.npy"]:
        (folder / name).write_bytes(b"")
    files = split_files(tmp_path / "multitask_dataset", "train")
    assert list(files.arrays) == [2, 4, 30, 100]
    assert {clip_id: path.name for clip_id, path in files.arrays.items()} == names
    assert files.folder == folder
    assert files.label_file is None


def test_an_unpacked_array_wins_over_its_compressed_twin(tmp_path):
    (tmp_path / "test").mkdir()
    for name in ("9.fused.full.npy.gz", "9.fused.full.npy"):
        (tmp_path / "test" / name).write_bytes(b"")
    assert split_files(tmp_path, "test").arrays[9].name == "9.fused.full.npy"


def test_an_unpacked_array_wins_whatever_the_twins_are_called(tmp_path):
    (tmp_path / "test").mkdir()
    for name in (
        "9.beatsync.fused.npy.gz",
        "9.fused.full.npy",
        "8.fused.full.npy.gz",
        "8.beatsync.fused.npy",
    ):
        (tmp_path / "test" / name).write_bytes(b"")
    arrays = split_files(tmp_path, "test").arrays
    assert [arrays[8].name, arrays[9].name] == ["8.beatsync.fused.npy", "9.fused.full.npy"]


def test_each_split_has_its_own_label_file(tmp_path):
    folder = make_sets(tmp_path) / "fma_genre_spectrograms"
    (folder / "train_labels.txt").write_text("")
    assert split_files(folder, "train").label_file == folder / "train_labels.txt"
    assert split_files(folder, "test").label_file is None


def test_a_missing_split_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"has no folder 'test'\. Check that it was unpacked whole"):
        split_files(tmp_path, "test")


def test_a_split_without_arrays_gets_a_sentence(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(InputError, match=r"test has no arrays named <id>"):
        split_files(tmp_path, "test")


def test_two_sets_of_one_name_are_not_chosen_between_in_silence(tmp_path):
    for edition in ("a", "b"):
        (tmp_path / edition / "multitask_dataset").mkdir(parents=True)
    with pytest.raises(InputError, match=r"Several folders multitask_dataset lie below .*a.*b.* Name one"):
        find_set(tmp_path, "emotion")
    assert find_set(tmp_path / "a", "emotion") == tmp_path / "a" / "multitask_dataset"


def test_the_share_to_leave_out_that_a_message_gives_is_enough_and_hardly_more():
    for n in (1, 7, 40, 100, 5300):
        for n_bad in range(1, min(n, 300) + 1):
            share = float(leave_out(n_bad, n).split()[-1])
            assert not too_many(n_bad, n, share)
            assert too_many(n_bad, n, share - 0.001)
