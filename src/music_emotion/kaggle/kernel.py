"""What runs on Kaggle once the package is unpacked: a bundle and the attached data to a submission."""

import hashlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from music_emotion.config import DataSection, Rate, build_experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation.blend import Recipe
from music_emotion.evaluation.submission import (
    check_submission,
    default_sample,
    read_sample,
    submission_table,
)
from music_emotion.files import (
    InputError,
    atomic_path,
    checked,
    first_five,
    read_json,
    read_predictions,
    write_json,
    write_predictions,
)
from music_emotion.kaggle.plan import read_plan
from music_emotion.kaggle.train import make_accelerator, precision, run_shares, train_plan
from music_emotion.models.network import load_model, read_card
from music_emotion.runs import package_versions
from music_emotion.training.classical import predict_folds
from music_emotion.training.predict import predict_clips

OUTPUTS = ("submission.csv", "run.json")


def run_bundle(folder: Path, bundle: str, inputs: Path, working: Path) -> None:
    """Predict the test clips with a bundle's blend, or train its plan first, and write the submission.

    ``run.json`` is written last: without it the run did not end well.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.json``, the package, and what the manifest lists.
    bundle : str
        The hash that the kernel was made for.
    inputs : Path
        Where Kaggle mounts data; the competition's folders are looked for below it.
    working : Path
        Gets ``submission.csv`` and ``run.json``, and of a training ``runs/``.

    Raises
    ------
    InputError
        When the bundle is another one or damaged, or the data is not there.
    """
    started = time.time()
    for name in OUTPUTS:  # of an earlier run in the same place
        (working / name).unlink(missing_ok=True)
    manifest = _read_manifest(folder, bundle)
    data = find_data(inputs, manifest["competition"])
    with tempfile.TemporaryDirectory(prefix="music-emotion-") as temporary:
        scratch = Path(temporary)
        if "plan" in manifest:
            plan = read_plan(manifest["plan"])
            section = _attached(data, scratch, plan.emotion[0].data)
            targets = load_clip_set(section, "emotion", "train").outputs
            form, sample = _form(inputs, manifest["competition"], data, section, targets)
            predictions, facts = train_plan(plan, folder, manifest, inputs, data, working, scratch, started)
        else:
            remedy = "Package the bundle again."
            recipe = checked(Recipe, manifest["recipe"], folder / "manifest.json", remedy)
            sections = [_attached(data, scratch, section) for section in _sections(folder, manifest)]
            for section in sections:  # packed before several processes read them
                form, sample = _form(inputs, manifest["competition"], data, section, recipe.targets)
            predictions, facts = predict_blend(recipe, folder, manifest, data, scratch)
    with atomic_path(working / "submission.csv") as path:
        submission_table(predictions, form).to_csv(path, index=False)
        check_submission(path, form)
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    common = {
        "bundle": bundle,
        "rows": len(form),
        "sample": sample,
        "python": platform.python_version(),
        "versions": package_versions(),
        "devices": gpus or [f"CPU, {os.cpu_count()} cores"],
        "precision": precision(),
    }
    facts["seconds"]["all"] = round(time.time() - started, 3)
    write_json(working / "run.json", {**common, **facts, "finished": True})
    print(f"{working / 'submission.csv'}: {len(form)} rows.", flush=True)


def _read_manifest(folder: Path, bundle: str) -> dict[str, Any]:
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
    if manifest.get("bundle") != bundle:
        raise InputError(
            f"{folder} holds the bundle {str(manifest.get('bundle'))[:12]}, but the kernel was made for "
            f"{bundle[:12]}. Wait until the newest version of the dataset is ready, and run again."
        )
    damaged = [
        name
        for name, facts in manifest["files"].items()
        if not (folder / name).is_file()
        or hashlib.sha256((folder / name).read_bytes()).hexdigest() != facts["sha256"]
    ]
    if damaged:
        raise InputError(
            f"{folder}: missing or damaged are {first_five(damaged)}. Upload the dataset again, and wait "
            f"until it is ready."
        )
    return manifest


def find_data(inputs: Path, competition: str | None) -> Path:
    """Below which folder the data is: of the competition, or else of anything attached.

    Raises
    ------
    InputError
        When there is none, or there are several.
    """
    of_competition = [inputs / "competitions" / competition, inputs / competition] if competition else []
    rates: tuple[Rate, ...] = ("full", "beat")
    complaints = []
    for place, rate in [*((place, "full") for place in of_competition), *((inputs, rate) for rate in rates)]:
        try:
            find_set(place, "emotion", rate)
            return place
        except InputError as error:
            complaints.append(error)
    raise InputError(
        f"{complaints[-2]} On Kaggle, data is attached by music-emotion kaggle package with --competition "
        f"and --sources."
    )


def _attached(data: Path, scratch: Path, section: DataSection) -> DataSection:
    """The same data where Kaggle mounts it."""
    return section.model_copy(update={"root": str(data), "stores": str(scratch / "stores")})


