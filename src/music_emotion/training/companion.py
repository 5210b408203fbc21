"""Genres in company of emotion: a second head on the same trunk, and the excerpts it learns from."""

import math
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from music_emotion.config import DataSection, ExcerptSection, Experiment
from music_emotion.datasets.clip_set import ClipSet, load_clip_set
from music_emotion.datasets.excerpts import Batch, TrainingExcerpts
from music_emotion.files import InputError
from music_emotion.models.build import Network
from music_emotion.training.objectives import GenreObjective

GENRE = "genre_"  # begins the names of what a batch holds of the genre set


class WithGenres(nn.Module):
    """An emotion network whose trunk a genre head shares for the time of its training.

    Parameters
    ----------
    network : Network
        Of emotion; what is validated and saved.
    n_classes : int
        Genres to tell apart.
    seed : int
        The new head's weights follow from it.
    """

    def __init__(self, network: Network, n_classes: int, seed: int):
        super().__init__()
        self.network = network
        torch.manual_seed(_own_seed(seed))
        dropout = nn.Dropout(network.card.experiment.model.dropout)
        self.genre_head = nn.Sequential(dropout, nn.Linear(network.trunk.n_features, n_classes))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the outputs of both heads in one pass through the trunk.

        Parameters
        ----------
        frames : torch.Tensor [shape=(2 * n, n_rows, n_frames)]
            The emotion set's excerpts, then as many of the genre set.
        lengths : torch.Tensor [shape=(2 * n,)]
            Frames before the padding.

        Returns
        -------
        outputs : torch.Tensor [shape=(n, n_targets)]
            Of the first half, as `Network` gives them.
        logits : torch.Tensor [shape=(n, n_classes)]
            Of the second.
        """
        of_emotion, of_genres = self.network.features(frames, lengths).chunk(2)
        return self.network.head(of_emotion), self.genre_head(of_genres)


Learner = Network | WithGenres


def network_of(learner: Learner) -> Network:
    """What is validated and saved of it."""
    return learner.network if isinstance(learner, WithGenres) else learner


class PairedExcerpts(TrainingExcerpts):
    """Random excerpts, each beside one of the genre set, whose names in a batch begin with `GENRE`.

    Parameters
    ----------
    clips, genres : ClipSet
        The training folds, and the genre set: of the smaller one every clip gives several excerpts,
        of the larger one an epoch takes some at random.
    data, excerpt : DataSection, ExcerptSection
        What is read and how it is cut, of both alike.
    seed : int
        Order and offsets follow from it and the epoch alone.
    """

    def __init__(
        self, clips: ClipSet, genres: ClipSet, data: DataSection, excerpt: ExcerptSection, seed: int
    ):
        enough = math.ceil(len(clips) * excerpt.per_clip / len(genres))
        self.genres = TrainingExcerpts(genres, data, replace(excerpt, per_clip=enough), _own_seed(seed))
        super().__init__(clips, data, excerpt, seed)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of clips and the offset of every excerpt of an epoch, of both sets."""
        super().set_epoch(epoch)
        self.genres.set_epoch(epoch)

    def __getitems__(self, items: list[int]) -> Batch:
        beside = self.genres.__getitems__(items)
        return super().__getitems__(items) | {GENRE + name: values for name, values in beside.items()}


def genre_objective(network: Network, genres: ClipSet) -> GenreObjective:
    """The loss of the genre head of an emotion network."""
    classes = replace(network.card, outputs=genres.outputs)
    return GenreObjective(network.card.experiment.loss, classes, genres.values.sum(axis=0))


def load_genres(experiment: Experiment, accelerator: Accelerator) -> ClipSet | None:
    """The genre set's training split, where an experiment learns from it beside emotion; else None.

    The main process packs it first.

    Raises
    ------
    InputError
        When it is missing or wrong, as `load_clip_set`.
    """
    if experiment.loss.genre == 0:
        return None
    try:
        with accelerator.main_process_first():
            return load_clip_set(experiment.data, "genre", "train")
    except InputError as error:
        raise InputError(f"{error} To train without the genre set, set loss.genre 0.") from None


def _own_seed(seed: int) -> int:
    """Another seed than that of the emotion set and network, so that the two orders are unlike."""
    return int(np.random.SeedSequence([seed, 1]).generate_state(1)[0])
