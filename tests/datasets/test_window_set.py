"""Windows as others leave them: X.npy and labels.npy of three splits."""

import numpy as np
import pytest

from music_emotion.config import DataSection, ExcerptSection
from music_emotion.datasets.clip_set import load_windows
from music_emotion.datasets.excerpts import TrainingExcerpts
from music_emotion.files import InputError

CLASSES = ("blues", "classical", "hiphop", "rock")


def write_split(folder, n: int, shape: tuple[int, ...], seed: int = 0, dtype=np.float64) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    features = np.random.default_rng(seed).normal(size=(n, *shape)).astype(dtype)
    np.save(folder / "X.npy", features)
    np.save(folder / "labels.npy", np.array(CLASSES)[np.arange(n) % 4])
    return features


def section(place, **settings) -> DataSection:
    return DataSection(windows=str(place), **{"genres": {}, **settings})


def test_windows_are_clips_of_their_frames(tmp_path):
    features = write_split(tmp_path / "train" / "melgrams", 12, (21, 128))
    clips = load_windows(section(tmp_path / "{split}" / "melgrams"), "train")
    assert clips.outputs == CLASSES
    assert clips.values.argmax(axis=1).tolist() == [0, 1, 2, 3] * 3
    excerpts = TrainingExcerpts(clips, DataSection(), ExcerptSection(frames=21, per_clip=1), seed=0)
    batch = excerpts.__getitems__([0, 1, 2])
    assert batch["frames"].shape == (3, 128, 21)
    for frames, clip_id in zip(batch["frames"], batch["ids"], strict=True):
        np.testing.assert_allclose(frames.numpy().T, features[clip_id], rtol=1e-6)


def test_a_vector_is_a_window_of_one_frame(tmp_path):
    features = write_split(tmp_path / "val", 8, (26,), dtype=np.float32)
    clips = load_windows(section(tmp_path / "{split}"), "val", CLASSES)
    assert clips.store.index["length"].tolist() == [1] * 8
    np.testing.assert_array_equal(clips.store.frames, features)


def test_numbers_serve_as_labels(tmp_path):
    write_split(tmp_path / "train", 8, (26,))
    np.save(tmp_path / "train" / "labels.npy", np.arange(8) % 2)
    assert load_windows(section(tmp_path / "{split}"), "train").outputs == ("0", "1")


def test_labels_are_mapped_and_those_left_out_keep_their_numbers_free(tmp_path):
    write_split(tmp_path / "{x}" / "train", 8, (26,))
    mapping = {"blues": "old", "classical": "old", "hiphop": "none", "rock": "new"}
    clips = load_windows(section(tmp_path / "{x}" / "{split}", genres=mapping), "train")
    assert clips.outputs == ("new", "old")
    assert clips.ids.tolist() == [0, 1, 3, 4, 5, 7]
    assert clips.values.argmax(axis=1).tolist() == [1, 1, 0, 1, 1, 0]


def test_excerpts_longer_than_windows_are_refused(tmp_path):
    write_split(tmp_path / "train", 4, (21, 128))
    clips = load_windows(section(tmp_path / "{split}"), "train")
    with pytest.raises(InputError, match=r"excerpt\.frames is 22, but the shortest clip has 21 frames"):
        TrainingExcerpts(clips, DataSection(), ExcerptSection(frames=22), seed=0)


def spoil(folder, name: str, array) -> None:
    np.save(folder / name, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("spoilt", "sentence"),
    [
        (lambda f: (f / "X.npy").unlink(), r"X\.npy does not exist\. Correct data\.windows"),
        (lambda f: (f / "X.npy").write_bytes(b"no"), r"X\.npy is not a whole array"),
        (
            lambda f: (f / "X.npy").write_bytes((f / "X.npy").read_bytes()[:200]),
            r"X\.npy is not a whole array",
        ),
        (lambda f: spoil(f, "X.npy", np.zeros((8, 2, 3, 4))), r"X\.npy has shape \(8, 2, 3, 4\) of float64"),
        (lambda f: spoil(f, "X.npy", np.zeros((8, 26), int)), r"X\.npy has shape \(8, 26\) of int64"),
        (lambda f: spoil(f, "X.npy", np.zeros((7, 26))), r"X\.npy has 7 windows, but labels\.npy 8 labels"),
        (lambda f: spoil(f, "X.npy", np.full((8, 26), np.nan)), r"8 windows have values that are not finite"),
        (
            lambda f: spoil(f, "labels.npy", np.array(["a", {}] * 4, object)),
            r"labels\.npy is not a whole array",
        ),
        (lambda f: spoil(f, "labels.npy", np.zeros((8, 2))), r"labels\.npy has shape \(8, 2\) of float64"),
        (
            lambda f: spoil(f, "labels.npy", np.array(["jazz"] * 8)),
            r"no training window has the classes jazz",
        ),
    ],
)
def test_faults_get_a_sentence(tmp_path, spoilt, sentence):
    write_split(tmp_path / "val", 8, (26,))
    spoilt(tmp_path / "val")
    with pytest.raises(InputError, match=sentence):
        load_windows(section(tmp_path / "{split}"), "val", CLASSES)


def test_a_folder_without_its_split_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Put \{split\} where train, val and test differ"):
        load_windows(section(tmp_path), "train")
