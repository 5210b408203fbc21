"""A file as of the pretrained ear, but with random weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from music_emotion.models.ear import _CARD, WHEEL_SHA256, _digest
from music_emotion.models.musicnn import MusiCNN


def write_random_ear(path: Path, seed: int = 0) -> Path:
    """Write a MusiCNN of which few filters are not zero, which makes it fast."""
    torch.manual_seed(seed)
    network = MusiCNN()
    for conv, *_ in (*network.timbral, *network.temporal, *network.middle):
        conv.weight.data[8:] = 0
    weights = network.state_dict()
    card = {"network": "musicnn", "wheel_sha256": WHEEL_SHA256, "weights_sha256": _digest(weights)}
    card |= {"tags": [f"tag {number}" for number in range(50)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, {_CARD: json.dumps(card)})
    return path
