"""Paired comparison of two runs on the same clips, from their text files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from music_emotion.config import Task
from music_emotion.evaluation.intervals import resampled_scores, spread_of
from music_emotion.evaluation.report import Run, Score, read_run
from music_emotion.evaluation.report_tables import interval, listed, markdown
from music_emotion.files import InputError, first_five

_MEASURES = (("accuracy",), ("weighted_f1",), ("macro_f1",))  # the verdict uses the last
_TOLERANCE = 1e-9  # for target values read from text


def compare_runs(one: Path, other: Path, headline: Sequence[str] = (), common: bool = False) -> str:
    """Compare the out-of-fold scores of two runs by a paired bootstrap over clips, or over their groups.

    Parameters
    ----------
    one, other : Path
        Directories of runs or blends with out-of-fold scores.
    headline : sequence of str
        Targets whose mean is used for the verdict; all common targets when empty. Genre runs use macro F1.
    common : bool
        Compare on the common clips. Without it, unfinished runs and runs with different clips are refused.

    Returns
    -------
    str
        A table of both scores and their difference, with 95 % intervals, and the share of resamples in which
        the first run is better. Then the verdict (whether the interval of the difference excludes 0) and
        notes.

    Raises
    ------
    InputError
        When a run is unfinished or has no out-of-fold scores, or the runs differ in clips, truth, classes or
        task.
    """
    if one.resolve() == other.resolve():
        raise InputError(f"Both runs are {one}. Name two different ones.")
    names = (one.name, other.name) if one.name != other.name else (str(one), str(other))
    pair = [_read(path, name) for path, name in zip((one, other), names, strict=True)]
    genres = [run.name for run in pair if run.file.classes]
    if len(genres) == 1:
        (emotion,) = set(names) - {*genres}
        raise InputError(f"{genres[0]} predicts genres and {emotion} targets. Compare runs of one kind.")
    if genres and headline:
        raise InputError("--headline names targets, but both runs predict genres. Leave it out.")
    if not common:
        _check_complete(*pair)
    truth, *tables = _on_common_clips(*pair)
    groups = next((run.groups for run in pair if run.groups is not None), None)
    task: Task = "genre" if genres else "emotion"
    ours, others = (resampled_scores(task, truth, table, groups) for table in tables)
    rows = {
        names: (ours.interval(names), others.interval(names), ours.difference(others, names))
        for names in (_MEASURES if genres else _means([str(name) for name in truth], headline))
    }
    return _text(pair, rows)


def _read(directory: Path, name: str) -> Run:
    if not directory.is_dir():
        raise InputError(f"The run {directory} does not exist. Name a run's folder, such as runs/blend.")
    run = read_run(directory, name)
    if run.truth.empty:
        what = "repeated splits, each with other test clips" if run.file.repeated else "a test split"
        raise InputError(f"{directory} is scored on {what}. Compare runs that are scored out of fold.")
    return run


def _check_complete(one: Run, other: Run) -> None:
    """Raise `InputError` for unfinished runs and for runs with different clips."""
    remedy = "give --common to compare the clips that both have predicted."
    for run in (one, other):
        n_scored = len(run.file.per_fold.scores)
        n_planned = run.experiment.folds.n * len(run.experiment.seeds) if run.experiment else n_scored
        if n_scored < n_planned:
            scored = f"{n_scored} of {n_planned} folds are scored"
            raise InputError(f"{run.name} is not finished: {scored}. Finish its training, or {remedy}")
    for first, second in ((one, other), (other, one)):
        if len(lacking := first.truth.index.difference(second.truth.index)):
            clips = f"{len(lacking)} clips of {first.name} ({first_five(lacking)})"
            raise InputError(f"{second.name} lacks {clips}. Train both on the same clips, or {remedy}")


def _on_common_clips(one: Run, other: Run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Truth and both predictions, restricted to common clips and columns."""
    both = f"{one.name} and {other.name}"
    if only := sorted(set(one.file.classes) ^ set(other.file.classes)):
        raise InputError(f"{both} differ in their classes ({first_five(only)}).")
    columns = [name for name in one.truth if name in other.truth]
    ids = one.truth.index.intersection(other.truth.index).sort_values()
    if not columns or len(ids) < 2:
        what = f"{len(ids)} clips" if columns else "no target"
        raise InputError(f"{both} have {what} in common, which can't be compared.")
    truth, others_truth, ours, others = (
        table.loc[ids, columns] for table in (one.truth, other.truth, one.predictions, other.predictions)
    )
    apart = ids[((truth - others_truth).abs() > _TOLERANCE).any(axis=1)]
    if len(apart):
        clips = f"{len(apart)} clips: {first_five(apart)}"
        raise InputError(f"{both} differ in the truth of {clips}. Train both on the same labels.")
    return truth, ours, others


