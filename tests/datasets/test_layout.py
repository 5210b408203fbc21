"""The competition's folders, however deep and whichever edition."""

from pathlib import Path

import pytest

from music_emotion.config import Rate, Task
from music_emotion.datasets.layout import find_set, leading_id, leave_out, set_name, split_files, too_many
from music_emotion.files import InputError

SETS: dict[tuple[Task, Rate], str] = {
    ("emotion", "full"): "multitask_dataset",
    ("emotion", "beat"): "multitask_dataset_beat",
    ("genre", "full"): "fma_genre_spectrograms",
    ("genre", "beat"): "fma_genre_spectrograms_beat",
}
MOUNTS = ["patreco3-multitask-affective-music/data", "geoparslp/patreco3-multitask-affective-music/data"]


def make_sets(folder: Path) -> Path:
    for name in SETS.values():
        for split in ("train", "test"):
            write_arrays(folder / name / split, "7.fused.full.npy")
    return folder


def write_arrays(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


@pytest.mark.parametrize(("task", "rate"), SETS)
@pytest.mark.parametrize("below", ["", "data", *MOUNTS])
def test_a_set_is_found_at_or_below_the_root(tmp_path, task, rate, below):
    folder = make_sets(tmp_path / below)
    assert set_name(task, rate) == SETS[task, rate]
    for root in (tmp_path, folder, folder / SETS[task, rate]):
        assert find_set(root, task, rate) == folder / SETS[task, rate]


def test_the_nearest_of_several_sets_is_taken_and_none_of_equally_near_ones(tmp_path):
    make_sets(tmp_path / "a_copy" / "data")
    make_sets(tmp_path / "z")
    assert find_set(tmp_path, "genre") == tmp_path / "z" / "fma_genre_spectrograms"
    make_sets(tmp_path / "y")
    with pytest.raises(InputError, match=r"Several folders fma_\w+ lie below .*y/.*z/.* Name one"):
        find_set(tmp_path, "genre")


def test_a_root_too_far_above_a_set_is_refused(tmp_path):
    folder = make_sets(tmp_path / "a" / "b" / "c" / "d" / "e" / "f")
    with pytest.raises(InputError, match=r"No folder multitask_dataset at or up to 5 levels .*holds: a\)"):
        find_set(tmp_path, "emotion")
    assert find_set(tmp_path / "a" / "b", "emotion") == folder / "multitask_dataset"
    (tmp_path / "own" / "multitask_dataset_beat").mkdir(parents=True)
    with pytest.raises(InputError, match=r"No folder multitask_dataset at .*holds: multitask_dataset_beat"):
        find_set(tmp_path / "own", "emotion", "full")


def test_the_id_is_the_leading_integer():
    names = {"1042.fused.full.npy.gz": 1042, "1004": 1004, " 007.npy": 7, "readme.txt": None, "": None}
    names |= {"-3": None, "9223372036854775808": None}
    assert {name: leading_id(name) for name in names} == names


def test_arrays_are_listed_by_id_in_every_spelling(tmp_path):
    names = {2: "2.npy", 4: "4.full.fused.npy.gz", 30: "30.fused.full.npy", 100: "100.beatsync.fused.npy"}
    others = ("notes.txt", "5.txt", ".hidden", "mean.npy")
    folder = write_arrays(tmp_path / "set" / "train", *sorted(names.values()), *others)
    files = split_files(tmp_path / "set", "train")
    assert [(clip_id, path.name) for clip_id, path in files.arrays.items()] == list(names.items())
    assert files.folder == folder
    assert files.label_file is None
    (tmp_path / "set" / "train_labels.txt").write_text("")
    assert split_files(tmp_path / "set", "train").label_file == tmp_path / "set" / "train_labels.txt"


def test_an_unpacked_array_wins_over_compressed_ones_and_two_alike_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no folder 'test'\. Check that it was unpacked whole"):
        split_files(tmp_path, "test")
    compressed = ("9.beatsync.fused.npy.gz", "8.fused.full.npy.gz", "7.fused.full.npy.gz")
    plain = ("9.fused.full.npy", "8.beatsync.fused.npy", "7.fused.full.npy")
    folder = write_arrays(tmp_path / "test", *compressed, *plain)
    assert {path.name for path in split_files(tmp_path, "test").arrays.values()} == set(plain)
    (folder / "07.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds two arrays of the id 7: 07\.npy and 7\.fused\.full\.npy"):
        split_files(tmp_path, "test")


def test_the_share_to_leave_out_that_a_message_gives_is_enough_and_hardly_more():
    for n in (1, 7, 40, 100, 5300):
        for n_bad in range(1, min(n, 300) + 1):
            with pytest.raises(InputError) as caught:
                leave_out(n_bad, n, -1.0, "many are bad", "Replace them")
            share = float(str(caught.value).split()[-1].removesuffix("."))
            assert not too_many(n_bad, n, share)
            assert too_many(n_bad, n, share - 0.001)
