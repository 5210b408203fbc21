"""One fold: its network, its training, its predictions."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from music_emotion.audio.features import FeatureSettings
from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import row_statistics
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.splits import Fold
from music_emotion.files import InputError, write_json, write_predictions
from music_emotion.models.build import ModelCard, Network, build_network, load_trunk
from music_emotion.models.target_scale import normal_quantiles
from music_emotion.training.checkpoint import STATE
from music_emotion.training.evaluate import predict_with
from music_emotion.training.loop import LAST, UNFINISHED, train_fold
from music_emotion.training.objectives import make_objective


def train_network(
    experiment: Experiment,
    fold: Fold,
    test: ClipSet,
    accelerator: Accelerator,
    directory: Path,
    deadline: float = math.inf,
    genres: ClipSet | None = None,
) -> bool:
    """Train the network of a fold, unless it is finished, and predict the test split with it.

    Parameters
    ----------
    experiment : Experiment
    fold : Fold
    test : ClipSet
        Predicted where the fold has no test clips of its own. Labels, if any, are not looked at.
    accelerator : Accelerator
        Device, processes, precision.
    directory : Path
        ``runs/<name>``.
    deadline : float
        As for `train_fold`.
    genres : ClipSet or None
        As for `train_fold`.

    Returns
    -------
    bool
        Whether the fold is finished.
    """
    place = directory / fold.folder
    if not (place / "model.safetensors").exists():
        network = make_network(experiment, fold.training, fold.own_seed)
        start_from_trunk(network, place, accelerator)
        objective = make_objective(experiment, network.card, fold.training)
        finished = train_fold(
            network,
            objective,
            fold.training,
            fold.valid,
            accelerator,
            place,
            fold.own_seed,
            deadline,
            genres,
        )
        if not finished:
            return False
    if accelerator.is_main_process:
        for left in (STATE, UNFINISHED):
            (place / left).unlink(missing_ok=True)
    clips = test if fold.test is None else fold.test
    _predict_test(place / "model.safetensors", clips, accelerator, place / "test.csv")
    if experiment.train.keep_last:
        _predict_test(place / LAST, clips, accelerator, place / "test-last.csv")
    return True


def _predict_test(model: Path, clips: ClipSet, accelerator: Accelerator, path: Path) -> None:
    if path.exists() or not len(clips):
        return
    predictions = predict_with(model, clips, accelerator)
    if accelerator.is_main_process:
        write_predictions(path, predictions)
    accelerator.wait_for_everyone()


def make_network(experiment: Experiment, training: ClipSet, seed: int) -> Network:
    """A network for some training clips: random weights from a seed, statistics from the clips."""
    n_outputs = len(training.outputs)
    mean, deviation = row_statistics(training, experiment.data)
    if experiment.data.normalise == "none":
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    target_mean, target_deviation = np.zeros(n_outputs), np.ones(n_outputs)
    if experiment.task == "emotion" and experiment.loss.standardise:
        check_spread(training)
        target_mean, target_deviation = training.values.mean(axis=0), training.values.std(axis=0)
    rank_normal = experiment.task == "emotion" and experiment.loss.rank_normal
    card = ModelCard(
        experiment,
        training.outputs,
        *(tuple(values.tolist()) for values in (mean, deviation, target_mean, target_deviation)),
        target_quantiles=normal_quantiles(training.values) if rank_normal else (),
        features=_feature_settings(experiment, training),
    )
    torch.manual_seed(seed)
    return build_network(card)


def _feature_settings(experiment: Experiment, training: ClipSet) -> FeatureSettings:
    """How the audio of a set became its arrays: the course's way, unless we extracted it in another."""
    if not training.store.is_fused:
        return FeatureSettings()
    folder = find_set(Path(experiment.data.root), experiment.task, experiment.data.rate)
    if not (folder / "settings.json").exists():
        return FeatureSettings()
    from music_emotion.datasets.extract import read_settings  # decoders and numba take seconds to import

    return read_settings(folder)


def check_spread(training: ClipSet) -> None:
    """Refuse targets whose training labels do not vary.

    Raises
    ------
    InputError
        Naming them.
    """
    constant = [name for name, values in training.truth.items() if values.nunique() == 1]
    if constant:
        raise InputError(
            f"The training labels of {', '.join(map(str, constant))} are all the same, so there is no order "
            f"to learn. Check the label file, or name other --data.targets."
        )


def start_from_trunk(network: Network, directory: Path, accelerator: Accelerator) -> None:
    """Load the trunk an experiment names; print and record which weights were taken.

    Writes `trunk.json` with the names taken, new and unused.
    """
    trunk = network.card.experiment.model.trunk
    if trunk == "none":
        return
    names = load_trunk(network, Path(trunk))
    if accelerator.is_main_process:
        write_json(directory / "trunk.json", {"file": trunk, **names})
        print(f"trunk {trunk}: {len(names['taken'])} weights taken, {len(names['new'])} are new.")
        for part, members in names.items():
            print(f"  {part}: {_by_module(members)}")
        print(f"  every name is in {directory / 'trunk.json'}")


def _by_module(names: list[str]) -> str:
    """Names of weights summed up by the module they belong to, such as a block."""
    counts = Counter(".".join(name.split(".")[:3]) for name in names)
    return (
        ", ".join(f"{module} ({count})" if count > 1 else module for module, count in counts.items())
        or "none"
    )
