"""The pretrained networks' architecture and their fast inference, with random weights."""

import pytest
import torch

from music_emotion.models.musicnn import MusiCNN, Vgg


def bands_of(n: int, n_frames: int) -> torch.Tensor:
    return 3 * torch.rand(n, n_frames, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n_frames", [1, 40, 187, 250])
def test_musicnn_takes_any_length(n_frames):
    outputs = MusiCNN().eval()(bands_of(2, n_frames))
    assert [tuple(output.shape) for output in outputs] == [(2, 50), (2, 200), (2, 753), (2, 753)]


@pytest.mark.parametrize("n_frames", [40, 187])
def test_vgg_takes_at_most_a_window_and_pads_with_silence(n_frames):
    network = Vgg().eval()
    bands = bands_of(2, n_frames)
    outputs = network(bands)
    assert [tuple(output.shape) for output in outputs] == [(2, 50), (2, 256), (2, 640), (2, 640)]
    silent = torch.cat([bands, torch.zeros(2, 187 - n_frames, 96)], dim=1)
    torch.testing.assert_close(network(silent), outputs)
