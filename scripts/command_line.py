"""What every script does at its edge: read file and flags, start Accelerate, turn errors into sentences."""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter, validators
from pydantic import ValidationError

from music_emotion.config import Experiment, describe, read_differences
from music_emotion.files import InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

_DISK_REFUSALS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT),  # a file for a folder, or the reverse
    *(errno.EFBIG, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP),
}
Share = Annotated[float, Parameter(validator=validators.Number(gte=0, lte=1))]
ExperimentFlags = Annotated[Experiment, Parameter(name="*")]


def run(command: Callable[..., Any] | None = None, commands: Sequence[Callable[..., Any]] = ()) -> None:
    """Run a function as a command line program, or one of several by its name.

    A parameter `file` names an experiment file, whose differences lie between the defaults and
    the flags. Exit status 0 when it returns, 1 for wrong flags, 2 for an `InputError` or a full or
    closed disk (printed as a sentence), 130 for Ctrl-C.
    """
    app = cyclopts.App(
        default_command=command,
        help_format="plaintext",
        config=_read_experiment_file,
        default_parameter=Parameter(consume_multiple=True, negative_iterable=""),
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
    )
    for named in commands:
        app.command(named)
    try:
        app(sys.argv[1:])
    except InputError as error:
        _leave(f"error: {error}", 2)
    except cyclopts.CycloptsError as error:
        if isinstance(error.__cause__, ValidationError):
            _leave(f"error: {describe(error.__cause__, 'command line')}", 2)
        _leave(f"error: {error} See --help.", 1)
    except OSError as error:
        if error.errno not in _DISK_REFUSALS:
            raise
        place = f" ({error.filename})" if error.filename else ""
        _leave(
            f"error: {error.strerror}{place}. Free some space, or give a place that can be written to; "
            f"what was finished is kept.",
            2,
        )
    except KeyboardInterrupt as interrupt:
        kept = str(interrupt) or "what was finished is kept"
        _leave(f"interrupted: {kept}; the same command goes on.", 130)


def _leave(sentence: str, status: int) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(status)


def _read_experiment_file(app: Any, commands: Any, arguments: cyclopts.ArgumentCollection) -> None:
    """Give cyclopts the differences of the experiment file as if they were flags not given."""
    for argument in arguments:
        if argument.name in {"FILE", "--file"} and argument.tokens:
            path = Path(argument.tokens[0].value)
            differences = cyclopts.config.Dict(
                read_differences(path), source=str(path), use_commands_as_keys=False
            )
            differences(app, commands, arguments)
            return


def make_accelerator() -> "Accelerator":
    """The launcher's devices, processes and precision.

    Started without the launcher, a CPU that multiplies bfloat16 natively uses it.

    Raises
    ------
    InputError
        When the launcher was asked for more processes than Accelerate made.
    """
    # here and not above, since scripts that do not train need half a GB less without
    import torch
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

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
    import torch

    # AVX512-BF16 and AMX; elsewhere PyTorch emulates it, slower than float32
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
