"""The optimiser, and the learning rate over all updates, counted by ourselves.

Schedules are not prepared by Accelerate: a prepared one steps once per process.
"""

import math
from collections.abc import Callable

from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from music_emotion.config import OptimSection
from music_emotion.files import InputError, nearest

_START_DIVISOR = 25.0  # one-cycle starts at a 25th of the largest rate
_END_DIVISOR = 1e4  # and ends at a 10,000th of where it started


def make_optimizer(network: nn.Module, optim: OptimSection) -> Optimizer:
    """Any optimiser timm knows; biases and normalisation are decayed only if asked for.

    Raises
    ------
    InputError
        For a name timm does not know.
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


def make_schedule(optimizer: Optimizer, optim: OptimSection, n_updates: int) -> Callable[[int], float]:
    """A function that sets the learning rate for an update and returns it.

    Being a function of the update's number alone, it needs no state to go on after an
    interruption.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its groups' ``lr`` is set.
    optim : OptimSection
        Schedule, largest rate, share of warm-up.
    n_updates : int
        Updates of the whole training.

    Returns
    -------
    callable
        Update number, from 0, to learning rate.

    References
    ----------
    One-cycle: Smith and Topin, 2019, "Super-convergence", with cosine ramps.
    """
    warmup = round(optim.warmup * n_updates)
    cosine = CosineLRScheduler(
        optimizer,
        t_initial=max(n_updates - warmup, 1),
        warmup_t=warmup,
        warmup_lr_init=optim.learning_rate / _START_DIVISOR,
        warmup_prefix=True,
        t_in_epochs=False,
    )

    def set_rate(update: int) -> float:
        """Set the rate of one update."""
        match optim.schedule:
            case "cosine":
                cosine.step_update(update)
                return optimizer.param_groups[0]["lr"]
            case "one-cycle":
                rate = _one_cycle(update, n_updates, warmup, optim.learning_rate)
            case "constant":
                rate = optim.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = rate
        return rate

    return set_rate


def _one_cycle(update: int, n_updates: int, warmup: int, largest: float) -> float:
    start = largest / _START_DIVISOR
    if update < warmup:
        return _ramp(start, largest, update / warmup)
    return _ramp(largest, start / _END_DIVISOR, (update - warmup) / max(n_updates - 1 - warmup, 1))


def _ramp(start: float, end: float, share: float) -> float:
    """Half a cosine from start to end."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
