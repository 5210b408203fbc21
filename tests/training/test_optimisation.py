"""Optimisers of timm, and the learning rate of every update."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from music_emotion.config import OptimSection
from music_emotion.files import InputError
from music_emotion.training.optimisation import learning_rates, make_optimizer


def expected_rate(schedule: str, update: int, n_updates: int, warmup: int) -> float:
    """Closed form of the rate, for a largest rate of 1."""

    def ramp(start: float, end: float, share: float) -> float:
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

    if schedule == "constant":
        return 1.0
    if schedule == "one-cycle":
        warmup = min(warmup, n_updates - 1)
        if update < warmup:
            return ramp(1 / 25, 1, update / warmup)
        return ramp(1, 1 / 25e4, (update - warmup) / max(n_updates - 1 - warmup, 1))
    if update < warmup:
        return 1 / 25 + update * (1 - 1 / 25) / warmup
    return ramp(1, 0, (update - warmup) / max(n_updates - warmup, 1))


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize(
    ("n_updates", "share"), [(1, 0.3), (2, 0.3), (7, 0), (37, 0.123), (600, 0.3), (9, 1.0)]
)
def test_learning_rates_are_those_of_the_formula(schedule, n_updates, share):
    rates = learning_rates(OptimSection(schedule=schedule, learning_rate=1.0, warmup=share), n_updates)
    warmup = round(share * n_updates)
    expected = [expected_rate(schedule, update, n_updates, warmup) for update in range(n_updates)]
    np.testing.assert_allclose(rates, expected, rtol=0, atol=1e-12)


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 2))


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon"])
def test_optimisers_of_timm_step(name):
    torch.manual_seed(0)
    network = small_network()
    before = network[3].weight.clone()
    optimizer = make_optimizer(network, OptimSection(name=name))
    network(torch.randn(5, 3, 8)).square().sum().backward()
    optimizer.step()
    assert torch.isfinite(network[3].weight).all()
    assert not torch.equal(network[3].weight, before)


def test_an_unknown_optimiser_gets_a_suggestion():
    with pytest.raises(InputError, match="did you mean 'adamw'"):
        make_optimizer(small_network(), OptimSection(name="adamww"))


@pytest.mark.parametrize(("decay_all", "expected"), [(False, {0.0, 0.5}), (True, {0.5})])
def test_biases_are_decayed_only_when_asked(decay_all, expected):
    optimizer = make_optimizer(small_network(), OptimSection(weight_decay=0.5, decay_all=decay_all))
    assert {group["weight_decay"] for group in optimizer.param_groups} == expected
