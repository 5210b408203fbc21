"""The LSTM reads each clip to its own end, from both sides."""

import pytest
import torch

from music_emotion.models.layers import Lstm


def lstm_of(**settings) -> Lstm:
    torch.manual_seed(0)
    return Lstm(12, 8, **{"bidirectional": True, "dropout": 0.0, **settings}).eval()


@pytest.mark.parametrize("bidirectional", [True, False])
def test_padding_does_not_change_the_features(bidirectional):
    lstm = lstm_of(bidirectional=bidirectional)
    frames, lengths = torch.randn(4, 12, 30), torch.tensor([7, 30, 1, 18])
    other = frames.clone()
    for clip, length in enumerate(lengths):
        other[clip, :, length:] = 99
    together = lstm(frames, lengths)
    assert torch.equal(lstm(other, lengths), together)
    for clip, length in enumerate(lengths):
        alone = lstm(frames[clip : clip + 1, :, :length], lengths[clip : clip + 1])
        torch.testing.assert_close(alone[0], together[clip])


@pytest.mark.parametrize(("bidirectional", "n_features"), [(True, 16), (False, 8)])
def test_features_are_the_last_layers_last_valid_step_of_each_direction(bidirectional, n_features):
    lstm = lstm_of(bidirectional=bidirectional)
    frames = torch.randn(1, 12, 20)
    features = lstm(frames, torch.tensor([15]))[0]
    assert features.shape == (n_features,)
    assert lstm.n_features == n_features
    every_step, _ = lstm.lstm(frames[:, :, :15].transpose(1, 2))
    torch.testing.assert_close(features[:8], every_step[0, -1, :8])
    if bidirectional:
        torch.testing.assert_close(features[8:], every_step[0, 0, 8:])  # the backward one ends at frame 0


def test_dropout_is_between_layers():
    assert lstm_of(dropout=0.2).lstm.dropout == 0.2
