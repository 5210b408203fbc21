"""Set up Accelerate: device, processes, precision and trackers."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import is_initialized
from accelerate.tracking import get_available_trackers
from accelerate.utils import DataLoaderConfiguration, LoggerType

from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.experiment_files import dotted
from music_emotion.failures import collecting
from music_emotion.files import InputError, nearest, read_object


def make_accelerator(tracker: str | None = None, runs: Path = Path("runs")) -> Accelerator:
    """Make an Accelerator with the launcher's devices, processes and precision.

    Without a launcher, training uses bfloat16 on a CPU that supports it natively.

    Parameters
    ----------
    tracker : str or None
        Any installed tracker of Accelerate, such as "tensorboard".
    runs : Path
        Folder of all runs; trackers write their files to the directory of each run.

    Raises
    ------
    InputError
        When the tracker is not installed, or Accelerate sees fewer processes than were started.
    """
    if tracker is not None and tracker not in map(str, get_available_trackers()):
        if tracker not in (known := [str(each) for each in LoggerType]):
            raise InputError(f"There is no tracker '{tracker}'; {nearest(tracker, known)}")
        raise InputError(f"The tracker '{tracker}' is not installed. Try pip install {tracker}.")
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION")
    # AVX512-BF16 or AMX; without them PyTorch emulates bfloat16, slower than float32
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    # a state that another Accelerator has made keeps its precision
    if precision is None and not torch.cuda.is_available() and has_bf16 and not is_initialized():
        precision = "bf16"
    # Processes split each batch, so that the number of updates is the same for any number of processes.
    loading = DataLoaderConfiguration(split_batches=True)
    accelerator = Accelerator(
        mixed_precision=precision, dataloader_config=loading, log_with=tracker, project_dir=runs
    )
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked != accelerator.num_processes:
        raise InputError(
            f"{asked} processes were started, but Accelerate sees {accelerator.num_processes}: each would "
            f"train alone. On a CPU, set ACCELERATE_USE_CPU=true and start them with "
            f"python -m torch.distributed.run."
        )
    return accelerator


@contextmanager
def tracking(accelerator: Accelerator, directory: Path, experiment: Experiment) -> Iterator[None]:
    """Open the Accelerator's trackers, if any, for the run in a directory; log its settings and results.

    The training loop logs every epoch as ``seed0/fold0/train_loss`` and so on; at the end come scores, such
    as ``pooled/valence``, and the pictures in the directory. TensorBoard writes its files to the run's
    directory, where ``tensorboard --logdir runs`` finds them.
    """
    if accelerator.log_with:
        settings = dotted(experiment_to_dict(experiment))
        plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}
        accelerator.init_trackers(directory.name, plain)
    try:
        yield
        if accelerator.trackers and (directory / "scores.json").exists():
            from matplotlib.image import imread  # slow to import

            pooled = read_object(directory / "scores.json").get("pooled") or {}
            accelerator.log({f"pooled/{name}": score["value"] for name, score in pooled.items()}, 0)
            failures = dict[str, str]()
            for tracker in [each for each in accelerator.trackers if hasattr(each, "log_images")]:
                with collecting(failures, f"logging pictures to {tracker.name}"):
                    shape = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                    images = {path.stem: imread(path)[None, :, :, :3] for path in directory.glob("*.png")}
                    tracker.log_images(images, 0, **shape)
            for reason in failures:
                print(f"warning: {reason} Its numbers are written.", file=sys.stderr)
    finally:  # not `end_training`, which would end the process group that other runs of a study need
        for tracker in accelerator.trackers:
            tracker.finish()
        accelerator.trackers = []
