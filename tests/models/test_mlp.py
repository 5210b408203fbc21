"""Fully connected layers: of one length of excerpt, as deep as the widths say."""

import pytest
import torch
from torch import nn

from music_emotion.config import build_experiment
from music_emotion.files import InputError
from music_emotion.models.layers import Mlp, dense_layers
from music_emotion.models.network import ModelCard, Network, build_network

LENGTHS = torch.tensor([20, 20])


def mlp_of(**settings) -> Mlp:
    torch.manual_seed(0)
    return Mlp(12, 20, **{"widths": (16, 8), "activation": "relu", "batch_norm": True, **settings})


def kinds(layers) -> list[str]:
    return [type(layer).__name__ for layer in layers]


def test_layers_are_linear_normalised_and_activated():
    layers = dense_layers(240, (16, 8), "gelu", batch_norm=True)
    assert kinds(layers) == ["Linear", "BatchNorm1d", "GELU"] * 2
    assert [tuple(layers[place].weight.shape) for place in (0, 3)] == [(16, 240), (8, 16)]
    assert kinds(dense_layers(240, (16, 8), "relu")) == ["Linear", "ReLU"] * 2
    assert dense_layers(240, (), "relu") == []
    assert kinds(mlp_of(activation="silu").layers) == ["Linear", "BatchNorm1d", "SiLU"] * 2


@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_row_of_every_frame_counts_and_excerpts_do_not_change_each_other(batch_norm):
    mlp = mlp_of(batch_norm=batch_norm, activation="silu").eval()  # whose slope is nowhere 0
    frames = torch.randn(2, 12, 20, requires_grad=True)
    features = mlp(frames, LENGTHS)
    assert features.shape == (2, mlp.n_features) == (2, 8)
    features[0].sum().backward()
    assert (frames.grad[0] != 0).all()
    assert (frames.grad[1] == 0).all()


def test_norm_and_activation_none_leave_one_line():
    mlp = mlp_of(batch_norm=False, activation=None).eval()
    one, other = torch.randn(2, 2, 12, 20)
    middle = (mlp(one, LENGTHS) + mlp(other, LENGTHS)) / 2
    torch.testing.assert_close(mlp((one + other) / 2, LENGTHS), middle)
    assert (mlp_of(batch_norm=False).eval()((one + other) / 2, LENGTHS) - middle).abs().max() > 1e-2


@pytest.mark.parametrize("n_frames", [1, 19, 21])
def test_another_length_is_refused(n_frames):
    with pytest.raises(
        InputError, match=rf"has {n_frames} frames, but .* model\.kind 'mlp' reads only .*, 20 frames\."
    ):
        mlp_of()(torch.zeros(2, 12, n_frames), LENGTHS)


def network_of(n_frames: int) -> Network:
    torch.manual_seed(0)
    model = {"kind": "mlp", "widths": (32,), "dropout": 0}
    differences = {"model": model, "excerpt": {"frames": n_frames}}
    scales = ((3.0,) * 12, (2.0,) * 12, (0.0,), (1.0,))
    return build_network(ModelCard(build_experiment(differences, "test"), ("valence",), *scales))


@pytest.mark.parametrize("n_frames", [1, 4])
def test_a_network_learns_what_one_value_of_the_frames_tells(n_frames):
    network = network_of(n_frames)
    network.augmentation = nn.Identity()
    frames, new = 3 + 2 * torch.randn(2, 200, 12, n_frames)
    lengths = torch.full((200,), n_frames)
    optimiser = torch.optim.AdamW(network.parameters(), 0.01, weight_decay=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        (network(frames, lengths)[:, 0] - frames[:, 5, -1]).square().mean().backward()
        optimiser.step()
    reached = network.eval().predict(new, lengths)[:, 0]
    assert torch.corrcoef(torch.stack([reached, new[:, 5, -1]]))[0, 1] > 0.5
