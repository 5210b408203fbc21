"""Readouts against loops over the frames that are heard."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from music_emotion.models.layers import AttentiveStatistics, MeanMax

HEARD = torch.tensor([6, 1, 4])


def frames_of(n_frames: int = 6, width: int = 5) -> torch.Tensor:
    return torch.randn(3, width, n_frames, generator=torch.Generator().manual_seed(0))


def attention(width: int = 5) -> AttentiveStatistics:
    torch.manual_seed(1)
    readout = AttentiveStatistics(width)
    for weight in readout.parameters():  # far from the equal weights of a small start
        nn.init.normal_(weight)
    return readout


def test_attention_is_the_published_formula():
    readout, frames = attention(), frames_of()
    (w, b), (v, k) = (
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in (readout.importance[0], readout.importance[2])
    )
    features = readout(frames, HEARD).detach().numpy()
    for number, n_heard in enumerate(HEARD.tolist()):
        h = frames[number, :, :n_heard].double().numpy().T  # one row per frame
        e = np.array([(v @ np.tanh(w @ frame + b) + k).item() for frame in h])
        alpha = np.exp(e) / np.exp(e).sum()
        mean = sum(a * frame for a, frame in zip(alpha, h, strict=True))
        variance = sum(a * frame**2 for a, frame in zip(alpha, h, strict=True)) - mean**2
        expected = np.concatenate([mean, np.sqrt(np.maximum(variance, 1e-6))])
        np.testing.assert_allclose(features[number], expected, rtol=1e-4, atol=1e-5)
        assert n_heard == 1 or alpha.max() > 1.5 / n_heard  # not merely the plain mean


@pytest.mark.parametrize("readout", [MeanMax(), attention()], ids=["mean-max", "attention"])
def test_padding_is_not_read(readout):
    frames = frames_of()
    padding = torch.arange(6) >= HEARD[:, None, None]
    loud = torch.where(padding, 1e3, frames)
    assert not torch.equal(loud, frames)
    assert torch.equal(readout(loud, HEARD), readout(frames, HEARD))
    assert not torch.equal(readout(loud, HEARD + 1), readout(frames, HEARD))


@pytest.mark.parametrize("n_frames", [1, 2, 50])
@pytest.mark.parametrize("readout", [MeanMax(), attention()], ids=["mean-max", "attention"])
def test_any_number_of_frames_gives_twice_the_width(readout, n_frames):
    features = readout(frames_of(n_frames), torch.tensor([n_frames, 1, 1]))
    assert features.shape == (3, 10)
    assert torch.isfinite(features).all()


def test_frames_that_do_not_vary_have_a_finite_gradient():
    readout, frames = attention(), torch.ones(3, 5, 6, requires_grad=True)
    features = readout(frames, HEARD)
    torch.testing.assert_close(features[:, 5:], torch.full((3, 5), math.sqrt(1e-6)))
    features.sum().backward()
    assert torch.isfinite(frames.grad).all()
    assert all(torch.isfinite(weight.grad).all() for weight in readout.parameters())
