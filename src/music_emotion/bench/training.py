"""Benchmarks of trainings: time to reach a score, time on CPU and GPU, and the memory that the data takes."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import psutil
import torch
from cyclopts import Parameter
from tqdm import tqdm

from music_emotion.config import N_CHROMA, N_MELS, Experiment, build_experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.layout import array_name, set_name
from music_emotion.evaluation.intervals import resampled_scores
from music_emotion.evaluation.scores import mean_table, read_folds, summary
from music_emotion.experiment_files import lay_over, read_differences
from music_emotion.files import InputError
from music_emotion.runs import read_cost

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


def train(
    slow: Path,
    fast: Path,
    *,
    epochs: int = 0,
    folds: tuple[int, ...] = (),
    headline: tuple[str, ...] = (),
    precision: Literal["no", "bf16", "fp16"] = "no",
    out: Path = Path("build/bench-train"),
) -> None:
    """Train two experiments in turns: how much sooner does the fast one reach the slow one's score?

    The slow experiment, such as the public CNN, trains as its file says, with early stopping. After an
    interruption, the same command continues and repeats no finished work.

    Parameters
    ----------
    slow
        An experiment, by name or path.
    fast
        Another experiment with the same clips, seeds and folds.
    epochs
        Epochs of the fast experiment, with its whole schedule; 0 for its own number.
    folds
        Folds to train; all by default.
    headline
        The targets whose mean Spearman correlation the fast experiment has to reach; all by default.
    precision
        Mixed precision of the slow experiment, as Accelerate names it. The default is float32, as in the
        public CNN. The fast one trains in its usual precision.
    out
        Folder of the runs.
    """
    one, other = _experiment(slow), _experiment(fast, epochs)
    truth = load_clip_set(other.data, "emotion", "train").truth
    targets = list(headline or truth.columns)
    if one.name == other.name:
        raise InputError(f"{slow} and {fast} are both named '{one.name}'. Rename one.")
    if (one.seeds, one.folds.n) != (other.seeds, other.folds.n):
        raise InputError(
            f"{slow} has {one.folds.n} folds of the seeds {one.seeds}, but {fast} {other.folds.n} "
            f"of {other.seeds}. Give both the same."
        )
    if beyond := sorted(set(folds) - set(range(one.folds.n))):
        raise InputError(f"--folds names {beyond[0]}; the folds are 0 to {one.folds.n - 1}.")
    if unknown := [name for name in targets if name not in truth]:
        raise InputError(f"--headline names '{unknown[0]}'; the targets are {', '.join(truth.columns)}.")
    chosen = sorted(set(folds)) or list(range(one.folds.n))
    for fold in chosen:
        _train_fold(slow, one, out, fold, {"ACCELERATE_MIXED_PRECISION": precision})
        _train_fold(fast, other, out, fold, {})
        ids, other_ids = (_predictions(out / each.name, [fold]).index for each in (one, other))
        if not ids.equals(other_ids):
            raise InputError(
                f"Fold {fold} of {slow} validates on other clips than that of {fast}. Give both the same "
                f"data and folds.groups."
            )
    _report(out, (one, other), chosen, targets, truth)


def _experiment(file: Path, epochs: int = 0) -> Experiment:
    differences = read_differences(file)
    experiment = build_experiment(differences, str(file))
    if experiment.is_classical or experiment.has_repeats or experiment.task != "emotion":
        raise InputError(f"{file} trains no folds of networks that predict targets. Give one that does.")
    if not epochs:
        return experiment
    shorter = {"name": f"{experiment.name}-{epochs}-epochs", "train": {"epochs": epochs}}
    return build_experiment(lay_over(differences, shorter), f"{file} with --epochs {epochs}")


def _train_fold(
    file: Path, experiment: Experiment, out: Path, fold: int, environment: dict[str, str]
) -> None:
    """Train a fold of every seed, unless it is finished."""
    flags = ["--runs", str(out), "--name", experiment.name, "--train.epochs", str(experiment.train.epochs)]
    run_train(file, [*flags, "--only-fold", str(fold)], environment)


def _predictions(run: Path, folds: Sequence[int]) -> pd.DataFrame:
    """Predictions of the validation clips of some folds, averaged over seeds."""
    seeds = read_folds(run, "valid").values()
    return mean_table([tables[fold] for tables in seeds for fold in folds])


def _report(
    out: Path, pair: Sequence[Experiment], folds: Sequence[int], targets: list[str], truth: pd.DataFrame
) -> None:
    """Print scores and times of both; the last line names the winner."""
    print(f"folds {', '.join(map(str, folds))}, in turns; headline: mean of {', '.join(targets)}")
    resampled, seconds = [], []
    for experiment in pair:
        run = out / experiment.name
        drawn = resampled_scores("emotion", truth, _predictions(run, folds))
        pooled = {name: drawn.interval([name]) for name in truth} | {"headline": drawn.interval(targets)}
        marks = {"selected_on_validation": experiment.selects_on_validation}
        print(summary(experiment.name, {"pooled": pooled} | marks))
        places = [place for fold in folds for place in sorted(run.glob(f"seed*/fold{fold}"))]
        costs = pd.DataFrame([read_cost(place) for place in places])
        took, excerpts = costs["seconds"], costs["updates"].sum() * experiment.train.batch_size
        print(
            f"  {took.mean():.1f} s per fold [{took.min():.1f}, {took.max():.1f}], n={len(took)}, training "
            f"and validation; {excerpts / took.sum():.1f} excerpts trained per second"
        )
        resampled.append(drawn)
        seconds.append(took)
    ahead = resampled[1].difference(resampled[0], targets)
    print(summary("second less first", {"pooled": {"headline": ahead}}))
    public, ours = (each.values[targets].mean() for each in resampled)
    slow_seconds, fast_seconds = seconds
    ratios = slow_seconds / fast_seconds
    print(f"time ratio of a fold: {ratios.mean():.2f}, from {ratios.min():.2f} to {ratios.max():.2f}")
    print(
        f"time_ratio {slow_seconds.sum() / fast_seconds.sum():.2f} n {len(ratios)} ours {ours:.3f} "
        f"public {public:.3f} reached {'yes' if ours >= public else 'no'}"
    )


def devices(
    experiment: Path, *flags: Annotated[str, Parameter(allow_leading_hyphen=True)], epochs: int = 6
) -> None:
    """Time per epoch of an experiment's first fold on the CPU and, where there is one, on the GPU.

    Parameters
    ----------
    experiment
        Name of a built-in experiment, or path of an experiment file.
    flags
        For `music-emotion train`, such as --data.root data.
    epochs
        Number of timed epochs, after an untimed first one.
    """
    medians = {}
    for device in ("CPU", "GPU") if torch.cuda.is_available() else ("CPU",):
        environment = {"ACCELERATE_USE_CPU": "true"} if device == "CPU" else {}
        with TemporaryDirectory() as runs:
            own = ["--runs", runs, "--seeds", "0", "--only-fold", "0", "--train.epochs", str(epochs + 1)]
            run_train(experiment, [*flags, *own], environment)
            tables = [pd.read_csv(path) for path in Path(runs).glob("*/seed*/fold0/metrics.csv")]
        if not tables:
            raise InputError(f"{experiment} has no epochs to time. Give one that trains a network.")
        seconds = tables[0]["seconds"].iloc[1:]
        medians[device] = seconds.median()
        print(
            f"{device}: {seconds.median():.3f} s per epoch [{seconds.min():.3f}, {seconds.max():.3f}], "
            f"validation included, n={len(seconds)}"
        )
    ratio = f"cpu_over_gpu {medians['CPU'] / medians['GPU']:.2f}" if "GPU" in medians else ""
    print(ratio or "There is no GPU here.")


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
