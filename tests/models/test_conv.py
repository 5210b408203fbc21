"""The ConvNet: any length for the excerpt CNN, the public CNN to the layer."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from music_emotion.config import ExcerptSection, Experiment, ModelSection, build_experiment
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError
from music_emotion.models.conv import ConvNet
from music_emotion.models.network import ModelCard, Network, build_network, build_trunk

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def network_of(model: ModelSection) -> Network:
    """In eval mode, with statistics of batch normalisation that are not 0 and 1."""
    torch.manual_seed(0)
    scales = ((-40.0,) * 128, (20.0,) * 128, (0.5,) * 3, (0.2,) * 3)
    network = build_network(ModelCard(Experiment(model=model), ("a", "b", "c"), *scales))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


def trunk_of(model: ModelSection, n_rows: int, n_frames: int) -> ConvNet:
    return build_trunk(Experiment(model=model, excerpt=ExcerptSection(frames=n_frames)), n_rows)[0]


def clips_of(n: int, n_frames: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.empty(n, 128, n_frames).uniform_(-80, 0)


@pytest.mark.parametrize("readout", ["mean-max", "attention"])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("n_frames", [1, 2, 7, 31, 32, 33, 100, 257])
def test_the_excerpt_cnn_reads_any_length(n_frames, padded, readout):
    widths = (4, 8, 8, 8) if padded else (4, 8)
    network = network_of(ModelSection(widths=widths, padded=padded, readout=readout))
    outputs = network(clips_of(2, n_frames), torch.tensor([n_frames, 1]))
    assert outputs.shape == (2, 3)
    assert torch.isfinite(outputs).all()


def test_more_padding_changes_nothing_once_it_is_longer_than_the_reach_of_the_convolutions():
    network = network_of(
        ModelSection(widths=(4, 8, 8, 8), stem_pool=(2, 2))
    )  # an output frame sees 76 frames to each side
    sound, lengths = clips_of(2, 100), torch.tensor([100, 61])
    sound[1, :, 61:] = -80
    little, much = (torch.cat([sound, torch.full((2, 128, n), -80.0)], dim=2) for n in (2 * 80, 5 * 80))
    torch.testing.assert_close(network(little, lengths), network(much, lengths), rtol=1e-5, atol=1e-6)
    with_other_lengths = network(much, torch.tensor([500, 500]))
    assert (with_other_lengths - network(much, lengths)).abs().max() > 1e-3


@pytest.mark.parametrize("readout", ["mean-max", "attention"])
@pytest.mark.parametrize("length", [16, 48, 64])
def test_padding_is_never_read_out_where_convolutions_do_not_reach_over_the_end(length, readout):
    model = ModelSection(
        widths=(4, 8, 8), stem_pool=(2, 2), kernel=1, readout=readout
    )  # pools 16 frames to one
    network = network_of(model)
    sound = clips_of(1, length)
    padded = torch.cat([sound, clips_of(1, 77)], dim=2)
    torch.testing.assert_close(
        network(padded, torch.tensor([length])), network(sound, torch.tensor([length])), rtol=1e-5, atol=1e-6
    )


def test_excerpts_of_a_batch_do_not_change_each_other():
    network = network_of(ModelSection(widths=(4, 8)))
    sound, lengths = clips_of(3, 60), torch.tensor([60, 13, 40])
    alone = torch.cat([network(sound[i : i + 1], lengths[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(sound, lengths), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("readout", ["mean-max", "attention"])
def test_the_readout_is_of_the_mean_over_rows_of_the_heard_frames(readout):
    model = ModelSection(widths=(4, 8), stem_pool=(2, 2), channels=("spectrogram",), readout=readout)
    torch.manual_seed(0)
    trunk = trunk_of(model, 32, 64).eval()
    images = torch.randn(1, 1, 32, 64)
    heard = trunk.blocks(trunk.stem(images)).mean(dim=2)[:, :, :5]  # 8 frames to one
    features = trunk(images, torch.tensor([33]))
    assert features.shape[1] == trunk.n_features == 16
    mean_max = torch.cat([heard.mean(dim=2), heard.amax(dim=2)], dim=1)
    expected = mean_max if readout == "mean-max" else trunk.readout(heard, torch.tensor([5]))
    torch.testing.assert_close(features, expected)


def public_cnn(n_rows: int, n_outputs: int, name: str = "public-cnn") -> Network:
    path = EXPERIMENTS / f"{name}.toml"
    experiment = build_experiment(read_differences(path), str(path))
    experiment = experiment.model_copy(update={"model": experiment.model.model_copy(update={"trunk": None})})
    scales = ((0.0,) * n_rows, (1.0,) * n_rows, (0.0,) * n_outputs, (1.0,) * n_outputs)
    return build_network(ModelCard(experiment, tuple("abcdefghij"[:n_outputs]), *scales))


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module]


def test_the_public_cnns_trunk_is_the_published_one_layer_by_layer():
    network = public_cnn(140, 3)
    assert isinstance(network.trunk.stem, nn.Identity)
    assert [kinds(block) for block in network.trunk.blocks] == [
        ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
    ] * 4
    convolutions = [block[0] for block in network.trunk.blocks]
    channels = [(layer.in_channels, layer.out_channels) for layer in convolutions]
    assert channels == [*pairwise((1, 16, 32, 64, 128))]
    for block in network.trunk.blocks:
        assert (block[0].kernel_size, block[0].padding, block[0].stride) == ((3, 3), (1, 1), (1, 1))
        assert (block[3].kernel_size, block[3].stride) == (3, 3)
    assert network.trunk.n_features == 1920


def test_the_public_cnn_has_one_published_head_per_target():
    network = public_cnn(140, 3)
    assert len(network.head.heads) == 3
    for head in network.head.heads:
        assert kinds(head) == ["Dropout", "Linear", "PReLU", "BatchNorm1d", "Dropout", "Linear"]
        assert (head[1].in_features, head[1].out_features) == (1920, 128)
        assert (head[5].in_features, head[5].out_features) == (128, 1)
        assert (head[0].p, head[4].p) == (0.2, 0.2)
    n_trunk = (16 * 9 + 3 * 16) + (16 * 32 * 9 + 3 * 32) + (32 * 64 * 9 + 3 * 64) + (64 * 128 * 9 + 3 * 128)
    n_head = (1920 * 128 + 128) + 1 + 2 * 128 + 128 + 1
    assert sum(weight.numel() for weight in network.parameters()) == n_trunk + 3 * n_head == 836454


def test_the_public_genre_cnn_has_the_same_trunk_on_128_rows_and_one_head_of_ten():
    network = public_cnn(128, 10, "public-cnn-genre")
    assert network.trunk.n_features == 1920
    assert len(network.head.heads) == 1
    assert network.head.heads[0][5].out_features == 10
    emotion = public_cnn(140, 1, "public-cnn-transfer").trunk.state_dict()
    assert {name: value.shape for name, value in network.trunk.state_dict().items()} == {
        name: value.shape for name, value in emotion.items()
    }


@pytest.mark.parametrize(
    ("model", "rows", "frames"),
    [
        (ModelSection(stem_pool=(2, 2)), 32, 32),
        (ModelSection(), 32, 64),
        (ModelSection(stem_pool=(1, 1), widths=(8, 8)), 4, 4),
        (ModelSection(stem_pool=(1, 1), pool_size=3, widths=(8, 8)), 9, 9),
        (ModelSection(stem_pool=(1, 1), widths=(8, 8), padded=False, convolutions=1), 10, 10),
    ],
)
def test_rows_that_are_too_few_are_refused_and_just_enough_are_not(model, rows, frames):
    assert model.smallest_input == (rows, frames)
    with pytest.raises(
        InputError, match=rf"pools more .* than the input's {rows - 1} x .*Give fewer model\.widths"
    ):
        trunk_of(model, rows - 1, 200)
    features = trunk_of(model, rows, 200).eval()(torch.zeros(1, 2, rows, frames), torch.tensor([frames]))
    assert features.shape == (1, 2 * model.widths[-1])


# Networks of published studies: one convolution per block, no input pooling, read out whole.
PUBLISHED = {"convolutions": 1, "stem_pool": (1, 1), "pool": "max", "norm": None, "readout": "flatten"}


@pytest.mark.parametrize(
    ("settings", "n_frames", "map_shape"),
    [
        ({"widths": (64, 128)}, 21, (128, 32, 5)),
        ({"widths": (32, 64, 128), "padded": False, "pool_size": 1}, 21, (128, 122, 15)),
        ({"widths": (32, 64, 128), "padded": False}, 38, (128, 14, 3)),
        ({"widths": (16, 32, 64, 128), "kernel": 5}, 21, (128, 8, 1)),
        ({"widths": (16, 32, 64, 128), "kernel": 5, "padded": False, "pool_size": 1}, 21, (128, 112, 5)),
    ],
)
def test_published_networks_are_settings(settings, n_frames, map_shape):
    model = ModelSection(channels=("spectrogram",), **PUBLISHED, **settings)
    torch.manual_seed(0)
    trunk = trunk_of(model, 128, n_frames)
    pooling = ["MaxPool2d"] if model.pool_size > 1 else []
    assert [kinds(block) for block in trunk.blocks] == [["Conv2d", "ReLU", *pooling]] * len(model.widths)
    for block in trunk.blocks:
        padding = model.kernel // 2 if model.padded else 0
        assert (block[0].kernel_size, block[0].padding) == ((model.kernel,) * 2, (padding,) * 2)
    images = torch.randn(2, 1, 128, n_frames)
    maps = images
    for block in trunk.blocks:
        maps = block(maps)
    assert maps.shape[1:] == map_shape
    features = trunk(images, torch.tensor([n_frames, 1]))
    assert torch.equal(features, maps.flatten(1))
    assert features.shape == (2, trunk.n_features)


def test_whole_maps_are_read_at_one_length_only():
    model = ModelSection(widths=(4, 8), channels=("spectrogram",), **PUBLISHED)
    with pytest.raises(InputError, match=r"has 30 frames, but the readout 'flatten' reads only excerpts"):
        trunk_of(model, 128, 21)(torch.zeros(1, 1, 128, 30), torch.tensor([30]))
