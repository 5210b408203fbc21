"""A bundled blend to predictions: networks on every device, classical members fitted again."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import Accelerator
from tqdm import tqdm

from music_emotion.data.clip_set import ClipSet, load_clip_set
from music_emotion.data.clip_statistics import set_statistics
from music_emotion.delivery.devices import precision, run_shares
from music_emotion.errors import InputError, first_five
from music_emotion.experiment import build_experiment
from music_emotion.models.build import ModelCard, load_model
from music_emotion.predictions import read_predictions, write_predictions
from music_emotion.results.recipe import parse_recipe
from music_emotion.training.classical import predict_folds
from music_emotion.training.evaluate import predict_clips
from music_emotion.training.fold import Fold


def predict_blend(
    folder: Path, manifest: Mapping[str, Any], inputs: Path, scratch: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict the test split with every member, and blend as the recipe says.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : mapping
        The bundle's.
    inputs : Path
        The competition's folders are looked for below it.
    scratch : Path
        An empty folder.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    facts : dict
        For `run.json`.
    """
    started = time.perf_counter()
    recipe = parse_recipe(manifest["recipe"], folder / "manifest.json")
    names = [name for models in manifest["models"].values() for name in models]
    clips = _pack(folder, names, inputs, scratch)
    ready = time.perf_counter()
    if names:
        run_shares(main, lambda n, of: [str(folder), str(inputs), str(scratch), *names[n::of]])
    predicted = time.perf_counter()
    tables = _refit(folder, manifest["refits"], recipe.targets, inputs, scratch / "stores")
    for run, models in manifest["models"].items():
        tables[run] = [read_predictions(scratch / f"{name}.csv") for name in models]
    seconds = {
        "prepare": round(ready - started, 3),
        "predict": round(predicted - ready, 3),
        "refit": round(time.perf_counter() - predicted, 3),
    }
    predictions = recipe.predict(tables)
    facts = {"models": len(names), "refits": len(manifest["refits"]), "clips": clips or len(predictions)}
    return predictions, {**facts, "seconds": seconds}


def _pack(folder: Path, names: Sequence[str], inputs: Path, scratch: Path) -> int:
    """Pack the arrays once, so that several processes find them packed; return the number of clips."""
    cards = [load_model(folder / name).card for name in names]
    by_rate = {card.experiment.data.rate: card for card in cards}
    return max((len(_test_clips(card, inputs, scratch)) for card in by_rate.values()), default=0)


def _test_clips(card: ModelCard, inputs: Path, scratch: Path) -> ClipSet:
    data = replace(card.experiment.data, root=str(inputs), stores=str(scratch / "stores"))
    return load_clip_set(data, "emotion", "test", card.outputs)


def main(arguments: list[str]) -> None:
    """Predict with some of the models, one after the other, on this process's device.

    Parameters
    ----------
    arguments : list of str
        The bundle, where data is mounted, a folder for ``<model>.csv``, and the models' file names.
    """
    folder, inputs, scratch = map(Path, arguments[:3])
    accelerator = Accelerator(mixed_precision=precision())
    for name in tqdm(arguments[3:], desc="predict", unit="model"):
        network = load_model(folder / name).to(accelerator.device)
        clips = _test_clips(network.card, inputs, scratch)
        write_predictions(scratch / f"{name}.csv", predict_clips(network, clips, accelerator))


def _refit(
    folder: Path, refits: Mapping[str, Any], targets: tuple[str, ...], inputs: Path, stores: Path
) -> dict[str, list[pd.DataFrame]]:
    """The test predictions of classical runs, whose folds are fitted to the attached arrays again."""
    if not refits:
        return {}
    experiments = {run: build_experiment(refit["experiment"], run) for run, refit in refits.items()}
    first = next(iter(experiments.values()))  # members of one blend are of the same clips
    data = replace(first.data, root=str(inputs), stores=str(stores), targets=targets)
    clips = load_clip_set(data, "emotion", "train")
    test = load_clip_set(data, "emotion", "test", clips.outputs)
    known, unknown = set_statistics(clips, data), set_statistics(test, data)
    tables = {}
    for run, experiment in experiments.items():
        folds = _read_folds(folder / refits[run]["folds"], clips)
        tables[run] = [tested for _, _, tested in predict_folds(experiment, folds, known, unknown)]
    return tables


def _read_folds(path: Path, clips: ClipSet) -> list[Fold]:
    """The folds that a run was trained on, from the fold of every clip."""
    fold_of = pd.read_csv(path, index_col="Id")
    missing = fold_of.index.symmetric_difference(pd.Index(clips.ids))
    if len(missing):
        raise InputError(
            f"{len(missing)} training clips are only in the attached data or only in {path.name}: "
            f"{first_five(missing)}. Attach the data that the blend was trained on."
        )
    folds = []
    for seed, numbers in fold_of.loc[clips.ids].items():
        for number in sorted(numbers.unique()):
            inside = (numbers == number).to_numpy()
            folds.append(Fold(int(str(seed)), int(number), clips.select(~inside), clips.select(inside)))
    return folds


if __name__ == "__main__":
    main(sys.argv[1:])
