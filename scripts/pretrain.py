"""Train genres on the set's own training split, and score them on its test split."""

from pathlib import Path

from command_line import ExperimentFlags, make_accelerator, run
from music_emotion.data.clip_set import ClipSet
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, check_experiment
from music_emotion.results.run_scores import score_split
from music_emotion.training.run import folds_of, open_run
from train import check_overfits, load_sets, run_fold


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
        run_fold(experiment, *_validation(experiment, clips, test, seed), test, accelerator, place, seed)
    if accelerator.is_main_process:
        print(score_split(directory, test.truth))
        print(f"The trunk is in {directory / f'seed{experiment.seeds[0]}' / 'fold0' / 'model.safetensors'}.")


def _validation(experiment: Experiment, clips: ClipSet, test: ClipSet, seed: int) -> tuple[ClipSet, ClipSet]:
    """Clips to train on and to validate with.

    A training whose length is fixed may watch the test split and use every training clip; one that
    selects its best epoch must not, so it holds out one fold of the training split.
    """
    if experiment.train.select == "last":
        return clips, test
    fold_of = folds_of(experiment, clips, seed)
    return clips.select(fold_of != 0), clips.select(fold_of == 0)


if __name__ == "__main__":
    run(pretrain)
