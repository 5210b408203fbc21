"""The plan of a training on Kaggle: which experiments, in which order, and how long it may take."""

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from music_emotion.config import STRICT, Experiment, build_experiment, experiment_to_dict
from music_emotion.datasets.splits import groups_file
from music_emotion.evaluation.blend import Method, read_recipe
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError
from music_emotion.runs import read_experiment

MOST_HOURS = 11.5  # Kaggle ends a run after 12, counted from before the script begins
_TRUNK = re.compile(r"(?P<name>[^/]+)/seed(?P<seed>\d+)/fold0/model\.safetensors$")


@dataclass(frozen=True, config=STRICT)
class Plan:
    """What a training kernel does.

    Attributes
    ----------
    name : str
        Of the blend that comes out.
    hours : float
        Within which the kernel ends, finished or not.
    experiments : tuple of Experiment
        In the order of their training: what takes seconds first, then genres, then what may start
        from them. Their paths are relative to the folder they are trained in.
    method : {"z-score", "rank"}
        Scale on which folds, seeds and runs are averaged.
    shrinkage : float
        Of the blend's weights towards equal ones.
    resume : str or None
        ``owner/slug`` of the kernel whose output this one goes on from.
    """

    name: str
    hours: Annotated[float, Field(gt=0, le=MOST_HOURS)]
    experiments: tuple[Experiment, ...]
    method: Method = "z-score"
    shrinkage: float = 0.5
    resume: str | None = None

    @property
    def genre(self) -> list[Experiment]:
        """The experiments that are only trained to start others from."""
        return [experiment for experiment in self.experiments if experiment.task == "genre"]

    @property
    def emotion(self) -> list[Experiment]:
        """The experiments that are blended."""
        return [experiment for experiment in self.experiments if experiment.task == "emotion"]

    @property
    def hash(self) -> str:
        """Of the experiments alone, so that a training goes on with other hours."""
        resolved = [experiment_to_dict(experiment) for experiment in self.experiments]
        return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()


def read_plan(fields: Any) -> Plan:
    """Read a plan as the manifest holds it."""
    experiments = tuple(build_experiment(each, "the plan") for each in fields["experiments"])
    return TypeAdapter(Plan).validate_python(fields | {"experiments": experiments})


def plan_training(what: Sequence[Path], name: str, hours: float, resume: str | None) -> Plan:
    """Plan the training of experiments, or of all that a blend was made of.

    Parameters
    ----------
    what : sequence of Path
        Experiment files, names of built-in experiments, or the directory of a blend.
    name : str
        Of the blend that comes out.
    hours : float
        Within which the kernel is to end.
    resume : str or None
        ``owner/slug`` of the kernel to go on from.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        When an experiment can't be read, nothing predicts emotion, what does has different
        targets, two have one name, or the hours are not above 0 and at most 11.5.
    """
    if not 0 < hours <= MOST_HOURS:
        raise InputError(
            f"--hours is {hours:g}; give more than 0 and at most {MOST_HOURS}, since Kaggle ends a run at 12."
        )
    method, shrinkage = _way_of_blending(what)
    experiments = [experiment for path in what for experiment in _experiments(path)]
    plan = Plan(name, hours, tuple(sorted(experiments, key=_turn)), method, shrinkage, resume)
    names = [experiment.name for experiment in experiments] + [name]
    if repeated := sorted({each for each in names if names.count(each) > 1}):
        raise InputError(
            f"Two things are called {repeated[0]}. Give each experiment once, and another --name."
        )
    for experiment in experiments:
        _check_plain(experiment)
    if not plan.emotion:
        raise InputError("No experiment predicts emotion, so nothing can be handed in. Name one that does.")
    # without names, all targets are learnt: which these are is known where the data is
    if len({frozenset(e.data.targets) for e in plan.emotion if e.data.targets}) > 1:
        raise InputError(
            "The experiments have different data.targets, so they can't be blended. Give all the same."
        )
    return plan


