import numpy as np
import pytest
import torch

from music_emotion.errors import InputError
from music_emotion.experiment import build_experiment
from music_emotion.models.build import ModelCard
from music_emotion.sections import LossSection
from music_emotion.training.objectives import EmotionObjective, GenreObjective

TARGETS = ("valence", "energy")


def card(outputs=TARGETS, mean=(0.0, 0.0), deviation=(1.0, 1.0)):
    return ModelCard(build_experiment({}, "test"), outputs, (0.0,), (1.0,), mean, deviation)


def test_squared_error_is_weighted_per_target():
    objective = EmotionObjective(LossSection(pearson=0, target_weights=(0.4, 0.2)), card())
    outputs, values = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 3.0], [0.0, 3.0]])
    assert objective.loss(outputs, values).item() == pytest.approx(0.4 * 1 + 0.2 * 9)


def test_values_are_standardised_before_they_are_compared():
    objective = EmotionObjective(LossSection(pearson=0), card(mean=(0.5, 0.5), deviation=(0.1, 0.2)))
    values = torch.tensor([[0.6, 0.1]])
    assert objective.loss(torch.tensor([[1.0, -2.0]]), values).item() == pytest.approx(0, abs=1e-10)
    assert objective.outputs_of(values).tolist() == [pytest.approx([1.0, -2.0])]


def test_the_pearson_term_is_numpys_correlation():
    rng = np.random.default_rng(0)
    outputs, values = rng.normal(size=(2, 30, 2)).astype(np.float32)
    plain = EmotionObjective(LossSection(pearson=0), card())
    both = EmotionObjective(LossSection(pearson=2), card())
    tensors = torch.tensor(outputs), torch.tensor(values)
    expected = 2 * np.mean([1 - np.corrcoef(outputs[:, k], values[:, k])[0, 1] for k in range(2)])
    assert (both.loss(*tensors) - plain.loss(*tensors)).item() == pytest.approx(expected, rel=1e-4)


def test_a_constant_output_has_a_finite_gradient():
    objective = EmotionObjective(LossSection(), card())
    outputs = torch.zeros(4, 2, requires_grad=True)
    objective.loss(outputs, torch.rand(4, 2)).backward()
    assert torch.isfinite(outputs.grad).all()


def test_a_constant_prediction_scores_zero_and_is_counted():
    objective = EmotionObjective(LossSection(), card())
    truth = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    scores = objective.scores(truth, np.array([[0.5, 3.0], [0.5, 2.0], [0.5, 1.0]]))
    assert scores == {"score": 0.5, "valence": 0.0, "energy": pytest.approx(1.0), "constant": 1}


def test_the_number_of_target_weights_must_fit():
    with pytest.raises(InputError, match=r"3 values for the 2 targets valence, energy"):
        EmotionObjective(LossSection(target_weights=(1, 2, 3)), card())


def test_balanced_class_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    counts = np.array([10, 30, 60])
    objective = GenreObjective(LossSection(class_weights="balanced"), card(("a", "b", "c")), counts)
    labels = np.repeat([0, 1, 2], counts)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(objective.weights, expected, rtol=1e-6)


def test_label_smoothing_keeps_a_sure_answer_from_zero_loss():
    sure, truth = torch.tensor([[50.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    counts = np.array([1, 1])
    hard = GenreObjective(LossSection(), card(), counts).loss(sure, truth)
    smooth = GenreObjective(LossSection(label_smoothing=0.1), card(), counts).loss(sure, truth)
    assert hard.item() == pytest.approx(0, abs=1e-6)
    assert smooth.item() > 1


def test_genre_probabilities_give_back_their_loss():
    objective = GenreObjective(LossSection(), card(), np.array([1, 1]))
    logits, truth = torch.tensor([[2.0, -1.0], [0.3, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    again = objective.loss(objective.outputs_of(logits.softmax(dim=1)), truth)
    assert again.item() == pytest.approx(objective.loss(logits, truth).item(), rel=1e-5)


def test_genre_scores_take_truth_first():
    objective = GenreObjective(LossSection(), card(("a", "b")), np.array([1, 1]))
    truth = np.eye(2)[[0, 0, 0, 1]]
    prediction = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.1, 0.9]])
    # class a: precision 1, recall 2/3; class b: precision 1/2, recall 1
    assert objective.scores(truth, prediction)["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert objective.scores(truth, prediction)["weighted_f1"] == pytest.approx((3 * 0.8 + 2 / 3) / 4)
