"""Training commands: genre networks, experiments, and studies of many settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from accelerate import Accelerator
from cyclopts import Parameter, validators

from music_emotion.commands import ExperimentFlags, experiment_of, given_settings
from music_emotion.config import Experiment
from music_emotion.evaluation.shift import check_shift
from music_emotion.experiment_files import dotted
from music_emotion.files import InputError
from music_emotion.plots import draw_scores
from music_emotion.studies import BEST, run_study
from music_emotion.study_file import read_study
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment
from music_emotion.training.loop import NEAR_ZERO, overfit_batch


@Parameter(name="*")
@dataclass(frozen=True)
class TrainingFlags:
    """Options of a training that are not settings of its experiment.

    Attributes
    ----------
    runs
        Folder of all runs.
    overfit_batch
        Only check whether the network can overfit one batch.
    check_shift
        Only check whether a classifier can tell test clips from training clips, and by which
        statistics. If it can, test scores may differ from the out-of-fold score.
    tracker
        Log every epoch to a tracker of Accelerate, such as tensorboard.
    jobs
        Number of folds to train at once on a CPU, each with one thread. 1 trains one after the other, with
        all threads.
    """

    runs: Path = Path("runs")
    overfit_batch: bool = False
    check_shift: bool = False
    tracker: str | None = None
    jobs: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1


def pretrain(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    flags: TrainingFlags = TrainingFlags(),
) -> None:
    """Train genres, or embeddings without labels; emotion experiments start from it with --model.trunk.

    Parameters
    ----------
    file
        Name of a built-in experiment, such as pretrain or distil, or path of an experiment file.
    experiment
        Settings in place of the file's.
    flags
        Options that are no settings of the experiment.
    """
    experiment = experiment_of(file, experiment)
    remedy = "Use `music-emotion train`."
    if experiment.task != "genre" and experiment.distil.labels:
        raise InputError(f"{file} has the task '{experiment.task}'; pretraining needs 'genre'. {remedy}")
    if experiment.has_repeats:
        raise InputError(f"{file} tests on parts of the training split, so it is no pretraining. {remedy}")
    _train(experiment, flags, pretraining=True)


def train(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    only_fold: int | None = None,
    flags: TrainingFlags = TrainingFlags(),
) -> None:
    """Train all folds or repeats of an experiment, and score it.

    Parameters
    ----------
    file
        Name of a built-in experiment, such as multitask, or path of an experiment file.
    experiment
        Settings in place of the file's.
    only_fold
        Train only this fold of every seed.
    flags
        Options that are no settings of the experiment.
    """
    experiment = experiment_of(file, experiment)
    if not experiment.distil.labels:
        raise InputError(f"{file} learns no labels (distil.labels is false). Use `music-emotion pretrain`.")
    n_folds = 1 if experiment.has_repeats else experiment.folds.n
    if only_fold is not None and not 0 <= only_fold < n_folds:
        raise InputError(f"--only-fold is {only_fold}; the folds are 0 to {n_folds - 1}.")
    _train(experiment, flags, only_fold)


def _train(
    experiment: Experiment, flags: TrainingFlags, only_fold: int | None = None, pretraining: bool = False
) -> None:
    accelerator = make_accelerator(flags.tracker, flags.runs)
    if flags.overfit_batch or flags.check_shift:
        _check(experiment, flags, accelerator)
        return
    directory = flags.runs / experiment.name
    scores = run_experiment(
        experiment, accelerator, directory, only_fold, pretraining, flags.jobs, draw_scores
    )
    if pretraining:
        scores += f"\nThe trunk is in {directory}/seed{experiment.seeds[0]}/fold0/model.safetensors."
    accelerator.print(scores)


def _check(experiment: Experiment, flags: TrainingFlags, accelerator: Accelerator) -> None:
    """Check that one batch can be overfitted, or compare test with training clips; print the result."""
    clips, test = load_sets(experiment, accelerator)
    if not flags.overfit_batch:
        if accelerator.is_main_process:
            print(check_shift(experiment, clips, test))
        return
    if experiment.is_classical:
        raise InputError(f"--overfit-batch is for networks; classical.kind is '{experiment.classical.kind}'.")
    network = make_network(experiment, clips, experiment.seeds[0])
    first, last, updates = overfit_batch(network, clips, accelerator)
    verdict = "can learn one batch" if last < NEAR_ZERO else "could not learn it: check data, loss and rate"
    accelerator.print(
        f"loss of one batch: {first:.4f} at first, {last:.4f} after {updates} updates. It {verdict}."
    )


def study(
    file: Annotated[Path, Parameter(name="study")],
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
) -> None:
    """Train every unfinished row of a study, and print and save its table.

    Parameters
    ----------
    file
        Name of a built-in study, such as optimisers, or path of a study file.
    experiment
        Settings of all rows; they override those of the study's experiment.
    runs
        Folder of all runs; the rows are in runs/<study>. Processes that see this folder share the rows.
    """
    settings = dotted(given_settings(experiment))
    if "name" in settings:
        raise InputError("The rows of a study have names of their own. Leave out --name, or name the study.")
    described = read_study(file, settings, runs)
    table = run_study(described, make_accelerator())
    if not table.empty:  # as it is in all processes but the main one
        print_table(table, described.folder)


def print_table(table: pd.DataFrame, folder: Path) -> None:
    """Print a study's table, and for a search the best experiment."""
    shown = table.drop(columns=["low", "high", "problem"], errors="ignore")
    print(f"\n{shown.to_string(index=False, float_format='{:.4g}'.format)}\n")
    print(f"The table is {folder / 'table.csv'}; each row's run lies beside it.")
    if "problem" in table:
        print("\nNo score, since the training diverged (delete the directory that is named to try again):")
        for line in table[table["problem"] != ""].drop_duplicates("row").to_dict("records"):
            print(f"  {line['row']}: {line['problem']}")
    if "searched" in table and (folder / BEST).exists():
        print(f"\n{(folder / BEST).read_text(encoding='utf-8')}")
        print(f"This is {folder / BEST}, for `music-emotion train`. It has the best `searched`, which is")
        print("therefore too good. With folds, `score` is the same number. With repeated holdouts, it is")
        print("that of test clips, but those of one repeat validate another, so it is a little too good.")
