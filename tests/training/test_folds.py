"""Folds of an experiment, and training on them up to a deadline and on from there."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_pretraining, folds_of_run, folds_of_seed
from music_emotion.files import InputError
from music_emotion.models.network import load_model
from music_emotion.runs import read_cost
from music_emotion.training import loop
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import load_sets, train_folds
from music_emotion.training.loop import UNFINISHED
from music_emotion.training.predict import predict_with

ALREADY_PASSED = 0.0


class Clock:
    """Moves only in epochs, which take a given number of seconds each."""

    def __init__(self, *seconds: float):
        self.now, self.seconds = 0.0, itertools.cycle(seconds)
        self.in_epoch = itertools.cycle([False, True])

    def time(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        """Read at the beginning and at the end of every epoch."""
        if next(self.in_epoch):
            self.now += next(self.seconds)
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Make epochs of the loop take so many seconds: `clock(10, 30)`, again and again."""
    return lambda *seconds: monkeypatch.setattr(loop, "time", Clock(*seconds))


def clips_of(experiment) -> ClipSet:
    return load_sets(experiment, make_accelerator())[0]


def train(experiment, directory, deadline: float | None = None, n_folds: int = 1) -> bool:
    """Train the first folds of an experiment."""
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    folds = folds_of_run(experiment, clips)[:n_folds]
    limit = {} if deadline is None else {"deadline": deadline}
    return train_folds(experiment, folds, test, accelerator, directory, **limit)


def names(directory) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def check_partition(folds: list[Fold], clips: ClipSet) -> None:
    """Every clip is validated once, and is in every other fold's training."""
    assert sorted(np.concatenate([fold.valid.ids for fold in folds])) == clips.ids.tolist()
    for fold in folds:
        assert sorted([*fold.training.ids, *fold.valid.ids]) == clips.ids.tolist()


@pytest.mark.parametrize("task", ["emotion", "genre"])
def test_the_folds_of_a_seed_validate_every_clip_once_and_train_on_the_others(small, task):
    experiment = small(task=task, folds={"n": 4})
    clips = clips_of(experiment)
    folds = folds_of_seed(experiment, clips, 5)
    assert [(fold.seed, fold.number) for fold in folds] == [(5, 0), (5, 1), (5, 2), (5, 3)]
    check_partition(folds, clips)
    for fold in folds:
        for part in (fold.training, fold.valid):
            pd.testing.assert_frame_equal(part.truth, clips.truth.loc[part.ids])
    if task == "genre":
        shares = np.stack([fold.valid.values.sum(axis=0) for fold in folds])
        assert (shares == clips.values.sum(axis=0) / 4).all()


def test_targets_are_spread_evenly_over_the_folds(small):
    experiment = small(folds={"n": 2})
    clips = clips_of(experiment)
    folds = folds_of_seed(experiment, clips, 0)
    high = np.stack([(fold.valid.values > np.median(clips.values, axis=0)).sum(axis=0) for fold in folds])
    assert (abs(high - 10) <= 2).all()  # of 20 clips in each fold


def test_no_fold_splits_a_group_of_the_file(small, tmp_path):
    ids = np.arange(1000, 1040)
    groups = pd.Series(ids % 13, pd.Index(ids, name="Id"), name="group")
    groups.to_csv(tmp_path / "groups.csv")
    experiment = small(folds={"groups": str(tmp_path / "groups.csv")})
    clips = clips_of(experiment)
    folds = folds_of_seed(experiment, clips, 0)
    check_partition(folds, clips)
    for fold in folds:
        assert not set(groups.loc[fold.valid.ids]) & set(groups.loc[fold.training.ids])


def test_a_run_has_other_folds_for_every_seed_each_with_its_own_folder_and_seed(small):
    experiment = small(seeds=[1, 0, 12])
    clips = clips_of(experiment)
    folds = folds_of_run(experiment, clips)
    names = [f"seed{seed}/fold{number}" for seed in (1, 0, 12) for number in range(3)]
    assert [str(fold.folder) for fold in folds] == names
    assert len({fold.own_seed for fold in folds}) == 9
    assert len({tuple(fold.valid.ids) for fold in folds}) == 9
    for one, other in zip(folds[3:6], folds_of_seed(experiment, clips, 0), strict=True):
        assert one.valid.ids.tolist() == other.valid.ids.tolist()


@pytest.mark.parametrize("select", ["last", "best-score", "best-loss"])
def test_a_pretraining_watches_the_test_split_unless_it_selects_an_epoch(small, select):
    experiment = small(task="genre", seeds=[0, 4], train={"select": select})
    clips, test = load_sets(experiment, make_accelerator())
    folds = folds_of_pretraining(experiment, clips, test)
    assert [str(fold.folder) for fold in folds] == ["seed0/fold0", "seed4/fold0"]
    for fold in folds:
        if select == "last":
            assert fold.training.ids.tolist() == clips.ids.tolist()
            assert fold.valid.ids.tolist() == test.ids.tolist()
        else:
            assert sorted([*fold.training.ids, *fold.valid.ids]) == clips.ids.tolist()
            assert 0 < len(fold.valid) < len(clips) / 2
    assert (folds[0].valid.ids.tolist() == folds[1].valid.ids.tolist()) == (select == "last")