def _sections(folder: Path, manifest: Mapping[str, Any]) -> list[DataSection]:
    """How a member reads the data, for each rate of arrays that members read."""
    members = [read_card(folder / models[0]).experiment for models in manifest["models"].values()]
    members += [build_experiment(refit["experiment"], run) for run, refit in manifest["refits"].items()]
    return list({member.data.rate: member.data for member in members}.values())


def _form(
    inputs: Path, competition: str | None, data: Path, section: DataSection, targets: tuple[str, ...]
) -> tuple[pd.DataFrame, str]:
    ids = load_clip_set(section, "emotion", "test", targets).ids
    return find_form(inputs, competition, find_set(data, "emotion", section.rate), targets, ids)


def find_form(
    inputs: Path, competition: str | None, set_folder: Path, targets: tuple[str, ...], ids: np.ndarray
) -> tuple[pd.DataFrame, str]:
    """Read which rows and columns are asked for, before any work, and check that these clips fit.

    The sample submission is looked for where the competition is mounted, and in the folders above the emotion
    set, but not in other datasets.

    Parameters
    ----------
    inputs : Path
        Where Kaggle mounts data.
    competition : str or None
        Slug of the attached competition, if any.
    set_folder : Path
        Of the emotion set that is predicted.
    targets : tuple of str
        That are predicted.
    ids : np.ndarray [shape=(n,)], integer
        Of the test clips.

    Returns
    -------
    form : pd.DataFrame
        As by `read_sample`.
    sample : str
        The file it was read from, below `inputs`; "none" for the form of the competition's editions.

    Raises
    ------
    InputError
        When the sample asks for other targets or clips, or there are several that differ.
    """
    places = [folder for folder in set_folder.parents if inputs in folder.parents]
    if competition:
        places += [inputs / "competitions" / competition, inputs / competition]
    samples = sorted({path for place in places for path in place.glob("sample_submission*.csv")})
    if not samples:
        return default_sample(targets, ids.tolist()), "none"
    if len({path.read_bytes() for path in samples}) > 1:
        raise InputError(
            f"Several sample submissions are attached: {', '.join(map(str, samples))}. Keep one."
        )
    form = read_sample(samples[0], targets)
    submission_table(pd.DataFrame(0.0, pd.Index(ids, name="Id"), list(targets)), form)
    return form, str(samples[0].relative_to(inputs))


def predict_blend(
    recipe: Recipe, folder: Path, manifest: Mapping[str, Any], data: Path, scratch: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict the test split with every member, and blend as the recipe says.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Of the bundle.
    manifest : mapping
        The bundle's.
    data : Path
        The competition's folders are looked for below it.
    scratch : Path
        A folder for this run alone.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    facts : dict
        For `run.json`.

    Raises
    ------
    InputError
        When the data is missing, wrong, or of other clips than the blend's; when a process failed.
    """
    started = time.perf_counter()
    names = [name for models in manifest["models"].values() for name in models]
    if names:
        run_shares(predict_models, lambda n, of: [str(folder), str(data), str(scratch), *names[n::of]])
    predicted = time.perf_counter()
    tables = _refit(folder, manifest["refits"], recipe.targets, data, scratch)
    for run, models in manifest["models"].items():
        tables[run] = [read_predictions(scratch / f"{name}.csv") for name in models]
    took = {"predict": predicted - started, "refit": time.perf_counter() - predicted}
    seconds = {name: round(value, 3) for name, value in took.items()}
    facts = {"models": len(names), "refits": len(manifest["refits"]), "seconds": seconds}
    return recipe.predict(tables), facts


def predict_models(arguments: list[str]) -> None:
    """Predict with some of the models, one after the other, on this process's device.

    Parameters
    ----------
    arguments : list of str
        The bundle, where the data is, a folder for ``<model>.csv``, and the models' file names.
    """
    folder, data, scratch = map(Path, arguments[:3])
    accelerator = make_accelerator()
    for name in tqdm(arguments[3:], desc="predict", unit="model"):
        network = load_model(folder / name).to(accelerator.device)
        section = _attached(data, scratch, network.card.experiment.data)
        clips = load_clip_set(section, "emotion", "test", network.card.outputs)
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
    statistics, tables = Statistics(section, "emotion"), {}
    for run, experiment in experiments.items():
        path = folder / refits[run]["folds"]
        fold_of = pd.read_csv(path, index_col="Id")  # a column per seed
        missing = fold_of.index.symmetric_difference(pd.Index(clips.ids))
        if len(missing):
            raise InputError(
                f"{len(missing)} training clips are only in the attached data or only in {path.name}: "
                f"{first_five(missing)}. Attach the data that the blend was trained on."
            )
        folds = [
            Fold(int(str(seed)), int(number), clips.select(of != number), clips.select(of == number))
            for seed, of in ((seed, column.to_numpy()) for seed, column in fold_of.loc[clips.ids].items())
            for number in np.unique(of)
        ]
        tables[run] = [fitted.test for fitted in predict_folds(experiment, folds, test, statistics)]
    return tables


if __name__ == "__main__":
    predict_models(sys.argv[1:])
