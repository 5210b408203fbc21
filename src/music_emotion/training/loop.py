"""One training loop for genre and emotion, under Accelerate."""

import math
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.distributed.nn.functional import all_gather
from tqdm import tqdm

from music_emotion.config import AugmentSection, TrainSection
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import Batch
from music_emotion.files import Diverged, write_predictions, write_table
from music_emotion.models.augment import mixup
from music_emotion.models.build import Network, save_model
from music_emotion.training.checkpoint import STATE, Progress, save_state
from music_emotion.training.companion import GENRE
from music_emotion.training.cost import network_cost, write_cost
from music_emotion.training.evaluate import predict_clips
from music_emotion.training.objectives import Objective
from music_emotion.training.parts import Parts, assemble

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
    genres: ClipSet | None = None,
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
    genres : ClipSet or None
        What a second head learns beside the network, with the weight `loss.genre`; None where that
        is 0. `metrics.csv` then has its `genre_loss`, which `train_loss` leaves out as `valid_loss`
        does. No model that is saved has that head.

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
    parts, progress = assemble(network, objective, training, genres, accelerator, directory, seed)
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


def _run_epoch(parts: Parts, progress: Progress, directory: Path, seed: int) -> dict[str, float]:
    """One pass over the training clips; returns its row of metrics."""
    experiment = parts.network.card.experiment
    frozen = progress.epoch < experiment.train.frozen_epochs
    _seed_epoch(seed, progress.epoch, parts.accelerator.process_index)
    # Accelerate passes its own count of epochs on to the dataset, so it has to be told ours.
    parts.loader.set_epoch(progress.epoch)
    parts.learner.train()
    if frozen:  # also keeps the trunk's batch statistics
        parts.network.trunk.eval()
    losses: list[dict[str, torch.Tensor]] = []
    rate = 0.0
    # cuDNN refuses to go back through an LSTM that is in evaluation mode
    without_cudnn = frozen and experiment.model.kind == "lstm"
    with torch.backends.cudnn.flags(enabled=False) if without_cudnn else nullcontext():
        for batch in parts.loader:
            rate = parts.set_rate(progress.update)
            losses.append(_update(parts, batch, frozen))
            if parts.ema:
                parts.ema.update(parts.learner, step=progress.update)
            progress.update += 1
    progress.epoch += 1
    return {
        "epoch": progress.epoch,
        "updates": progress.update,
        "learning_rate": rate,
        **_mean_losses(losses, parts.accelerator, directory, progress.epoch),
    }


def _seed_epoch(seed: int, epoch: int, process: int) -> None:
    """Make dropout, masks and mixup a function of seed, epoch and process, whatever ran before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, process]).generate_state(1)[0]))


def _update(parts: Parts, batch: Batch, frozen: bool) -> dict[str, torch.Tensor]:
    """One update of the weights; returns the losses before it, as `metrics.csv` names them."""
    experiment = parts.network.card.experiment
    losses = _losses(parts, batch, experiment.augment)
    loss = losses["train_loss"]
    if "genre_loss" in losses:
        loss = loss + experiment.loss.genre * losses["genre_loss"]
    parts.accelerator.backward(loss)
    if frozen:
        for parameter in parts.network.trunk.parameters():
            parameter.grad = None  # optimisers pass over these
    if experiment.optim.clip_norm:
        parts.accelerator.clip_grad_norm_(parts.model.parameters(), experiment.optim.clip_norm)
    parts.optimizer.step()
    parts.optimizer.zero_grad()
    return {name: value.detach() for name, value in losses.items()}


def _losses(parts: Parts, batch: Batch, augment: AugmentSection) -> dict[str, torch.Tensor]:
    """The loss of the network, and that of the genre head beside it, if there is one."""
    frames, lengths, values = _mixed(batch, augment)
    if parts.genres is None:
        return {"train_loss": _loss(parts, parts.objective, parts.model(frames, lengths), values)}
    beside, lengths_beside, classes = _mixed(batch, augment, GENRE)
    outputs, logits = parts.model(torch.cat([frames, beside]), torch.cat([lengths, lengths_beside]))
    return {
        "train_loss": _loss(parts, parts.objective, outputs, values),
        "genre_loss": _loss(parts, parts.genres, logits, classes),
    }


def _loss(parts: Parts, objective: Objective, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Loss over the batches of all processes together, since a mean of correlations is none."""
    if parts.accelerator.num_processes > 1:
        # going back sums up over processes what the wrapped model's gradients then average
        outputs, values = (torch.cat(all_gather(part.contiguous())) for part in (outputs, values))
    return objective.loss(outputs, values)


def _mixed(
    batch: Batch, augment: AugmentSection, begins: str = ""
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, lengths and values of one set in a batch, mixed up among themselves."""
    frames, lengths, values = (batch[begins + name] for name in ("frames", "lengths", "values"))
    return mixup(frames, lengths, values, augment.mixup, augment.mixup_bandwidth)


def _mean_losses(
    losses: list[dict[str, torch.Tensor]], accelerator: Accelerator, directory: Path, epoch: int
) -> dict[str, float]:
    means: dict[str, float] = {}
    for name in losses[0]:
        updates = torch.stack([of_update[name] for of_update in losses])
        means[name] = accelerator.reduce(updates.mean(), "mean").item()
        if not np.isfinite(means[name]):
            raise Diverged(
                f"{directory}: the loss is {means[name]} in epoch {epoch}.",
                "Lower --optim.learning-rate, or set --optim.clip-norm 1.",
            )
    return means


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


def _pause(parts: Parts, progress: Progress, directory: Path) -> None:
    """Leave what the training has come to, as a model; its state is there already."""
    if progress.epoch and parts.accelerator.is_main_process:
        save_model(directory / UNFINISHED, parts.averaged, parts.averaged.state_dict())
    parts.accelerator.free_memory()


def _save(parts: Parts, progress: Progress, directory: Path) -> None:
    if parts.accelerator.is_main_process:
        scaler = parts.accelerator.scaler
        # before the state: an epoch that a kill has left without its state is trained and noted again
        write_table(directory / "metrics.csv", pd.DataFrame(progress.metrics))
        save_state(directory / STATE, parts.learner, parts.average, parts.optimizer, scaler, progress)
    parts.accelerator.wait_for_everyone()


def _finish(parts: Parts, progress: Progress, valid: ClipSet, directory: Path) -> None:
    accelerator, weights = parts.accelerator, progress.best_weights or parts.averaged.state_dict()
    # takes off the half precision that Accelerate wraps around it
    accelerator.unwrap_model(parts.model, keep_fp32_wrapper=False)
    network = parts.network
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
    accelerator.wait_for_everyone()
    accelerator.free_memory()
