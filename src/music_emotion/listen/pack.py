"""Pack a run into the few small files that `EmotionModel` reads: the model of the package, or one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.splits import folds_of_run
from music_emotion.evaluation.conformal import coverage
from music_emotion.evaluation.scores import fold_numbers, read_folds
from music_emotion.files import InputError, read_object, read_predictions, read_truth, write_json
from music_emotion.listen.model import Facts, Unlike, model_files
from music_emotion.models.network import Network, clip_features, load_model, save_model, share_trunks
from music_emotion.runs import read_experiment

_UNLIKE = 0.95  # share of held-out clips that are not marked


def pack(run: Path, out: Path, genres: Path | None = None) -> str:
    """Write the folds of finished runs with 8-bit weights, and what is known of their predictions.

    Parameters
    ----------
    run : Path
        ``runs/<name>`` of an emotion network with one seed, whose data is still there.
    out : Path
        Folder for `emotion<k>.safetensors`, `genre<k>.safetensors` and `facts.json`. Linear heads on one
        trunk become one network.
    genres : Path, optional
        A run of a genre network with one seed.

    Returns
    -------
    str
        Sizes and coverage as text.

    Raises
    ------
    InputError
        When a run is not finished, or not of such a network.
    """
    runs = {"emotion": run} | ({"genre": genres} if genres else {})
    experiments = {task: read_experiment(each) for task, each in runs.items()}
    for task, experiment in experiments.items():
        if experiment.task != task or experiment.has_repeats or len(experiment.seeds) > 1:
            article = "an" if task == "emotion" else "a"
            raise InputError(f"{runs[task]} is not {article} {task} run of folds with one seed. Name one.")
    truth, predicted = read_truth(run / "truth.csv"), read_predictions(run / "oof.csv")
    packed = {task: _merged([load_model(file) for file in model_files(each)]) for task, each in runs.items()}
    for task, networks in packed.items():
        for number, network in enumerate(networks):
            save_model(out / f"{task}{number}.safetensors", network, network.state_dict(), packed=True)
    shares = coverage(truth, predicted, fold_numbers(read_folds(run, "valid")[experiment.seeds[0]]))
    about = {
        "run": run.name,
        "clips": len(truth),
        "scores": {task: read_object(each / "scores.json")["pooled"] for task, each in runs.items()},
        "coverage": shares.round(3).to_dict("records"),
    }
    facts = Facts.of(truth, predicted, _unlike(packed["emotion"][0], experiments["emotion"]), about)
    write_json(out / "facts.json", TypeAdapter(Facts).dump_python(facts, mode="json"))
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    n_networks = sum(map(len, packed.values()))
    return f"{shares.round(3).to_markdown(index=False)}\n{out}: {n_networks} networks, {size:.1f} MB."


def _unlike(network: Network, experiment: Experiment) -> Unlike:
    """Where the first fold's training clips lie in its trunk's features, and how far its other clips are."""
    fold = folds_of_run(experiment, load_clip_set(experiment.data, "emotion", "train"))[0]
    known, held_out = (clip_features(network, clips) for clips in (fold.training, fold.valid))
    deviation = np.maximum(known.std(axis=0), 1e-6)
    place = Unlike(tuple(known.mean(axis=0).tolist()), tuple(deviation.tolist()), 0.0)
    distances = pd.Series([place.distance(features) for features in held_out])
    return Unlike(place.mean, place.deviation, float(distances.quantile(_UNLIKE)))


def _merged(networks: list[Network]) -> list[Network]:
    """Average linear heads on one trunk, so that one network gives the mean of all predictions."""
    share_trunks(networks)
    first, cards = networks[0], [network.card for network in networks]
    alone = any(network.trunk is not first.trunk for network in networks)
    if alone or first.card.experiment.model.head != "linear" or first.card.target_quantiles:
        return networks
    weights, biases = [], []  # in the targets' units
    for network, card in zip(networks, cards, strict=True):
        mean, deviation = torch.tensor(card.target_mean), torch.tensor(card.target_deviation)
        weights.append(network.head[-1].weight * deviation[:, None])
        biases.append(network.head[-1].bias * deviation + mean)
    n = len(first.card.outputs)
    merged = Network(replace(first.card, target_mean=(0.0,) * n, target_deviation=(1.0,) * n), False)
    merged.trunk = first.trunk
    with torch.no_grad():
        merged.head[-1].weight.copy_(torch.stack(weights).mean(dim=0))
        merged.head[-1].bias.copy_(torch.stack(biases).mean(dim=0))
    return [merged.eval()]
