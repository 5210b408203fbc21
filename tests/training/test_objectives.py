import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm, pearsonr, rankdata

from music_emotion.config import LossSection, build_experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.files import InputError
from music_emotion.models.card import ModelCard
from music_emotion.models.target_scale import normal_quantiles
from music_emotion.training.objectives import (
    EmotionObjective,
    GenreObjective,
    pairwise_error,
    soft_rank_error,
)

TARGETS = ("valence", "energy")


def card(outputs=TARGETS, mean=(0.0, 0.0), deviation=(1.0, 1.0), more=()):
    return ModelCard(
        build_experiment({"data": {"more": more}}, "test"), outputs, (0.0,), (1.0,), mean, deviation
    )


def clips_of(counts):
    """Classes "a", "b", ... with so many clips each."""
    values = np.repeat(np.eye(len(counts)), counts, axis=0)
    return ClipSet(np.arange(len(values)), None, tuple("abc"[: len(counts)]), values)


def test_values_are_standardised_before_they_are_compared():
    objective = EmotionObjective(LossSection(pearson=0), card(mean=(0.5, 0.5), deviation=(0.1, 0.2)))
    values = torch.tensor([[0.6, 0.1]])
    assert objective.loss(torch.tensor([[1.0, -2.0]]), values).item() == pytest.approx(0, abs=1e-10)
    assert objective.outputs_of(values).tolist() == [pytest.approx([1.0, -2.0])]


def columns(*values):
    return torch.tensor(values).T


def test_pairs_cost_what_ranknet_says_worked_out_by_hand_and_nothing_where_truth_is_the_same():
    outputs = columns([0.3, -0.2, 1.0], [0.3, 5.0, -2.0], [0.3, 5.0, -2.0]).requires_grad_()
    errors = pairwise_error(outputs, columns([0.0, 1.0, 3.0], [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]))
    costs = [math.log(1 + math.exp(-difference)) for difference in (-0.5, 0.7, 1.2)]  # of 0-1, 0-2 and 1-2
    last = (math.log(1 + math.exp(2.3)) + math.log(1 + math.exp(7.0))) / 2
    assert errors.tolist() == pytest.approx([np.average(costs, weights=[1, 3, 2]), 0.0, last], rel=1e-6)
    errors.sum().backward()
    assert (outputs.grad[:, 1] == 0).all()
    assert torch.isfinite(outputs.grad).all()


def test_soft_ranks_are_a_sum_of_sigmoids_against_mean_ranks():
    rng = np.random.default_rng(2)
    outputs, truth = rng.normal(size=(12, 2)), rng.integers(0, 5, size=(12, 2)).astype(float)
    expected = []
    for k in range(2):
        scores = outputs[:, k]
        ranks = [sum(1 / (1 + np.exp(-(one - other) / 0.3)) for other in scores) for one in scores]
        expected.append(1 - pearsonr(ranks, rankdata(truth[:, k])).statistic)
    errors = soft_rank_error(torch.tensor(outputs), torch.tensor(truth), temperature=0.3)
    np.testing.assert_allclose(errors, expected, rtol=1e-5)


@pytest.mark.parametrize("error", [pairwise_error, soft_rank_error])
def test_errors_of_order_fall_from_reverse_to_constant_to_right(error):
    truth = torch.linspace(-2, 2, 20)[:, None]
    right, constant, reverse = (error(sign * truth, truth).item() for sign in (1, 0, -1))
    assert right < constant < reverse
    assert constant == pytest.approx({pairwise_error: math.log(2), soft_rank_error: 1}[error], abs=1e-5)
    for values in (truth, 0 * truth, -truth, 100 * truth):
        outputs = values.clone().requires_grad_()
        error(outputs, truth.roll(1)).sum().backward()
        assert torch.isfinite(outputs.grad).all()


def test_every_term_has_its_weight_and_every_target_its_own():
    generator = torch.Generator().manual_seed(0)
    outputs, values = torch.randn(2, 9, 2, generator=generator)
    loss = LossSection(squared=0.1, pearson=0.2, pairwise=0.3, soft_rank=0.4, target_weights=(2, 1))
    mixed = EmotionObjective(loss, card()).loss(outputs, values)
    squared = (outputs - values).square().mean(dim=0)
    pearson = torch.tensor([1 - pearsonr(outputs[:, k], values[:, k]).statistic for k in range(2)])
    order = 0.3 * pairwise_error(outputs, values) + 0.4 * soft_rank_error(outputs, values)
    per_target = 0.1 * squared + 0.2 * pearson + order
    assert mixed.item() == pytest.approx((2 * per_target[0] + per_target[1]).item(), rel=1e-5)