def _means(targets: list[str], headline: Sequence[str]) -> list[tuple[str, ...]]:
    """Targets averaged in each row: single targets, all targets, and last the headline."""
    if unknown := [name for name in headline if name not in targets]:
        raise InputError(f"--headline names '{unknown[0]}'; both runs have the targets {', '.join(targets)}.")
    chosen = targets if set(headline) in (set(), set(targets)) else headline
    deciding = [tuple(chosen), tuple(targets), *((name,) for name in reversed(targets))]
    return list(dict.fromkeys(deciding))[::-1]


def _text(pair: list[Run], rows: Mapping[tuple[str, ...], tuple[dict[str, float], ...]]) -> str:
    one, other = pair
    table = []
    for names, (first, second, apart) in rows.items():
        name = names[0] if len(names) == 1 else f"mean of {listed(names)}"
        bounds = f"{apart['value']:+.3f} [{apart['low']:+.3f}, {apart['high']:+.3f}]"
        row = {"score": name, one.name: interval(Score(**first)), other.name: interval(Score(**second))}
        table.append(row | {"difference": bounds, "first above": f"{100 * apart['above']:.1f} %"})
    what = f"{'the ' * (len(names) > 1)}{name}"
    if apart["low"] <= 0 <= apart["high"]:
        verdict = f"The difference in {what}, {bounds}, may be chance: its interval contains 0."
    else:
        where = "above" if apart["value"] > 0 else "below"
        verdict = f"{one.name} is {where} {other.name} in {what} by {bounds}: the interval excludes 0."
    drawn = ", groups resampled" * any(run.groups is not None for run in pair)
    title = f"{one.name} minus {other.name}, out of fold{drawn}, n={apart['n']}:"
    return "\n".join([title, "", markdown(table), "", verdict, *_notes(pair, names)])


def _notes(pair: list[Run], names: Sequence[str]) -> list[str]:
    """Notes on selection on validation, spread over seeds, and numbers of averaged seeds or runs."""
    notes, averaged = [], []
    for run in pair:
        n_seeds, deviation = spread_of(run.file.model_dump(), names).get("seeds", (0, None))
        averaged.append(
            f"{len(run.members)} runs" if run.members else f"{n_seeds} seed{'s' * (n_seeds != 1)}"
        )
        if run.file.selected_on_validation:
            notes.append(f"the scored clips chose the epoch of {run.name}, so its score is too good.")
        if run.experiment is None or deviation is None:
            notes.append(f"{run.name} has no second seed, so its variation between trainings is unknown.")
        else:
            mean = pd.DataFrame(run.file.per_seed).loc[list(names)].to_numpy().mean()
            found = f"{mean:.3f} ± {deviation:.3f} (standard deviation over {n_seeds})"
            notes.append(f"single seeds of {run.name} score {found}.")
    if averaged[0] != averaged[1]:
        averages = f"{pair[0].name} averages {averaged[0]} and {pair[1].name} {averaged[1]}"
        notes.append(f"{averages}: a mean of several usually scores higher than one of them.")
    return [f"note: {note}" for note in notes]
