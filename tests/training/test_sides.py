"""Folds that share clips or groups, and trunks that have seen what is scored, are refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from music_emotion.datasets.splits import folds_of_pretraining, folds_of_run
from music_emotion.files import InputError
from music_emotion.models.build import save_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import load_sets, make_network, run_experiment, train_folds
from music_emotion.training.leaks import check_folds, check_trunk


def folds_and_clips(experiment):
    clips, _ = load_sets(experiment, make_accelerator())
    return folds_of_run(experiment, clips), clips


@pytest.mark.parametrize("split", ["folds", "holdout"])
def test_every_split_of_ours_passes(small, tmp_path, split):
    path = tmp_path / "groups.csv"
    pd.DataFrame({"Id": range(1000, 1040), "group": [n // 3 for n in range(40)]}).to_csv(path, index=False)
    experiment = small(seeds=[0, 1], folds={"split": split, "groups": str(path)})
    check_folds(experiment, folds_and_clips(experiment)[0])


@pytest.mark.parametrize("sides", [("training", "valid"), ("training", "test"), ("valid", "test")])
def test_a_clip_on_two_sides_is_refused(small, sides):
    experiment = small(folds={"split": "holdout"})
    (fold,), clips = folds_and_clips(experiment)
    one, other = sides
    ids = getattr(fold, one).ids
    both = clips.select(np.isin(clips.ids, [*getattr(fold, other).ids, ids[0], ids[1]]))
    spoilt = replace(fold, **{other: both})
    with pytest.raises(
        InputError,
        match=rf"seed0/fold0: 2 clips are in two of .*: {ids[0]}, {ids[1]}\.",
    ):
        check_folds(experiment, [spoilt])


@pytest.mark.parametrize("split", ["folds", "holdout"])
def test_a_group_on_two_sides_is_refused(small, tmp_path, split):
    folds, clips = folds_and_clips(small(folds={"split": split}))  # without groups
    two = [folds[0].training.ids[0], (folds[0].test or folds[0].valid).ids[0]]
    path = tmp_path / "groups.csv"
    groups = ["band" if i in two else str(i) for i in clips.ids]
    pd.DataFrame({"Id": clips.ids, "group": groups}).to_csv(path, index=False)
    experiment = small(folds={"split": split, "groups": str(path)})
    with pytest.raises(
        InputError,
        match=r"seed0/fold0: 1 groups of .*groups\.csv are in two of .*: band\.",
    ):
        check_folds(experiment, folds)


def test_ids_of_other_arrays_are_other_clips(small):
    experiment = small(task="genre")
    clips, test = load_sets(experiment, make_accelerator())
    folds = folds_of_pretraining(experiment, clips, replace(test, ids=clips.ids[: len(test)]))
    check_folds(experiment, folds)


@pytest.fixture
def trunk_of(tmp_path):
    """Save an untrained model as `<name>/model.safetensors`, its `valid.csv` beside it."""

    def save(experiment, clips, held_out) -> str:
        place = tmp_path / f"trunk-of-{experiment.task}"
        network = make_network(experiment, clips, 0)
        save_model(place / "model.safetensors", network, network.state_dict())
        if held_out is not None:
            held_out.truth.to_csv(place / "valid.csv")
        return str(place / "model.safetensors")

    return save


def test_a_trunk_that_learnt_the_task_from_clips_that_are_scored_is_refused(small, trunk_of):
    experiment = small()
    folds, clips = folds_and_clips(experiment)
    for held_out, n_seen in ((None, len(folds[1].valid)), (folds[0].valid, len(folds[1].valid))):
        started = small(model={"trunk": trunk_of(experiment, clips, held_out)})
        with pytest.raises(
            InputError, match=rf"seed0/fold1 is scored on {n_seen} clips that may have trained"
        ):
            check_trunk(started, folds[1:])


def test_a_trunk_that_held_out_the_same_clips_or_learnt_something_else_is_not(small, trunk_of):
    experiment = small()
    folds, clips = folds_and_clips(experiment)
    check_trunk(small(model={"trunk": trunk_of(experiment, clips, folds[0].valid)}), folds[:1])
    genres = small(task="genre")
    learnt, test = load_sets(genres, make_accelerator())
    check_trunk(small(model={"trunk": trunk_of(genres, learnt, test)}), folds)


def test_a_run_from_such_a_trunk_leaves_no_directory(small, trunk_of, tmp_path):
    experiment = small()
    _, clips = folds_and_clips(experiment)
    started = small(model={"trunk": trunk_of(experiment, clips, None)})
    with pytest.raises(InputError, match="may have trained"):
        run_experiment(started, make_accelerator(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fold_does_not_go_on_with_other_clips_or_labels(small, tmp_path, monkeypatch):
    experiment = small(train={"epochs": 3})
    folds, clips = folds_and_clips(experiment)
    nothing = clips.select(np.zeros(0, np.int64))

    def train(fold) -> bool:
        return train_folds(experiment, [fold], nothing, make_accelerator(), tmp_path / "run")

    ends = iter([False, True])
    monkeypatch.setattr("music_emotion.training.loop.Trainer._ends_after", lambda *_: next(ends))
    assert not train(folds[0])
    assert (tmp_path / "run/seed0/fold0" / STATE).exists()
    monkeypatch.undo()
    labels = folds[0].training.values.copy()
    labels[3, 1] += 0.01
    swapped = replace(folds[1], number=0)
    for changed in (replace(folds[0], training=replace(folds[0].training, values=labels)), swapped):
        with pytest.raises(InputError, match=r"state\.pt is of a training on other clips or labels"):
            train(changed)
    assert train(folds[0])
