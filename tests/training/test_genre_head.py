"""Genre as an auxiliary head beside emotion: what is trained, what is kept, and what is refused."""

import shutil
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.excerpts import TrainingExcerpts
from music_emotion.datasets.splits import Fold
from music_emotion.files import InputError
from music_emotion.models.augment import mixup
from music_emotion.models.network import load_trunk, save_model
from music_emotion.training import loop
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import make_network
from music_emotion.training.loop import Trainer
from music_emotion.training.objectives import PairedExcerpts, load_second

PLAIN = {"equaliser": None, "frequency_masks": None, "time_masks": None, "mixup": None}
GENRES = {"loss": {"genre": 0.5}}


pytestmark = pytest.mark.usefixtures("exact")


def set_of(experiment, task: str):
    return load_clip_set(experiment.data, task, "train")


def pairs(experiment, genres=None) -> PairedExcerpts:
    emotion, genres = set_of(experiment, "emotion"), genres or set_of(experiment, "genre")
    return PairedExcerpts(emotion, genres, experiment.data, experiment.excerpt, seed=3)


def trainer_of(experiment, genres, directory) -> Trainer:
    training = set_of(experiment, "emotion")
    network = make_network(experiment, training, 0)
    return Trainer(network, Fold(0, 0, training, training), make_accelerator(), directory, genres)


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
    for clip_id, values in zip(batch["genre_ids"].tolist(), batch["genre_values"], strict=True):
        assert values.tolist() == genres.truth.loc[clip_id].tolist()
    with_itself = pairs(experiment, emotion).__getitems__(everything)
    assert (with_itself["ids"] == with_itself["genre_ids"]).float().mean() < 0.2
    excerpts.set_epoch(1)
    assert batch["genre_ids"].tolist() != excerpts.__getitems__(everything)["genre_ids"].tolist()


def test_a_smaller_genre_set_is_drawn_from_several_times_and_a_larger_one_in_turns(small):
    experiment = small(excerpt={"per_clip": 1})
    emotion = set_of(experiment, "emotion").select(np.arange(10))
    for n_genres, most in ((3, 4), (20, 1)):
        genres, seen = set_of(experiment, "genre").select(np.arange(n_genres)), set()
        excerpts = PairedExcerpts(emotion, genres, experiment.data, experiment.excerpt, seed=0)
        for epoch in range(12):
            excerpts.set_epoch(epoch)
            ids = excerpts.__getitems__(list(range(10)))["genre_ids"]
            assert len(ids) == 10
            assert ids.unique(return_counts=True)[1].max() <= most
            seen |= set(ids.tolist())
        assert len(seen) == n_genres  # what one epoch leaves out, others take


def test_the_gradient_of_the_genre_loss_reaches_the_trunk_and_its_own_head(small, tmp_path):
    """Its classes are weighted as in a genre training."""
    experiment = small(loss={"genre": 1, "class_weights": "balanced"}, augment=PLAIN, model={"dropout": 0})
    genres = set_of(experiment, "genre").select(np.arange(20))
    trainer = trainer_of(experiment, genres, tmp_path)
    network, learner = trainer.network, trainer.learner
    batch = pairs(experiment, genres).__getitems__(list(range(8)))
    losses = trainer._losses(batch)
    both = (torch.cat([batch[of + name] for of in ("", "genre_")]) for name in ("frames", "lengths"))
    features = network.features(*both)
    weights = torch.tensor(len(genres) / len(genres.outputs) / genres.values.sum(axis=0))
    truth = batch["genre_values"]
    expected = torch.nn.functional.cross_entropy(learner.second_head(features[8:]), truth, weights)
    torch.testing.assert_close(losses["genre_loss"], expected)
    expected = trainer.objective.loss(network.head(features[:8]), batch["values"])
    torch.testing.assert_close(losses["train_loss"], expected)
    losses["genre_loss"].backward()
    assert all(weights.grad is None for weights in network.head.parameters())
    for part in (network.trunk, learner.second_head):
        assert all(weights.grad.abs().sum() > 0 for weights in part.parameters())


def test_mixup_stays_within_each_set(small, tmp_path, monkeypatch):
    watch = Mock(wraps=mixup)
    monkeypatch.setattr(loop, "mixup", watch)
    experiment = small(**GENRES, augment={"mixup": 0.3, "mixup_bandwidth": 0.5})
    genres = set_of(experiment, "genre")
    trainer_of(experiment, genres, tmp_path)._losses(pairs(experiment).__getitems__(list(range(8))))
    mixed = [(len(frames), values.shape[1], *rest) for (frames, _, values, *rest), _ in watch.call_args_list]
    assert mixed == [(8, 3, 0.3, 0.5), (8, len(genres.outputs), 0.3, 0.5)]


def test_frozen_epochs_leave_the_trunk_alone_and_the_genre_head_learns(small, tmp_path):
    genre, trunk = small(task="genre"), tmp_path / "genre.safetensors"
    before = make_network(genre, set_of(genre, "genre"), 5)
    save_model(trunk, before, before.state_dict())
    frozen = {"epochs": 2, "frozen_epochs": 2, "ema": None}
    experiment = small(**GENRES, model={"trunk": str(trunk)}, train=frozen)
    trainer = trainer_of(experiment, set_of(experiment, "genre"), tmp_path)
    load_trunk(trainer.network, trunk)
    fresh = [weights.clone() for weights in trainer.learner.second_head.parameters()]
    trainer.run()
    after = trainer.network.state_dict()
    for name, weights in before.trunk.state_dict(prefix="trunk.").items():
        assert torch.equal(weights, after[name]), name
    heads = (fresh, trainer.learner.second_head.parameters())
    assert all((one - other).abs().max() > 1e-4 for one, other in zip(*heads, strict=True))


def test_a_missing_genre_set_is_named_with_what_to_do(small, competition, tmp_path):
    shutil.copytree(competition / "multitask_dataset", tmp_path / "data" / "multitask_dataset")
    data = {"root": str(tmp_path / "data")}
    with pytest.raises(InputError, match=r"No folder fma_genre_spectrograms .*set loss\.genre 0\.$"):
        load_second(small(**GENRES, data=data), make_accelerator())
    assert load_second(small(data=data), make_accelerator()) is None
