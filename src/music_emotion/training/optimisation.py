"""The optimiser, and the learning rate of every update."""

import torch
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR

from music_emotion.config import OptimSection
from music_emotion.files import InputError, nearest

_START_DIVISOR = 25.0  # the warm-up starts at a 25th of the peak learning rate
_END_DIVISOR = 1e4  # one-cycle ends at a 10,000th of its initial learning rate


def make_optimizer(network: nn.Module, optim: OptimSection) -> Optimizer:
    """Make any timm optimiser; weight decay applies to biases and normalisation only with `decay_all`.

    Raises
    ------
    InputError
        For a name that timm does not have.
    """
    known = [str(name) for name in list_optimizers()]
    if optim.name not in known:
        raise InputError(f"timm has no optimiser '{optim.name}'; {nearest(optim.name, known)}")
    return create_optimizer_v2(
        network,
        optim.name,
        lr=optim.learning_rate,
        momentum=optim.momentum,
        weight_decay=optim.weight_decay,
        filter_bias_and_bn=not optim.decay_all,
    )


def learning_rates(optim: OptimSection, n_updates: int) -> list[float]:
    """Compute the learning rate of every update with torch's schedulers.

    A list has no state to save. Accelerate would also step a scheduler once per process.

    Parameters
    ----------
    optim : OptimSection
        Schedule, peak learning rate and share of warm-up.
    n_updates : int
        Updates of the whole training.

    Returns
    -------
    list of float
        One learning rate per update.

    References
    ----------
    One-cycle: Smith and Topin, 2019, "Super-convergence", with cosine ramps.
    """
    if optim.schedule == "constant":
        return [optim.learning_rate] * n_updates
    probe = SGD([torch.zeros(1, requires_grad=True)], optim.learning_rate)
    schedule = _schedule(probe, optim, n_updates)
    rates = []
    for update in range(n_updates):
        if update:
            probe.step()
            schedule.step()
        rates.append(float(probe.param_groups[0]["lr"]))
    return rates


def _schedule(probe: Optimizer, optim: OptimSection, n_updates: int) -> LRScheduler:
    warmup = round(optim.warmup * n_updates)
    if optim.schedule == "one-cycle":
        start = optim.learning_rate / _START_DIVISOR
        if not warmup or n_updates == 1:
            return CosineAnnealingLR(probe, max(n_updates - 1, 1), eta_min=start / _END_DIVISOR)
        return OneCycleLR(
            probe,
            optim.learning_rate,
            total_steps=n_updates,
            pct_start=min((warmup + 1) / n_updates, 1.0),  # the update after the warm-up has the peak rate
            cycle_momentum=False,
            div_factor=_START_DIVISOR,
            final_div_factor=_END_DIVISOR,
        )
    decay = CosineAnnealingLR(probe, max(n_updates - warmup, 1))
    if not warmup:
        return decay
    return SequentialLR(probe, [LinearLR(probe, 1 / _START_DIVISOR, total_iters=warmup), decay], [warmup])
