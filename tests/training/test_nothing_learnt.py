"""Nothing is learnt from what is scored: other clips there leave all weights and scales as they are."""

from dataclasses import replace

import numpy as np
import pytest

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_run
from music_emotion.datasets.store import Store
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, train_folds


def in_memory(clips: ClipSet) -> ClipSet:
    """The same clips with their arrays in memory, where a test can change them."""
    return replace(clips, store=Store(clips.store.frames[:].copy(), clips.store.index))


def with_others(fold: Fold) -> Fold:
    """The fold with quite other arrays and labels in place of those it validates with."""
    rng = np.random.default_rng(5)
    frames = fold.training.store.frames.copy()
    for start, length in fold.valid.store.index.loc[fold.valid.ids].to_numpy():
        frames[start : start + length] = np.clip(rng.normal(-20, 30, (length, 140)), -80, 0)
    store = Store(frames, fold.training.store.index)
    labels = rng.normal(50, 40, fold.valid.values.shape).astype(np.float32)
    return replace(
        fold,
        training=replace(fold.training, store=store),
        valid=replace(fold.valid, store=store, values=labels),
    )


@pytest.mark.parametrize(
    ("sections", "files"),
    [
        ({"loss": {"rank_normal": True}}, ["model.safetensors", "test.csv"]),
        ({"task": "genre", "loss": {"class_weights": "balanced"}}, ["model.safetensors", "test.csv"]),
        ({"classical": {"kind": "ridge"}}, ["test.csv"]),
    ],
    ids=["emotion", "genre", "ridge"],
)
def test_nothing_depends_on_what_is_validated_with(small, tmp_path, sections, files):
    experiment = small(**sections, train={"epochs": 1}, excerpt={"per_clip": 1})
    clips, test = (in_memory(part) for part in load_sets(experiment, make_accelerator()))
    fold = folds_of_run(experiment, clips)[0]
    one, other = (tmp_path / name / fold.folder for name in ("as-it-is", "others"))
    for place, each in ((one, fold), (other, with_others(fold))):
        assert train_folds(experiment, [each], test, make_accelerator(), place.parents[1])
    for name in files:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    # while what is validated with was other indeed
    assert (one / "valid.csv").read_bytes() != (other / "valid.csv").read_bytes()
