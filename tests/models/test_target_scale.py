"""Normal scores of targets: scipy's, undone to the digit, and never without an order."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata

from music_emotion.models.target_scale import TargetScale, normal_quantiles

RNG = np.random.default_rng(0)
SKEWED = RNG.beta(2, 5, 1000)
HALF_TIED = np.where(RNG.random(1000) < 0.5, 0.5, RNG.random(1000))
CROWDED = np.where(RNG.random(1000) < 0.8, 0.5 + 1e-7 * RNG.random(1000), RNG.random(1000))
ALL = {
    "skewed": SKEWED,
    "half tied": HALF_TIED,
    "crowded": CROWDED,
    "tied at an end": SKEWED.clip(0.2),
    "of two kinds": RNG.integers(0, 2, 300),
    "crowded at an end": RNG.beta(0.2, 2, 1000),
    "few": RNG.random(7),
    "two": np.array([0.2, 0.3]),
}


def scale_of(*columns: np.ndarray) -> TargetScale:
    values = np.stack(columns, axis=1).astype(np.float32)
    mean, deviation = (tuple(part.tolist()) for part in (values.mean(axis=0), values.std(axis=0)))
    return TargetScale(mean, deviation, normal_quantiles(values))


@pytest.mark.parametrize("name", ["skewed", "half tied", "of two kinds", "tied at an end"])
def test_outputs_are_the_normal_scores_of_mean_ranks(name):
    values = ALL[name]
    expected = norm.ppf((rankdata(values, method="average") - 0.5) / len(values))
    outputs = scale_of(values).outputs_of(torch.tensor(values[:, None]).float())[:, 0].numpy()
    within = np.abs(expected) < 3
    assert within.mean() > 0.99
    np.testing.assert_allclose(outputs[within], expected[within], atol=0.06)  # between two knots


def test_quantiles_of_three_values_are_those_worked_out_by_hand():
    (quantiles,) = normal_quantiles(np.array([[3.0], [1.0], [2.0], [2.0]]))
    score = norm.ppf(3.5 / 4)  # of 3; that of both 2 is 0
    at = np.linspace(-3, 3, 101)
    inside, deviation = np.abs(at) <= score, np.sqrt(0.5)
    np.testing.assert_allclose(np.array(quantiles)[inside], 2 + at[inside] / score)
    assert quantiles[-1] == pytest.approx(3 + deviation * (3 - score))
    assert quantiles[0] == pytest.approx(1 - deviation * (3 - score))


@pytest.mark.parametrize("name", ALL)
def test_a_strict_order_of_outputs_stays_one_and_each_map_undoes_the_other(name):
    scale = scale_of(ALL[name])
    assert (scale.targets_of(torch.linspace(-6, 6, 6001)[:, None]).diff(dim=0) > 0).all()
    if name not in ("skewed", "of two kinds", "few", "two"):
        return  # too crowded for single precision
    outputs, targets = torch.linspace(-5, 5, 997)[:, None], torch.linspace(-1, 2, 997)[:, None]
    torch.testing.assert_close(scale.outputs_of(scale.targets_of(outputs)), outputs, rtol=0, atol=1e-4)
    torch.testing.assert_close(scale.targets_of(scale.outputs_of(targets)), targets, rtol=0, atol=1e-4)


def test_beyond_the_knots_a_deviation_is_a_deviation():
    targets = scale_of(SKEWED).targets_of(torch.tensor([[-5.0], [-4.0], [4.0], [5.0]]))[:, 0]
    np.testing.assert_allclose(targets.diff()[[0, 2]], SKEWED.std(), rtol=1e-4)


def test_it_is_the_same_in_mixed_precision_and_has_gradients_but_no_weights():
    scale, outputs = scale_of(SKEWED), torch.linspace(-5, 5, 500)[:, None].requires_grad_()
    exact = scale.targets_of(outputs)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scale.targets_of(outputs), exact)
        mixed = scale.outputs_of(exact)
    assert torch.equal(mixed, scale.outputs_of(exact))
    exact.sum().backward()
    assert (outputs.grad > 0).all()
    assert torch.isfinite(outputs.grad).all()
    assert scale.targets_of(torch.tensor([[torch.nan]])).isnan().all()
    assert not scale.state_dict()
