"""Runs of the same clips together, in their order, and compared in pairs with the default."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.evaluation.intervals import mean_score, paired_difference
from music_emotion.evaluation.report import fits
from music_emotion.evaluation.report_parts import Report, Run, Score
from music_emotion.files import InputError, nearest

# what depends on the data alone; targets are a choice, and so are rows
_ANYWHERE = ("name", "data.root", "data.stores", "data.target_range", "data.genres", "data.allow_bad_share")
_TOLERANCE = 1e-9  # of truths that went through text
_MOST_CHANGED = 2  # settings of an ablation: some need another one beside them, as a backbone its kind


@dataclass(frozen=True)
class Line:
    """A run among others of the same clips.

    Attributes
    ----------
    run : Run
    headline : Score
        Mean over the headline's targets; without an interval where the truth is not known.
    difference : Score or None
        Of the headline to the default's; None of the default itself, and where it can't be computed.
    """

    run: Run
    headline: Score
    difference: Score | None


@dataclass(frozen=True)
class Section:
    """Runs of the same clips and targets, the best headline first.

    Attributes
    ----------
    roots : tuple of str
        Where their data was, as their experiments have it.
    n : int
        Number of clips.
    targets, headline : tuple of str
        All targets, and those of the headline.
    default : str or None
        The run that the others are compared with; it may be of more clips.
    lines : tuple of Line
    """

    roots: tuple[str, ...]
    n: int
    targets: tuple[str, ...]
    headline: tuple[str, ...]
    default: str | None
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Ablation:
    """A run, and those on the same clips that differ from it in one setting or two.

    Attributes
    ----------
    budget : str
        Passes, folds and seeds of the run that the others vary, in words.
    section : Section
        Its `default` is that run.
    changed : dict of str to dict of str to Any
        By the name of a run, which settings it has otherwise, and how.
    """

    budget: str
    section: Section
    changed: dict[str, dict[str, Any]]


@dataclass
class _Group:
    """Runs of the same clips, while they are gathered."""

    runs: list[Run] = field(default_factory=list)
    roots: set[str] = field(default_factory=set)
    truth: pd.DataFrame | None = None

    @property
    def ids(self) -> pd.Index:
        return _predictions(self.runs[0]).index


def make_sections(report: Report, headline: Sequence[str] = (), default: str | None = None) -> list[Section]:
    """Gather the emotion runs that were scored out of fold by clips and targets.

    Parameters
    ----------
    report : Report
    headline : sequence of str
        The targets whose mean sorts the runs and is compared; all when empty. Runs that have none of
        them are compared by all of theirs.
    default : str, optional
        The run to compare with, where its clips allow it; elsewhere, and without it, a run that differs
        from the default experiment in its name, data and folds alone.

    Returns
    -------
    list of Section
        Those of most clips first.

    Raises
    ------
    InputError
        When no run has one of the headline's targets, or there is no run of the default's name.
    """
    runs = [run for run in report.runs if run.predictions is not None]
    for name in headline:
        if not any(name in run.targets for run in runs):
            known = {target for run in runs for target in run.targets}
            raise InputError(f"No run predicts the target '{name}' of --headline; {nearest(name, known)}")
    names = [run.name for run in runs]
    if default is not None and default not in names:
        raise InputError(
            f"--default names no run with out-of-fold scores: '{default}'; {nearest(default, names)}"
        )
    groups = _gather(runs, report.runs)
    sections = [_section(group, groups, headline, default) for group in groups]
    return sorted(sections, key=lambda section: (-section.n, section.roots, section.targets))


def make_ablation(report: Report, base: str, headline: Sequence[str] = ()) -> Ablation:
    """Compare with a run all those that differ from it in one setting, or in two.

    Parameters
    ----------
    report : Report
    base : str
        Name of the run, scored out of fold.
    headline : sequence of str
        As for `make_sections`.

    Raises
    ------
    InputError
        When there is no such run.
    """
    known = {run.name: run for run in report.runs if run.predictions is not None}
    experiments = {name: run.experiment for name, run in known.items() if run.experiment is not None}
    if base not in experiments:
        raise InputError(
            f"--ablations names no run with out-of-fold scores and settings, as blends have none: '{base}'; "
            f"{nearest(base, experiments)}"
        )
    usual = experiments[base]
    changed = {
        name: settings
        for name, experiment in experiments.items()
        if experiment.is_classical == usual.is_classical and known[name].folds == known[base].folds
        if 0 < len(settings := _changed(experiment, usual)) <= _MOST_CHANGED
    }
    group = next(
        group
        for group in _gather([known[name] for name in (base, *changed)], report.runs)
        if known[base] in group.runs
    )
    budget = f"{usual.train.epochs} passes over the training clips, {usual.folds.n} folds, "
    budget += f"seed{'s' * (len(usual.seeds) > 1)} {', '.join(map(str, usual.seeds))}"
    return Ablation(budget, _section(group, [group], headline, base), changed)


def _changed(experiment: Experiment, usual: Experiment) -> dict[str, Any]:
    return {key: value for key, value in differences(experiment, usual).items() if key != "name"}


def roots_of(run: Run, runs: Iterable[Run]) -> set[str]:
    """Where the data of a run was; of a blend or a vote, that of its members."""
    if run.experiment is not None:
        data = run.experiment.data
        return {data.windows or data.root}
    return {root for member in _members(run, runs) for root in roots_of(member, ())}


def _members(run: Run, runs: Iterable[Run]) -> list[Run]:
    by_name = sorted(runs, key=lambda known: -len(known.name))  # a study's row before a run of its name
    found = [next((r for r in by_name if f"/{path}".endswith(f"/{r.name}")), None) for path in run.members]
    return [member for member in found if member is not None and member.experiment is not None]


def _gather(runs: list[Run], every: list[Run]) -> list[_Group]:
    groups: list[_Group] = []
    for run in sorted(runs, key=lambda run: (run.truth is None, run.name)):  # those that tell more first
        roots = roots_of(run, every)
        group = next((group for group in groups if _belongs(run, roots, group)), None)
        if group is None:
            group = _Group(truth=run.truth)
            groups.append(group)
        group.runs.append(run)
        group.roots |= roots
    for group in groups:
        if group.truth is None:
            group.truth = _borrowed(group, groups)
    return groups


def _belongs(run: Run, roots: set[str], group: _Group) -> bool:
    """Whether a run is of the group's clips: ids can be the same in another set."""
    if set(run.targets) != set(group.runs[0].targets) or not _predictions(run).index.equals(group.ids):
        return False
    if run.truth is not None and group.truth is not None:
        return _equal(run.truth, group.truth)
    if group.truth is not None:
        return _fits(run, group.truth)
    return not roots or not group.roots or bool(roots & group.roots)


