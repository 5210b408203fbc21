"""Peak memory of processes, and the memory that a training needs for its data."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from tqdm import tqdm

from music_emotion.config import N_CHROMA, N_MELS
from music_emotion.datasets.layout import array_name, set_name
from music_emotion.files import InputError

_TRAIN = (sys.executable, "-m", "music_emotion", "train")
_TEST_SHARE = 0.25  # of the competition's 1,497 clips, 375 are for test
_BYTES_PER_FRAME = 2 * (N_MELS + N_CHROMA)  # half precision, in the arrays as in the store
# the default experiment, shortened and with a small network
_FLAGS = "--name memory --seeds 0 --model.widths 4 8 --model.convolutions 1 --train.epochs 1 --only-fold 0"


def peak_mb(process: int) -> float:
    """Peak resident memory of a running process, in MB; 0 once it has ended.

    Pages read from memory-mapped files count. Outside Linux it is the current memory, so poll often.
    """
    try:
        if not Path("/proc/self/status").exists():
            return psutil.Process(process).memory_info().rss / 1e6
        # not ru_maxrss, which starts at the parent's peak
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    except (FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        return 0.0


def run_train(experiment: Path, flags: Sequence[str], environment: Mapping[str, str]) -> float:
    """Train in a process of its own, and wait for its end.

    Parameters
    ----------
    experiment : Path
        Path of an experiment file, or name of a built-in one.
    flags : sequence of str
        For `music-emotion train`, such as --data.root data.
    environment : mapping of str to str
        Variables to add to this process's own.

    Returns
    -------
    float
        Its peak resident memory, in MB.

    Raises
    ------
    InputError
        When the training fails. The training prints the reason.
    """
    command, peak = [*_TRAIN, str(experiment), *flags], 0.0
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                peak = max(peak, peak_mb(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.02)
        finally:
            process.kill()  # after an interruption; a process that has ended ignores it
    if process.returncode:
        raise InputError(f"The training failed with status {process.returncode}: {' '.join(command)}")
    return peak


def memory(*, arrays: int = 5300, frames: int = 1293, few: int = 60, folder: Path | None = None) -> None:
    """Peak memory of a training on a whole set, minus the peak on a small set.

    Sets are simulated in the competition's layout. A process packs the set and trains the first fold of the
    default experiment for one epoch, with a small network. It validates and predicts the test split.

    Parameters
    ----------
    arrays
        Number of arrays of the set; the competition has 5,331 in its emotion and genre sets.
    frames
        Frames of its longest array.
    few
        Number of arrays of the small set, which measures the memory without data.
    folder
        Parent of the temporary folder for the sets; the system's by default.
    """
    peaks = {}
    for n in (few, arrays):
        with TemporaryDirectory(dir=folder, prefix="bench-memory-") as temporary:
            write_set(Path(temporary), n, frames)
            places = {"--data.root": "", "--data.stores": "stores", "--runs": "runs"}
            flags = [f"{flag}={Path(temporary, place)}" for flag, place in places.items()]
            peaks[n] = run_train(Path("multitask"), [*flags, *_FLAGS.split()], {})
        print(f"{n} arrays: {peaks[n]:.0f} MB at most")
    print(f"The {arrays} arrays are {arrays * frames * _BYTES_PER_FRAME / 1e6:.0f} MB in half precision.")
    print(f"data_memory_mb {peaks[arrays] - peaks[few]:.0f} arrays {arrays}")


def write_set(root: Path, arrays: int, frames: int) -> None:
    """Write an emotion set of random arrays, a quarter of them for test.

    Raises
    ------
    InputError
        When the disk has no space for the arrays and the store that a training packs them into.
    """
    needed, free = 2 * arrays * frames * _BYTES_PER_FRAME, shutil.disk_usage(root).free
    if needed > 0.95 * free:  # labels, predictions and weights need some space too
        raise InputError(
            f"A set of {arrays} arrays and its store take {needed / 1e9:.1f} GB, but {root.parent} has "
            f"{free / 1e9:.1f} GB free. Give another --folder, or fewer --arrays."
        )
    rng, folder = np.random.default_rng(0), root / set_name("emotion", "full")
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    scale = np.repeat(np.array([-80, 1], np.float32), [N_MELS, N_CHROMA])[:, None]
    labels = ["Id,valence,energy,danceability\n"]
    for clip_id in tqdm(range(arrays), desc="simulate", unit="array"):
        split = "test" if clip_id < round(_TEST_SHARE * arrays) else "train"
        n_frames = frames - int(rng.integers(0, 3))
        array = (scale * rng.random((N_MELS + N_CHROMA, n_frames), np.float32)).astype(np.float16)
        np.save(folder / split / array_name(clip_id), array)
        if split == "train":
            labels.append("{},{:.3f},{:.3f},{:.3f}\n".format(clip_id, *rng.random(3)))
    (folder / "train_labels.txt").write_text("".join(labels))
