"""Genre as an auxiliary head beside emotion: what is trained, what is kept, and what is refused."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.excerpts import TrainingExcerpts
from music_emotion.datasets.splits import folds_of_run
from music_emotion.files import Diverged, InputError, read_predictions
from music_emotion.models.augment import mixup
from music_emotion.models.network import load_model
from music_emotion.training import loop, objectives
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import load_sets, make_network, train_folds
from music_emotion.training.loop import UNFINISHED, Trainer
from music_emotion.training.objectives import EmotionObjective, PairedExcerpts, WithGenreHead, load_genres
from music_emotion.training.predict import predict_with

PLAIN = {"equaliser": None, "frequency_masks": None, "time_masks": None, "mixup": None}
GENRES = {"loss": {"genre": 0.5}}
FOLD = "seed0/fold0"


def train(experiment, directory, n_folds: int = 1, **limit) -> pd.DataFrame:
    """Train the first folds as a run does; returns the metrics of the first."""
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    train_folds(experiment, folds_of_run(experiment, clips)[:n_folds], test, accelerator, directory, **limit)
    return pd.read_csv(directory / FOLD / "metrics.csv")


def weights_of(directory, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_model(directory / FOLD / name).state_dict()


def set_of(experiment, task: str):
    return load_clip_set(experiment.data, task, "train")


def pairs(experiment, genres=None) -> PairedExcerpts:
    emotion, genres = set_of(experiment, "emotion"), genres or set_of(experiment, "genre")
    return PairedExcerpts(emotion, genres, experiment.data, experiment.excerpt, seed=3)


def trainer_of(experiment, genres, directory) -> Trainer:
    training = set_of(experiment, "emotion")
    network = make_network(experiment, training, 0)
    objective = EmotionObjective(experiment.loss, network.card)
    return Trainer(network, objective, training, training, make_accelerator(), directory, 0, genres)


@pytest.fixture
def trainers(monkeypatch) -> list[Trainer]:
    """The trainers of this test that have finished."""
    finished, finish = [], Trainer._finish
    monkeypatch.setattr(Trainer, "_finish", lambda trainer: (finished.append(trainer), finish(trainer)))
    return finished


def test_the_genre_head_learns_and_the_emotion_head_too(small, tmp_path, trainers):
    experiment = small(**GENRES, augment=PLAIN, train={"epochs": 25, "valid_every": 25}, model={"dropout": 0})
    metrics = train(experiment, tmp_path)
    first = ["epoch", "updates", "learning_rate", "train_loss", "genre_loss"]
    assert metrics.columns[:5].tolist() == first
    assert metrics["genre_loss"].iloc[0] > 0.9
    assert metrics["genre_loss"].iloc[-1] < 0.3
    assert metrics["score"].iloc[-1] > 0.5
    average = trainers[0].members["averaged"].eval()
    excerpts = pairs(experiment).__getitems__(list(range(64)))
    both = (torch.cat([excerpts[of + name] for of in ("", "genre_")]) for name in ("frames", "lengths"))
    with torch.inference_mode():
        outputs, logits = average(*both)
        alone = average.network(excerpts["frames"], excerpts["lengths"])
    guessed, truth = logits.argmax(dim=1), excerpts["genre_values"].argmax(dim=1)
    assert (guessed == truth).float().mean() > 0.8  # a third by chance
    torch.testing.assert_close(outputs.float(), alone.float(), rtol=1e-3, atol=1e-3)


def test_an_epoch_pairs_excerpts_of_both_sets_in_orders_of_their_own(small):
    experiment = small()
    emotion, genres = set_of(experiment, "emotion"), set_of(experiment, "genre")
    excerpts = pairs(experiment)
    everything = list(range(len(excerpts)))
    batch = excerpts.__getitems__(everything)
    plain = TrainingExcerpts(emotion, experiment.data, experiment.excerpt, seed=3)
    for name, values in plain.__getitems__(everything).items():
        assert torch.equal(values, batch[name]), name  # the emotion set as without genres
    counts = batch["genre_ids"].unique(return_counts=True)[1]
    assert len(batch["genre_ids"]) == 80  # 40 clips, two excerpts each
    assert len(counts) == len(genres) == 24
    assert counts.max() <= 4  # 96 excerpts to take 80 from
    for clip_id, values in zip(batch["genre_ids"].tolist(), batch["genre_values"], strict=True):
        assert values.tolist() == genres.truth.loc[clip_id].tolist()
    with_itself = pairs(experiment, emotion).__getitems__(everything)
    assert (with_itself["ids"] == with_itself["genre_ids"]).float().mean() < 0.2


def test_excerpts_of_genres_follow_from_seed_and_epoch_alone(small):
    one, other = pairs(small()), pairs(small())
    other.set_epoch(1)
    items = list(range(16))
    first, second = one.__getitems__(items), other.__getitems__(items)
    assert first["genre_ids"].tolist() != second["genre_ids"].tolist()
    one.set_epoch(4)
    one.set_epoch(1)
    again = one.__getitems__(items)
    assert all(torch.equal(again[name], second[name]) for name in second)


@pytest.mark.parametrize("n_genres", [3, 20])
def test_a_genre_set_of_any_size_gives_as_many_excerpts(small, n_genres):
    experiment = small(excerpt={"per_clip": 1})
    emotion, genres = (
        set_of(experiment, task).select(np.arange(n)) for task, n in (("emotion", 10), ("genre", n_genres))
    )
    excerpts = PairedExcerpts(emotion, genres, experiment.data, experiment.excerpt, seed=0)
    seen: set[int] = set()
    for epoch in range(12):
        excerpts.set_epoch(epoch)
        ids = excerpts.__getitems__(list(range(10)))["genre_ids"]
        assert len(ids) == 10
        assert ids.unique(return_counts=True)[1].max() <= -(-10 // n_genres)
        seen |= set(ids.tolist())
    assert len(seen) == n_genres  # what one epoch leaves out, others take


def test_the_gradient_of_the_genre_loss_reaches_the_trunk_and_its_own_head(small, tmp_path):
    experiment = small(**GENRES, augment=PLAIN, model={"dropout": 0})
    trainer = trainer_of(experiment, set_of(experiment, "genre"), tmp_path)
    network, learner = trainer.network, trainer.learner
    batch = pairs(experiment).__getitems__(list(range(8)))
    losses = trainer._losses(batch)
    both = (torch.cat([batch[of + name] for of in ("", "genre_")]) for name in ("frames", "lengths"))
    features = network.features(*both)
    expected = torch.nn.functional.cross_entropy(learner.genre_head(features[8:]), batch["genre_values"])
    torch.testing.assert_close(losses["genre_loss"], expected)
    expected = trainer.objective.loss(network.head(features[:8]), batch["values"])
    torch.testing.assert_close(losses["train_loss"], expected)
    losses["genre_loss"].backward()
    assert all(weights.grad is None for weights in network.head.parameters())
    for part in (network.trunk, learner.genre_head):
        assert all(weights.grad.abs().sum() > 0 for weights in part.parameters())


def test_mixup_stays_within_each_set(small, tmp_path, monkeypatch):
    mixed = []

    def watch(frames, lengths, values, alpha, bandwidth):
        mixed.append((len(frames), values.shape[1], alpha, bandwidth))
        return mixup(frames, lengths, values, alpha, bandwidth)

    monkeypatch.setattr(loop, "mixup", watch)
    experiment = small(**GENRES, augment={"mixup": 0.3, "mixup_bandwidth": 0.5})
    genres = set_of(experiment, "genre")
    trainer_of(experiment, genres, tmp_path)._losses(pairs(experiment).__getitems__(list(range(8))))
    assert mixed == [(8, 3, 0.3, 0.5), (8, len(genres.outputs), 0.3, 0.5)]


def test_classes_are_weighted_as_in_a_genre_training(small, tmp_path):
    experiment = small(loss={"genre": 1, "class_weights": "balanced"})
    genres = set_of(experiment, "genre").select(np.arange(20))
    objective = trainer_of(experiment, genres, tmp_path).genre_objective
    assert objective.outputs == genres.outputs
    counts = genres.values.sum(axis=0)
    np.testing.assert_allclose(objective.weights, counts.sum() / len(counts) / counts, rtol=1e-6)


@pytest.mark.parametrize("model", [{}, {"kind": "lstm", "lstm_width": 8}])
def test_an_interrupted_training_ends_like_an_uninterrupted_one(small, tmp_path, interrupt, model):
    experiment = small(**GENRES, model=model, train={"epochs": 3, "valid_every": 1, "select": "best-loss"})
    whole = train(experiment, tmp_path / "whole")
    with interrupt(epoch=2):
        train(experiment, tmp_path / "cut")
    state = torch.load(tmp_path / "cut" / FOLD / STATE, weights_only=True)
    heads = [state[held]["genre_head.1.weight"] for held in ("network", "averaged")]
    assert not torch.equal(*heads)
    resumed = train(experiment, tmp_path / "cut")
    pd.testing.assert_frame_equal(
        resumed.drop(columns="seconds"), whole.drop(columns="seconds"), check_exact=True
    )
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_plain_emotion_network_is_saved(small, tmp_path):
    experiment = small(**GENRES, train={"epochs": 1})
    train(experiment, tmp_path / "genres")
    train(small(train={"epochs": 1}), tmp_path / "plain")
    files = [tmp_path / run / FOLD / "model.safetensors" for run in ("genres", "plain")]
    names = [set(safe_open(path, framework="pt").keys()) for path in files]
    assert names[0] == names[1]
    one, other = (weights_of(tmp_path / run) for run in ("genres", "plain"))
    assert not all(torch.equal(one[name], other[name]) for name in one)  # genres had a say
    network, accelerator = load_model(files[0]), make_accelerator()
    assert network.card.experiment == experiment
    clips, _ = load_sets(experiment, accelerator)
    assert network.card.outputs == clips.outputs
    again = predict_with(files[0], folds_of_run(experiment, clips)[0].valid, accelerator)
    pd.testing.assert_frame_equal(again, read_predictions(files[0].with_name("valid.csv")), rtol=1e-12)
    assert pd.read_csv(files[0].with_name("test.csv")).columns.tolist() == ["Id", *network.card.outputs]


def test_a_paused_training_leaves_a_plain_network(small, tmp_path, monkeypatch):
    ends = iter([False, True])
    monkeypatch.setattr(Trainer, "_ends_after", lambda *_: next(ends))
    train(small(**GENRES, train={"epochs": 2}), tmp_path, deadline=5.0)
    state = torch.load(tmp_path / FOLD / STATE, weights_only=True)
    for name, weights in weights_of(tmp_path, UNFINISHED).items():
        assert torch.equal(weights, state["averaged"][f"network.{name}"]), name


def test_frozen_epochs_leave_the_trunk_alone_and_the_genre_head_learns(small, tmp_path, trainers):
    trunk = tmp_path / "genre" / FOLD / "model.safetensors"
    train(small(task="genre", train={"epochs": 1}), tmp_path / "genre")
    frozen = {"epochs": 2, "frozen_epochs": 2, "ema": None}
    experiment = small(**GENRES, model={"trunk": str(trunk)}, train=frozen)
    train(experiment, tmp_path / "frozen")
    before, after = weights_of(tmp_path / "genre"), weights_of(tmp_path / "frozen")
    for name in [name for name in before if name.startswith("trunk.")]:
        assert torch.equal(before[name], after[name]), name
    fresh = WithGenreHead(make_network(experiment, set_of(experiment, "emotion"), 0), 3, seed=0)
    heads = (fresh.genre_head.parameters(), trainers[-1].learner.genre_head.parameters())
    assert all((one - other).abs().max() > 1e-4 for one, other in zip(*heads, strict=True))


@pytest.mark.parametrize(("sections", "expected"), [({}, []), (GENRES, [("genre", "train")])])
def test_the_genre_set_is_loaded_once_for_all_folds_if_at_all(
    small, tmp_path, monkeypatch, sections, expected
):
    loaded = []

    def load(*arguments):
        loaded.append(arguments[1:])
        return load_clip_set(*arguments)

    monkeypatch.setattr(objectives, "load_clip_set", load)
    metrics = train(small(**sections, train={"epochs": 1}), tmp_path, n_folds=2)
    assert loaded == expected
    assert ("genre_loss" in metrics) == bool(expected)
    assert (tmp_path / "seed0" / "fold1" / "model.safetensors").exists()


def test_a_missing_genre_set_is_named_with_what_to_do(small, competition, tmp_path):
    shutil.copytree(competition / "multitask_dataset", tmp_path / "data" / "multitask_dataset")
    experiment = small(**GENRES, data={"root": str(tmp_path / "data")})
    with pytest.raises(InputError, match=r"No folder fma_genre_spectrograms .*set loss\.genre 0\.$"):
        load_genres(experiment, make_accelerator())


def test_a_genre_loss_that_is_not_finite_stops_the_training(small, tmp_path):
    rate = {"learning_rate": 1e30, "clip_norm": None, "schedule": "constant", "name": "sgd"}
    with pytest.raises(Diverged, match=r"--optim\.learning-rate"):
        train(small(**GENRES, optim=rate, model={"norm": None}), tmp_path)


@pytest.mark.parametrize(
    "differences",
    [
        {"task": "genre"},
        {"classical": {"kind": "ridge"}},
        {"data": {"statistics": "{split}.csv"}, "model": {"kind": "mlp"}, "excerpt": {"frames": 1}},
    ],
)
def test_genres_beside_anything_but_an_emotion_network_are_refused(small, differences):
    small(**differences)
    with pytest.raises(InputError, match=r"loss\.genre gives an emotion network a second head"):
        small(**GENRES, **differences)


def test_genres_beside_whole_clips_are_refused(small):
    with pytest.raises(InputError, match="second head for genre excerpts"):
        small(**GENRES, excerpt={"frames": None})
