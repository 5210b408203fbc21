"""Kaggle's devices: one process for each GPU, or one for the CPU."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from music_emotion.files import InputError


def precision() -> str:
    """Half precision where the GPU computes it fast: from Volta on, so on the T4."""
    return "fp16" if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0) else "no"


def device_names() -> list[str]:
    """The GPUs, or else the CPU with its cores."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return gpus or [f"CPU, {os.cpu_count()} cores"]


def run_shares(work: Callable[[list[str]], None], arguments: Callable[[int, int], list[str]]) -> None:
    """Do a work once, or, where there are several GPUs, once for each of them at the same time.

    Shares don't depend on each other, so a process for each is simpler than Accelerate's own: it sees
    one device, and when it fails the others do not hang.

    Parameters
    ----------
    work : callable
        The function `main` of a module that calls it when it is run with ``python -m``; takes a
        command line.
    arguments : callable
        Takes the number of the share and how many there are; gives the share's command line.

    Raises
    ------
    InputError
        When a share failed, after all have ended.
    """
    n_gpus = torch.cuda.device_count()
    if n_gpus < 2:
        work(arguments(0, 1))
        return
    processes = []
    for gpu in range(n_gpus):
        environment = child_environment() | {"CUDA_VISIBLE_DEVICES": str(gpu)}
        command = [sys.executable, "-m", work.__module__, *arguments(gpu, n_gpus)]
        processes.append(subprocess.Popen(command, env=environment))
    failed = [gpu for gpu, process in enumerate(processes) if process.wait() != 0]
    if failed:
        raise InputError(f"The processes of GPUs {failed} failed; their own messages are above.")


def child_environment() -> dict[str, str]:
    """This process's, in which a child finds this package where it was installed for the kernel alone."""
    package = str(Path(__file__).parents[2])
    paths = [package, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
