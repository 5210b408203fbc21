"""Train genres on the set's own training split, and score them on its test split."""

from pathlib import Path

from command_line import ExperimentFlags, make_accelerator, run
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, check_experiment
from music_emotion.results.run_scores import score_split
from music_emotion.training.loop import train_fold
from music_emotion.training.objectives import make_objective
from music_emotion.training.run import make_network, open_run, start_from_trunk
from train import check_overfits, load_sets


def pretrain(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
    overfit_batch: bool = False,
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
    """
    check_experiment(experiment)
    if experiment.task != "genre":
        raise InputError(f"{file} has the task '{experiment.task}'; pretraining needs 'genre'. See train.py.")
    accelerator = make_accelerator()
    clips, test = load_sets(experiment, accelerator)
    if overfit_batch:
        check_overfits(experiment, clips, accelerator)
        return
    if not test.has_labels:
        raise InputError(
            f"{experiment.data.root} has no genre test_labels.txt, which pretraining is scored on."
        )
    directory = runs / experiment.name
    open_run(directory, experiment, accelerator)
    for seed in experiment.seeds:
        place = directory / f"seed{seed}" / "fold0"
        if not (place / "model.safetensors").exists():
            network = make_network(experiment, clips, seed)
            start_from_trunk(network, place, accelerator)
            objective = make_objective(experiment, network.card, clips)
            train_fold(network, objective, clips, test, accelerator, place, seed)
    if accelerator.is_main_process:
        print(score_split(directory, experiment, test.truth))
        print(f"The trunk is in {directory / f'seed{experiment.seeds[0]}' / 'fold0' / 'model.safetensors'}.")


if __name__ == "__main__":
    run(pretrain)
