"""Reading of runs and submissions from their text files alone: no data, stores or weights."""

from dataclasses import field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from music_emotion.config import Experiment, build_experiment
from music_emotion.evaluation.blend import Recipe, read_recipe
from music_emotion.evaluation.metrics import target_scores
from music_emotion.evaluation.report_costs import read_run_cost
from music_emotion.evaluation.report_parts import Report, Run, Scores, Submission
from music_emotion.files import InputError, read_json, read_predictions

# one of them makes a folder a run
_MARKS = ("experiment.json", "blend.json", "vote.json", "scores.json", "diverged.json")
_TOLERANCE = 1e-6  # of scores computed by other versions of scipy

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class _Repeat:
    n_test: int


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class _Fold:
    seed: int
    scores: dict[str, float]


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class _PerFold:
    scores: tuple[_Fold, ...] = ()


@dataclass(frozen=True, config=ConfigDict(extra="ignore"))
class _Held:
    """What `scores.json` holds: of folds or a test split `pooled`, of repeats `repeated`."""

    pooled: Scores | None = None
    per_seed: dict[str, dict[str, float]] = field(default_factory=dict)
    per_fold: _PerFold = _PerFold()
    repeated: dict[str, Scores] | None = None
    repeats: tuple[_Repeat, ...] = ()
    folds: dict[str, tuple[int, ...]] | None = None
    classes: tuple[str, ...] = ()
    selected_on_validation: bool = False


def read_report(runs: Path, submissions: Path) -> Report:
    """Read every run and every card; those that can't be read become problems.

    Parameters
    ----------
    runs : Path
        Folder of all runs, of studies' rows too.
    submissions : Path
        Folder of the cards; may be missing.

    Raises
    ------
    InputError
        When the folder of runs does not exist or holds none.
    """
    if not runs.is_dir():
        raise InputError(f"The folder of runs {runs} does not exist. Give another --runs.")
    report = Report()
    places = sorted({path.parent for mark in _MARKS for path in runs.rglob(mark)} - {runs})
    if not places:
        raise InputError(f"{runs} holds no runs. Train one first, or give another --runs.")
    for place in places:
        name = place.relative_to(runs).as_posix()
        try:
            report.runs.append(read_run(place, name))
        except (InputError, OSError) as error:
            report.problems.append((name, _sentence(error, runs)))
    for path in sorted(submissions.glob("*.json")):
        try:
            report.submissions.append(_parsed(Submission, read_json(path), path))
        except (InputError, OSError) as error:
            report.problems.append((path.name, _sentence(error, submissions)))
    report.submissions.sort(key=lambda card: (card.date, card.file))
    return report


def _sentence(error: Exception, folder: Path) -> str:
    """An error in words that are the same wherever the folder is."""
    return str(error).replace(f"{folder}/", "")


def read_run(directory: Path, name: str) -> Run:
    """Read the files of one run.

    Raises
    ------
    InputError
        When it is not scored yet, or a file is damaged or contradicts another.
    """
    _check_scored(directory, name)
    held = _parsed(_Held, read_json(directory / "scores.json"), directory / "scores.json")
    experiment, n_settings = _experiment(directory)
    recipe = read_recipe(directory) if (directory / "blend.json").exists() else None
    scores = held.pooled if held.repeated is None else held.repeated.get("test")
    if not scores:
        raise InputError(
            f"{directory / 'scores.json'} holds no scores. Run the command that trained it again."
        )
    predictions, truth = None, None
    if held.repeated is None and not held.classes:
        predictions, truth = _tables(directory, scores)
    folds, seeds = _finished(directory, held)
    return Run(
        name,
        experiment,
        n_settings,
        scores,
        last_scores=(held.repeated or {}).get("last", {}),
        single=_single(held, scores, directory / "scores.json"),
        folds=folds,
        seeds=seeds,
        n_test=tuple(sorted({repeat.n_test for repeat in held.repeats})),
        selected=held.selected_on_validation,
        classes=held.classes,
        out_of_fold=held.repeated is None and (directory / "oof.csv").exists(),
        predictions=predictions,
        truth=truth,
        recipe=recipe,
        members=_members(directory, recipe),
        cost=read_run_cost(directory),
    )


