"""Score runs from the predictions of their folds: out of fold, on the test split, or over repeats."""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report, confusion_matrix, log_loss

from music_emotion import files
from music_emotion.config import Experiment, Task
from music_emotion.datasets.labels import read_genres
from music_emotion.datasets.layout import leading_id
from music_emotion.evaluation.blend import blend, in_target_units
from music_emotion.evaluation.intervals import resampled_measures, resampled_scores, spread_of
from music_emotion.evaluation.metrics import MEASURES, table_scores
from music_emotion.files import GROUP, InputError, first_five

SCORES = "scores.json"
Scales = Mapping[str, tuple[float, float]]  # target to lowest and highest value in the data set's own scale
Folds = Mapping[int, Mapping[int, pd.DataFrame]]  # seed to fold to prediction table
_LEAST_PROBABLE = 1e-7
_PARTS = {  # file of a repeat and title in the summary
    "test": ("test.csv", "test clips"),
    "last": ("test-last.csv", "test clips, last epoch"),
    "valid": ("valid.csv", "validation clips"),
}


def score_run(
    directory: Path,
    experiment: Experiment,
    truth: pd.DataFrame,
    part: Literal["valid", "test"] = "valid",
    groups: pd.Series | None = None,
    scales: Scales | None = None,
) -> str:
    """Score a run from the predictions of its folds.

    Reads ``seed*/fold*/valid.csv`` (or ``test.csv``) of the run. Writes `scores.json`. If there is a test
    split, writes `test.csv`, the mean over folds and seeds. For out-of-fold predictions, writes `oof.csv` and
    `truth.csv`. For genre runs, writes `report.txt` and `confusion.csv`.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    experiment : Experiment
    truth : pd.DataFrame
        Target values or one-hot classes of the scored clips, indexed by `Id`.
    part : {"valid", "test"}
        Predictions to score: out-of-fold, or of the test split for pretraining, where its labels are known.
    groups, scales
        As for `score_folds`.

    Returns
    -------
    str
        Scores as text, from `summary`.

    Raises
    ------
    InputError
        When no fold is finished, or predictions and truth don't match.
    """
    folds = read_folds(directory, part)
    scores = score_folds(experiment.task, truth, folds, groups, scales)
    tables = [table for of_seed in folds.values() for table in of_seed.values()]
    known = mean_table(tables)
    with files.together(directory, SCORES) as fresh:
        if any(directory.glob("seed*/fold*/test.csv")):  # the data may have no test split
            tests = tables if part == "test" else every_fold(directory, "test")
            predictions = mean_table(tests)
            if experiment.task == "emotion":
                units = predictions.mean(), predictions.std(ddof=0)
                predictions = in_target_units(blend(tests, "z-score"), *units)
            files.write_predictions(fresh / "test.csv", predictions)
        if part == "valid":
            scores["selected_on_validation"] = experiment.selects_on_validation
            files.write_predictions(fresh / "oof.csv", known)
            write_truth(fresh / "truth.csv", truth.loc[known.index], experiment.task, groups)
        if experiment.task == "genre":
            _write_report(fresh, truth, known)
        files.write_json(fresh / SCORES, scores)
    return summary(directory.name, scores, "out-of-fold" if part == "valid" else "test split")


