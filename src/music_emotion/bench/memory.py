"""The memory that the data of a training take: few arrays beside a whole competition set."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from music_emotion.bench.processes import peak_mb, run_train
from music_emotion.config import N_CHROMA, N_MELS
from music_emotion.datasets.layout import array_name, set_name
from music_emotion.files import InputError

_TEST_SHARE = 0.25  # of the competition's 1,497 clips, 375 are for test
_BYTES_PER_FRAME = 2 * (N_MELS + N_CHROMA)  # half precision, in the arrays as in the store
# The default, but shorter and with a small network, whose own memory is not what is asked for.
_EXPERIMENT = """
name = "memory"
seeds = [0]
[model]
widths = [4, 8]
convolutions = 1
[train]
epochs = 1
"""


def memory(*, arrays: int = 5300, frames: int = 1293, few: int = 60, folder: Path | None = None) -> None:
    """Resident memory of a training on a whole set less that on few arrays of it.

    The set is simulated in the competition's layout. A process packs it, trains the first fold of the
    default (with a small network) for an epoch, validates, and predicts the test split; its largest
    resident memory counts.

    Parameters
    ----------
    arrays
        Size of the set; the competition has 5,331 of both kinds.
    frames
        Length of its longest array.
    few
        Size of the set beside it, whose memory is taken to be all but that of the data.
    folder
        Where a temporary folder is made for the sets; the system's own place by default.
    """
    peaks = {}
    for n in (few, arrays):
        with TemporaryDirectory(dir=folder, prefix="bench-memory-") as temporary:
            _check_space(Path(temporary), n, frames)
            write_set(Path(temporary), n, frames)
            peaks[n] = training_peak_mb(Path(temporary))
        print(f"{n} arrays: {peaks[n]:.0f} MB at most")
    packed_mb = arrays * frames * _BYTES_PER_FRAME / 1e6
    print(f"The {arrays} arrays are {packed_mb:.0f} MB on disk in half precision.")
    print(f"data_memory_mb {peaks[arrays] - peaks[few]:.0f} arrays {arrays}")


def _check_space(folder: Path, arrays: int, frames: int) -> None:
    needed, free = 2 * arrays * frames * _BYTES_PER_FRAME, shutil.disk_usage(folder).free
    if needed > 0.95 * free:  # labels, predictions and weights take a little, too
        raise InputError(
            f"A set of {arrays} arrays and its store take {needed / 1e9:.1f} GB, but {folder.parent} has "
            f"{free / 1e9:.1f} GB free. Give another --folder, or fewer --arrays."
        )
    print(f"{arrays} arrays and their store take {needed / 1e9:.1f} GB in {folder} for a while.")


def write_set(root: Path, arrays: int, frames: int) -> None:
    """Write an emotion set of random arrays, a quarter of them for test."""
    rng = np.random.default_rng(0)
    n_test = round(_TEST_SHARE * arrays)
    labels = ["Id,valence,energy,danceability"]
    for clip_id in tqdm(range(arrays), desc="simulate", unit="array"):
        split = "test" if clip_id < n_test else "train"
        path = root / set_name("emotion", "full") / split / array_name(clip_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        n_frames = frames - int(rng.integers(0, 3))
        scale = np.repeat(np.array([-80, 1], np.float32), [N_MELS, N_CHROMA])[:, None]
        noise = rng.random((N_MELS + N_CHROMA, n_frames), np.float32)
        np.save(path, (scale * noise).astype(np.float16))
        if split == "train":
            labels.append(",".join([str(clip_id), *(f"{value:.3f}" for value in rng.random(3))]))
    (root / set_name("emotion", "full") / "train_labels.txt").write_text("\n".join(labels) + "\n")


def training_peak_mb(root: Path) -> float:
    """Pack and train the set below a folder in a process of its own; its largest resident memory."""
    (root / "memory.toml").write_text(_EXPERIMENT)
    folders = {"--data.root": root, "--data.stores": root / "stores", "--runs": root / "runs"}
    flags = [str(word) for flag in folders.items() for word in flag]
    peaks: list[float] = []
    run_train(
        root / "memory.toml",
        [*flags, "--only-fold", "0"],
        watch=lambda process: peaks.append(peak_mb(process)),
    )
    return max(peaks)