def _single(held: _Held, scores: Scores, path: Path) -> dict[str, Any]:
    """The scores of single seeds and folds, each of which has all that the run has."""
    rows = held.per_fold.scores
    for each in [*held.per_seed.values(), *(row.scores for row in rows)]:
        if lacking := [name for name in scores if name not in each]:
            raise InputError(
                f"{path} holds no '{lacking[0]}' of a single seed or fold. "
                f"Run the command that made it again."
            )
    of_folds = [{"seed": row.seed, "scores": row.scores} for row in rows]
    return {"per_seed": held.per_seed, "per_fold": {"scores": of_folds}}


def _check_scored(directory: Path, name: str) -> None:
    if (directory / "scores.json").exists():
        return
    if (directory / "diverged.json").exists():
        noted = _parsed(dict[str, Any], read_json(directory / "diverged.json"), directory / "diverged.json")
        raise InputError(f"Its training diverged. {noted.get('problem', '')}".strip())
    finished = len(list(directory.glob("seed*/fold*/valid.csv")))
    raise InputError(
        f"{name} is not finished: it has no scores.json, and {finished} trained folds. Run the command that "
        f"makes it again."
    )


def _experiment(directory: Path) -> tuple[Experiment | None, int]:
    """What was run, and how many settings the file tells."""
    path = directory / "experiment.json"
    if not path.exists():
        return None, 0
    told = _parsed(dict[str, Any], read_json(path), path)
    n_settings = sum(len(value) if isinstance(value, dict) else 1 for value in told.values())
    return build_experiment(told, str(path)), n_settings


def _tables(directory: Path, scores: Scores) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Out-of-fold predictions and truth, which the scores must be of."""
    predictions, path = read_predictions(directory / "oof.csv"), directory / "truth.csv"
    targets = [name for name in scores if name != "mean"]
    remedy = "Run the command that made them again."
    if set(predictions.columns) != set(targets):
        raise InputError(f"{directory / 'oof.csv'} has other targets than scores.json. {remedy}")
    predictions = predictions[targets]
    if not path.exists():  # as in runs of earlier versions
        return predictions, None
    truth = read_predictions(path)
    if not truth.index.equals(predictions.index) or set(truth.columns) != set(targets):
        raise InputError(f"{path} is not of the clips and targets of oof.csv. {remedy}")
    if not fits(scores, truth[targets], predictions):
        raise InputError(
            f"{directory / 'scores.json'} holds other scores than oof.csv and truth.csv give. {remedy}"
        )
    return predictions, truth[targets]


def fits(scores: Scores, truth: pd.DataFrame, predictions: pd.DataFrame) -> bool:
    """Whether scores are those of some predictions and target values."""
    return all(
        bool(np.isclose(value, scores[name].value, rtol=0, atol=_TOLERANCE))
        for name, value in target_scores(truth, predictions).items()
        if name in scores
    )


def _finished(directory: Path, held: _Held) -> tuple[int, int]:
    """Numbers of folds and of seeds that were scored."""
    if held.folds:
        return max(len(folds) for folds in held.folds.values()), len(held.folds)
    places = [path.parent for path in directory.glob("seed*/fold*/valid.csv")]
    return len({place.name for place in places}), len({place.parent.name for place in places})


def _members(directory: Path, recipe: Recipe | None) -> tuple[str, ...]:
    if recipe is not None:
        return tuple(recipe.members)
    path = directory / "vote.json"
    return tuple(_parsed(dict[str, list[str]], read_json(path), path)["members"]) if path.exists() else ()


def _parsed(kind: type[_Kind], value: Any, path: Path) -> _Kind:
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise InputError(
            f"{path} does not hold what it should ({where}{first['msg']}). Run the command "
            f"that wrote it again."
        ) from None