def test_a_target_that_clips_lack_counts_by_those_that_have_it_and_nothing_changes_without_such():
    generator, loss = torch.Generator().manual_seed(0), LossSection(pearson=0.2, pairwise=0.3, soft_rank=0.4)
    outputs, values = torch.randn(2, 9, 2, generator=generator)
    alone, several = EmotionObjective(loss, card()), EmotionObjective(loss, card(more=("b",)))
    assert several.loss(outputs, values).item() == alone.loss(outputs, values).item()
    there, values[6:, 1] = slice(0, 6), torch.nan
    outputs.requires_grad_()
    first, second = (
        EmotionObjective(loss, card(("v",), (0.0,), (1.0,))).loss(
            outputs[rows, k : k + 1], values[rows, k : k + 1]
        )
        for k, rows in enumerate((slice(9), there))
    )
    mixed = several.loss(outputs, values)
    assert mixed.item() == pytest.approx((0.5 * first + 0.5 * second * 6 / 9).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(mixed, outputs)
    assert torch.isfinite(gradient).all()
    assert (gradient[6:, 1] == 0).all()
    values[:, 1] = torch.nan
    assert several.loss(outputs, values).item() == pytest.approx(0.5 * first.item(), rel=1e-6)
    scores = several.scores(values.numpy(), outputs.detach().numpy())
    assert list(scores) == ["score", "valence", "constant"]


def test_normal_scores_are_learnt_in_place_of_standardised_targets():
    values = np.random.default_rng(0).beta(2, 5, size=(400, 2)).astype(np.float32)
    scaled = card(mean=tuple(values.mean(axis=0).tolist()), deviation=tuple(values.std(axis=0).tolist()))
    scaled = replace(scaled, target_quantiles=normal_quantiles(values))
    objective = EmotionObjective(LossSection(pearson=0), scaled)
    scores = norm.ppf((rankdata(values, axis=0) - 0.5) / 400)
    assert objective.loss(torch.tensor(scores), torch.tensor(values)).item() < 1e-3


def test_the_only_clip_of_a_batch_has_a_finite_gradient():
    objective = EmotionObjective(LossSection(pairwise=1, soft_rank=1), card())
    outputs = torch.zeros(1, 2, requires_grad=True)
    objective.loss(outputs, torch.rand(1, 2)).backward()
    assert torch.isfinite(outputs.grad).all()


def test_a_constant_prediction_scores_zero_and_is_counted():
    objective = EmotionObjective(LossSection(), card())
    truth = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    scores = objective.scores(truth, np.array([[0.5, 3.0], [0.5, 2.0], [0.5, 1.0]]))
    assert scores == {"score": 0.5, "valence": 0.0, "energy": pytest.approx(1.0), "constant": 1}


def test_the_number_of_target_weights_must_fit():
    with pytest.raises(InputError, match=r"3 values for the 2 targets valence, energy"):
        EmotionObjective(LossSection(target_weights=(1, 2, 3)), card())


def test_genre_probabilities_give_back_their_loss():
    objective = GenreObjective(LossSection(), clips_of(np.array([1, 1])))
    logits, truth = torch.tensor([[2.0, -1.0], [0.3, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    again = objective.loss(objective.outputs_of(logits.softmax(dim=1)), truth)
    assert again.item() == pytest.approx(objective.loss(logits, truth).item(), rel=1e-5)


def test_genre_scores_take_truth_first():
    objective = GenreObjective(LossSection(), clips_of(np.array([1, 1])))
    truth = np.eye(2)[[0, 0, 0, 1]]
    prediction = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    # class a: precision 1, recall 2/3; class b: precision 1/2, recall 1
    assert objective.scores(truth, prediction)["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert objective.scores(truth, prediction)["weighted_f1"] == pytest.approx((3 * 0.8 + 2 / 3) / 4)