def score_folds(
    task: Task,
    truth: pd.DataFrame,
    folds: Folds,
    groups: pd.Series | None = None,
    scales: Scales | None = None,
) -> dict[str, Any]:
    """Score predictions: pooled over folds, per seed, and per fold.

    Parameters
    ----------
    task : {"emotion", "genre"}
    truth : pd.DataFrame
        Target values or one-hot classes, indexed by `Id`. May contain more clips than were predicted.
    folds : mapping
        Seed to fold to prediction table.
    groups : pd.Series, optional
        Group of every clip, indexed by `Id`. Intervals then resample groups.
    scales : mapping of str to tuple of float, optional
        Lowest and highest value of a target in the data set's own scale, for ``rmse_own_scale``.

    Returns
    -------
    dict
        Content of `scores.json`. ``n``: number of clips. ``groups``: number of groups, if given. ``pooled``:
        scores of the mean prediction over seeds, with intervals. ``per_seed``, ``per_fold``: single scores.
        For genres, ``classes``. For targets, ``measures`` (from `resampled_measures`) and ``scales`` (if
        given).

    Raises
    ------
    InputError
        When there are no predictions, ids or columns don't match, or the truth of a fold is constant.
    """
    if not folds or (task == "emotion" and "mean" in truth):
        raise InputError("Give out-of-fold predictions of at least one seed, of no target named 'mean'.")
    folds = {seed: dict(sorted(tables.items())) for seed, tables in sorted(folds.items())}
    of_seeds = {
        seed: _checked(pd.concat(tables.values()), truth, f"predictions of seed {seed}")
        for seed, tables in folds.items()
    }
    pooled = mean_table(list(of_seeds.values()))
    rows = _fold_rows(task, truth, folds)
    scores: dict[str, Any] = {"n": len(pooled)}
    if groups is not None:
        scores["groups"] = groups.loc[pooled.index].nunique()
    if task == "genre":
        scores["classes"] = [str(name) for name in truth]
    scores["pooled"] = resampled_scores(task, truth, pooled, groups).intervals()
    scores["per_seed"] = {str(seed): table_scores(task, truth, table) for seed, table in of_seeds.items()}
    scores["per_fold"] = {"scores": rows}
    if task == "emotion":
        for name, n in truth.loc[pooled.index].count().items():  # clips of several sets may lack a target
            scores["pooled"][str(name)]["n"] = int(n)
        scores["measures"] = resampled_measures(truth, pooled, groups, scales)
        scores |= {"scales": dict(scales)} if scales else {}
    return scores


def _fold_rows(task: Task, truth: pd.DataFrame, folds: Folds) -> list[dict[str, Any]]:
    """Score every fold."""
    rows = []
    for seed, tables in folds.items():
        for fold, table in tables.items():
            try:
                scores = table_scores(task, truth, table)
            except InputError as error:
                raise InputError(f"Seed {seed}, fold {fold}: {error}") from None
            rows.append({"seed": seed, "fold": fold, "n": len(table), "scores": scores})
    return rows


def _checked(table: pd.DataFrame, truth: pd.DataFrame, place: str) -> pd.DataFrame:
    """Check that a table has the columns of the truth and only labelled clips, and order its columns."""
    files.check_predictions(table, place)
    if len(unknown := table.index.difference(truth.index)):
        raise InputError(f"The {place} have {len(unknown)} clips without a label: {first_five(unknown)}.")
    if len(apart := table.columns.symmetric_difference(truth.columns)):
        raise InputError(f"The {place} and the truth differ in their columns ({first_five(apart)}).")
    return table[list(truth.columns)]


def write_truth(path: Path, truth: pd.DataFrame, task: Task, groups: pd.Series | None = None) -> None:
    """Write labels: target values as a prediction table, one-hot classes as a column `Genre`; and groups."""
    files.check_predictions(truth, str(path), may_lack=True)
    table = truth if task == "emotion" else truth.idxmax(axis=1).to_frame("Genre")
    if groups is not None:
        table = table.assign(**{GROUP: groups})
    files.write_table(path, table.rename_axis("Id").reset_index())


def read_run_groups(path: Path) -> pd.Series | None:
    """Read the groups of a run's clips.

    Parameters
    ----------
    path : Path
        `truth.csv`, written by `write_truth`.

    Returns
    -------
    pd.Series or None
        Names of the groups, indexed by `Id`; None if the run has no groups.
    """
    cells = files.read_cells(path, ",")
    found = cells.loc[:, cells.iloc[0] == GROUP].iloc[1:]
    return None if found.empty else found.set_axis(cells.iloc[1:, 0].map(leading_id)).iloc[:, 0].fillna("")


def read_classes(path: Path, classes: Sequence[str]) -> pd.DataFrame:
    """Read the true classes of a genre run.

    Parameters
    ----------
    path : Path
        `truth.csv`, written by `write_truth`.
    classes : sequence of str
        Classes of the run.

    Returns
    -------
    pd.DataFrame
        One-hot classes, indexed by `Id`.

    Raises
    ------
    InputError
        When the file is missing or damaged, or has other classes.
    """
    remedy = "Run the command that trains the run again; it trains only what is missing."
    genres = read_genres(files.regular_file(path, remedy=remedy))
    if unknown := sorted(set(genres) - set(classes)):
        raise InputError(f"{path} has the classes {first_five(unknown)}, which were not predicted. {remedy}")
    return pd.DataFrame({name: (genres == name).astype(float) for name in classes}, genres.index)


