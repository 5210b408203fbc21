"""What an epoch of a training works with, put together once."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import TrainingExcerpts, batches
from music_emotion.files import InputError
from music_emotion.models.build import Network
from music_emotion.training.checkpoint import STATE, Progress, check_same_training, load_state
from music_emotion.training.companion import (
    Learner,
    PairedExcerpts,
    WithGenres,
    genre_objective,
    network_of,
)
from music_emotion.training.objectives import GenreObjective, Objective
from music_emotion.training.optim import make_optimizer, make_schedule


@dataclass(frozen=True)
class Parts:
    """What an epoch works with.

    Attributes
    ----------
    learner : Network or WithGenres
        The weights that learn.
    average : Network or WithGenres
        Their running average, or the same weights without one.
    model : torch.nn.Module
        The learner as Accelerate wraps it.
    objective : Objective
        Of the network.
    genres : GenreObjective or None
        Of the genre head beside it, if there is one.
    loader
        Training batches.
    optimizer : torch.optim.Optimizer
    set_rate : callable
        Sets the learning rate of an update.
    ema : ModelEmaV3 or None
        Keeps the average.
    accelerator : Accelerator
    """

    learner: Learner
    average: Learner
    model: torch.nn.Module
    objective: Objective
    genres: GenreObjective | None
    loader: Any
    optimizer: torch.optim.Optimizer
    set_rate: Callable[[int], float]
    ema: ModelEmaV3 | None
    accelerator: Accelerator

    @property
    def network(self) -> Network:
        """The network that learns."""
        return network_of(self.learner)

    @property
    def averaged(self) -> Network:
        """The network that is validated and saved."""
        return network_of(self.average)


def assemble(
    network: Network,
    objective: Objective,
    training: ClipSet,
    genres: ClipSet | None,
    accelerator: Accelerator,
    directory: Path,
    seed: int,
) -> tuple[Parts, Progress]:
    """Put together the parts of a training, and go on where its state in a directory left them.

    Takes and raises what `train_fold` does.
    """
    experiment = network.card.experiment
    data, excerpt, train = experiment.data, experiment.excerpt, experiment.train
    learner: Learner = network
    if genres is None:
        excerpts, beside = TrainingExcerpts(training, data, excerpt, seed), None
    else:
        learner = WithGenres(network, len(genres.outputs), seed)
        excerpts = PairedExcerpts(training, genres, data, excerpt, seed)
        beside = genre_objective(network, genres)
    learner.to(accelerator.device)
    loader = _training_loader(excerpts, train.batch_size, accelerator)
    optimizer = make_optimizer(learner, experiment.optim)
    set_rate = make_schedule(optimizer, experiment.optim, train.epochs * len(loader))
    # Decay rises to its largest value, so that a short training is averaged over its end too.
    ema = ModelEmaV3(learner, train.ema, use_warmup=True, warmup_power=0.8) if train.ema else None
    average: Learner = ema.module if ema else learner
    scaler = _fresh_scaler(accelerator)
    progress = load_state(directory / STATE, learner, average, optimizer, scaler)
    check_same_training(progress, training, directory / STATE)
    model, prepared = accelerator.prepare(learner, optimizer)
    parts = Parts(learner, average, model, objective, beside, loader, prepared, set_rate, ema, accelerator)
    return parts, progress


def _fresh_scaler(accelerator: Accelerator) -> torch.amp.GradScaler | None:
    """Accelerate's scaler of half-precision gradients, as if no fold had been trained before."""
    scaler: torch.amp.GradScaler | None = accelerator.scaler
    if scaler is not None:
        scaler.load_state_dict(torch.amp.GradScaler(accelerator.device.type).state_dict())
    return scaler


def _training_loader(excerpts: TrainingExcerpts, batch_size: int, accelerator: Accelerator) -> Any:
    if batch_size % accelerator.num_processes:
        raise InputError(
            f"train.batch_size {batch_size} can't be split over {accelerator.num_processes} processes. "
            f"Give a multiple of {accelerator.num_processes}."
        )
    return accelerator.prepare_data_loader(batches(excerpts, batch_size))
