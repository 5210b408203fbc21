"""What genre and emotion trainings differ in: the loss and the score."""

import numpy as np
import torch
from torch.nn import functional

from music_emotion.data.clip_set import ClipSet
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment
from music_emotion.models.build import ModelCard
from music_emotion.sections import LossSection
from music_emotion.training.metrics import genre_scores, is_constant, spearman_per_target


class EmotionObjective:
    """Weighted squared error, and optionally 1 - Pearson correlation over the batch.

    Parameters
    ----------
    loss : LossSection
        Weights of both terms and of the targets.
    card : ModelCard
        Gives the targets and how they are standardised.

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
        self.pearson, self.outputs = loss.pearson, card.outputs
        self.weights = torch.tensor(weights)
        self.mean, self.deviation = torch.tensor(card.target_mean), torch.tensor(card.target_deviation)

    def loss(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Loss of standardised outputs [shape=(n, n_targets)] against target values."""
        outputs, values = outputs.float(), self.outputs_of(values)
        per_target = functional.mse_loss(outputs, values, reduction="none").mean(dim=0)
        if self.pearson:
            per_target = per_target + self.pearson * (1 - _pearson(outputs, values))
        return (self.weights.to(per_target) * per_target).sum()

    def outputs_of(self, prediction: torch.Tensor) -> torch.Tensor:
        """The standardised outputs that give a prediction."""
        return (prediction - self.mean.to(prediction)) / self.deviation.to(prediction)

    def scores(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Mean Spearman correlation as `score`, and each target's.

        `constant` counts the targets whose prediction does not vary; each scores 0.
        """
        per_target = spearman_per_target(truth, prediction, self.outputs)
        constant = sum(is_constant(column) for column in prediction.T)
        return {"score": float(np.mean(list(per_target.values()))), **per_target, "constant": constant}


def _pearson(outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Correlation of every column over the batch [shape=(n_targets,)]; 0 for a constant one."""
    outputs, values = outputs - outputs.mean(dim=0), values - values.mean(dim=0)
    norms = (outputs.square().sum(dim=0) + 1e-8).sqrt() * (values.square().sum(dim=0) + 1e-8).sqrt()
    return (outputs * values).sum(dim=0) / norms


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
