"""Overfit one batch: the first check of any network, loss and data."""

import torch
from accelerate import Accelerator
from torch import nn

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import TrainingExcerpts, batches
from music_emotion.models.network import Network
from music_emotion.training.objectives import Objective
from music_emotion.training.optimisation import make_optimizer

NEAR_ZERO = 0.01  # of a loss near 1 for standardised targets, above 1 for classes


def overfit_batch(
    network: Network, objective: Objective, training: ClipSet, accelerator: Accelerator, n_updates: int = 400
) -> tuple[float, float, int]:
    """Train on one batch alone, without dropout, augmentation and mixup.

    Parameters
    ----------
    network : Network
        Trained in place.
    objective : Objective
        Label smoothing would keep the loss above zero, so give one without.
    training : ClipSet
        The first batch of its first epoch is used.
    accelerator : Accelerator
        Device and precision.
    n_updates : int
        Largest number of updates.

    Returns
    -------
    first, last : float
        Loss before the first update and at the end.
    updates : int
        Updates made.
    """
    experiment = network.card.experiment
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
