"""Compare the training times of a fast and a slow experiment, and their out-of-fold scores."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import pandas as pd
import torch
from cyclopts import Parameter

from music_emotion.bench.memory import run_train
from music_emotion.config import Experiment, build_experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.evaluation.intervals import resampled_scores
from music_emotion.evaluation.scores import mean_table, read_folds, summary
from music_emotion.experiment_files import lay_over, read_differences
from music_emotion.files import InputError
from music_emotion.runs import read_cost


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
    resampled, headlines, seconds = [], [], []
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
        headlines.append(pooled["headline"]["value"])
        seconds.append(took)
    ahead = resampled[1].difference(resampled[0], targets)
    print(summary("second less first", {"pooled": {"headline": ahead}}))
    (public, ours), (slow_seconds, fast_seconds) = headlines, seconds
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
