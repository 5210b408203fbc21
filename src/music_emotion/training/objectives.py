"""What genre and emotion trainings differ in: the loss and the score."""

import numpy as np
import torch
from torch.nn import functional

from music_emotion.config import Experiment, LossSection
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.evaluation.metrics import genre_scores, is_constant, spearman_per_target
from music_emotion.files import InputError
from music_emotion.models.build import ModelCard
from music_emotion.models.target_scale import TargetScale

_RANK_TEMPERATURE = 0.1  # in deviations of a target


class EmotionObjective:
    """A weighted sum of errors: squared, of the correlation, of pairs, of ranks.

    Parameters
    ----------
    loss : LossSection
        Weights of all terms and of the targets.
    card : ModelCard
        Gives the targets and how they are scaled.

    Raises
    ------
    InputError
        When the number of target weights differs from the number of targets.
    """

    def __init__(self, loss: LossSection, card: ModelCard):
        weights = loss.target_weights or (1 / len(card.outputs),) * len(card.outputs)
        if len(weights) != len(card.outputs):
            raise InputError(
                f"loss.target_weights has {len(weights)} values for the {len(card.outputs)} targets "
                f"{', '.join(card.outputs)}. Give one each, or none for equal weights."
            )
        terms = (
            (loss.squared, _squared_error),
            (loss.pearson, _pearson_error),
            (loss.pairwise, pairwise_error),
            (loss.soft_rank, soft_rank_error),
        )
        self.terms = [(weight, error) for weight, error in terms if weight]
        self.weights, self.outputs = torch.tensor(weights), card.outputs
        self.scale = TargetScale(card.target_mean, card.target_deviation, card.target_quantiles)

    def loss(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Loss of a network's outputs [shape=(n, n_targets)] against target values."""
        outputs, truth = outputs.float(), self.outputs_of(values)
        per_target = torch.stack([weight * error(outputs, truth) for weight, error in self.terms]).sum(dim=0)
        return (self.weights.to(per_target) * per_target).sum()

    def outputs_of(self, prediction: torch.Tensor) -> torch.Tensor:
        """The outputs that give a prediction."""
        return self.scale.to(prediction.device).outputs_of(prediction)

    def scores(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Mean Spearman correlation as `score`, and each target's.

        `constant` counts the targets whose prediction does not vary; each scores 0.
        """
        per_target = spearman_per_target(truth, prediction, self.outputs)
        constant = sum(is_constant(column) for column in prediction.T)
        return {"score": float(np.mean(list(per_target.values()))), **per_target, "constant": constant}


def _squared_error(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(outputs, truth, reduction="none").mean(dim=0)


def _pearson_error(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - correlation of every column over the batch [shape=(n_targets,)]; 1 for a constant one."""
    outputs, truth = outputs - outputs.mean(dim=0), truth - truth.mean(dim=0)
    norms = (outputs.square().sum(dim=0) + 1e-8).sqrt() * (truth.square().sum(dim=0) + 1e-8).sqrt()
    return 1 - (outputs * truth).sum(dim=0) / norms


def pairwise_error(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """How surely pairs are put in the wrong order, weighed by how far apart they truly are.

    Parameters
    ----------
    outputs, truth : torch.Tensor [shape=(n, n_targets)]
        Standardised.

    Returns
    -------
    torch.Tensor [shape=(n_targets,)]
        Weighted mean over all pairs whose truth differs; 0 where there are none, log 2 for a
        constant output.

    References
    ----------
    Burges et al., 2005, "Learning to rank using gradient descent", equation 3 with a target
    probability of 1.
    """
    apart = truth[:, None] - truth
    errors = functional.softplus(-apart.sign() * (outputs[:, None] - outputs))
    weights = apart.abs()
    total = weights.sum(dim=(0, 1))
    return (weights * errors).sum(dim=(0, 1)) / torch.where(total > 0, total, 1)


def soft_rank_error(
    outputs: torch.Tensor, truth: torch.Tensor, temperature: float = _RANK_TEMPERATURE
) -> torch.Tensor:
    """1 - Pearson correlation of soft ranks with true ranks, where ties share their mean rank.

    Parameters
    ----------
    outputs, truth : torch.Tensor [shape=(n, n_targets)]
        Standardised.
    temperature : float
        Differences of outputs far above it count as a whole rank.

    Returns
    -------
    torch.Tensor [shape=(n_targets,)]
        0 for the right order, 2 for the reverse, 1 for a constant output.

    References
    ----------
    Qin, Liu and Li, 2010, "A general approximation framework for direct optimization of
    information retrieval measures", section 4.
    """
    soft_ranks = torch.sigmoid((outputs[:, None] - outputs) / temperature).sum(dim=1)
    half = torch.tensor(0.5, dtype=truth.dtype, device=truth.device)
    ranks = torch.heaviside(truth[:, None] - truth, half).sum(dim=1)  # both less a constant half
    return _pearson_error(soft_ranks, ranks)


class GenreObjective:
    """Cross-entropy, optionally with class weights and label smoothing.

    Parameters
    ----------
    loss : LossSection
        Smoothing, and whether classes are balanced.
    card : ModelCard
        Gives the classes.
    class_counts : np.ndarray [shape=(n_classes,)]
        Training clips of each class.
    """

    def __init__(self, loss: LossSection, card: ModelCard, class_counts: np.ndarray):
        self.smoothing, self.outputs = loss.label_smoothing, card.outputs
        self.weights = torch.ones(len(card.outputs))
        if loss.class_weights == "balanced":
            counts = torch.tensor(class_counts, dtype=torch.float32).clamp(min=1)
            self.weights = counts.sum() / (len(counts) * counts)

    def loss(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Loss of logits against class probabilities, both [shape=(n, n_classes)]."""
        return functional.cross_entropy(
            outputs.float(), values, self.weights.to(outputs.device), label_smoothing=self.smoothing
        )

    def outputs_of(self, prediction: torch.Tensor) -> torch.Tensor:
        """Logits, up to a constant, that give some class probabilities."""
        return prediction.clamp(min=1e-12).log()

    def scores(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Macro F1 as `score`, beside accuracy and weighted F1."""
        scores = genre_scores(truth.argmax(axis=1), prediction, self.outputs)
        constant = int(is_constant(prediction.argmax(axis=1)))
        return {"score": scores["macro_f1"], **scores, "constant": constant}


Objective = EmotionObjective | GenreObjective


def make_objective(experiment: Experiment, card: ModelCard, training: ClipSet) -> Objective:
    """The objective of an experiment's task."""
    match experiment.task:
        case "emotion":
            return EmotionObjective(experiment.loss, card)
        case "genre":
            return GenreObjective(experiment.loss, card, training.values.sum(axis=0))
