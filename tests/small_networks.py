"""Small networks of random weights, for tests that predict with them."""

import numpy as np
import torch

from music_emotion.audio.settings import FeatureSettings, row_slice
from music_emotion.config import build_experiment
from music_emotion.models.network import ModelCard, Network, build_network

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
    return build_network(ModelCard(experiment, outputs, *scales, features=features)).eval()
