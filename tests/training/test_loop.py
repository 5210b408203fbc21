"""The training loop: what a fold leaves, goes on from, selects, and refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.splits import Fold, folds_of_seed
from music_emotion.evaluation.metrics import spearman
from music_emotion.files import InputError, read_json, read_predictions
from music_emotion.models.network import load_model, save_model
from music_emotion.training import loop
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.checkpoint import STATE
from music_emotion.training.folds import make_network
from music_emotion.training.loop import Trainer
from music_emotion.training.predict import predict_with

NO_AUGMENTATION = {"equaliser": None, "frequency_masks": None, "time_masks": None, "mixup": None}
ONE_EXCERPT = {"per_clip": 1}


def fold_of(experiment) -> Fold:
    clips = load_clip_set(experiment.data, experiment.task, "train")
    return folds_of_seed(experiment, clips, seed=0)[0]


def fit(experiment, directory: Path, fold: Fold | None = None) -> pd.DataFrame:
    """Train one fold and return its metrics."""
    fold = fold or fold_of(experiment)
    network = make_network(experiment, fold.training, fold.own_seed)
    Trainer(network, fold, make_accelerator(), directory, None).run()
    return pd.read_csv(directory / "metrics.csv")


def test_a_fold_leaves_its_files_says_what_it_cost_and_draws_by_its_seed(small, tmp_path, monkeypatch):
    def save(*arguments):
        assert (tmp_path / "cost.json").exists()  # before the model, which ends the fold
        save_model(*arguments)

    monkeypatch.setattr(loop, "save_model", save)
    experiment = small(train={"epochs": 3, "valid_every": 2, "select": "best-score"}, excerpt=ONE_EXCERPT)
    fold = fold_of(experiment)
    metrics, valid = fit(experiment, tmp_path, fold), fold.valid
    expected = ["cost.json", "metrics.csv", "model.safetensors", STATE, "valid.csv"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == expected
    assert metrics["epoch"].tolist() == [1, 2, 3]
    assert metrics["score"].isna().tolist() == [True, False, False]  # every second, and the last
    predictions = read_predictions(tmp_path / "valid.csv")
    assert predictions.index.tolist() == sorted(valid.ids)
    again = predict_with(tmp_path / "model.safetensors", valid, make_accelerator())
    pd.testing.assert_frame_equal(again, predictions, rtol=1e-12)
    cost = read_json(tmp_path / "cost.json")
    assert cost["seconds"] == pytest.approx(metrics["seconds"].sum())
    assert cost["updates"] == metrics["updates"].iloc[-1] == 9
    weights = load_model(tmp_path / "model.safetensors").named_parameters()
    assert cost["parameters"] == sum(np.prod(values.shape) for _, values in weights)
    # of what imports torch, in bytes and not in units of 1024, and no more than this process ever held
    assert 100e6 < cost["peak_memory_bytes"] <= psutil.virtual_memory().total
    assert cost["peak_memory_bytes"] > 0.5 * psutil.Process().memory_info().rss
    machine = {"device": "cpu", "threads": torch.get_num_threads(), "processes": 1}
    assert cost.items() >= (machine | {"precision": make_accelerator().mixed_precision}).items()
    other = fit(experiment, tmp_path / "other", replace(fold, seed=1))
    assert other["train_loss"][0] != metrics["train_loss"][0]


@pytest.mark.parametrize("task", ["emotion", "genre"])
def test_eight_clips_are_learnt_by_heart_in_their_units(small, tmp_path, task):
    sections = {"augment": NO_AUGMENTATION, "model": {"dropout": 0}, "optim": {"learning_rate": 0.01}}
    experiment = small(task=task, train={"epochs": 60, "valid_every": 60, "ema": None}, **sections)
    eight = fold_of(experiment).training.select(np.arange(8))
    metrics = fit(experiment, tmp_path, Fold(0, 0, eight, eight))
    predictions = read_predictions(tmp_path / "valid.csv")
    if task == "genre":
        assert metrics["score"].iloc[-1] == metrics["macro_f1"].iloc[-1] == 1
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-5)
    else:
        assert (predictions - eight.truth).abs().mean().max() < 0.1
        for target in eight.outputs:
            assert spearman(eight.truth[target].to_numpy(), predictions[target].to_numpy()) > 0.95


def test_normal_scores_are_those_of_the_training_targets_and_genres_have_none(small):
    experiment, genre = (small(task=task, loss={"rank_normal": True}) for task in ("emotion", "genre"))
    training = fold_of(experiment).training
    card = make_network(experiment, training, 0).card
    median = np.interp(0, np.linspace(-3, 3, 101), card.target_quantiles[0])
    assert median == pytest.approx(np.median(training.values[:, 0]), abs=0.02)
    assert make_network(genre, fold_of(genre).training, 0).card.target_quantiles == ()


def test_a_constant_prediction_is_never_the_best_epoch(small, tmp_path, monkeypatch):
    rows = iter([(0.9, 1), (0.2, 0), (np.nan, 0), (0.1, 0)])

    kept = []

    def validate(trainer):
        kept.append(trainer.progress.best)
        score, constant = next(rows)
        return {"score": score, "valid_loss": 1.0, "constant": constant}

    monkeypatch.setattr(Trainer, "_validate", validate)
    fit(small(train={"epochs": 4, "valid_every": 1, "select": "best-score"}, excerpt=ONE_EXCERPT), tmp_path)
    assert kept == [-np.inf, -np.inf, 0.2, 0.2]


def test_patience_stops_a_training_that_gets_no_better(small, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_validate", lambda *_: {"score": 0.0, "valid_loss": 1.0, "constant": 0})
    train = {"epochs": 50, "valid_every": 1, "select": "best-loss", "patience": 2}
    assert len(fit(small(train=train, excerpt=ONE_EXCERPT), tmp_path)) == 3  # one is kept, two are not better


def test_a_loss_that_is_not_finite_stops_with_a_remedy(small, tmp_path):
    rate = {"learning_rate": 1e30, "clip_norm": None, "schedule": "constant", "name": "sgd"}
    with pytest.raises(InputError, match=r"the loss is (nan|inf) in epoch \d.*--optim.learning-rate"):
        fit(small(optim=rate, model={"norm": None}, train={"epochs": 3}), tmp_path)
