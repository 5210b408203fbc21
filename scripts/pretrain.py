"""Train genres on the set's own training split, and score them on its test split."""

from pathlib import Path

from command_line import ExperimentFlags, make_accelerator, run
from music_emotion.config import Experiment, check_experiment
from music_emotion.files import InputError
from music_emotion.training.whole_run import run_pretraining
from train import check_overfits, say_shift


def pretrain(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
    overfit_batch: bool = False,
    check_shift: bool = False,
) -> None:
    """Train a genre experiment; emotion experiments start from it with --model.trunk.

    Parameters
    ----------
    file
        The experiment: experiments/pretrain.toml.
    experiment
        Flags that change single settings of it.
    runs
        Folder of all runs.
    overfit_batch
        Only check that the network can learn one batch by heart.
    check_shift
        Only say whether a classifier can tell test clips from training clips, and by what.
    """
    check_experiment(experiment, str(file))
    if experiment.task != "genre":
        raise InputError(f"{file} has the task '{experiment.task}'; pretraining needs 'genre'. See train.py.")
    if experiment.has_repeats:
        raise InputError(
            f"{file} has parts of its own to test on, so it is no pretraining. Give it to train.py."
        )
    accelerator = make_accelerator()
    if overfit_batch:
        check_overfits(experiment, accelerator)
        return
    if check_shift:
        say_shift(experiment, accelerator)
        return
    scores, trunk = run_pretraining(experiment, accelerator, runs / experiment.name)
    accelerator.print(f"{scores}\nThe trunk is in {trunk}.")


if __name__ == "__main__":
    run(pretrain)
