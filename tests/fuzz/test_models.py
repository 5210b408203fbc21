"""Models and states of training that are damaged, or of something else."""

import io
import json
import struct

import numpy as np
import pytest
import torch
from damaged import altered, damaged, only_sentences, several
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.store import Store
from music_emotion.models.card import ModelCard, read_card
from music_emotion.models.network import Network, load_model, save_model
from music_emotion.training.checkpoint import Progress, load_state, save_state

EXPERIMENT = build_experiment({"name": "m", "model": {"widths": [2, 2]}, "excerpt": {"frames": 16}}, "here")
CLIPS = ClipSet.unlabelled(Store.in_memory(np.zeros((3, 140)), [3]))


def small_network() -> nn.Module:
    torch.manual_seed(0)
    card = ModelCard(EXPERIMENT, ("valence",), (0.0,) * 140, (1.0,) * 140, (0.5,), (0.2,))
    return Network(card)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder):
    """A whole model file, its metadata and its weights."""
    network = small_network()
    save_model(folder / "whole.safetensors", network, network.state_dict())
    content = (folder / "whole.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return content, json.loads(content[8 : 8 + size])["__metadata__"]["music_emotion"], load(content)


def check_model(folder, content):
    network = only_sentences(load_model, folder / "model.safetensors", content)
    only_sentences(read_card, folder / "model.safetensors", content)
    if network is not None:
        with torch.no_grad():
            network(torch.zeros(1, 140, 16), torch.tensor([16]))


@several
@given(st.data())
def test_a_damaged_model(folder, model, data):
    check_model(folder, data.draw(damaged(model[0])))


@several
@given(st.data())
def test_a_model_of_a_damaged_description(folder, model, data):
    _, card, weights = model
    changed = altered(json.loads(card)).map(json.dumps).map(str.encode)
    description = data.draw(damaged(card.encode()) | changed).decode("utf-8", "replace")
    check_model(folder, save(weights, metadata={"music_emotion": description}))


def test_a_model_of_a_description_that_fits_no_network(folder, model):
    _, card, weights = model
    wide = experiment_to_dict(EXPERIMENT) | {"model": {"widths": [2, 2**31]}}
    for part in (
        *({"row_mean": ["loud"] * 140}, {"target_mean": [0.5, 0.5]}, {"outputs": 3}, {"experiment": wide}),
        {"more": 1},
    ):
        content = save(weights, metadata={"music_emotion": json.dumps(json.loads(card) | part)})
        assert only_sentences(load_model, folder / "model.safetensors", content) is None, part


@pytest.fixture(scope="module")
def members():
    """What a state is loaded into, which a refused state may have changed."""
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters())
    return {"network": network, "averaged": small_network(), "optimizer": optimizer}


@several
@given(st.data())
def test_a_damaged_state(folder, members, data):
    whole = folder / "whole.pt"
    if not whole.exists():
        save_state(whole, members, Progress(3, 7, [{"loss": 0.5}], 0.4, None, 1))
    content = data.draw(damaged(whole.read_bytes()))
    progress = only_sentences(lambda path: load_state(path, members, CLIPS), folder / "state.pt", content)
    if progress is not None:
        assert progress.epoch >= 0


@several
@given(st.data(), st.sampled_from(["network", "averaged", "optimizer", "scaler", "progress"]), st.booleans())
def test_a_state_of_other_things(folder, members, data, part, is_part):
    state = {name: member.state_dict() for name, member in members.items()}
    state |= {"scaler": None, "progress": vars(Progress(3, 7, [{"loss": 0.5}], 0.4, None, 1))}
    other, content = data.draw(altered(dict(state[part] or {}))), io.BytesIO()
    torch.save({**state, part: other} if is_part else other, content)
    only_sentences(lambda path: load_state(path, members, CLIPS), folder / "state.pt", content.getvalue())
