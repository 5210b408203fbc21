"""Losses and scores for emotion and genre, and an auxiliary genre head for emotion networks."""

import math

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from music_emotion.config import DataSection, ExcerptSection, Experiment, LossSection
from music_emotion.datasets.clip_set import ClipSet, load_clip_set, load_embedded
from music_emotion.datasets.excerpts import Batch, TrainingExcerpts
from music_emotion.evaluation.metrics import genre_scores, is_constant, spearman_per_target
from music_emotion.files import InputError
from music_emotion.models.card import ModelCard
from music_emotion.models.network import Network
from music_emotion.models.target_scale import TargetScale

GENRE = "genre_"  # prefix of entries of the genre set in a batch
_RANK_TEMPERATURE = 0.1  # in standard deviations of a target


class EmotionObjective:
    """Weighted sum of squared error, Pearson, pairwise (RankNet) and soft-rank loss.

    With ``data.more``, values may be NaN. Each term is then computed over the excerpts that have the target,
    and weighted by their share of the batch.

    Parameters
    ----------
    loss : LossSection
        Weights of the terms and of the targets.
    card : ModelCard
        Names and scale of the targets.

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
        self.terms = [(getattr(loss, name), error) for name, error in _TERMS.items() if getattr(loss, name)]
        self.weights, self.outputs = torch.tensor(weights), card.outputs
        self.scale = TargetScale(card.target_mean, card.target_deviation, card.target_quantiles)
        self.may_lack = bool(card.experiment.data.more)

    def loss(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Compute the loss of outputs against target values, both [shape=(n, n_targets)]."""
        outputs, truth = outputs.float(), self.outputs_of(values)
        known = ~truth.isnan() if self.may_lack else None
        if known is None or known.all():
            per_target = self._errors(outputs, truth)
        else:
            parts = [
                self._errors(column[there, None], values[there, None])[0] * there.float().mean()
                if there.any()
                else 0 * column.sum()
                for column, values, there in zip(outputs.T, truth.T, known.T, strict=True)
            ]
            per_target = torch.stack(parts)
        return (self.weights.to(per_target) * per_target).sum()

    def _errors(self, outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Weighted sum of the terms for each target [shape=(n_targets,)]."""
        return torch.stack([weight * error(outputs, truth) for weight, error in self.terms]).sum(dim=0)

    def outputs_of(self, prediction: torch.Tensor) -> torch.Tensor:
        """Convert predictions in the targets' units to network outputs."""
        return self.scale.to(prediction.device).outputs_of(prediction)

    def scores(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Compute Spearman's correlation of each target, and their mean as `score`.

        `constant` is the number of targets whose prediction does not vary; each of them scores 0. Targets
        that no clip has are left out.
        """
        known = np.flatnonzero(np.isfinite(truth).any(axis=0))
        names = [self.outputs[number] for number in known]
        per_target = spearman_per_target(truth[:, known], prediction[:, known], names)
        constant = sum(is_constant(column) for column in prediction.T)
        return {"score": float(np.mean(list(per_target.values()))), **per_target, "constant": constant}


def _squared_error(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(outputs, truth, reduction="none").mean(dim=0)


def _pearson_error(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """1 - Pearson correlation of every column over the batch [shape=(n_targets,)]; 1 if it is constant."""
    outputs, truth = outputs - outputs.mean(dim=0), truth - truth.mean(dim=0)
    norms = (outputs.square().sum(dim=0) + 1e-8).sqrt() * (truth.square().sum(dim=0) + 1e-8).sqrt()
    return 1 - (outputs * truth).sum(dim=0) / norms


def pairwise_error(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """RankNet loss of all pairs, weighted by the distance of their true values.

    Parameters
    ----------
    outputs, truth : torch.Tensor [shape=(n, n_targets)]
        Standardised.

    Returns
    -------
    torch.Tensor [shape=(n_targets,)]
        Weighted mean over all pairs whose truth differs; 0 without such pairs, log 2 for a constant
        output.

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
    """1 - Pearson correlation of soft ranks with true ranks; ties share their mean rank.

    Parameters
    ----------
    outputs, truth : torch.Tensor [shape=(n, n_targets)]
        Standardised.
    temperature : float
        Width of the sigmoid that makes ranks soft.

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
    ranks = torch.heaviside(truth[:, None] - truth, half).sum(
        dim=1
    )  # both ranks are too small by 0.5, which cancels
    return _pearson_error(soft_ranks, ranks)


_TERMS = {
    "squared": _squared_error,
    "pearson": _pearson_error,
    "pairwise": pairwise_error,
    "soft_rank": soft_rank_error,
}


class GenreObjective:
    """Cross-entropy, optionally with balanced class weights.

    Parameters
    ----------
    loss : LossSection
        Its `class_weights` may balance the classes.
    training : ClipSet
        Training clips, for the classes and their frequencies.
    """

    def __init__(self, loss: LossSection, training: ClipSet):
        self.outputs = training.outputs
        self.weights = torch.ones(len(self.outputs))
        if loss.class_weights == "balanced":
            counts = torch.tensor(training.values.sum(axis=0), dtype=torch.float32).clamp(min=1)
            self.weights = counts.sum() / (len(counts) * counts)

    def loss(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Compute the loss of logits against class probabilities, both [shape=(n, n_classes)]."""
        return functional.cross_entropy(outputs.float(), values, self.weights.to(outputs.device))

    def outputs_of(self, prediction: torch.Tensor) -> torch.Tensor:
        """Convert class probabilities to logits, up to a constant."""
        return prediction.clamp(min=1e-12).log()

    def scores(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Compute macro F1 as `score`, accuracy and weighted F1."""
        scores = genre_scores(truth.argmax(axis=1), prediction, self.outputs)
        constant = int(is_constant(prediction.argmax(axis=1)))
        return {"score": scores["macro_f1"], **scores, "constant": constant}


class EmbeddingObjective:
    """Squared error of embeddings that are standardised over the training clips.

    Parameters
    ----------
    clips : ClipSet
        Training clips, whose values are the columns of their embeddings.
    """

    def __init__(self, clips: ClipSet):
        self.outputs = clips.outputs
        deviation = clips.values.std(axis=0)
        deviation[deviation == 0] = 1
        self.scale = TargetScale(tuple(clips.values.mean(axis=0).tolist()), tuple(deviation.tolist()))

    def loss(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Compute the loss of outputs against embeddings, both [shape=(n, n_columns)]."""
        return functional.mse_loss(outputs.float(), self.outputs_of(values))

    def outputs_of(self, prediction: torch.Tensor) -> torch.Tensor:
        """Standardise embeddings."""
        return self.scale.to(prediction.device).outputs_of(prediction)

    def scores(self, truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
        """Compute the mean of the columns' Spearman correlations as `score`."""
        per_column = spearman_per_target(truth, prediction, self.outputs).values()
        return {"score": float(np.mean(list(per_column))), "constant": 0}


Objective = EmotionObjective | GenreObjective | EmbeddingObjective


def make_objective(experiment: Experiment, card: ModelCard, training: ClipSet) -> Objective:
    """Make the objective of what an experiment learns."""
    if not experiment.distil.labels:
        return EmbeddingObjective(training)
    if experiment.task == "emotion":
        return EmotionObjective(experiment.loss, card)
    return GenreObjective(experiment.loss, training)


def check_spread(training: ClipSet) -> None:
    """Refuse targets whose known training labels are all the same.

    Raises
    ------
    InputError
        When there are any. The message names them.
    """
    constant = [name for name, values in training.truth.items() if values.nunique() < 2]
    if constant:
        raise InputError(
            f"The training labels of {', '.join(map(str, constant))} are all the same, so there is no order "
            f"to learn. Check the label file, or name other --data.targets."
        )


class WithSecondHead(nn.Module):
    """An emotion network with an auxiliary head for genres or embeddings on the same trunk.

    Parameters
    ----------
    network : Network
        The emotion network, without the second head. It alone is validated and saved.
    n_outputs : int
        Number of genres, or of the embeddings' columns.
    seed : int
        Seed of the second head's weights.
    paired : bool
        Whether the second head reads excerpts of its own.
    """

    def __init__(self, network: Network, n_outputs: int, seed: int, paired: bool):
        super().__init__()
        self.network, self.paired = network, paired
        torch.manual_seed(_genre_seed(seed))
        dropout = nn.Dropout(network.card.experiment.model.dropout)
        self.second_head = nn.Sequential(dropout, nn.Linear(network.trunk.n_features, n_outputs))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the outputs of both heads in one pass through the trunk.

        Parameters
        ----------
        frames : torch.Tensor [shape=(n, n_rows, n_frames)]
            Excerpts of the emotion set; if paired, followed by as many of the genre set.
        lengths : torch.Tensor [shape=(n,)]
            Frames before the padding.

        Returns
        -------
        outputs : torch.Tensor [shape=(n, n_targets)]
            Outputs as from `Network`; if paired, of the first half.
        second : torch.Tensor [shape=(n, n_outputs)]
            Outputs of the second head; if paired, of the second half.
        """
        features = self.network.features(frames, lengths)
        first, second = features.chunk(2) if self.paired else (features, features)
        return self.network.head(first), self.second_head(second)


class PairedExcerpts(TrainingExcerpts):
    """Random excerpts, each paired with a genre excerpt, whose entries in a batch have the prefix `GENRE`.

    Parameters
    ----------
    clips, genres : ClipSet
        The training clips and the genre set. A smaller one gives more excerpts per clip and epoch.
        From a larger one, each epoch draws a random subset.
    data, excerpt : DataSection, ExcerptSection
        How both sets are read and cut into excerpts.
    seed : int
        Order and offsets depend on the seed and the epoch.
    """

    def __init__(
        self, clips: ClipSet, genres: ClipSet, data: DataSection, excerpt: ExcerptSection, seed: int
    ):
        enough = math.ceil(len(clips) * excerpt.per_clip / len(genres))
        many = excerpt.model_copy(update={"per_clip": enough})
        self.genres = TrainingExcerpts(genres, data, many, _genre_seed(seed))
        super().__init__(clips, data, excerpt, seed)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of clips and the offset of every excerpt of an epoch, for both sets."""
        super().set_epoch(epoch)
        self.genres.set_epoch(epoch)

    def __getitems__(self, items: list[int]) -> Batch:
        of_genres = self.genres.__getitems__(items)
        return super().__getitems__(items) | {GENRE + name: values for name, values in of_genres.items()}


def load_second(experiment: Experiment, accelerator: Accelerator) -> ClipSet | None:
    """Load what the auxiliary head learns; None for an experiment without one.

    Returns
    -------
    ClipSet or None
        The genre set's training split, or the emotion set's with its embeddings as values.

    Raises
    ------
    InputError
        As for `load_clip_set` and `load_embedded`.
    """
    if experiment.distil.tables and experiment.distil.labels:
        with accelerator.main_process_first():
            return load_embedded(experiment.data, experiment.distil)
    if not experiment.loss.genre:
        return None
    try:
        with accelerator.main_process_first():
            return load_clip_set(experiment.data, "genre", "train")
    except InputError as error:
        raise InputError(f"{error} To train without the genre set, set loss.genre 0.") from None


def _genre_seed(seed: int) -> int:
    """Derive a seed for the genre set, so that its order differs from the emotion set's."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
