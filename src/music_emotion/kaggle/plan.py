"""The plan of a training on Kaggle: its experiments, their order and its time limit."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from music_emotion.config import STRICT, Experiment, build_experiment, experiment_to_dict
from music_emotion.datasets.splits import groups_file
from music_emotion.evaluation.blend import Method, Recipe, read_recipe
from music_emotion.experiment_files import lay_over, read_differences
from music_emotion.files import InputError, regular_file
from music_emotion.models.ear import FILES, ear_folder
from music_emotion.runs import read_experiment

MOST_HOURS = 11.5  # Kaggle ends a run after 12 hours, counted from before the script begins
PLACES = {"root": "data", "stores": "stores"}  # of the data, in the kernel's working folder
_TRUNK = re.compile(r"(?P<name>[^/]+)/seed(?P<seed>\d+)/fold0/model\.safetensors$")


class Plan(BaseModel):
    """The work of a training kernel.

    Attributes
    ----------
    name : str
        Name of the final blend.
    hours : float
        Time limit of the kernel, which then submits its best result so far.
    experiments : tuple of Experiment
        In the order of training: classical, genre, then other emotion experiments. Paths are relative to
        the kernel's working folder.
    method : {"z-score", "rank"}
        Scale on which folds, seeds and runs are averaged.
    shrinkage : float
        Shrinkage of the blend's weights towards equal weights, 0 to 1.
    resume : str or None
        ``owner/slug`` of the kernel whose training is continued.
    """

    model_config = ConfigDict(**STRICT, frozen=True)

    name: str
    hours: float
    experiments: tuple[Experiment, ...]
    method: Method = "z-score"
    shrinkage: float = 0.5
    resume: str | None = None

    @property
    def emotion(self) -> list[Experiment]:
        """The experiments that are blended."""
        return [experiment for experiment in self.experiments if experiment.task == "emotion"]


def digest(value: Any) -> str:
    """Hash a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def plan_training(what: Sequence[Path], name: str, hours: float, resume: str | None) -> Plan:
    """Plan the training of experiments, or of all members of a blend.

    Parameters
    ----------
    what : sequence of Path
        Experiment files, names of built-in experiments, or the directory of one blend.
    name, hours, resume
        As in `Plan`.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        When an experiment cannot be read or trained on Kaggle, or two have the same name. Also when none
        predicts emotion, their targets differ, or the hours are out of range.
    """
    if not 0 < hours <= MOST_HOURS:
        raise InputError(f"--hours is {hours:g}; give more than 0 and at most {MOST_HOURS}.")
    # as opposed to experiment files, and to names of built-in ones
    blends = [path for path in what if path.suffix != ".toml" and (path.exists() or path.name != str(path))]
    if blends and len(what) > 1:
        raise InputError("Name either one blend or experiment files.")
    blending: dict[str, Any] = {}
    if blends:
        recipe = read_recipe(blends[0])
        experiments = _experiments_behind(recipe)
        blending = {"method": recipe.method, "shrinkage": recipe.shrinkage}
    else:
        experiments = [build_experiment(read_differences(path), str(path)) for path in what]
    experiments.sort(key=lambda each: 0 if each.is_classical else 1 if each.task == "genre" else 2)
    plan = Plan(name=name, hours=hours, experiments=tuple(experiments), resume=resume, **blending)
    _check_trainable(plan)
    return plan


def _experiments_behind(recipe: Recipe) -> list[Experiment]:
    """The experiments of a blend's runs, and of the pretraining runs that their trunks come from."""
    runs = [read_experiment(Path(run)) for run in recipe.members]
    trunks = [run.model.trunk for run in runs if run.model.trunk and _TRUNK.search(run.model.trunk)]
    folders = sorted({Path(trunk).parents[2] for trunk in trunks})
    return runs + [read_experiment(folder) for folder in folders if _is_pretraining(folder)]


def _is_pretraining(run: Path) -> bool:
    """Whether a run can be repeated as a pretraining, which has no out-of-fold predictions."""
    if not (run / "experiment.json").exists() or (run / "oof.csv").exists():
        return False
    experiment = read_experiment(run)
    return experiment.task == "genre" and experiment.name == run.name and not experiment.has_repeats


def _check_trainable(plan: Plan) -> None:
    names = [*(experiment.name for experiment in plan.experiments), plan.name]
    if repeated := sorted({each for each in names if names.count(each) > 1}):
        raise InputError(f"Two things are called {repeated[0]}. Give each once, and another --name.")
    for experiment in plan.experiments:
        causes = {
            "pseudo.teachers": experiment.pseudo.teachers,
            "data.windows": experiment.data.windows,
            "data.statistics": experiment.data.statistics,
            "data.embeddings": experiment.data.embeddings,
            "distil.tables": experiment.distil.tables,
            "data.more": experiment.data.more,
            f"folds.split '{experiment.folds.split}'": experiment.has_repeats,
        }
        if cause := next((key for key, is_set in causes.items() if is_set), None):
            raise InputError(
                f"Experiment '{experiment.name}': {cause} is not for Kaggle, which has only the "
                f"competition's arrays and folds. Package another, or a blend that was trained here."
            )
    if not plan.emotion:
        raise InputError("No experiment predicts emotion, so there is nothing to submit. Add one that does.")
    # an experiment without named targets learns all; only the data on Kaggle says which these are
    if len({frozenset(e.data.targets) for e in plan.emotion if e.data.targets}) > 1:
        raise InputError("The experiments have different data.targets. Give all the same, to blend them.")


def add_plan(plan: Plan, dataset: Path) -> dict[str, Any]:
    """Copy the experiments' files into the dataset; return the plan as an entry of the manifest.

    Raises
    ------
    InputError
        When one of the files does not exist.
    """
    placed = tuple(_place(experiment, plan, dataset) for experiment in plan.experiments)
    return {"plan": plan.model_copy(update={"experiments": placed}).model_dump(mode="json")}


def _place(experiment: Experiment, plan: Plan, dataset: Path) -> Experiment:
    """Copy an experiment's files into the dataset, and set their paths to those in the kernel."""

    def copied(key: str, path: str | Path | None) -> str | None:
        if path is None:
            return None
        remedy = "Name its genre experiment, too." if key == "model.trunk" else "Correct the path."
        regular_file(Path(path), f"Experiment '{experiment.name}': {key}", remedy)
        name = f"{experiment.name}-{key.split('.')[-1]}{Path(path).suffix}"
        shutil.copyfile(path, dataset / name)
        return name

    model = experiment.model
    ear = ear_folder() / FILES[0] if model.kind == "ear" else None
    trunk = _planned_trunk(model.trunk, plan) or copied("model.trunk", model.trunk)
    changed = {
        "data": PLACES,
        "folds": {"groups": copied("folds.groups", groups_file(experiment))},
        "model": {"weights": copied("model.weights", model.weights or ear), "trunk": trunk},
    }
    return build_experiment(lay_over(experiment_to_dict(experiment), changed), experiment.name)


def _planned_trunk(trunk: str | None, plan: Plan) -> str | None:
    """Path where a pretraining of the plan will write this trunk; None if none does."""
    match = _TRUNK.search(trunk or "")
    genres = [each for each in plan.experiments if each.task == "genre"]
    if match and any(each.name == match["name"] and int(match["seed"]) in each.seeds for each in genres):
        return f"runs/{match[0]}"
    return None