def _check_plain(experiment: Experiment) -> None:
    """Refuse what needs more than the competition's arrays, or predicts other clips than its test split."""
    if experiment.pseudo.teachers:
        raise InputError(
            f"Experiment '{experiment.name}': pseudo.teachers are runs that Kaggle does not have. Train it "
            f"here and package a blend of it without --hours, or package its teachers."
        )
    foreign = [
        f"data.{key}" for key in ("windows", "statistics") if getattr(experiment.data, key) is not None
    ]
    if foreign or experiment.has_repeats:
        cause = foreign[0] if foreign else "folds.split 'holdout'"
        raise InputError(
            f"Experiment '{experiment.name}': {cause} is not for Kaggle, where folds of the competition's "
            f"own arrays predict its test split. Package another."
        )


def _is_experiment(path: Path) -> bool:
    """Whether it is an experiment file, or the name of a built-in one, and no blend."""
    return path.suffix == ".toml" or (path.name == str(path) and not path.exists())


def _way_of_blending(what: Sequence[Path]) -> tuple[Method, float]:
    blends = [read_recipe(path) for path in what if not _is_experiment(path)]
    if len(blends) > 1 or (blends and len(what) > 1):
        raise InputError("Name either one blend or experiment files.")
    return (blends[0].method, blends[0].shrinkage) if blends else ("z-score", 0.5)


def _experiments(path: Path) -> list[Experiment]:
    """Those of a file, or of a blend's runs and the genre runs these started from."""
    if _is_experiment(path):
        return [build_experiment(read_differences(path), str(path))]
    runs = [read_experiment(Path(run)) for run in read_recipe(path).members]
    trunks = [_TRUNK.search(run.model.trunk or "") for run in runs]
    folders = {Path(match.string).parents[2] for match in trunks if match}
    return runs + [read_experiment(folder) for folder in sorted(folders) if _is_pretrained(folder)]


def _is_pretrained(run: Path) -> bool:
    """Whether it can be trained again like this: pretraining scores no folds."""
    if not (run / "experiment.json").exists() or (run / "oof.csv").exists():
        return False
    experiment = read_experiment(run)
    return experiment.task == "genre" and experiment.name == run.name and not experiment.has_repeats


def _turn(experiment: Experiment) -> int:
    return 0 if experiment.is_classical else 1 if experiment.task == "genre" else 2


def add_plan(plan: Plan, dataset: Path) -> dict[str, Any]:
    """Copy the files that experiments name into the dataset; give what the manifest says of the plan.

    Raises
    ------
    InputError
        When such a file does not exist.
    """
    placed = tuple(_placed(experiment, plan, dataset) for experiment in plan.experiments)
    fields = asdict(replace(plan, experiments=())) | {"experiments": list(map(experiment_to_dict, placed))}
    return {"plan": fields}


def _placed(experiment: Experiment, plan: Plan, dataset: Path) -> Experiment:
    """The experiment as it is trained there: in a folder that holds data, stores, runs and its files."""

    def copied(key: str, path: str | Path | None) -> str | None:
        if path is None:
            return None
        if not Path(path).is_file():
            remedy = " Name its genre experiment, too." if key == "model.trunk" else ""
            raise InputError(f"Experiment '{experiment.name}': {key} {path} does not exist.{remedy}")
        name = f"{experiment.name}-{key.split('.')[-1]}{Path(path).suffix}"
        shutil.copyfile(path, dataset / name)
        return name

    model = experiment.model
    groups = copied("folds.groups", groups_file(experiment))
    weights = copied("model.weights", model.weights)
    trunk = _planned_trunk(model.trunk, plan) or copied("model.trunk", model.trunk)
    return experiment.model_copy(
        update={
            "data": experiment.data.model_copy(update={"root": "data", "stores": "stores"}),
            "folds": experiment.folds.model_copy(update={"groups": groups}),
            "model": model.model_copy(update={"weights": weights, "trunk": trunk}),
        }
    )


def _planned_trunk(trunk: str | None, plan: Plan) -> str | None:
    """Where the trunk will be, when it comes from a genre experiment of the same plan."""
    match = _TRUNK.search(trunk or "")
    if match is None:
        return None
    planned = any(e.name == match["name"] and int(match["seed"]) in e.seeds for e in plan.genre)
    return f"runs/{match[0]}" if planned else None