@pytest.mark.parametrize("select", ["last", "best-score"])
def test_pretraining_without_labels_of_the_test_split_is_refused(small, competition, tmp_path, select):
    shutil.copytree(competition / "fma_genre_spectrograms", tmp_path / "fma_genre_spectrograms")
    (tmp_path / "fma_genre_spectrograms" / "test_labels.txt").unlink()
    experiment = small(task="genre", data={"root": str(tmp_path)}, train={"select": select})
    clips, test = load_sets(experiment, make_accelerator())
    with pytest.raises(InputError, match=rf"{tmp_path} has no genre test_labels\.txt"):
        folds_of_pretraining(experiment, clips, test)


def test_a_deadline_that_has_passed_begins_no_epoch(small, tmp_path):
    assert train(small(), tmp_path / "run", ALREADY_PASSED) is False
    assert names(tmp_path / "run") == ["environment.json", "experiment.json"]


def test_a_training_stopped_by_a_deadline_leaves_its_state_and_a_model_that_predicts(small, tmp_path, clock):
    clock(100)
    experiment = small(train={"epochs": 4})
    assert train(experiment, tmp_path, deadline=250, n_folds=2) is False
    assert names(tmp_path / "seed0") == ["fold0"]  # the next fold is not begun
    place = tmp_path / "seed0" / "fold0"
    assert names(place) == ["metrics.csv", STATE, UNFINISHED]
    assert pd.read_csv(place / "metrics.csv")["epoch"].tolist() == [1, 2]
    state = torch.load(place / STATE, weights_only=True)
    left = load_model(place / UNFINISHED)
    assert left.card.experiment == experiment
    weights = left.state_dict()
    assert all(torch.equal(weights[name], state["averaged"][name]) for name in weights)
    assert not all(torch.equal(weights[name], state["network"][name]) for name in weights)
    _, test = load_sets(experiment, make_accelerator())
    assert predict_with(place / UNFINISHED, test, make_accelerator()).index.tolist() == test.ids.tolist()


@pytest.mark.parametrize(("select", "n_folds"), [("last", 2), ("best-score", 1)])
def test_a_training_stopped_by_deadlines_ends_like_one_never_stopped(small, tmp_path, clock, select, n_folds):
    experiment = small(train={"epochs": 3, "valid_every": 1, "select": select})
    assert train(experiment, tmp_path / "whole", n_folds=n_folds) is True
    clock(100)
    cut = tmp_path / "cut"
    for n_epochs, deadline in ((1, 199), (2, 250), (2, 250)):
        assert train(experiment, cut, deadline, n_folds) is False
        assert len(pd.read_csv(cut / "seed0" / "fold0" / "metrics.csv")) == n_epochs
    assert train(experiment, cut, n_folds=n_folds) is True
    for fold in [f"seed0/fold{number}" for number in range(n_folds)]:
        assert names(cut / fold) == ["cost.json", "metrics.csv", "model.safetensors", "test.csv", "valid.csv"]
        one, other = (load_model(run / fold / "model.safetensors") for run in (tmp_path / "whole", cut))
        for name, weights in one.state_dict().items():
            assert torch.equal(weights, other.state_dict()[name]), name
        assert read_cost(cut / fold).seconds == 300  # of three epochs, however often it was stopped
        for table in ("valid.csv", "test.csv"):
            assert (cut / fold / table).read_bytes() == (tmp_path / "whole" / fold / table).read_bytes()


@pytest.mark.parametrize(
    ("deadline", "n_epochs"),
    [
        (19, 1),
        (20, 2),  # the second takes longer than was to be expected
        (79, 3),  # a fourth of 10 seconds would be in time, one of 30 would not
    ],
)
def test_no_epoch_begins_that_would_end_too_late_if_as_slow_as_the_slowest(
    small, tmp_path, clock, deadline, n_epochs
):
    clock(10, 30, 10)
    assert train(small(train={"epochs": 5}), tmp_path, deadline) is False
    assert len(pd.read_csv(tmp_path / "seed0" / "fold0" / "metrics.csv")) == n_epochs


def test_an_epoch_that_was_slow_long_ago_is_forgotten(small, tmp_path, clock):
    clock(100, *[1] * 20)
    # until the slow one is forgotten, after eleven epochs and 110 seconds, as slow a one is in time
    experiment = small(train={"epochs": 12, "valid_every": 12}, excerpt={"per_clip": 1})
    assert train(experiment, tmp_path, deadline=209) is True


def test_a_finished_run_is_finished_whatever_the_deadline(small, tmp_path):
    experiment = small(train={"epochs": 1})
    train(experiment, tmp_path)
    before = (tmp_path / "seed0" / "fold0" / "test.csv").read_bytes()
    (tmp_path / "seed0" / "fold0" / "test.csv").unlink()
    assert train(experiment, tmp_path, ALREADY_PASSED) is True
    assert (tmp_path / "seed0" / "fold0" / "test.csv").read_bytes() == before
