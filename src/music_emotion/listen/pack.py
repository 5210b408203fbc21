"""Pack a run into the few small files that `EmotionModel` reads: the model of the package, or one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import TypeAdapter

from music_emotion.datasets.clip_set import ClipSet, load_clip_set
from music_emotion.evaluation.conformal import coverage
from music_emotion.evaluation.scores import fold_numbers, read_folds
from music_emotion.files import InputError, read_object, read_predictions, read_truth, write_json
from music_emotion.listen.model import Facts, Unlike, model_files
from music_emotion.models.network import Network, clip_features, load_model, save_model, share_trunks
from music_emotion.runs import read_experiment

_UNLIKE = 0.9  # share of training clips that are not farther away


def pack(run: Path, out: Path, genres: Path | None = None) -> str:
    """Write the folds of finished runs with 8-bit weights, and what is known of their predictions.

    Parameters
    ----------
    run : Path
        ``runs/<name>`` of an emotion network with one seed, whose data is still there.
    out : Path
        Folder for `emotion<k>.safetensors`, `genre<k>.safetensors` and `facts.json`; earlier ones are
        replaced. Networks with linear heads that started from one trunk become one, with the mean of their
        weights.
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
    data = experiments["emotion"].data
    if not Path(data.root).is_dir():
        problem = f"{run} was trained on clips in {data.root}, which is not here"
        raise InputError(f"{problem}. Give the command in the folder where it was trained.")
    clips = load_clip_set(data, "emotion", "train")
    packed = {
        task: _merged([load_model(file) for file in model_files(each)], clips) for task, each in runs.items()
    }
    for task in ("emotion", "genre"):
        for earlier in out.glob(f"{task}[0-9]*.safetensors"):  # of a model that may have had more networks
            earlier.unlink()
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
    facts = Facts.of(truth, predicted, _unlike(packed["emotion"][0], clips), about)
    write_json(out / "facts.json", TypeAdapter(Facts).dump_python(facts, mode="json"))
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    n_networks = sum(map(len, packed.values()))
    return f"{shares.round(3).to_markdown(index=False)}\n{out}: {n_networks} networks, {size:.1f} MB."


def _unlike(network: Network, clips: ClipSet) -> Unlike:
    """Where training clips lie in the features of a trunk, and how far nine in ten of them are."""
    known = clip_features(network, clips)
    deviation = np.maximum(known.std(axis=0), 1e-6)
    place = Unlike(tuple(known.mean(axis=0).tolist()), tuple(deviation.tolist()), 0.0)
    distances = pd.Series([place.distance(features) for features in known])
    return Unlike(place.mean, place.deviation, float(distances.quantile(_UNLIKE)))


def _merged(networks: list[Network], clips: ClipSet) -> list[Network]:
    """Average the weights of networks with linear heads that started from one trunk, to one network.

    If their trunks have learnt, its predictions of `clips` get the mean and deviation of the mean of theirs.

    References
    ----------
    Wortsman et al., 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy
    without increasing inference time".
    """
    first = networks[0]
    origins = {(each.card.experiment.model.trunk, each.card.row_mean) for each in networks}
    model, is_genre = first.card.experiment.model, first.card.experiment.task == "genre"
    share_trunks(networks)
    learnt = any(network.trunk is not first.trunk for network in networks)
    is_one = len(origins) == 1 and model.trunk and model.head == "linear" and not first.card.target_quantiles
    if not is_one or (learnt and is_genre):
        return networks
    n, wanted, states = len(first.card.outputs), [], []
    for network in networks:
        mean, deviation = torch.tensor(network.card.target_mean), torch.tensor(network.card.target_deviation)
        head = network.head[-1]
        with torch.no_grad():  # in the targets' units
            head.weight.mul_(deviation[:, None])
            head.bias.mul_(deviation).add_(mean)
        states.append({name: each.clone() for name, each in network.state_dict().items()})
        wanted += [_of_head(network, clips)] if learnt else []
    merged = Network(replace(first.card, target_mean=(0.0,) * n, target_deviation=(1.0,) * n), False)
    mean_of = {
        name: torch.stack([state[name] for state in states]).double().mean(dim=0) for name in states[0]
    }
    merged.load_state_dict({name: value.to(states[0][name].dtype) for name, value in mean_of.items()})
    if learnt:
        aim, here = np.mean(wanted, axis=0), _of_head(merged, clips)
        slope = torch.from_numpy(aim.std(axis=0) / here.std(axis=0)).float()
        offset = torch.from_numpy(aim.mean(axis=0) - slope.numpy() * here.mean(axis=0)).float()
        with torch.no_grad():
            merged.head[-1].weight.mul_(slope[:, None])
            merged.head[-1].bias.mul_(slope).add_(offset)
    return [merged.eval()]


def _of_head(network: Network, clips: ClipSet) -> np.ndarray:
    """Outputs of a linear head for clips [shape=(n, n_outputs)]."""
    with torch.no_grad():
        return network.head(torch.from_numpy(clip_features(network, clips))).numpy()
