from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.splits import folds_of_seed
from music_emotion.evaluation.metrics import spearman
from music_emotion.files import InputError, read_json, read_predictions
from music_emotion.models.network import load_model, save_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import make_network, start_from_trunk
from music_emotion.training.loop import Trainer
from music_emotion.training.objectives import make_objective
from music_emotion.training.overfit import NEAR_ZERO, overfit_batch
from music_emotion.training.predict import predict_with

NO_AUGMENTATION = {"equaliser": None, "frequency_masks": None, "time_masks": None, "mixup": None}


def sets(experiment):
    clips = load_clip_set(experiment.data, experiment.task, "train")
    fold = folds_of_seed(experiment, clips, seed=0)[0]
    return fold.training, fold.valid


def fit(experiment, directory: Path, seed: int = 0, trunk: bool = False) -> pd.DataFrame:
    """Train one fold and return its metrics."""
    training, valid = sets(experiment)
    accelerator = make_accelerator()
    network = make_network(experiment, training, seed)
    if trunk:
        start_from_trunk(network, directory, accelerator)
    objective = make_objective(experiment, network.card, training)
    Trainer(network, objective, training, valid, accelerator, directory, seed).run()
    return pd.read_csv(directory / "metrics.csv")


def test_a_fold_leaves_its_files_and_says_what_it_cost(small, tmp_path):
    metrics = fit(small(train={"epochs": 3, "valid_every": 2}), tmp_path)
    expected = ["cost.json", "metrics.csv", "model.safetensors", STATE, "valid.csv"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == expected
    assert metrics["epoch"].tolist() == [1, 2, 3]
    assert metrics["score"].isna().tolist() == [True, False, False]  # every second, and the last
    _, valid = sets(small())
    assert read_predictions(tmp_path / "valid.csv").index.tolist() == sorted(valid.ids)
    cost = read_json(tmp_path / "cost.json")
    assert cost["seconds"] == pytest.approx(metrics["seconds"].sum())
    assert cost["updates"] == metrics["updates"].iloc[-1] > 0
    weights = load_model(tmp_path / "model.safetensors").named_parameters()
    assert cost["parameters"] == sum(np.prod(values.shape) for _, values in weights)
    # of what imports torch, in bytes and not in units of 1024, and no more than this process ever held
    assert 100e6 < cost["peak_memory_bytes"] <= psutil.virtual_memory().total
    assert cost["peak_memory_bytes"] > 0.5 * psutil.Process().memory_info().rss
    machine = {"device": "cpu", "threads": torch.get_num_threads(), "processes": 1}
    assert cost.items() >= (machine | {"precision": make_accelerator().mixed_precision}).items()


def test_what_a_fold_cost_is_known_before_it_is_finished(small, tmp_path, monkeypatch):
    from music_emotion.training import loop

    def save(*_):
        assert (tmp_path / "cost.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_model", save)
    with pytest.raises(KeyboardInterrupt):
        fit(small(train={"epochs": 1}), tmp_path)


def test_the_same_seed_twice_gives_the_same_loss_in_every_epoch(small, tmp_path):
    experiment = small(train={"epochs": 3})
    one, other = fit(experiment, tmp_path / "one"), fit(experiment, tmp_path / "other")
    assert one["train_loss"].tolist() == other["train_loss"].tolist()
    third = fit(experiment, tmp_path / "third", seed=1)
    assert third["train_loss"].tolist() != one["train_loss"].tolist()


def test_an_interrupted_training_ends_like_an_uninterrupted_one(small, tmp_path, interrupt):
    experiment = small(train={"epochs": 4, "select": "best-score"})
    whole = fit(experiment, tmp_path / "whole")
    with interrupt(epoch=2):
        fit(experiment, tmp_path / "cut")
    assert len(pd.read_csv(tmp_path / "cut" / "metrics.csv")) == 2
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    resumed = fit(experiment, tmp_path / "cut")
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), whole.drop(columns="seconds"))
    cost = read_json(tmp_path / "cut" / "cost.json")
    assert cost["seconds"] == pytest.approx(resumed["seconds"].sum())  # those before the cut too
    assert cost["updates"] == read_json(tmp_path / "whole" / "cost.json")["updates"]
    one, other = (load_model(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    for name, weights in one.state_dict().items():
        assert torch.equal(weights, other.state_dict()[name]), name


def test_a_damaged_state_gets_a_sentence(small, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"half of a file")
    with pytest.raises(InputError, match=r"state.pt is damaged .* Delete it to train that fold anew"):
        fit(small(), tmp_path)


def test_eight_clips_are_learnt_by_heart(small, tmp_path):
    experiment = small(
        train={"epochs": 120, "valid_every": 120, "ema": None}, augment=NO_AUGMENTATION, model={"dropout": 0}
    )
    training, _ = sets(experiment)
    eight = training.select(np.arange(8))
    network = make_network(experiment, eight, 0)
    objective = make_objective(experiment, network.card, eight)
    Trainer(network, objective, eight, eight, make_accelerator(), tmp_path, 0).run()
    predictions = read_predictions(tmp_path / "valid.csv")
    for target in eight.outputs:
        assert spearman(eight.truth[target].to_numpy(), predictions[target].to_numpy()) > 0.95


def test_predictions_are_in_the_targets_units(small, tmp_path):
    experiment = small(train={"epochs": 30, "valid_every": 30})
    fit(experiment, tmp_path)
    _, valid = sets(experiment)
    error = read_predictions(tmp_path / "valid.csv") - valid.truth
    assert error.abs().mean().max() < 0.2  # of targets spread evenly over 0 to 1


def test_normal_scores_near_partners_and_attention_train_together(small, tmp_path):
    experiment = small(
        loss={"rank_normal": True, "squared": 0.1, "pairwise": 0.5, "soft_rank": 0.5},
        augment={"mixup_bandwidth": 0.5},
        model={"readout": "attention"},
        train={"epochs": 15, "valid_every": 15},
    )
    metrics = fit(experiment, tmp_path)
    assert np.isfinite(metrics["train_loss"]).all()
    assert metrics["valid_loss"].iloc[-1] < metrics["train_loss"].iloc[0]
    assert metrics["score"].iloc[-1] > 0.4
    training, valid = sets(experiment)
    card = load_model(tmp_path / "model.safetensors").card
    median = np.interp(0, np.linspace(-3, 3, 101), card.target_quantiles[0])
    assert median == pytest.approx(np.median(training.values[:, 0]), abs=0.02)
    again = predict_with(tmp_path / "model.safetensors", valid, make_accelerator())
    pd.testing.assert_frame_equal(again, read_predictions(tmp_path / "valid.csv"), rtol=1e-12)
    assert (again - valid.truth).abs().mean().max() < 0.25


def test_partners_are_drawn_with_the_experiments_bandwidth(small, tmp_path):
    losses = [
        fit(small(augment={"mixup_bandwidth": bandwidth}), tmp_path / str(bandwidth))["train_loss"].tolist()
        for bandwidth in (None, 0.2)
    ]
    assert losses[0] != losses[1]


def test_genre_knows_no_normal_scores(small, tmp_path):
    fit(small(task="genre", loss={"rank_normal": True}, train={"epochs": 1}), tmp_path)
    assert load_model(tmp_path / "model.safetensors").card.target_quantiles == ()


def test_a_saved_model_predicts_to_the_bit_as_it_did(small, tmp_path):
    experiment = small()
    fit(experiment, tmp_path)
    _, valid = sets(experiment)
    again = predict_with(tmp_path / "model.safetensors", valid, make_accelerator())
    save_model(
        tmp_path / "copy.safetensors",
        load_model(tmp_path / "model.safetensors"),
        load_model(tmp_path / "model.safetensors").state_dict(),
    )
    copy = predict_with(tmp_path / "copy.safetensors", valid, make_accelerator())
    pd.testing.assert_frame_equal(again, copy, check_exact=True)
    pd.testing.assert_frame_equal(again, read_predictions(tmp_path / "valid.csv"), rtol=1e-12)


def test_genre_training_scores_macro_f1_and_gives_probabilities(small, tmp_path):
    metrics = fit(small(task="genre", train={"epochs": 40, "valid_every": 40}), tmp_path)
    assert metrics["score"].iloc[-1] == metrics["macro_f1"].iloc[-1] > 0.8
    np.testing.assert_allclose(read_predictions(tmp_path / "valid.csv").sum(axis=1), 1, atol=1e-5)


def test_a_genre_trunk_starts_better_than_a_random_one(small, tmp_path, capsys):
    fit(small(task="genre", train={"epochs": 30, "valid_every": 30}), tmp_path / "genre")
    trunk = {"trunk": str(tmp_path / "genre" / "model.safetensors")}
    losses: dict[str, list[float]] = {"trunk": [], "random": []}
    for seed in range(3):
        for start, model in (("trunk", trunk), ("random", {})):
            experiment = small(model=model, train={"epochs": 1, "ema": None}, augment=NO_AUGMENTATION)
            place = tmp_path / start / str(seed)
            losses[start] += fit(experiment, place, seed, trunk=start == "trunk")["train_loss"].tolist()
    assert np.mean(losses["trunk"]) < np.mean(losses["random"])
    printed = capsys.readouterr().out
    assert "28 weights taken, 2 are new" in printed
    assert "taken: trunk.blocks.0 (14), trunk.blocks.1 (14)" in printed
    assert "new: head.1.weight, head.1.bias" in printed
    recorded = read_json(tmp_path / "trunk" / "0" / "trunk.json")
    assert recorded["new"] == ["head.1.weight", "head.1.bias"]
    assert all(name.startswith("trunk.") for name in recorded["taken"])


def test_frozen_passes_change_the_head_alone(small, tmp_path):
    fit(small(task="genre", train={"epochs": 1}), tmp_path / "genre")
    trunk = {"trunk": str(tmp_path / "genre" / "model.safetensors")}
    frozen = {"epochs": 2, "frozen_epochs": 2, "ema": None}
    fit(small(model=trunk, train=frozen), tmp_path / "frozen", trunk=True)
    before = load_model(tmp_path / "genre" / "model.safetensors").state_dict()
    after = load_model(tmp_path / "frozen" / "model.safetensors").state_dict()
    for name in [name for name in before if name.startswith("trunk.")]:
        assert torch.equal(before[name], after[name]), name


def test_a_constant_prediction_is_never_the_best_epoch(small, tmp_path, monkeypatch):
    rows = iter([(0.9, 1), (0.2, 0), (np.nan, 0), (0.1, 0)])

    def validate(*_):
        score, constant = next(rows)
        return {"score": score, "valid_loss": 1.0, "constant": constant}

    kept = []
    select = Trainer._select

    def remember(trainer, row):
        select(trainer, row)
        kept.append(trainer.progress.best)

    monkeypatch.setattr(Trainer, "_validate", validate)
    monkeypatch.setattr(Trainer, "_select", remember)
    fit(small(train={"epochs": 4, "valid_every": 1, "select": "best-score"}), tmp_path)
    assert kept == [-np.inf, 0.2, 0.2, 0.2]


def test_patience_stops_a_training_that_gets_no_better(small, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_validate", lambda *_: {"score": 0.0, "valid_loss": 1.0, "constant": 0})
    train = {"epochs": 50, "valid_every": 1, "select": "best-loss", "patience": 3}
    assert len(fit(small(train=train), tmp_path)) == 4  # one that is kept, three that are not better


def test_a_loss_that_is_not_finite_stops_with_a_remedy(small, tmp_path):
    rate = {"learning_rate": 1e30, "clip_norm": None, "schedule": "constant", "name": "sgd"}
    with pytest.raises(InputError, match=r"the loss is (nan|inf) in epoch \d.*--optim.learning-rate"):
        fit(small(optim=rate, model={"norm": None}, train={"epochs": 3}), tmp_path)


@pytest.mark.parametrize("task", ["emotion", "genre"])
def test_one_batch_can_be_overfitted(small, task):
    experiment = small(task=task)
    training, _ = sets(experiment)
    network = make_network(experiment, training, 0)
    objective = make_objective(experiment, network.card, training)
    first, last, _ = overfit_batch(network, objective, training, make_accelerator())
    assert first > 0.5
    assert last < NEAR_ZERO


def test_a_network_that_cannot_learn_is_found_out(small):
    experiment = small(optim={"learning_rate": 1e-9})
    training, _ = sets(experiment)
    network = make_network(experiment, training, 0)
    objective = make_objective(experiment, network.card, training)
    _, last, updates = overfit_batch(network, objective, training, make_accelerator(), n_updates=5)
    assert last > NEAR_ZERO
    assert updates == 5
