"""The whole network: every choice builds and learns, and a saved model is the model."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.stats import norm
from small_networks import small_network

from music_emotion.audio.settings import FeatureSettings, row_slice
from music_emotion.config import ModelSection, Task, build_experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.store import Store
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError, write_json
from music_emotion.models.card import ModelCard
from music_emotion.models.network import Network, load_model, load_trunk, save_model, share_trunks
from music_emotion.models.target_scale import normal_quantiles
from music_emotion.training.folds import make_network

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.toml"))
SMALL = {"widths": (4, 8), "lstm_width": 8, "backbone": "resnet10t"}
N_FRAMES = 32


def card_of(task: Task = "emotion", n_outputs: int = 3, **model: Any) -> ModelCard:
    differences = {"task": task, "model": SMALL | model, "excerpt": {"frames": N_FRAMES}}
    rows, numbers = np.arange(140), np.arange(n_outputs)
    scales = (np.sin(rows), 1.1 + np.cos(rows), 0.1 * numbers, 1 + numbers / 3)
    return ModelCard(
        build_experiment(differences, "test"),
        tuple(f"output {number}" for number in numbers),
        *(tuple(scale.tolist()) for scale in scales),
        features=FeatureSettings(hop_length=1102),
    )


def network_of(*arguments: Any, seed: int = 0, **model: Any) -> Network:
    torch.manual_seed(seed)
    return Network(card_of(*arguments, **model))


def sound_of() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 140, N_FRAMES, generator=generator), torch.tensor([N_FRAMES, 9, 9])


def choices() -> Iterator[tuple[str, Any]]:
    """Every value of every field of `ModelSection` that has a fixed list of them."""
    for name, schema in ModelSection.model_json_schema()["properties"].items():
        for part in schema.get("anyOf", [schema]):
            values = [True, False] if part.get("type") == "boolean" else part.get("enum", [])
            values += [part["const"], None] if "const" in part else []
            values += [(value,) for value in part.get("items", {}).get("enum", [])]
            yield from ((name, value) for value in values)


READ_BY = {"lstm": {"bidirectional", "head"}, "mlp": {"norm", "head"}, "timm": {"channels"}}  # conv reads all
COMBINATIONS = [
    *(("conv", name, value) for name, value in choices() if value != "ear"),  # which needs its file
    ("conv", "activation", None),
    ("conv", "channels", ("delta", "frequency", "spectrogram")),
    *((kind, name, value) for kind, read in READ_BY.items() for name, value in choices() if name in read),
]


def test_the_list_of_choices_finds_literals_flags_and_tuples_of_literals():
    expected = {("kind", "timm"), ("readout", "flatten"), ("padded", False), ("channels", ("delta",))}
    assert expected | {("norm", None)} <= set(choices())


@pytest.mark.parametrize("task", get_args(Task))
@pytest.mark.parametrize(("kind", "name", "choice"), COMBINATIONS, ids=str)
def test_every_choice_builds_learns_and_is_loaded_as_it_was_saved(tmp_path, kind, name, choice, task):
    network = network_of(task, **{"kind": kind} | {name: choice})
    outputs = network(*sound_of())  # moves the statistics of batch normalisation
    assert outputs.shape == (3, 3)
    assert torch.isfinite(outputs).all()
    outputs.square().sum().backward()
    for part in (network.trunk, network.head):
        gradients = [weight.grad for weight in part.parameters()]
        assert gradients
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)
        assert any(gradient.abs().max() > 0 for gradient in gradients)
    loaded = load_model(saved(tmp_path / "model.safetensors", network.eval()))
    assert loaded.card == network.card
    assert not loaded.training
    own, other = network.state_dict(), loaded.state_dict()
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) for name in own)
    predictions, outputs = network.predict(*sound_of()), network(*sound_of())
    assert torch.equal(predictions, loaded.predict(*sound_of()))
    if task == "genre":
        torch.testing.assert_close(predictions, outputs.softmax(dim=1))
    else:
        expected = outputs * torch.tensor([1, 4 / 3, 5 / 3]) + torch.tensor([0.0, 0.1, 0.2])
        torch.testing.assert_close(predictions, expected)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_file_builds_its_network(path):
    experiment = build_experiment(read_differences(path), str(path))
    rows = range(140)[row_slice(experiment.data.rows)]
    n_outputs = len(experiment.data.targets) or {"emotion": 3, "genre": 10}[experiment.task]
    scales = ((0.0,) * len(rows), (1.0,) * len(rows), (0.0,) * n_outputs, (1.0,) * n_outputs)
    card = ModelCard(experiment, tuple(map(str, range(n_outputs))), *scales)
    n_frames = experiment.excerpt.frames or 60
    with torch.no_grad(), torch.device("meta" if experiment.model.kind in ("conv", "timm") else "cpu"):
        # shapes alone, which the other kinds need values for: some networks have 90 million weights
        network = Network(card, pretrained=False).eval()
        outputs = network(torch.zeros(1, len(rows), n_frames), torch.tensor([n_frames]))
    assert outputs.shape == (1, n_outputs)
    if path.stem == "multitask":
        assert sum(weight.numel() for weight in network.parameters()) == 1_175_427


def test_frames_are_standardised_row_by_row():
    network = network_of(kind="lstm").eval()
    sound, lengths = sound_of()
    plain = replace(network.card, row_mean=(0.0,) * 140, row_deviation=(1.0,) * 140)
    other = Network(plain).eval()
    other.load_state_dict(network.state_dict())
    mean, deviation = (
        torch.tensor(values)[:, None] for values in (network.card.row_mean, network.card.row_deviation)
    )
    torch.testing.assert_close(network(sound, lengths), other((sound - mean) / deviation, lengths))


def test_normal_scores_become_quantiles_of_the_targets_also_after_loading(tmp_path):
    targets = np.random.default_rng(0).beta([2, 5, 1], 5, size=(2000, 3))
    mean, deviation = (tuple(part.tolist()) for part in (targets.mean(axis=0), targets.std(axis=0)))
    scale = {"target_mean": mean, "target_deviation": deviation}
    card = replace(card_of(), target_quantiles=normal_quantiles(targets), **scale)
    network = Network(card).eval()
    with torch.no_grad():
        network.head[1].weight.zero_()
        network.head[1].bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    expected = [np.quantile(targets[:, k], norm.cdf(k - 1), method="hazen") for k in range(3)]
    predictions = network.predict(*sound_of())
    np.testing.assert_allclose(predictions.detach()[0], expected, atol=0.003)
    loaded = load_model(saved(tmp_path / "model.safetensors", network))
    assert loaded.card == network.card
    assert torch.equal(loaded.predict(*sound_of()), predictions)


def saved(path: Path, network: Network) -> Path:
    save_model(path, network, network.state_dict())
    return path


def card_in(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["music_emotion"])


def rewrite_card(path: Path, **changes: Any) -> None:
    """Change entries of a saved card; None removes one."""
    card = card_in(path) | changes
    kept = {name: value for name, value in card.items() if value is not None}
    save_file(load_file(path), path, metadata={"music_emotion": json.dumps(kept)})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"features": {"hop_length": 4096}}, "describes its network in a way that can't be read"),
        ({"features": {"hop": 512}}, "unknown key 'features.hop'"),
        ({"experiment": {"model": {"widhts": [1]}}}, r"'experiment\.model\.widhts'; did you mean 'widths'"),
        ({"experiment": {"model": {"widths": [4, 16]}}}, "model.safetensors holds weights of another"),
    ],
)
def test_a_card_that_can_not_be_read_or_does_not_fit_gets_a_sentence(tmp_path, changes, sentence):
    path = saved(tmp_path / "model.safetensors", network_of())
    rewrite_card(path, features=None)
    assert load_model(path).card.features == FeatureSettings()
    rewrite_card(path, **changes)
    with pytest.raises(InputError, match=sentence):
        load_model(path)


@pytest.mark.parametrize(
    ("is_fused", "hop_length", "expected"), [(True, 1102, 1102), (True, None, 512), (False, 1102, 512)]
)
def test_a_trained_network_knows_how_its_clips_were_extracted(tmp_path, is_fused, hop_length, expected):
    (tmp_path / "multitask_dataset").mkdir()
    if hop_length:
        settings = {"sample_rate_hz": 22050, "n_fft": 2048, "hop_length": hop_length, "window_seconds": 1.0}
        write_json(tmp_path / "multitask_dataset" / "settings.json", settings)
    place = pd.DataFrame({"start": [0, 40], "length": [40, 40]}, pd.Index([1, 2], name="Id"))
    frames = np.random.default_rng(0).normal(-40, 9, (80, 140)).astype(np.float16)
    clips = ClipSet(np.array([1, 2]), Store(frames, place, is_fused), ("x",), np.array([[0.2], [0.8]]))
    experiment = build_experiment({"data": {"root": str(tmp_path)}, "model": {"widths": (4,)}}, "test")
    assert make_network(experiment, clips, 0).card.features == FeatureSettings(hop_length=expected)


def test_a_model_loads_where_the_files_it_started_from_are_gone(tmp_path):
    path = saved(tmp_path / "model.safetensors", network_of(kind="timm"))
    experiment = card_in(path)["experiment"]
    experiment["model"] |= {"weights": "gone.safetensors", "trunk": "gone-too.safetensors"}
    experiment["train"]["frozen_epochs"] = 1
    rewrite_card(path, experiment=experiment)
    assert load_model(path).card.experiment.model.weights == "gone.safetensors"


def test_somebody_elses_safetensors_file_gets_a_sentence(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"other\.safetensors .* was not written by music-emotion"):
        load_model(tmp_path / "other.safetensors")


def test_exactly_the_trunk_is_taken_and_the_head_stays_new(tmp_path):
    genre = network_of("genre", 10, seed=1)
    genre(*sound_of())
    emotion = network_of(seed=2)
    head = {name: value.clone() for name, value in emotion.head.state_dict().items()}
    load_trunk(emotion, saved(tmp_path / "genre.safetensors", genre))
    taken, there = emotion.trunk.state_dict(), genre.trunk.state_dict()
    assert all(torch.equal(taken[name], there[name]) for name in there)
    assert all(torch.equal(value, head[name]) for name, value in emotion.head.state_dict().items())


@pytest.mark.parametrize(
    ("here", "there", "sentence"),
    [
        ((4, 16), (4, 8), r"trunk\.blocks\.1\.0\.weight is \(8, 4, 3, 3\) there, \(16, 4, 3, 3\) here"),
        ((4, 8, 8), (4, 8), r"trunk\.blocks\.2\.0\.weight is missing there, \(8, 8, 3, 3\) here"),
        ((4, 8), (4, 8, 8), r"trunk\.blocks\.2\.0\.weight is \(8, 8, 3, 3\) there, missing here"),
    ],
)
def test_of_a_trunk_that_does_not_fit_nothing_is_taken(tmp_path, here, there, sentence):
    path = saved(tmp_path / "genre.safetensors", network_of("genre", seed=1, widths=there))
    network = network_of(widths=here)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError, match=rf"The trunk of .*genre\.safetensors does not fit: .*{sentence}"):
        load_trunk(network, path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_equal_weights_are_one_trunk_only_if_they_are_used_alike():
    networks = [small_network(), small_network(head="mlp")]
    share_trunks(networks)
    assert networks[0].trunk is networks[1].trunk
    for model in ({"pool": "max"}, {"activation": "gelu"}):
        other = small_network(**model)
        share_trunks([networks[0], other])
        assert other.trunk is not networks[0].trunk
