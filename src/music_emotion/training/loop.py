"""One training loop for genre and emotion, under Accelerate."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from tqdm import tqdm

from music_emotion.data.augment import mixup
from music_emotion.data.clip_set import ClipSet
from music_emotion.data.dataset import Batch, TrainingExcerpts, batches
from music_emotion.errors import Diverged, InputError
from music_emotion.files import write_table
from music_emotion.models.build import Network, save_model
from music_emotion.predictions import write_predictions
from music_emotion.sections import TrainSection
from music_emotion.training.checkpoint import STATE, Progress, load_state, save_state
from music_emotion.training.cost import network_cost, write_cost
from music_emotion.training.evaluate import predict_clips
from music_emotion.training.objectives import Objective
from music_emotion.training.optim import make_optimizer, make_schedule

UNFINISHED, LAST = "unfinished.safetensors", "last.safetensors"
_LATEST_EPOCHS = 10  # by which the length of the next one is judged; some of them validate


def train_fold(
    network: Network,
    objective: Objective,
    training: ClipSet,
    valid: ClipSet,
    accelerator: Accelerator,
    directory: Path,
    seed: int,
    deadline: float = math.inf,
) -> bool:
    """Train on some clips, validate on others, write the results.

    Writes `metrics.csv`, `valid.csv`, `cost.json` and `model.safetensors` into the directory, the
    last one last, and `last.safetensors` where the experiment keeps the last epoch beside the best.
    Interrupted, the same call goes on from its last finished epoch.

    Parameters
    ----------
    network : Network
        Trained in place.
    objective : Objective
        Loss and score.
    training, valid : ClipSet
        With labels.
    accelerator : Accelerator
        Device, processes and precision.
    directory : Path
        ``runs/<name>/seed<s>/fold<k>``.
    seed : int
        Order, excerpts, dropout and augmentation of every epoch follow from it.
    deadline : float
        No epoch is begun that would, as long as the slowest of the last (at first, of those of the
        run's other folds), end after this time (seconds since 1970, UTC). The training then leaves
        its state and, in `unfinished.safetensors`, its averaged weights. For one process: several
        could disagree.

    Returns
    -------
    bool
        Whether the training is finished.

    Raises
    ------
    InputError
        When the batch can't be split over the processes; `Diverged`, in all of them, when the loss
        is no longer finite.
    """
    train = network.card.experiment.train
    parts, progress = _assemble(network, objective, training, accelerator, directory, seed)
    with tqdm(
        total=train.epochs,
        initial=progress.epoch,
        desc=f"{directory.parent.parent.name} {directory.parent.name} {directory.name}",
        unit="epoch",
        disable=not accelerator.is_main_process,
    ) as bar:
        while progress.epoch < train.epochs and not _waited_enough(progress, train):
            if _ends_after(deadline, progress, directory):
                _pause(parts, progress, directory)
                return False
            started = time.perf_counter()
            row = _run_epoch(parts, progress, directory, seed)
            if progress.epoch % train.valid_every == 0 or progress.epoch == train.epochs:
                row |= _validate(parts.averaged, objective, valid, accelerator)
                _select(progress, row, parts.averaged, train)
            progress.metrics.append(row | {"seconds": time.perf_counter() - started})
            _save(parts, progress, directory)
            bar.update()
            bar.set_postfix({key: f"{row[key]:.3f}" for key in ("train_loss", "score") if key in row})
    _finish(parts, progress, valid, directory)
    return True


@dataclass(frozen=True)
class _Parts:
    """What an epoch works with, put together once."""

    network: Network  # the weights that learn
    averaged: Network  # their running average, or the same network without one
    model: torch.nn.Module  # the network as Accelerate wraps it
    objective: Objective
    loader: Any
    optimizer: torch.optim.Optimizer
    set_rate: Callable[[int], float]
    ema: ModelEmaV3 | None
    accelerator: Accelerator


def _assemble(
    network: Network,
    objective: Objective,
    training: ClipSet,
    accelerator: Accelerator,
    directory: Path,
    seed: int,
) -> tuple[_Parts, Progress]:
    experiment = network.card.experiment
    train = experiment.train
    network.to(accelerator.device)
    excerpts = TrainingExcerpts(training, experiment.data, experiment.excerpt, seed)
    loader = _training_loader(excerpts, train.batch_size, accelerator)
    optimizer = make_optimizer(network, experiment.optim)
    set_rate = make_schedule(optimizer, experiment.optim, train.epochs * len(loader))
    # Decay rises to its largest value, so that a short training is averaged over its end too.
    ema = ModelEmaV3(network, train.ema, use_warmup=True, warmup_power=0.8) if train.ema else None
    averaged: Network = ema.module if ema else network
    scaler = _fresh_scaler(accelerator)
    progress = load_state(directory / STATE, network, averaged, optimizer, scaler)
    model, prepared = accelerator.prepare(network, optimizer)
    parts = _Parts(network, averaged, model, objective, loader, prepared, set_rate, ema, accelerator)
    return parts, progress


def _fresh_scaler(accelerator: Accelerator) -> torch.amp.GradScaler | None:
    """Accelerate's scaler of half-precision gradients, as if no fold had been trained before."""
    scaler: torch.amp.GradScaler | None = accelerator.scaler
    if scaler is not None:
        scaler.load_state_dict(torch.amp.GradScaler(accelerator.device.type).state_dict())
    return scaler


def _run_epoch(parts: _Parts, progress: Progress, directory: Path, seed: int) -> dict[str, float]:
    """One pass over the training clips; returns its row of metrics."""
    experiment = parts.network.card.experiment
    frozen = progress.epoch < experiment.train.frozen_epochs
    _seed_epoch(seed, progress.epoch, parts.accelerator.process_index)
    # Accelerate passes its own count of epochs on to the dataset, so it has to be told ours.
    parts.loader.set_epoch(progress.epoch)
    parts.network.train()
    if frozen:  # also keeps the trunk's batch statistics
        parts.network.trunk.eval()
    losses, rate = [], 0.0
    # cuDNN refuses to go back through an LSTM that is in evaluation mode
    without_cudnn = frozen and experiment.model.kind == "lstm"
    with torch.backends.cudnn.flags(enabled=False) if without_cudnn else nullcontext():
        for batch in parts.loader:
            rate = parts.set_rate(progress.update)
            losses.append(_update(parts, batch, frozen))
            if parts.ema:
                parts.ema.update(parts.network, step=progress.update)
            progress.update += 1
    progress.epoch += 1
    return {
        "epoch": progress.epoch,
        "updates": progress.update,
        "learning_rate": rate,
        "train_loss": _mean_loss(losses, parts.accelerator, directory, progress.epoch),
    }


def _training_loader(excerpts: TrainingExcerpts, batch_size: int, accelerator: Accelerator) -> Any:
    if batch_size % accelerator.num_processes:
        raise InputError(
            f"train.batch_size {batch_size} can't be split over {accelerator.num_processes} processes. "
            f"Give a multiple of {accelerator.num_processes}."
        )
    return accelerator.prepare_data_loader(batches(excerpts, batch_size))


def _seed_epoch(seed: int, epoch: int, process: int) -> None:
    """Make dropout, masks and mixup a function of seed, epoch and process, whatever ran before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, process]).generate_state(1)[0]))


def _update(parts: _Parts, batch: Batch, frozen: bool) -> torch.Tensor:
    """One update of the weights; returns the loss before it."""
    experiment = parts.network.card.experiment
    augment = experiment.augment
    frames, lengths, values = mixup(
        batch["frames"], batch["lengths"], batch["values"], augment.mixup, augment.mixup_bandwidth
    )
    loss = parts.objective.loss(parts.model(frames, lengths), values)
    parts.accelerator.backward(loss)
    if frozen:
        for parameter in parts.network.trunk.parameters():
            parameter.grad = None  # optimisers pass over these
    if experiment.optim.clip_norm:
        parts.accelerator.clip_grad_norm_(parts.model.parameters(), experiment.optim.clip_norm)
    parts.optimizer.step()
    parts.optimizer.zero_grad()
    return loss.detach()


def _mean_loss(losses: list[torch.Tensor], accelerator: Accelerator, directory: Path, epoch: int) -> float:
    mean = accelerator.reduce(torch.stack(losses).mean(), "mean").item()
    if not np.isfinite(mean):
        raise Diverged(
            f"{directory}: the loss is {mean} in epoch {epoch}.",
            "Lower --optim.learning-rate, or set --optim.clip-norm 1.",
        )
    return mean


def _validate(
    network: Network, objective: Objective, valid: ClipSet, accelerator: Accelerator
) -> dict[str, float]:
    """Loss and scores over the whole fold at once."""
    predictions = predict_clips(network, valid, accelerator, quick=True).loc[valid.ids].to_numpy()
    outputs = objective.outputs_of(torch.tensor(predictions, dtype=torch.float32))
    loss = objective.loss(outputs, torch.tensor(valid.values)).item()
    return {"valid_loss": loss, **objective.scores(valid.values, predictions)}


def _select(progress: Progress, row: dict[str, float], network: Network, train: TrainSection) -> None:
    """Keep the weights of the best epoch, if asked for; by score, a constant prediction is never one."""
    if train.select == "last":
        return
    by_score = train.select == "best-score"
    reached = row["score"] if by_score else -row["valid_loss"]
    if not (by_score and row["constant"]) and reached > progress.best:  # never true of NaN
        progress.best, progress.waited = reached, 0
        progress.best_weights = {name: value.clone() for name, value in network.state_dict().items()}
    else:
        progress.waited += 1


def _waited_enough(progress: Progress, train: TrainSection) -> bool:
    return 0 < train.patience <= progress.waited


def _ends_after(deadline: float, progress: Progress, directory: Path) -> bool:
    """Whether another epoch would probably end too late."""
    latest = [row["seconds"] for row in progress.metrics[-_LATEST_EPOCHS:]]
    if not latest and deadline < math.inf:
        others = directory.parent.parent.glob("seed*/fold*/metrics.csv")
        latest = [pd.read_csv(path)["seconds"].tail(_LATEST_EPOCHS).max() for path in others]
    return time.time() + max(latest, default=0.0) > deadline


def _pause(parts: _Parts, progress: Progress, directory: Path) -> None:
    """Leave what the training has come to, as a model; its state is there already."""
    if progress.epoch and parts.accelerator.is_main_process:
        save_model(directory / UNFINISHED, parts.averaged, parts.averaged.state_dict())
    parts.accelerator.free_memory()


def _save(parts: _Parts, progress: Progress, directory: Path) -> None:
    if parts.accelerator.is_main_process:
        scaler = parts.accelerator.scaler
        save_state(directory / STATE, parts.network, parts.averaged, parts.optimizer, scaler, progress)
        write_table(directory / "metrics.csv", pd.DataFrame(progress.metrics))
    parts.accelerator.wait_for_everyone()


def _finish(parts: _Parts, progress: Progress, valid: ClipSet, directory: Path) -> None:
    accelerator, weights = parts.accelerator, progress.best_weights or parts.averaged.state_dict()
    # without the half precision that Accelerate wraps around it
    network = accelerator.unwrap_model(parts.model, keep_fp32_wrapper=False)
    if network.card.experiment.train.keep_last and accelerator.is_main_process:
        save_model(directory / LAST, network, parts.averaged.state_dict())
    network.load_state_dict(weights)
    predictions = predict_clips(network, valid, accelerator)
    if not np.isfinite(predictions.to_numpy()).all():  # the last update, after which no loss is computed
        raise Diverged(f"{directory}: the trained network predicts no numbers. Lower --optim.learning-rate.")
    seconds = sum(row["seconds"] for row in progress.metrics)
    cost = network_cost(network, accelerator, seconds, progress.update)
    if accelerator.is_main_process:
        write_predictions(directory / "valid.csv", predictions)
        write_cost(directory, cost)
        save_model(directory / "model.safetensors", network, weights)
        for left in (STATE, UNFINISHED):
            (directory / left).unlink(missing_ok=True)
    accelerator.wait_for_everyone()
    accelerator.free_memory()
