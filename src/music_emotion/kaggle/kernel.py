"""The work of the kernel: train the bundle's plan, if it has one, and predict the test clips."""

import os
import platform
import tempfile
import time
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from music_emotion import files
from music_emotion.config import Rate, build_experiment
from music_emotion.datasets.clip_set import ClipSet, load_clip_set
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics
from music_emotion.evaluation import submission
from music_emotion.evaluation.blend import Recipe
from music_emotion.files import InputError, first_five, read_json
from music_emotion.kaggle.plan import PLACES, Plan
from music_emotion.kaggle.train import run_shares, train_plan
from music_emotion.models.embedding_table import Hearing, array_clips, embed_clips
from music_emotion.models.network import load_model, read_card
from music_emotion.runs import package_versions
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.classical import predict_folds
from music_emotion.training.predict import predict_clips

OUTPUTS = ("submission.csv", "run.json")


def run_bundle(folder: Path, inputs: Path, working: Path) -> None:
    """Predict the test clips with a bundle, and write ``submission.csv`` and then ``run.json``.

    A bundle holds a blend, or a plan that is trained first. ``run.json`` exists only after a complete run.

    Parameters
    ----------
    folder : Path
        Holds ``manifest.json`` and the files it lists, which the kernel's script has checked.
    inputs : Path
        Folder where Kaggle mounts data. The competition's folders are searched for below it.
    working : Path
        Output folder for the two files, and for the ``runs/`` of a training.

    Raises
    ------
    InputError
        When the data is missing or wrong, or has other clips than the blend.
    """
    started = time.time()
    for name in OUTPUTS:  # of an earlier run in the same folder
        (working / name).unlink(missing_ok=True)
    manifest = read_json(folder / "manifest.json")
    data = find_data(inputs, manifest["competition"])
    # tensor cores, as on the T4, are fast in half precision; child processes inherit the variable
    halves = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0)
    precision = os.environ["ACCELERATE_MIXED_PRECISION"] = "fp16" if halves else "no"
    with tempfile.TemporaryDirectory(prefix="music-emotion-") as scratch, chdir(scratch):
        lay_out(folder, manifest, data)
        if "plan" in manifest:
            plan = Plan.model_validate(manifest["plan"])
            section = plan.emotion[0].data
            targets = load_clip_set(section, "emotion", "train").outputs
        else:
            recipe = Recipe(**manifest["recipe"])
            members = [read_card(Path(models[0])).experiment for models in manifest["models"].values()]
            members += [build_experiment(each["experiment"], run) for run, each in manifest["refits"].items()]
            section, targets = members[0].data, recipe.targets
        arrays = section.model_copy(update=PLACES | {"statistics": None, "embeddings": ()})
        ids = load_clip_set(arrays, "emotion", "test", targets).ids
        set_folder = find_set(data, "emotion", section.rate)
        form, sample = find_form(inputs, manifest["competition"], set_folder, targets, ids)
        if "plan" in manifest:
            predictions, facts = train_plan(plan, manifest, inputs, working, started)
        else:
            predictions, facts = predict_blend(recipe, manifest)
    table = submission.submission_table(files.check_predictions(predictions, "the predictions"), form)
    submission.write_form(working / "submission.csv", table)
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    facts["seconds"]["all"] = round(time.time() - started, 3)
    common = {
        "bundle": manifest["bundle"],
        "rows": len(form),
        "sha256": files.sha256(working / "submission.csv"),
        "sample": sample,
        "python": platform.python_version(),
        "versions": package_versions(),
        "devices": gpus or [f"CPU, {os.cpu_count()} cores"],
        "precision": precision,
    }
    files.write_json(working / "run.json", common | facts)
    print(f"{working / 'submission.csv'}: {len(form)} rows.", flush=True)


def find_data(inputs: Path, competition: str | None) -> Path:
    """Find the folder of the data: the competition's, or else an attached dataset's.

    Raises
    ------
    InputError
        When there is no such folder, or there are several.
    """
    of_competition = [inputs / "competitions" / competition, inputs / competition] if competition else []
    tries: list[tuple[Path, Rate]] = [*((place, "full") for place in of_competition)]
    complaints = []
    for place, rate in [*tries, (inputs, "full"), (inputs, "beat")]:
        try:
            find_set(place, "emotion", rate)
            print(f"The data is in {place}.", flush=True)
            return place
        except InputError as error:
            complaints.append(error)
    raise InputError(
        f"{complaints[-2]} On Kaggle, data is attached by music-emotion kaggle package with --competition "
        f"and --sources."
    )


