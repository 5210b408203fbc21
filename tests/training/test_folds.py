"""Training the folds of a run up to a deadline, and on from there; the folds of a pretraining."""

import itertools
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import torch

from music_emotion.datasets.splits import folds_of_pretraining, folds_of_run
from music_emotion.files import InputError
from music_emotion.models.network import load_model
from music_emotion.runs import read_cost
from music_emotion.training import loop, objectives
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import load_sets, run_experiment
from music_emotion.training.loop import UNFINISHED
from music_emotion.training.predict import predict_with

FOLD = Path("seed0", "fold0")
ONE_EXCERPT = {"per_clip": 1}
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
    """Make epochs take so many seconds: `clock(10, 30)`, again and again."""
    return lambda *seconds: monkeypatch.setattr(loop, "time", Clock(*seconds))


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def epochs_in(directory: Path) -> list[int]:
    return pd.read_csv(directory / FOLD / "metrics.csv")["epoch"].tolist()


@pytest.mark.parametrize("task", ["emotion", "genre"])
def test_a_run_has_other_folds_for_every_seed(small, task):
    experiment = small(task=task, seeds=[1, 12], folds={"n": 2})
    clips, _ = load_sets(experiment, make_accelerator())
    folds = folds_of_run(experiment, clips)
    assert len({fold.own_seed for fold in folds}) == len({tuple(fold.valid.ids) for fold in folds}) == 4
    for fold in folds:
        assert sorted([*fold.training.ids, *fold.valid.ids]) == clips.ids.tolist()


def test_a_pretraining_that_selects_no_epoch_watches_the_test_split(small):
    experiment = small(task="genre", seeds=[0, 4])
    clips, test = load_sets(experiment, make_accelerator())
    folds = folds_of_pretraining(experiment, clips, test)
    assert [str(fold.folder) for fold in folds] == ["seed0/fold0", "seed4/fold0"]
    for fold in folds:
        assert fold.training.ids.tolist() == clips.ids.tolist()
        assert fold.valid.ids.tolist() == test.ids.tolist()


def test_a_deadline_that_has_passed_begins_no_epoch(small, tmp_path, train):
    assert train(small(), tmp_path / "run", deadline=ALREADY_PASSED) is False
    assert names(tmp_path / "run") == ["environment.json", "experiment.json"]


@pytest.mark.parametrize("genre", [0, 0.5])
def test_a_stopped_training_ends_like_a_whole_one(small, tmp_path, clock, train, monkeypatch, genre):
    loading = Mock(wraps=objectives.load_clip_set)
    monkeypatch.setattr(objectives, "load_clip_set", loading)
    settings = {"epochs": 3, "valid_every": 1, "select": "best-score"}
    experiment = small(train=settings, excerpt=ONE_EXCERPT, loss={"genre": genre})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(experiment, whole, n_folds=2) is True
    assert loading.call_count == bool(genre)  # once for both folds
    clock(100)
    for n_epochs, deadline in ((1, 199), (2, 250), (2, 250)):
        assert train(experiment, cut, n_folds=2, deadline=deadline) is False
        assert epochs_in(cut) == list(range(1, n_epochs + 1))
    # its state, and a model that predicts; the next fold is not begun
    assert names(cut / "seed0") == ["fold0"]
    assert names(cut / FOLD) == ["metrics.csv", STATE, UNFINISHED]
    state = torch.load(cut / FOLD / STATE, weights_only=True)
    left = load_model(cut / FOLD / UNFINISHED)
    assert left.card.experiment == experiment
    weights = left.state_dict()
    place = "network." if genre else ""  # beside a second head, which is not saved
    assert all(torch.equal(weights[name], state["averaged"][place + name]) for name in weights)
    assert not all(torch.equal(weights[name], state["network"][place + name]) for name in weights)
    _, test = load_sets(experiment, make_accelerator())
    assert predict_with(cut / FOLD / UNFINISHED, test, make_accelerator()).index.tolist() == test.ids.tolist()
    assert train(experiment, cut, n_folds=2) is True
    for fold in ("seed0/fold0", "seed0/fold1"):
        assert names(cut / fold) == ["cost.json", "metrics.csv", "model.safetensors", "test.csv", "valid.csv"]
        one, other = (load_model(run / fold / "model.safetensors").state_dict() for run in (whole, cut))
        assert all(torch.equal(one[name], other[name]) and "genre" not in name for name in one)
        one, other = (pd.read_csv(run / fold / "metrics.csv") for run in (whole, cut))
        pd.testing.assert_frame_equal(one.iloc[:, :-1], other.iloc[:, :-1], check_exact=True)
        assert ("genre_loss" in one) == bool(genre)
        assert read_cost(cut / fold).seconds == 300  # of three epochs, however often it was stopped
        for table in ("valid.csv", "test.csv"):
            assert (cut / fold / table).read_bytes() == (whole / fold / table).read_bytes()


@pytest.mark.parametrize(
    ("deadline", "n_epochs"),
    [
        (19, 1),
        (20, 2),  # the second takes longer than was to be expected
        (79, 3),  # a fourth of 10 seconds would be in time, one of 30 would not
    ],
)
def test_no_epoch_begins_that_may_end_too_late(small, tmp_path, clock, train, deadline, n_epochs):
    clock(10, 30, 10)
    assert train(small(train={"epochs": 5}, excerpt=ONE_EXCERPT), tmp_path, deadline=deadline) is False
    assert len(epochs_in(tmp_path)) == n_epochs


def test_an_epoch_that_was_slow_long_ago_is_forgotten(small, tmp_path, clock, train):
    clock(100, *[1] * 20)
    # until the slow one is forgotten, after eleven epochs and 110 seconds, as slow a one is in time
    experiment = small(train={"epochs": 12, "valid_every": 12}, excerpt=ONE_EXCERPT)
    assert train(experiment, tmp_path, deadline=209) is True
    before = (tmp_path / FOLD / "test.csv").read_bytes()
    (tmp_path / FOLD / "test.csv").unlink()  # a finished run is finished whatever the deadline
    assert train(experiment, tmp_path, deadline=ALREADY_PASSED) is True
    assert (tmp_path / FOLD / "test.csv").read_bytes() == before


def test_a_refused_network_leaves_its_name_to_the_corrected_one(small, tmp_path):
    accelerator, data = make_accelerator(), {"rows": "chroma"}
    with pytest.raises(InputError, match="pools at least 32 rows"):
        run_experiment(small(data=data, model={"widths": [4] * 4}), accelerator, tmp_path)
    corrected = small(data=data, model={"widths": [4]}, train={"epochs": 1})
    assert "energy" in run_experiment(corrected, accelerator, tmp_path)
    with pytest.raises(InputError, match="holds another experiment"):
        run_experiment(small(data=data, model={"widths": [8]}), accelerator, tmp_path)
