"""Train the folds and seeds of an experiment, predict the test split, and score out-of-fold."""

from pathlib import Path

from accelerate import Accelerator

from command_line import ExperimentFlags, make_accelerator, run
from music_emotion.data.clip_set import ClipSet
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, check_experiment
from music_emotion.results.run_scores import score_run
from music_emotion.training import overfit
from music_emotion.training.cross_validation import folds_of_run, load_sets, train_folds
from music_emotion.training.fold import make_network
from music_emotion.training.objectives import make_objective


def train(
    file: Path,  # noqa: ARG001 (read before the flags, see command_line)
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
    only_fold: int | None = None,
    overfit_batch: bool = False,
) -> None:
    """Train an experiment.

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
    """
    check_experiment(experiment)
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    if overfit_batch:
        check_overfits(experiment, clips, accelerator)
        return
    if only_fold is not None and not 0 <= only_fold < experiment.folds.n:
        raise InputError(f"--only-fold is {only_fold}; the folds are 0 to {experiment.folds.n - 1}.")
    folds = [fold for fold in folds_of_run(experiment, clips) if only_fold in {None, fold.number}]
    directory = runs / experiment.name
    train_folds(experiment, folds, test, accelerator, directory)
    if accelerator.is_main_process:
        print(score_run(directory, experiment, clips.truth))


def check_overfits(experiment: Experiment, clips: ClipSet, accelerator: Accelerator) -> None:
    """Say whether the network can learn one batch by heart."""
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


if __name__ == "__main__":
    run(train)
