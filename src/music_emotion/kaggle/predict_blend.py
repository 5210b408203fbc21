"""A bundled blend to predictions: networks on every device, classical members fitted again."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from accelerate import Accelerator
from tqdm import tqdm

from music_emotion.config import DataSection, Rate, build_experiment
from music_emotion.datasets.clip_set import ClipSet, load_clip_set
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation.blend import parse_recipe
from music_emotion.files import InputError, first_five, read_predictions, write_predictions
from music_emotion.kaggle.devices import precision, run_shares
from music_emotion.kaggle.form import find_form
from music_emotion.models.build import load_model, read_card
from music_emotion.training.classical import predict_folds
from music_emotion.training.predict import predict_clips


def predict_blend(
    folder: Path, manifest: Mapping[str, Any], inputs: Path, data: Path, scratch: Path
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Predict the test split with every member, and blend as the recipe says.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    manifest : mapping
        The bundle's.
    inputs : Path
        Where Kaggle mounts things; the competition's sample submission is looked for below it.
    data : Path
        The competition's folders are looked for below it.
    scratch : Path
        An empty folder.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    form : pd.DataFrame
        Of the submission.
    facts : dict
        For `run.json`.

    Raises
    ------
    InputError
        When the data is missing, wrong, or of other clips than the blend's; when a process failed.
    """
    started = time.perf_counter()
    recipe = parse_recipe(manifest["recipe"], folder / "manifest.json")
    names = [name for models in manifest["models"].values() for name in models]
    rates = _rates(folder, manifest)
    packed = [_test_clips(data, scratch, section, recipe.targets) for section in rates.values()]
    set_folder = find_set(data, "emotion", next(iter(rates)))
    form, sample = find_form(inputs, manifest["competition"], set_folder, recipe.targets, packed[0].ids)
    ready = time.perf_counter()
    if names:
        run_shares(main, lambda n, of: [str(folder), str(data), str(scratch), *names[n::of]])
    predicted = time.perf_counter()
    tables = _refit(folder, manifest["refits"], recipe.targets, data, scratch)
    for run, models in manifest["models"].items():
        tables[run] = [read_predictions(scratch / f"{name}.csv") for name in models]
    seconds = {
        "prepare": round(ready - started, 3),
        "predict": round(predicted - ready, 3),
        "refit": round(time.perf_counter() - predicted, 3),
    }
    predictions = recipe.predict(tables)
    facts = {"models": len(names), "refits": len(manifest["refits"]), "sample": sample}
    return predictions, form, {**facts, "seconds": seconds}


def _rates(folder: Path, manifest: Mapping[str, Any]) -> dict[Rate, DataSection]:
    """The rates of arrays that members read, each with how one of them reads it."""
    members = [read_card(folder / models[0]).experiment for models in manifest["models"].values()]
    members += [build_experiment(refit["experiment"], run) for run, refit in manifest["refits"].items()]
    return {member.data.rate: member.data for member in members}


def _test_clips(data: Path, scratch: Path, section: DataSection, targets: tuple[str, ...]) -> ClipSet:
    return load_clip_set(_attached(data, scratch, section), "emotion", "test", targets)


def _attached(data: Path, scratch: Path, section: DataSection) -> DataSection:
    """The same data where Kaggle mounts it."""
    return section.model_copy(update={"root": str(data), "stores": str(scratch / "stores")})


def main(arguments: list[str]) -> None:
    """Predict with some of the models, one after the other, on this process's device.

    Parameters
    ----------
    arguments : list of str
        The bundle, where the data is, a folder for ``<model>.csv``, and the models' file names.
    """
    folder, data, scratch = map(Path, arguments[:3])
    accelerator = Accelerator(mixed_precision=precision())
    for name in tqdm(arguments[3:], desc="predict", unit="model"):
        network = load_model(folder / name).to(accelerator.device)
        clips = _test_clips(data, scratch, network.card.experiment.data, network.card.outputs)
        write_predictions(scratch / f"{name}.csv", predict_clips(network, clips, accelerator))


def _refit(
    folder: Path, refits: Mapping[str, Any], targets: tuple[str, ...], data: Path, scratch: Path
) -> dict[str, list[pd.DataFrame]]:
    """The test predictions of classical runs, whose folds are fitted to the attached arrays again."""
    if not refits:
        return {}
    experiments = {run: build_experiment(refit["experiment"], run) for run, refit in refits.items()}
    first = next(iter(experiments.values()))  # members of one blend are of the same clips
    section = _attached(data, scratch, first.data).model_copy(update={"targets": targets})
    clips = load_clip_set(section, "emotion", "train")
    test = load_clip_set(section, "emotion", "test", clips.outputs)
    statistics = Statistics(section, "emotion")
    tables = {}
    for run, experiment in experiments.items():
        folds = _read_folds(folder / refits[run]["folds"], clips)
        tables[run] = [fitted.test for fitted in predict_folds(experiment, folds, test, statistics)]
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