def _borrowed(group: _Group, groups: list[_Group]) -> pd.DataFrame | None:
    """The truth of runs that have not kept it, from others of more clips, if their scores follow from it."""
    targets = list(group.runs[0].targets)
    for other in groups:
        if other.truth is None or not group.ids.isin(other.ids).all() or not set(targets) <= set(other.truth):
            continue
        truth = other.truth.loc[group.ids, targets]
        if all(_fits(run, truth) for run in group.runs):
            return truth
    return None


def _fits(run: Run, truth: pd.DataFrame) -> bool:
    return fits(run.scores, truth, _predictions(run)[list(truth)])


def _equal(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return np.allclose(one[list(other)], other, rtol=0, atol=_TOLERANCE)


def _section(group: _Group, groups: list[_Group], headline: Sequence[str], named: str | None) -> Section:
    targets = group.runs[0].targets
    chosen = tuple(name for name in headline if name in targets) or targets
    default = _default(group, groups, chosen, named)
    lines = [_line(run, group.truth, chosen, default) for run in group.runs]
    lines.sort(key=lambda line: (-line.headline.value, line.run.name))
    name = None if default is None else default.name
    return Section(tuple(sorted(group.roots)), len(group.ids), targets, chosen, name, tuple(lines))


def _line(run: Run, truth: pd.DataFrame | None, headline: tuple[str, ...], default: Run | None) -> Line:
    if truth is None:
        value = float(np.mean([run.scores[name].value for name in headline]))
        known = run.scores["mean"] if set(headline) == set(run.targets) and "mean" in run.scores else None
        return Line(run, known or Score(value), None)
    predictions = _predictions(run)
    score = _as_score(mean_score(truth, predictions, headline))
    if default is None or default is run:
        return Line(run, score, None)
    difference = paired_difference(truth, predictions, _predictions(default), headline)
    return Line(run, score, _as_score(difference))


def _as_score(held: dict[str, float]) -> Score:
    return Score(held["value"], held["low"], held["high"], int(held["n"]))


def _default(group: _Group, groups: list[_Group], headline: tuple[str, ...], named: str | None) -> Run | None:
    """The run to compare a group with: of its own, or one of another that knows all its clips."""
    fitting = [
        run
        for other in groups
        for run in other.runs
        if set(headline) <= set(run.targets) and _covers(other, group, list(headline))
    ]
    by_name = [run for run in fitting if run.name == named]
    usual = [run for run in fitting if run.experiment is not None and is_default(run.experiment)]
    usual.sort(key=lambda run: (run not in group.runs, -run.n_settings, run.name))
    return next(iter(by_name + usual), None)


def _covers(other: _Group, group: _Group, targets: list[str]) -> bool:
    """Whether another group has predicted all clips of this one."""
    if other is group:
        return True
    if other.truth is None or group.truth is None or not group.ids.isin(other.ids).all():
        return False
    return _equal(other.truth.loc[group.ids, targets], group.truth[targets])


def is_default(experiment: Experiment) -> bool:
    """Whether an experiment differs from the default in nothing but its name, data and folds."""
    return all(key in _ANYWHERE or key.startswith("folds.") for key in differences(experiment, Experiment()))


def differences(experiment: Experiment, other: Experiment) -> dict[str, Any]:
    """The settings of an experiment that another has otherwise, by their dotted keys."""
    held, others = experiment_to_dict(experiment), experiment_to_dict(other)
    different: dict[str, Any] = {}
    for key, value in held.items():
        if isinstance(value, dict):
            own = {f"{key}.{name}": each for name, each in value.items() if each != others[key][name]}
            different |= own
        elif value != others[key]:
            different[key] = value
    return different


def _predictions(run: Run) -> pd.DataFrame:
    if run.predictions is None:
        raise ValueError("a run of a section has out-of-fold predictions")
    return run.predictions
