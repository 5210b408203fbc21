"""Devices, processes and precision, as Accelerate and its launcher have them."""

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from music_emotion.files import InputError


def make_accelerator() -> Accelerator:
    """The launcher's devices, processes and precision.

    Started without the launcher, a CPU that multiplies bfloat16 natively uses it.

    Raises
    ------
    InputError
        When the launcher was asked for more processes than Accelerate made.
    """
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION")
    if precision is None and not torch.cuda.is_available() and _cpu_has_bf16():
        precision = "bf16"
    # One batch is shared out, so that the number of updates does not depend on the processes.
    loading = DataLoaderConfiguration(split_batches=True)
    accelerator = Accelerator(mixed_precision=precision, dataloader_config=loading)
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != accelerator.num_processes:
        raise InputError(
            f"{asked} processes were started, but Accelerate sees {accelerator.num_processes}: each would "
            f"train alone. On a CPU, set ACCELERATE_USE_CPU=true and start them with "
            f"python -m torch.distributed.run."
        )
    return accelerator


def _cpu_has_bf16() -> bool:
    # AVX512-BF16 and AMX; elsewhere PyTorch emulates it, slower than float32
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
