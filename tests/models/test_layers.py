"""Trunks, readouts and heads: lengths, padding, published architectures, and reference formulas."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from music_emotion.config import Experiment, build_experiment
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError
from music_emotion.models.card import ModelCard
from music_emotion.models.layers import AttentiveStatistics
from music_emotion.models.network import Network, build_head

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SMALL = {"widths": (4, 8), "lstm_width": 8, "channels": ("spectrogram", "delta")}
# one convolution per block, no input pooling, read out whole
PUBLISHED = {"convolutions": 1, "stem_pool": (1, 1), "pool": "max", "norm": None, "readout": "flatten"}


def build(experiment: Experiment, n_rows: int) -> Network:
    torch.manual_seed(0)
    scales = ((0.0,) * n_rows, (1.0,) * n_rows, (0.0,) * 3, (1.0,) * 3)
    return Network(ModelCard(experiment, ("a", "b", "c"), *scales))


def network_of(n_frames: int = 64, n_rows: int = 128, **model: Any) -> Network:
    return build(build_experiment({"model": SMALL | model, "excerpt": {"frames": n_frames}}, "test"), n_rows)


def frames_of(n: int, n_frames: int, n_rows: int = 128) -> torch.Tensor:
    return torch.randn(n, n_rows, n_frames, generator=torch.Generator().manual_seed(1))


def kinds(layers: Any) -> list[str]:
    return [type(layer).__name__ for layer in layers]


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "lstm"},
        {"kind": "lstm", "bidirectional": False},
        # pools 16 frames to one, and no convolution reaches into the padding
        {"widths": (4, 8, 8), "stem_pool": (2, 2), "kernel": 1, "channels": ("spectrogram",)},
        {"widths": (4, 8, 8), "stem_pool": (2, 2), "kernel": 1, "readout": "attention", "norm": None},
    ],
    ids=str,
)
def test_neither_padding_nor_other_excerpts_of_the_batch_count(model):
    network = network_of(**{"channels": ("spectrogram", "frequency")} | model).eval()
    frames, lengths = frames_of(3, 80), torch.tensor([16, 80, 48])
    other = torch.where(torch.arange(80) >= lengths[:, None, None], 99.0, frames)
    assert not torch.equal(other, frames)
    together = network(frames, lengths)
    torch.testing.assert_close(network(other, lengths), together)
    alone = [network(frames[[i], :, :length], lengths[[i]]) for i, length in enumerate(lengths)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("readout", ["mean-max", "attention"])
@pytest.mark.parametrize("padded", [True, False])
def test_the_excerpt_cnn_reads_any_length(padded, readout):
    network = network_of(padded=padded, readout=readout).eval()
    for n_frames in (1, 2, 31, 32, 33, 100):
        outputs = network(frames_of(2, n_frames), torch.tensor([n_frames, 1]))
        assert outputs.shape == (2, 3)
        assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("readout", ["mean-max", "attention"])
def test_the_readout_is_of_the_mean_over_rows_of_the_heard_frames(readout):
    trunk = network_of(stem_pool=(2, 2), channels=("spectrogram",), readout=readout).trunk.eval()
    frames = frames_of(1, 64, 32)
    heard = trunk.blocks(trunk.stem(frames[:, None])).mean(dim=2)[:, :, :5]  # 8 frames to one
    features = trunk(frames, torch.tensor([33]))
    assert features.shape[1] == trunk.n_features == 16
    mean_max = torch.cat([heard.mean(dim=2), heard.amax(dim=2)], dim=1)
    expected = mean_max if readout == "mean-max" else trunk.readout(heard, torch.tensor([5]))
    torch.testing.assert_close(features, expected)


def test_channels_are_the_frames_a_coordinate_and_the_difference_to_the_frame_before():
    network = network_of(channels=("delta", "frequency", "spectrogram"), stem_pool=(1, 1))
    seen = []
    network.trunk.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames = frames_of(2, 40)
    network.trunk(frames, torch.tensor([40, 40]))
    delta, frequency, spectrogram = seen[0].unbind(dim=1)
    assert torch.equal(spectrogram, frames)
    assert torch.equal(delta[:, :, 1:], frames.diff(dim=2))
    assert not delta[:, :, 0].any()
    torch.testing.assert_close(frequency[1, :, 7], torch.linspace(-1, 1, 128))


@pytest.mark.parametrize(
    ("model", "rows", "frames"),
    [
        ({"stem_pool": (2, 2), "widths": (8,) * 4}, 32, 32),
        ({"widths": (8,) * 4}, 32, 64),
        ({"stem_pool": (1, 1)}, 4, 4),
        ({"stem_pool": (1, 1), "pool_size": 3}, 9, 9),
        ({"stem_pool": (1, 1), "padded": False, "convolutions": 1}, 10, 10),
    ],
)
def test_too_few_rows_are_refused_and_just_enough_are_not(model, rows, frames):
    network = network_of(200, rows, **model)
    assert network.trunk.fewest_frames == frames
    assert network.eval()(torch.zeros(1, rows, frames), torch.tensor([frames])).shape == (1, 3)
    sentence = rf"pools at least {rows} rows, but the input has {rows - 1}\. Give fewer model\.widths"
    with pytest.raises(InputError, match=sentence):
        network_of(200, rows - 1, **model)


def test_the_public_cnn_is_the_published_one():
    network = build(build_experiment(read_differences(EXPERIMENTS / "public-cnn.toml"), "test"), 140)
    assert kinds([network.trunk.stem]) == ["Identity"]
    for block, n_out in zip(network.trunk.blocks, (16, 32, 64, 128), strict=True):
        assert kinds(block) == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
        assert (block[0].out_channels, block[0].kernel_size, block[0].padding) == (n_out, (3, 3), (1, 1))
        assert (block[3].kernel_size, block[3].stride) == (3, 3)
    for head in network.head.heads:
        assert kinds(head) == ["Dropout", "Linear", "PReLU", "BatchNorm1d", "Dropout", "Linear"]
        assert (head[1].in_features, head[1].out_features, head[5].out_features) == (1920, 128, 1)
        assert (head[0].p, head[4].p) == (0.2, 0.2)
    assert sum(weight.numel() for weight in network.parameters()) == 836454


@pytest.mark.parametrize(
    ("settings", "n_frames", "map_shape"),
    [
        ({"widths": (16, 32, 64, 128), "kernel": 5}, 21, (128, 8, 1)),
        ({"widths": (16, 32, 64, 128), "kernel": 5, "padded": False, "pool_size": 1}, 21, (128, 112, 5)),
    ],
)
def test_published_networks_are_settings(settings, n_frames, map_shape):
    trunk = network_of(n_frames, **PUBLISHED | {"channels": ("spectrogram",)} | settings).trunk
    pooling = ["MaxPool2d"] if "pool_size" not in settings else []
    assert [kinds(block) for block in trunk.blocks] == [["Conv2d", "ReLU", *pooling]] * len(trunk.blocks)
    frames = frames_of(2, n_frames)
    maps = trunk.blocks(frames[:, None])
    assert maps.shape[1:] == map_shape
    features = trunk(frames, torch.tensor([n_frames, 1]))
    assert features.shape == (2, trunk.n_features)
    assert torch.equal(features, maps.flatten(1))


@pytest.mark.parametrize(("bidirectional", "n_features"), [(True, 16), (False, 8)])
def test_the_lstms_features_are_the_last_valid_step_of_each_direction(bidirectional, n_features):
    lstm = network_of(n_rows=12, kind="lstm", bidirectional=bidirectional, dropout=0.2).trunk.eval()
    frames = frames_of(1, 20, 12)
    features = lstm(frames, torch.tensor([15]))[0]
    assert features.shape == (n_features,) == (lstm.n_features,)
    every_step, _ = lstm.lstm(frames[:, :, :15].transpose(1, 2))
    torch.testing.assert_close(features[:8], every_step[0, -1, :8])
    if bidirectional:
        torch.testing.assert_close(features[8:], every_step[0, 0, 8:])  # the backward one ends at frame 0
    assert lstm.lstm.dropout == 0.2


@pytest.mark.parametrize("norm", ["batch", None])
def test_an_mlp_reads_every_row_of_every_frame(norm):
    mlp = network_of(20, 12, kind="mlp", norm=norm, activation="silu").trunk
    assert kinds(mlp.layers) == ["Linear", *["BatchNorm1d"] * bool(norm), "SiLU"] * 2
    assert mlp.layers[0].in_features == 20 * 12


@pytest.mark.parametrize(
    ("model", "layers", "sizes"),
    [
        ({"head": "linear"}, ["Dropout", "Linear"], [(64, 4)]),
        ({"head": "linear", "kind": "lstm"}, ["Dropout", "Linear"], [(64, 4)]),
        ({"head": "dense", "head_widths": ()}, ["Dropout", "Linear"], [(64, 4)]),
        ({"head": "dense", "kind": "lstm"}, ["Dropout", "Linear", "ReLU", "Linear"], [(64, 256), (256, 4)]),
        (
            {"head": "dense", "dropout_place": "after", "head_widths": (9, 5), "activation": "gelu"},
            ["Linear", "GELU", "Linear", "GELU", "Dropout", "Linear"],
            [(64, 9), (9, 5), (5, 4)],
        ),
    ],
)
@pytest.mark.parametrize("task", ["emotion", "genre"])
def test_heads_have_their_layers_in_order(task, model, layers, sizes):
    experiment = build_experiment({"task": task, "model": model | {"dropout": 0.5}}, "test")
    head = build_head(experiment, 64, 4)
    assert kinds(head) == layers
    assert [(part.in_features, part.out_features) for part in head if isinstance(part, nn.Linear)] == sizes
    between_layers = model == {"head": "linear", "kind": "lstm"}
    assert head[layers.index("Dropout")].p == (0 if between_layers else 0.5)


def attention() -> AttentiveStatistics:
    torch.manual_seed(1)
    readout = AttentiveStatistics(5)
    for weight in readout.parameters():  # far from the equal weights of a small start
        nn.init.normal_(weight)
    return readout


def test_attention_is_the_published_formula():
    readout, frames, heard = attention(), frames_of(3, 6, 5), [6, 1, 4]
    (w, b), (v, k) = (
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (readout.importance[0], readout.importance[2])
    )
    features = readout(frames, torch.tensor(heard)).detach().numpy()
    for number, n_heard in enumerate(heard):
        h = frames[number, :, :n_heard].double().numpy().T  # one row per frame
        e = np.array([(v @ np.tanh(w @ frame + b) + k).item() for frame in h])
        alpha = np.exp(e) / np.exp(e).sum()
        mean = sum(a * frame for a, frame in zip(alpha, h, strict=True))
        variance = sum(a * frame**2 for a, frame in zip(alpha, h, strict=True)) - mean**2
        expected = np.concatenate([mean, np.sqrt(np.maximum(variance, 1e-6))])
        np.testing.assert_allclose(features[number], expected, rtol=1e-4, atol=1e-5)
        assert n_heard == 1 or alpha.max() > 1.5 / n_heard  # not merely the plain mean


def test_attention_to_constant_frames_has_a_finite_gradient():
    readout, frames = attention(), torch.ones(3, 5, 6, requires_grad=True)
    features = readout(frames, torch.tensor([6, 1, 4]))
    torch.testing.assert_close(features[:, 5:], torch.full((3, 5), math.sqrt(1e-6)))
    features.sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in (frames, *readout.parameters()))
