"""The pretrained networks' outputs, fast inference and embeddings, with random weights."""

import numpy as np
import pytest
import torch

from music_emotion.models.musicnn import MusiCNN, Vgg, embedding

SHAPES = {MusiCNN: [(50,), (200,), (753,), (753,)], Vgg: [(50,), (256,), (640,), (640,)]}


def network_of(kind: type[MusiCNN] | type[Vgg]) -> MusiCNN | Vgg:
    """Random weights and statistics: two thirds of the filters are negligible, half have a negative scale."""
    torch.manual_seed(0)
    network = kind()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data[::3] *= 1e-9
            module.weight.data[1::3] = 0
        elif hasattr(module, "running_var"):
            module.weight.data.normal_()
            module.bias.data.normal_()
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network.eval()


def bands_of(*shape: int) -> torch.Tensor:
    return 3 * torch.rand(*shape, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "n_frames"), [(MusiCNN, 1), (MusiCNN, 40), (MusiCNN, 250), (Vgg, 187)])
@torch.inference_mode()
def test_fast_and_plain_outputs_are_equal(kind, n_frames):
    network, bands = network_of(kind), bands_of(2, n_frames)
    outputs, plain = network(bands), network(bands, plain=True)
    assert [tuple(output.shape) for output in outputs] == [(2, *shape) for shape in SHAPES[kind]]
    assert all(output.std() > 0 for output in outputs)
    torch.testing.assert_close(outputs, plain, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_vgg_pads_a_short_window_with_silence():
    network, bands = network_of(Vgg), bands_of(1, 40)
    silent = torch.cat([bands, torch.zeros(1, 147, 96)], dim=1)
    torch.testing.assert_close(network(silent), network(bands))


def test_training_takes_the_statistics_of_whole_maps():
    network, bands = network_of(MusiCNN).train(), bands_of(2, 40)
    torch.testing.assert_close(network(bands), network(bands, plain=True))


@pytest.mark.parametrize(
    ("kind", "n_frames", "starts"),
    [(MusiCNN, 100, [0]), (MusiCNN, 187, [0]), (MusiCNN, 187 + 900, range(0, 901, 100)), (Vgg, 286, [0])],
)
def test_an_embedding_averages_windows(kind, n_frames, starts):
    network, bands = network_of(kind), bands_of(n_frames)
    found = embedding(network.train(), bands.numpy(), 100)
    with torch.inference_mode():
        windows = [network(bands[None, start : start + 187], plain=True) for start in starts]
    tags, penultimate, mean, top = (np.concatenate(parts) for parts in zip(*windows, strict=True))
    spread = [penultimate.mean(axis=0), penultimate.std(axis=0)]
    wanted = {"mean": mean.mean(axis=0), "max": top.mean(axis=0), "tags": tags.mean(axis=0)}
    for name, values in (wanted | {"penultimate": np.concatenate(spread)}).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4)
