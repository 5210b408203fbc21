"""Linear probing: the head that ridge regression gives."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from music_emotion.datasets.splits import folds_of_run
from music_emotion.files import InputError
from music_emotion.models.network import clip_features, load_model, save_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment
from music_emotion.training.predict import predict_clips
from music_emotion.training.probe import probe

pytestmark = pytest.mark.usefixtures("exact")


def test_the_head_is_ridge_regression_on_the_mean_features_of_clips(small):
    experiment = small()
    clips, _ = load_sets(experiment, make_accelerator())
    network = make_network(experiment, clips, 0)
    probe(network, clips, 7.0)
    features, truth = clip_features(network, clips), clips.truth.to_numpy()
    inputs = StandardScaler().fit_transform(features)
    expected = Ridge(7.0).fit(inputs, (truth - truth.mean(axis=0)) / truth.std(axis=0)).predict(inputs)
    with torch.inference_mode():
        np.testing.assert_allclose(network.head(torch.tensor(features)), expected, atol=1e-4)
    predicted = predict_clips(network, clips, make_accelerator()).loc[clips.ids]
    expected = expected * truth.std(axis=0) + truth.mean(axis=0)
    np.testing.assert_allclose(predicted, expected, atol=1e-4)


def test_a_fold_starts_from_the_probe_of_its_own_training_clips(small, tmp_path):
    genre = small(task="genre")
    trunk = make_network(genre, load_sets(genre, make_accelerator())[0], 3)
    save_model(tmp_path / "trunk.safetensors", trunk, trunk.state_dict())
    still = {"epochs": 1, "frozen_epochs": 1, "probe": 7.0}
    experiment = small(
        name="probed",
        model={"trunk": str(tmp_path / "trunk.safetensors")},
        train=still,
        optim={"learning_rate": 1e-9},
    )
    run_experiment(experiment, make_accelerator(), tmp_path / "probed")
    clips, _ = load_sets(experiment, make_accelerator())
    fold = folds_of_run(experiment, clips)[1]
    learnt = load_model(tmp_path / "probed" / fold.folder / "model.safetensors")
    expected = load_model(tmp_path / "probed" / fold.folder / "model.safetensors")
    probe(expected, fold.training, 7.0)
    torch.testing.assert_close(learnt.head[-1].weight, expected.head[-1].weight, rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match=r"train\.probe sets the linear head .* Give model\.trunk"):
        small(train={"probe": 1.0})
