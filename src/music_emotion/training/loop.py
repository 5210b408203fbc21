"""The training loop for genre and emotion, and a sanity check that overfits one batch."""

import math
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from timm.utils import ModelEmaV3
from torch import nn
from torch.distributed.nn.functional import all_gather
from tqdm import tqdm

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import Batch, TrainingExcerpts, batches
from music_emotion.datasets.splits import Fold
from music_emotion.files import Diverged, InputError, write_predictions, write_table
from music_emotion.models.augment import mixup
from music_emotion.models.network import Network, save_model
from music_emotion.runs import Cost, peak_memory, write_cost
from music_emotion.training import objectives
from music_emotion.training.checkpoint import STATE, load_state, save_state
from music_emotion.training.optimisation import learning_rates, make_optimizer
from music_emotion.training.predict import predict_clips

NEAR_ZERO = 0.01  # loss at which a batch counts as overfitted; it starts near 1 or above
UNFINISHED, LAST = "unfinished.safetensors", "last.safetensors"
_LATEST_EPOCHS = 10  # the slowest of these estimates the duration of the next epoch


class Trainer:
    """Trains the network of a fold; resumes from the state in its directory.

    Parameters
    ----------
    network : Network
        Trained in place.
    fold : Fold
        Its clips and its seed, which determines order, excerpts, dropout and augmentation of every epoch.
    accelerator : Accelerator
        Device, processes, precision and trackers.
    directory : Path
        ``runs/<name>/seed<s>/fold<k>``.
    second : ClipSet or None
        Clips of an auxiliary head, from `load_second`. Its loss has the weight `loss.genre` or
        `distil.weight`. Saved models omit the head.

    Raises
    ------
    InputError
        When the batch can't be split over the processes, or the saved state is damaged or has other clips.
    """

    def __init__(
        self, network: Network, fold: Fold, accelerator: Accelerator, directory: Path, second: ClipSet | None
    ):
        self.network, self.valid, self.seed = network, fold.valid, fold.own_seed
        self.accelerator, self.directory = accelerator, directory
        self.experiment = network.card.experiment
        data, excerpt, train = self.experiment.data, self.experiment.excerpt, self.experiment.train
        if train.batch_size % accelerator.num_processes:
            raise InputError(
                f"train.batch_size {train.batch_size} can't be split over {accelerator.num_processes} "
                f"processes. Give a multiple of {accelerator.num_processes}."
            )
        self.learner: nn.Module = network
        self.objective = objectives.make_objective(self.experiment, network.card, fold.training)
        # name of a loss to the prefix of its entries in a batch, and to its objective
        self.heads: dict[str, tuple[str, objectives.Objective]] = {"train_loss": ("", self.objective)}
        excerpts = TrainingExcerpts(fold.training, data, excerpt, self.seed)
        is_paired = bool(self.experiment.loss.genre)
        if second is not None:
            self.learner = objectives.WithSecondHead(network, len(second.outputs), self.seed, is_paired)
            if is_paired:
                objective = objectives.GenreObjective(self.experiment.loss, second)
                self.heads["genre_loss"] = (objectives.GENRE, objective)
                excerpts = objectives.PairedExcerpts(fold.training, second, data, excerpt, self.seed)
            else:  # the same excerpts have the embeddings as further values
                known = second.select(np.searchsorted(second.ids, fold.training.ids))
                self.heads["distil_loss"] = ("", objectives.EmbeddingObjective(known))
                wide = replace(fold.training, values=np.hstack([fold.training.values, known.values]))
                excerpts = TrainingExcerpts(wide, data, excerpt, self.seed)
        self.learner.to(accelerator.device)
        self.loader: Any = accelerator.prepare_data_loader(batches(excerpts, train.batch_size))
        optimizer = make_optimizer(self.learner, self.experiment.optim)
        self.rates = learning_rates(self.experiment.optim, train.epochs * len(self.loader))
        # The decay is warmed up, so that the average of a short training forgets its first epochs.
        self.ema = (
            ModelEmaV3(self.learner, train.ema, use_warmup=True, warmup_power=0.8) if train.ema else None
        )
        average = self.ema.module if self.ema else self.learner
        self.averaged: Network = (
            average.network if isinstance(average, objectives.WithSecondHead) else average
        )
        self.members = {"network": self.learner, "averaged": average, "optimizer": optimizer}
        if accelerator.scaler:  # reset the scaler of float16 gradients, which Accelerate shares between folds
            accelerator.scaler.load_state_dict(torch.amp.GradScaler(accelerator.device.type).state_dict())
            self.members["scaler"] = accelerator.scaler
        self.progress = load_state(directory / STATE, self.members, fold.training)
        self.model, self.optimizer = accelerator.prepare(self.learner, optimizer)

    def run(self, deadline: float = math.inf) -> bool:
        """Train the remaining epochs, and write the fold's files.

        Writes `metrics.csv`, `valid.csv`, `cost.json` and finally `model.safetensors`; also
        `last.safetensors` for an experiment with `train.keep_last`. In `metrics.csv`, `train_loss` and
        `valid_loss` exclude `genre_loss` and `distil_loss`.

        Parameters
        ----------
        deadline : float
            Unix time in seconds. The training stops before an epoch that would probably end later, judged
            by the slowest recent epoch (at first, of the run's other folds). It then saves its state, and
            the EMA weights in `unfinished.safetensors`. Use it with a single process only, since several
            could disagree.

        Returns
        -------
        bool
            Whether the training is finished.

        Raises
        ------
        Diverged
            In all processes, when the loss is no longer finite.
        """
        progress, train = self.progress, self.experiment.train
        run, seed, fold = self.directory.parts[-3:]
        shown = {"desc": f"{run} {seed} {fold}", "disable": not self.accelerator.is_main_process}
        with tqdm(total=train.epochs, initial=progress.epoch, unit="epoch", **shown) as bar:
            while progress.epoch < train.epochs and not 0 < (train.patience or 0) <= progress.waited:
                if self._ends_after(deadline):
                    if progress.epoch and self.accelerator.is_main_process:
                        save_model(self.directory / UNFINISHED, self.averaged, self.averaged.state_dict())
                    self.accelerator.free_memory()
                    return False
                started = time.perf_counter()
                row = self._run_epoch()
                if progress.epoch % train.valid_every == 0 or progress.epoch == train.epochs:
                    row |= self._validate()
                    self._select(row)
                progress.metrics.append(row | {"seconds": time.perf_counter() - started})
                self._save()
                values = {f"{seed}/{fold}/{name}": value for name, value in row.items()}
                self.accelerator.log(values, row["epoch"])
                bar.update()
                bar.set_postfix({key: f"{row[key]:.3f}" for key in ("train_loss", "score") if key in row})
        self._finish()
        return True

    def _ends_after(self, deadline: float) -> bool:
        """Whether another epoch would probably end after the deadline."""
        latest = [row["seconds"] for row in self.progress.metrics[-_LATEST_EPOCHS:]]
        if not latest and deadline < math.inf:
            others = self.directory.parent.parent.glob("seed*/fold*/metrics.csv")
            latest = [pd.read_csv(path)["seconds"].tail(_LATEST_EPOCHS).max() for path in others]
        return time.time() + max(latest, default=0.0) > deadline

    def _run_epoch(self) -> dict[str, float]:
        """Train one epoch; return its row of metrics."""
        progress = self.progress
        frozen = progress.epoch < self.experiment.train.frozen_epochs
        # dropout, masks and mixup depend on seed, epoch and process alone
        entropy = [self.seed, progress.epoch, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
        self.loader.set_epoch(progress.epoch)  # Accelerate would otherwise use its own count
        self.learner.train()
        if frozen:  # also freezes the trunk's batch statistics
            self.network.trunk.eval()
        losses: list[dict[str, torch.Tensor]] = []
        # cuDNN has no backward pass for an LSTM in evaluation mode
        without_cudnn = frozen and self.experiment.model.kind == "lstm"
        with torch.backends.cudnn.flags(enabled=False) if without_cudnn else nullcontext():
            for batch in self.loader:
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rates[progress.update]
                losses.append(self._update(batch, frozen))
                if self.ema:
                    self.ema.update(self.learner, step=progress.update)
                progress.update += 1
        progress.epoch += 1
        row = {
            "epoch": progress.epoch,
            "updates": progress.update,
            "learning_rate": self.rates[progress.update - 1],
        }
        for name in losses[0]:
            mean = torch.stack([of_update[name] for of_update in losses]).mean()
            row[name] = self.accelerator.reduce(mean, "mean").item()
            if not np.isfinite(row[name]):
                raise Diverged(
                    f"{self.directory}: the loss is {row[name]} in epoch {progress.epoch}.",
                    "Lower --optim.learning-rate, or set --optim.clip-norm 1.",
                )
        return row

    def _update(self, batch: Batch, frozen: bool) -> dict[str, torch.Tensor]:
        """Update the weights once; return the losses before the update, named as in `metrics.csv`."""
        losses = self._losses(batch)
        loss, *second = losses.values()
        loss = loss + (self.experiment.loss.genre or self.experiment.distil.weight) * sum(second)
        self.accelerator.backward(loss)
        if frozen:
            for parameter in self.network.trunk.parameters():
                parameter.grad = None  # optimisers skip weights without a gradient
        if self.experiment.optim.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.experiment.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {name: value.detach() for name, value in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Compute each head's loss over the whole batch of all processes; mixup never mixes the two sets."""
        augment, mixed = self.experiment.augment, []
        for prefix in dict.fromkeys(prefix for prefix, _ in self.heads.values()):
            frames, lengths, values = (batch[prefix + name] for name in ("frames", "lengths", "values"))
            mixed.append(mixup(frames, lengths, values, augment.mixup, augment.mixup_bandwidth))
        of_frames, of_lengths, of_values = zip(*mixed, strict=True)
        outputs = self.model(torch.cat(of_frames), torch.cat(of_lengths))
        outputs = outputs if len(self.heads) > 1 else (outputs,)
        if len(of_values) < len(outputs):  # both heads have read the same excerpts
            of_values = of_values[0].split([each.shape[1] for each in outputs], dim=1)
        losses = {}
        for (name, (_, objective)), *pair in zip(self.heads.items(), outputs, of_values, strict=True):
            if self.accelerator.num_processes > 1:  # correlations can't be averaged over processes
                # the backward pass sums over processes; the wrapped model then averages the gradients
                pair = [torch.cat(all_gather(part.contiguous())) for part in pair]
            losses[name] = objective.loss(*pair)
        return losses

    def _validate(self) -> dict[str, float]:
        """Compute loss and scores on all validation clips."""
        valid = self.valid
        table = predict_clips(self.averaged, valid, self.accelerator, quick=True)
        predictions = table.loc[valid.ids].to_numpy()
        outputs = self.objective.outputs_of(torch.tensor(predictions, dtype=torch.float32))
        loss = self.objective.loss(outputs, torch.tensor(valid.values)).item()
        return {"valid_loss": loss, **self.objective.scores(valid.values, predictions)}

    def _select(self, row: dict[str, float]) -> None:
        """Keep the weights if this is the best epoch so far; by score, constant predictions never are."""
        progress, select = self.progress, self.experiment.train.select
        if select == "last":
            return
        by_score = select == "best-score"
        reached = row["score"] if by_score else -row["valid_loss"]
        if not (by_score and row["constant"]) and reached > progress.best:  # False for NaN
            progress.best, progress.waited = reached, 0
            weights = self.averaged.state_dict()
            progress.best_weights = {name: value.clone() for name, value in weights.items()}
        else:
            progress.waited += 1

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            # metrics first: after a kill between the two writes, the epoch is trained again
            write_table(self.directory / "metrics.csv", pd.DataFrame(self.progress.metrics))
            save_state(self.directory / STATE, self.members, self.progress)
        self.accelerator.wait_for_everyone()

    def _finish(self) -> None:
        accelerator, network, directory = self.accelerator, self.network, self.directory
        weights = self.progress.best_weights or self.averaged.state_dict()
        accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)  # removes the half-precision wrapper
        if self.experiment.train.keep_last and accelerator.is_main_process:
            save_model(directory / LAST, network, self.averaged.state_dict())
        network.load_state_dict(weights)
        predictions = predict_clips(network, self.valid, accelerator)
        if not np.isfinite(predictions.to_numpy()).all():  # no loss is computed after the last update
            raise Diverged(
                f"{directory}: the network predicts no finite numbers.", "Lower --optim.learning-rate."
            )
        cost = self._cost()
        if accelerator.is_main_process:
            write_predictions(directory / "valid.csv", predictions)
            write_cost(directory, cost)
            save_model(directory / "model.safetensors", network, weights)
        accelerator.wait_for_everyone()
        accelerator.free_memory()

    def _cost(self) -> Cost:
        """Time and memory of the training; all processes must call it."""
        device = self.accelerator.device
        on_device = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
        peaks = torch.tensor([[peak_memory(), on_device]], device=device)
        peak, peak_on_device = self.accelerator.gather(peaks).amax(dim=0).tolist()
        return Cost(
            seconds=sum(row["seconds"] for row in self.progress.metrics),
            device=str(device),
            threads=torch.get_num_threads(),
            processes=self.accelerator.num_processes,
            peak_memory_bytes=peak or None,
            peak_device_memory_bytes=peak_on_device or None,
            precision=self.accelerator.mixed_precision,
            updates=self.progress.update,
            parameters=sum(weights.numel() for weights in self.network.parameters()),
        )


def overfit_batch(
    network: Network, training: ClipSet, accelerator: Accelerator, n_updates: int = 400
) -> tuple[float, float, int]:
    """Sanity check: train on a single batch, without dropout, augmentation and mixup.

    Parameters
    ----------
    network : Network
        Trained in place.
    training : ClipSet
        The first batch of its first epoch is used.
    accelerator : Accelerator
        Device and precision.
    n_updates : int
        Maximum number of updates.

    Returns
    -------
    first, last : float
        Loss before the first update and after the last.
    updates : int
        Updates made.
    """
    experiment = network.card.experiment
    objective = objectives.make_objective(experiment, network.card, training)
    excerpts = TrainingExcerpts(training, experiment.data, experiment.excerpt, seed=0)
    batch = next(iter(batches(excerpts, experiment.train.batch_size)))
    frames, lengths, values = (batch[name].to(accelerator.device) for name in ("frames", "lengths", "values"))
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout) or module is network.augmentation:
            module.eval()
    model, optimizer = accelerator.prepare(network, make_optimizer(network, experiment.optim))
    losses: list[float] = []
    while len(losses) <= n_updates:
        loss = objective.loss(model(frames, lengths), values)
        losses.append(loss.item())
        if losses[-1] < NEAR_ZERO:
            break
        accelerator.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.free_memory()
    return losses[0], losses[-1], len(losses) - 1
