"""Train the folds and seeds of an experiment, predict the test split, and score out-of-fold."""

from pathlib import Path

from accelerate import Accelerator

from command_line import ExperimentFlags, make_accelerator, run
from music_emotion.data.clip_set import ClipSet, load_clip_set
from music_emotion.errors import InputError
from music_emotion.experiment import Experiment, check_experiment
from music_emotion.predictions import write_predictions
from music_emotion.results.inference import predict_with
from music_emotion.results.run_scores import score_run
from music_emotion.training import overfit
from music_emotion.training.loop import train_fold
from music_emotion.training.objectives import make_objective
from music_emotion.training.run import folds_of, make_network, open_run, start_from_trunk


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
    directory = runs / experiment.name
    open_run(directory, experiment, accelerator)
    if only_fold is not None and not 0 <= only_fold < experiment.folds.n:
        raise InputError(f"--only-fold is {only_fold}; the folds are 0 to {experiment.folds.n - 1}.")
    for seed in experiment.seeds:
        fold_of = folds_of(experiment, clips, seed)
        for fold in range(experiment.folds.n) if only_fold is None else [only_fold]:
            place = directory / f"seed{seed}" / f"fold{fold}"
            run_fold(
                experiment,
                clips.select(fold_of != fold),
                clips.select(fold_of == fold),
                test,
                accelerator,
                place,
                seed * 1000 + fold,
            )
    if accelerator.is_main_process:
        print(score_run(directory, experiment, clips.truth))


def load_sets(experiment: Experiment, accelerator: Accelerator) -> tuple[ClipSet, ClipSet]:
    """Training and test split; the main process packs them first."""
    with accelerator.main_process_first():
        clips = load_clip_set(experiment.data, experiment.task, "train")
        test = load_clip_set(experiment.data, experiment.task, "test", clips.outputs)
    return clips, test


def run_fold(
    experiment: Experiment,
    training: ClipSet,
    valid: ClipSet,
    test: ClipSet,
    accelerator: Accelerator,
    place: Path,
    seed: int,
) -> None:
    """Train one fold, unless it is finished, and predict the test split with it."""
    if not (place / "model.safetensors").exists():
        network = make_network(experiment, training, seed)
        start_from_trunk(network, place, accelerator)
        objective = make_objective(experiment, network.card, training)
        train_fold(network, objective, training, valid, accelerator, place, seed)
    if not (place / "test.csv").exists():
        predictions = predict_with(place / "model.safetensors", test, accelerator)
        if accelerator.is_main_process:
            write_predictions(place / "test.csv", predictions)
        accelerator.wait_for_everyone()


def check_overfits(experiment: Experiment, clips: ClipSet, accelerator: Accelerator) -> None:
    """Say whether the network can learn one batch by heart."""
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
