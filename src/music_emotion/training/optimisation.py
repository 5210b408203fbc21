"""The optimiser, and the learning rate of every update."""

import numpy as np
from timm.optim import create_optimizer_v2, list_optimizers
from torch import nn
from torch.optim import Optimizer

from music_emotion.config import OptimSection
from music_emotion.files import InputError, nearest

_START = 1 / 25  # the warm-up starts at a 25th of the peak learning rate
_END = 1e-4  # one-cycle ends at a 10,000th of its initial learning rate


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
    """Compute the learning rate of every update.

    A list has no state to save. Accelerate would also step a scheduler of torch once per process.

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
    is_cycle, updates = optim.schedule == "one-cycle", np.arange(n_updates)
    last = n_updates - is_cycle  # "cosine" would reach 0 only one update after the last
    warmup = min(round(optim.warmup * n_updates), last)
    rise, fall = updates / max(warmup, 1), (updates - warmup) / max(last - warmup, 1)
    if is_cycle:
        rise = (1 - np.cos(np.pi * rise)) / 2
    start, end = _START, _START * _END if is_cycle else 0.0
    rising, falling = start + (1 - start) * rise, end + (1 - end) * (1 + np.cos(np.pi * fall)) / 2
    return (optim.learning_rate * np.where(updates < warmup, rising, falling)).tolist()