def read_folds(directory: Path, part: str) -> dict[int, dict[int, pd.DataFrame]]:
    """Read the prediction tables of a run.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    part : {"valid", "test"}
        Read ``valid.csv`` (validation clips) or ``test.csv`` (test split) of each fold.

    Returns
    -------
    dict of int to dict of int to pd.DataFrame
        Seed to fold to prediction table.

    Raises
    ------
    InputError
        When no fold is finished.
    """
    tables: dict[int, dict[int, pd.DataFrame]] = {}
    for path in sorted(directory.glob(f"seed*/fold*/{part}.csv")):
        seed, fold = (int(folder.name.lstrip("sedfol")) for folder in (path.parent.parent, path.parent))
        tables.setdefault(seed, {})[fold] = files.read_predictions(path)
    if not tables:
        raise InputError(f"{directory} has no finished folds (seed*/fold*/{part}.csv). Train it first.")
    return tables


def every_fold(directory: Path, part: str) -> list[pd.DataFrame]:
    """Read the prediction tables of all seeds and folds as a list. See `read_folds`."""
    return [table for tables in read_folds(directory, part).values() for table in tables.values()]


def fold_numbers(tables: Mapping[int, pd.DataFrame]) -> pd.Series:
    """Fold of every clip, indexed by `Id`, from the validation tables of one seed."""
    return pd.concat([pd.Series(fold, table.index) for fold, table in tables.items()]).sort_index()