def lay_out(folder: Path, manifest: Mapping[str, Any], data: Path) -> None:
    """Link data and bundle into the current folder, and embed the test arrays for tables that need it."""
    Path(PLACES["root"]).symlink_to(data)
    for name in manifest["files"]:
        Path(name).symlink_to(folder / name)
    for name, settings in manifest.get("embed", {}).items():
        hearing, clips = Hearing(**settings), array_clips(find_set(data, "emotion"), "test")
        # whoever reads the table judges the clips that fail
        embed_clips(clips, Path(name), [*map(Path, hearing.ears)], hearing, Workers(), max_failed=1.0)


def find_form(
    inputs: Path, competition: str | None, set_folder: Path, targets: tuple[str, ...], ids: np.ndarray
) -> tuple[pd.DataFrame, str]:
    """Read the rows and columns that the leaderboard requires, and check that the test clips match.

    The sample submission is searched for in the competition's data and in the folders above the emotion set.

    Parameters
    ----------
    inputs : Path
        Where Kaggle mounts data.
    competition : str or None
        Slug of the attached competition, if any.
    set_folder : Path
        Folder of the emotion set that is predicted.
    targets : tuple of str
        Names of the predicted targets.
    ids : np.ndarray [shape=(n,)], integer
        Ids of the test clips.

    Returns
    -------
    form : pd.DataFrame
        As `read_sample` returns it.
    sample : str
        Path of the sample submission below `inputs`; "none" if there is none and the default form is used.

    Raises
    ------
    InputError
        When the sample asks for other targets or clips, or several samples differ.
    """
    places = [folder for folder in set_folder.parents if inputs in folder.parents]
    if competition:
        places += [inputs / "competitions" / competition, inputs / competition]
    samples = sorted({path for place in places for path in place.glob("sample_submission*.csv")})
    if not samples:
        return submission.default_sample(targets, ids.tolist()), "none"
    if len({path.read_bytes() for path in samples}) > 1:
        raise InputError(
            f"Several sample submissions are attached: {', '.join(map(str, samples))}. Keep one."
        )
    form = submission.read_sample(samples[0], targets)
    submission.submission_table(pd.DataFrame(0.0, pd.Index(ids, name="Id"), list(targets)), form)
    return form, str(samples[0].relative_to(inputs))


def predict_blend(recipe: Recipe, manifest: Mapping[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Predict the test split with every run of a blend, and blend the predictions by the recipe.

    Reads data and models from the current folder, and writes each model's predictions there.

    Parameters
    ----------
    recipe : Recipe
    manifest : mapping
        The bundle's manifest.

    Returns
    -------
    predictions : pd.DataFrame
        In the units of the targets, indexed by `Id`.
    facts : dict
        Entries of `run.json`.

    Raises
    ------
    InputError
        When the data is missing or wrong, or has other clips than the blend; or when a process failed.
    """
    started = time.perf_counter()
    names = [name for models in manifest["models"].values() for name in models]
    if names:
        run_shares(predict_share, *names)
    predicted = time.perf_counter()
    tables = _refit(manifest["refits"], manifest["tables"], recipe.targets)
    for run, models in manifest["models"].items():
        tables[run] = [files.read_predictions(Path(f"{name}.csv")) for name in models]
    took = {"predict": predicted - started, "refit": time.perf_counter() - predicted}
    seconds = {name: round(value, 3) for name, value in took.items()}
    facts = {"models": len(names), "refits": len(manifest["refits"]), "seconds": seconds}
    return recipe.predict(tables), facts


def predict_share(share: int, n_shares: int, *names: str) -> None:
    """Predict the test split with every n-th model, and write ``<model>.csv``."""
    accelerator = make_accelerator()
    for name in tqdm(names[share::n_shares], desc="predict", unit="model"):
        network = load_model(Path(name)).to(accelerator.device)
        section = network.card.experiment.data.model_copy(update=PLACES)
        clips = load_clip_set(section, "emotion", "test", network.card.outputs)
        files.write_predictions(Path(f"{name}.csv"), predict_clips(network, clips, accelerator))


def _refit(
    refits: Mapping[str, Any], places: Mapping[str, str], targets: tuple[str, ...]
) -> dict[str, list[pd.DataFrame]]:
    """Fit the folds of classical runs to the attached arrays and tables again, and predict the test split."""
    tables, loaded = {}, dict[str, tuple[ClipSet, ClipSet, Statistics]]()
    for run, refit in refits.items():
        experiment = build_experiment(refit["experiment"], run)
        data = experiment.data
        read = {
            "targets": targets,
            "statistics": data.statistics and places[data.statistics],
            "embeddings": tuple(places[table] for table in data.embeddings),
        }
        section = data.model_copy(update=PLACES | read)
        inputs = section.model_dump_json()  # runs that read the same share it
        if inputs not in loaded:
            clips = load_clip_set(section, "emotion", "train")
            test = load_clip_set(section, "emotion", "test", clips.outputs)
            loaded[inputs] = clips, test, Statistics(section, "emotion")
        clips, test, statistics = loaded[inputs]
        path = Path(refit["folds"])
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
