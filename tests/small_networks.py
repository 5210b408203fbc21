"""Small networks of random weights, for tests that predict with them."""

from pathlib import Path

import numpy as np
import torch

from music_emotion.audio.settings import FeatureSettings, row_slice
from music_emotion.config import build_experiment
from music_emotion.files import prediction_table, write_predictions
from music_emotion.models.card import ModelCard
from music_emotion.models.network import Network, save_model

TARGETS = ("valence", "energy")


def small_network(
    outputs=TARGETS, seed=0, rows="mel", frames=64, padding="silence", hop=512, data=None, **model
) -> Network:
    """A network whose outputs depend on every frame; of emotion if it predicts valence or energy."""
    differences = {
        "task": "emotion" if {*TARGETS} & {*outputs} else "genre",
        "data": {"rows": rows, **(data or {})},
        "excerpt": {"frames": frames, "test": 4, "padding": padding},
        "model": {"widths": (4, 8), "lstm_width": 8, **model},
    }
    torch.manual_seed(seed)
    mean, deviation = (
        tuple(np.repeat(of, [128, 12])[row_slice(rows)].tolist()) for of in ([-40, 0.4], [18, 0.3])
    )
    scales = (mean, deviation, (0.0,) * len(outputs), (1.0,) * len(outputs))
    features, experiment = FeatureSettings(hop_length=hop), build_experiment(differences, "test")
    return Network(ModelCard(experiment, outputs, *scales, features=features)).eval()


def small_run(folder: Path, *networks: Network, n_clips: int = 60) -> Path:
    """A run's folder: a fold per network, labels from 0 to 1, and out-of-fold predictions of them."""
    for number, network in enumerate(networks):
        save_model(folder / f"seed0/fold{number}/model.safetensors", network, network.state_dict())
    rng, outputs = np.random.default_rng(0), networks[0].card.outputs
    truth = rng.random((n_clips, len(outputs)))
    guesses = 0.5 + (truth - 0.5) / 2 + rng.normal(0, 0.05, truth.shape)
    for name, values in (("truth", truth), ("oof", guesses.clip(0, 1))):
        write_predictions(folder / f"{name}.csv", prediction_table(np.arange(n_clips), values, outputs))
    return folder