def mean_table(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Mean prediction of each clip over the tables that contain it, sorted by `Id`."""
    return pd.concat(tables).groupby(level="Id").mean()


def _write_report(directory: Path, truth: pd.DataFrame, table: pd.DataFrame, mark: str = "") -> None:
    """Write `report<mark>.txt` and `confusion<mark>.csv`."""
    classes, labels = list(truth), range(truth.shape[1])
    known, predicted = (each[classes].to_numpy().argmax(axis=1) for each in (truth.loc[table.index], table))
    text = classification_report(
        known, predicted, labels=labels, target_names=classes, digits=3, zero_division=0
    )
    files.write_text(directory / f"report{mark}.txt", text)
    counts = pd.DataFrame(confusion_matrix(known, predicted, labels=labels), classes, classes)
    files.write_table(directory / f"confusion{mark}.csv", counts.rename_axis("truth").reset_index())


def summary(name: str, scores: dict[str, Any], clips: str = "out-of-fold") -> str:
    """Format scores: value, 95 % interval, number of clips, standard deviations over seeds and folds.

    A table of the other measures follows.

    Parameters
    ----------
    name : str
        Name of the run.
    scores : dict
        From `score_folds`.
    clips : str
        Description of the scored clips.

    Returns
    -------
    str
        A heading, then one line per score, then one line per target.
    """
    mark = ", selected on validation" if scores.get("selected_on_validation") else ""
    mark += f", intervals over {scores['groups']} groups" if "groups" in scores else ""
    lines = [f"{name} ({clips}{mark}):"]
    if "mean" in scores["pooled"]:
        lines.append("  Spearman's correlation [95 % interval], deviation over seeds and folds")
    for key, score in scores["pooled"].items():
        spreads = []
        for what, (n, deviation) in spread_of(scores, [key]).items():
            known = "unknown" if deviation is None else f"{deviation:.3f}"
            spreads.append(f"± {known} ({n} {what.removesuffix('s') if n == 1 else what})")
        bounds = f"[{score['low']:.3f}, {score['high']:.3f}]"
        lines.append(
            f"  {key:<14} {score['value']:.3f}  {bounds}  n={score['n']}  {', '.join(spreads)}".rstrip()
        )
    return "\n".join([*lines, *_measures_text(scores)])


def _measures_text(scores: dict[str, Any]) -> list[str]:
    """Format the measures beside the main score: one line per target."""
    cells = {
        MEASURES[measure]: {
            target: "{value:.3f} [{low:.3f}, {high:.3f}]".format(**score) for target, score in each.items()
        }
        for measure, each in scores.get("measures", {}).items()
    }
    lines = pd.DataFrame(cells).fillna("").to_string().splitlines() if cells else []
    return [f"  {line}" for line in lines]


def score_repeats(
    directory: Path,
    experiment: Experiment,
    truth: Mapping[str, pd.DataFrame],
    n_train: Sequence[int],
    groups: pd.Series | None = None,
    scales: Scales | None = None,
) -> str:
    """Score a run of repeated splits, in which every seed has its own training, validation and test clips.

    Writes `scores.json`, and the labels as `truth-valid.csv` and `truth-test.csv`, which `vote` reads. For
    genre runs, it also writes reports over the test clips of all repeats.

    Parameters
    ----------
    directory : Path
        ``runs/<name>``.
    experiment : Experiment
    truth : mapping of str to pd.DataFrame
        "valid" and "test" to target values or one-hot classes of the clips of all repeats.
    n_train : sequence of int
        Number of training clips of every seed.
    groups, scales
        As for `score_folds`. They are used only if all seeds have the same test clips, as those of a
        published split: then the mean prediction over seeds has ``pooled`` scores and ``measures`` with
        intervals.

    Returns
    -------
    str
        Mean, standard deviation, smallest and largest score over the repeats, as text.
    """
    folders = [directory / f"seed{seed}" / "fold0" for seed in experiment.seeds]
    tables = {
        part: [files.read_predictions(folder / file) for folder in folders]
        for part, (file, _) in _PARTS.items()
        if (folders[0] / file).exists()
    }
    scored = {
        part: [_repeat_scores(experiment.task, truth.get(part, truth["test"]), table) for table in each]
        for part, each in tables.items()
    }
    repeats = [
        {"seed": seed, "n_train": n_train[k]}
        | {f"n_{part}": len(tables[part][k]) for part in ("valid", "test")}
        | {part: each[k] for part, each in scored.items()}
        for k, seed in enumerate(experiment.seeds)
    ]
    scores = {
        "repeats": repeats,
        "repeated": {part: _over_repeats(each) for part, each in scored.items()},
        "selected_on_validation": False,  # test clips select nothing
    }
    if len({tuple(sorted(table.index)) for table in tables["test"]}) == 1:
        mean = mean_table(tables["test"])
        scores["pooled"] = resampled_scores(experiment.task, truth["test"], mean, groups).intervals()
        if experiment.task == "emotion":
            scores["measures"] = resampled_measures(truth["test"], mean, groups, scales)
    with files.together(directory, SCORES) as fresh:
        for split, known in truth.items():
            write_truth(fresh / f"truth-{split}.csv", known, experiment.task)
        if experiment.task == "genre":
            for part, mark in (("test", ""), ("last", "-last")):
                if part in tables:
                    _write_report(fresh, truth["test"], pd.concat(tables[part]), mark)
        files.write_json(fresh / SCORES, scores)
    return _repeats_summary(directory.name, scores)


def _repeat_scores(task: Task, truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    scores = table_scores(task, truth, table)
    if task == "emotion":
        return scores
    likely = np.clip(table[list(truth)].to_numpy(), _LEAST_PROBABLE, 1)  # untrained classes have 0
    known = truth.loc[table.index].to_numpy().argmax(axis=1)
    loss = log_loss(known, likely / likely.sum(axis=1, keepdims=True), labels=range(truth.shape[1]))
    return scores | {"loss": float(loss)}


def _over_repeats(scores: list[dict[str, float]]) -> dict[Hashable, dict[str, float | None]]:
    table = pd.DataFrame(scores)
    found = table.agg(["mean", "std", "min", "max"]).set_axis(["value", "sd", "low", "high"])
    return found.astype(object).where(found.notna(), None).to_dict()


def _repeats_summary(name: str, scores: dict[str, Any]) -> str:
    """Format scores: mean, standard deviation, smallest and largest over the repeats."""
    sizes = sorted({repeat["n_test"] for repeat in scores["repeats"]})
    size = " to ".join(map(str, dict.fromkeys([sizes[0], sizes[-1]])))
    lines = [f"{name} ({len(scores['repeats'])} repeats, {size} test clips each; mean, deviation, range):"]
    for part, repeated in scores["repeated"].items():
        lines.append(f"  {_PARTS[part][1]}")
        for metric, score in repeated.items():
            deviation = "" if score["sd"] is None else f" ± {score['sd']:.3f}"
            lines.append(
                f"    {metric:<14} {score['value']:.3f}{deviation}  [{score['low']:.3f}, {score['high']:.3f}]"
            )
    if pooled := scores.get("pooled"):
        lines.append("  test, mean prediction of the repeats, 95 % intervals")
        for metric, score in pooled.items():
            lines.append(f"    {metric:<14} {score['value']:.3f}  [{score['low']:.3f}, {score['high']:.3f}]")
    return "\n".join([*lines, *_measures_text(scores)])
