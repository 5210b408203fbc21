"""Nothing is learnt from what is scored: other clips there leave all weights and scales as they are."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_run
from music_emotion.datasets.store import Store
from music_emotion.files import read_predictions
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


def train_both(experiment, tmp_path) -> list[tuple[Fold, object]]:
    """Train a fold as it is and with others to validate with; the folds and their directories."""
    clips, test = load_sets(experiment, make_accelerator())
    fold = folds_of_run(experiment, in_memory(clips))[0]
    test = in_memory(test)
    trained = []
    for name, each in (("as-it-is", fold), ("others", with_others(fold))):
        directory = tmp_path / name
        assert train_folds(experiment, [each], test, make_accelerator(), directory)
        trained.append((each, directory / fold.folder))
    return trained


def model_of(place) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    with safe_open(place / "model.safetensors", "np") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    "sections",
    [{"loss": {"rank_normal": True}}, {"task": "genre", "loss": {"class_weights": "balanced"}}],
    ids=["emotion", "genre"],
)
def test_a_network_and_its_scales_do_not_depend_on_what_it_is_validated_with(small, tmp_path, sections):
    experiment = small(**sections, train={"epochs": 1}, excerpt={"per_clip": 1})
    (fold, one), (changed, other) = train_both(experiment, tmp_path)
    (card, weights), (others_card, others_weights) = model_of(one), model_of(other)
    assert card == others_card
    assert weights.keys() == others_weights.keys()
    for name, values in weights.items():
        assert values.tobytes() == others_weights[name].tobytes(), name
    pd.testing.assert_frame_equal(
        read_predictions(one / "test.csv"), read_predictions(other / "test.csv"), check_exact=True
    )
    # while what is validated with was other indeed
    assert not read_predictions(one / "valid.csv").equals(read_predictions(other / "valid.csv"))
    assert not np.array_equal(fold.valid.values, changed.valid.values)


def test_an_estimator_does_not_depend_on_what_it_is_validated_with(small, tmp_path):
    (_, one), (_, other) = train_both(small(classical={"kind": "ridge"}), tmp_path)
    assert (one / "test.csv").read_bytes() == (other / "test.csv").read_bytes()
    assert (one / "valid.csv").read_bytes() != (other / "valid.csv").read_bytes()
