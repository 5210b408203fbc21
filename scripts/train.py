"""Train the folds and seeds of an experiment, predict the test split, and score out-of-fold."""

from pathlib import Path

from accelerate import Accelerator

from command_line import ExperimentFlags, make_accelerator, run
from music_emotion.config import Experiment, check_experiment
from music_emotion.evaluation import shift
from music_emotion.files import InputError
from music_emotion.training import overfit
from music_emotion.training.cross_validation import load_sets
from music_emotion.training.fold import make_network
from music_emotion.training.objectives import make_objective
from music_emotion.training.whole_run import run_experiment


def train(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
    only_fold: int | None = None,
    overfit_batch: bool = False,
    check_shift: bool = False,
) -> None:
    """Train an experiment, all its folds or repeats, and score it.

    Parameters
    ----------
    file
        The experiment: experiments/<name>.toml.
    experiment
        Flags that change single settings of it.
    runs
        Folder of all runs.
    only_fold
        Train this fold of every seed alone.
    overfit_batch
        Only check that the network can learn one batch by heart.
    check_shift
        Only say whether a classifier can tell test clips from training clips, and by what: if so, the
        out-of-fold score may not carry over.
    """
    check_experiment(experiment, str(file))
    accelerator = make_accelerator()
    if overfit_batch:
        check_overfits(experiment, accelerator)
        return
    if check_shift:
        say_shift(experiment, accelerator)
        return
    n_folds = 1 if experiment.has_repeats else experiment.folds.n
    if only_fold is not None and not 0 <= only_fold < n_folds:
        raise InputError(f"--only-fold is {only_fold}; the folds are 0 to {n_folds - 1}.")
    accelerator.print(run_experiment(experiment, accelerator, runs / experiment.name, only_fold))


def check_overfits(experiment: Experiment, accelerator: Accelerator) -> None:
    """Say whether the network can learn one batch by heart."""
    clips, _ = load_sets(experiment, accelerator)
    if experiment.is_classical:
        raise InputError(f"--overfit-batch is for networks; classical.kind is '{experiment.classical.kind}'.")
    network = make_network(experiment, clips, experiment.seeds[0])
    objective = make_objective(experiment, network.card, clips)
    first, last, updates = overfit.overfit_batch(network, objective, clips, accelerator)
    verdict = (
        "It can learn one batch."
        if last < overfit.NEAR_ZERO
        else "It could not: look at data, loss and rate."
    )
    accelerator.print(
        f"loss of one batch: {first:.4f} at first, {last:.4f} after {updates} updates. {verdict}"
    )


def say_shift(experiment: Experiment, accelerator: Accelerator) -> None:
    """Say whether the test split differs from the training split, and in what."""
    clips, test = load_sets(experiment, accelerator)
    if accelerator.is_main_process:
        print(shift.check_shift(experiment, clips, test))


if __name__ == "__main__":
    run(train)
