"""Write a report as a Markdown page: one table per set of clips, with paired differences to the default."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.config import Experiment, build_experiment, experiment_to_dict
from music_emotion.evaluation.intervals import Resampled, resampled_scores, spread_of
from music_emotion.evaluation.metrics import MEASURES
from music_emotion.evaluation.report import Report, Run, Score
from music_emotion.experiment_files import dotted, read_differences
from music_emotion.files import InputError, nearest

_PLACES = ("name", "data.root", "data.stores", "folds.groups")
_OF_THE_DATA = (*_PLACES, "data.target_range", "data.genres", "data.allow_bad_share", "folds.")
_DECIMALS = 9  # for comparing target values
_MOST_CHANGED = 2  # settings of an ablation; changing a backbone takes two
_MOST_NAMED = 6
_MEASURES = {"macro_f1": "macro F1", "weighted_f1": "weighted F1"}
_NOTES = """\
This page is made from the files of `runs/` and `submissions/` by `{command}`.

- **Scores** are Spearman correlations over all clips, predicted out of fold. With several seeds, their mean
  prediction is scored. Repeated splits have the mean ± standard deviation over splits [smallest, largest].
- **[low, high]** is a 95 % interval from 2,000 bootstrap resamples of the clips. It is too narrow where many
  clips share an artist, and for macro F1 on a hundred clips with rare classes.
- **± seeds** and **± folds** are standard deviations of the mean that sorts the table: over single seeds, and
  of single folds around the mean of their seed.
- **Differences** compare a run with the default in the same resamples of the clips that both predict. Bold
  ones have an interval without 0, as one in twenty has by chance. Another seed may give another difference.
  The default is {default}.
- The best of many rows is a little too good, because the same clips ranked them.
- *Selected on validation*: the scored clips chose the epoch, so the score is too good.
- **Blends** have nested scores: a clip's weights were chosen without it. Their members may not have been.
- **Minutes** are those of all folds and seeds. **Memory** is the peak of a process since it started.
- – means that the files do not tell."""
_OTHER = "Other measures of these runs. All intervals of runs with groups, such as artists, resample groups."
_COSTS = {
    **{"parameters": "weights", "peak_memory_bytes": "memory", "peak_device_memory_bytes": "GPU memory"},
    **{name: name for name in ("device", "threads", "processes", "precision", "commit")},
}

Row = dict[str, str]


def make_page(
    report: Report,
    command: str,
    experiments: Path,
    headline: Sequence[str] = (),
    default: str | None = None,
    ablations: Sequence[str] = (),
) -> str:
    """Write a report as Markdown. The page depends only on the files of the runs.

    Parameters
    ----------
    report : Report
    command : str
        Command that makes the page. It becomes the first line.
    experiments : Path
        Folder of experiment files; may be missing. The first comment of a file describes its run.
    headline : sequence of str
        Targets whose mean sorts and compares the runs; all when empty. Runs without these targets use all
        their own.
    default : str, optional
        Run to compare with, if it covers the same clips. Otherwise, a run that differs from the default
        experiment only in name, data and folds.
    ablations : sequence of str
        Runs that get an ablation table: all runs that differ from them in one or two settings.

    Returns
    -------
    str

    Raises
    ------
    InputError
        When no run has a target of the headline, or `default` or `ablations` name an unsuitable run.
    """
    runs = {run.name: run for run in report.runs if not run.predictions.empty and not run.file.classes}
    targets = {target for run in runs.values() for target in run.targets}
    for name in headline:
        if name not in targets:
            raise InputError(f"No run predicts the target '{name}' of --headline; {nearest(name, targets)}")
    if default is not None and default not in runs:
        raise InputError(f"--default: '{default}' has no out-of-fold scores; {nearest(default, runs)}")
    usual = "the run that differs from the default experiment only in name, data and folds"
    usual = usual if default is None else f"{code(default)}, or on other clips {usual}"
    page = [f"<!-- {command} -->", "# Results", _NOTES.format(command=command, default=usual)]
    groups = _same_clips(list(runs.values()))
    for group in sorted(groups, key=lambda group: (-len(group[0].truth), _title(group, report.runs))):
        title = f"## {_title(group, report.runs)}, {len(group[0].truth)} clips"
        again = sum(part.startswith(title) for part in page) + 1  # same title: the labels have changed
        page.append(title if again == 1 else f"{title} (other labels, {again})")
        against = _default_of(group, list(runs.values()), headline, default)
        cells = {run.name: _run_cells(run, experiments) for run in group}
        page.append(_target_table(group, headline, against, cells))
        page += _measures(group)
    for name in ablations:
        page += _ablation(name, runs, headline)
    page += _blends(report.runs) + _not_paired(report.runs, experiments) + _costs(report.runs)
    page += _submissions(report)
    if report.problems:
        lines = [f"- {code(name)}: {' '.join(sentence.split())}" for name, sentence in report.problems]
        page += ["## Without numbers", "\n".join(lines)]
    return "\n\n".join(page) + "\n"


def _same_clips(runs: list[Run]) -> list[list[Run]]:
    """Group runs by clips, targets and target values. Ids alone don't identify a set."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.truth[sorted(run.targets)].round(_DECIMALS).to_csv(), []).append(run)
    return list(groups.values())


def _default_of(group: list[Run], runs: list[Run], headline: Sequence[str], name: str | None) -> Run | None:
    """Find the run to compare a group with: the named run, or one of the default experiment."""
    truth = group[0].truth[_chosen(group[0], headline)].round(_DECIMALS)
    fitting = [
        run
        for run in [*group, *runs]
        if set(truth) <= set(run.truth)
        and run.truth[list(truth)].round(_DECIMALS).reindex(truth.index).equals(truth)
    ]
    usual = [
        run
        for run in fitting
        if run.experiment is not None
        and all(key.startswith(_OF_THE_DATA) for key in _differences(run.experiment, Experiment()))
    ]
    return next(iter([run for run in fitting if run.name == name] + usual), None)


def _chosen(run: Run, headline: Sequence[str]) -> list[str]:
    return [name for name in headline if name in run.targets] or run.targets


def _target_table(
    group: list[Run], headline: Sequence[str], default: Run | None, cells: dict[str, Row]
) -> str:
    """Table of runs on the same clips, best mean first. `cells` holds the first cells of each run's row."""
    targets, chosen, truth = group[0].targets, _chosen(group[0], headline), group[0].truth
    against: dict[str, Resampled] = {}  # the default in the draws of each run
    rows = []
    means = {run.name: Score(**run.resampled.interval(chosen)) for run in group}
    for run in sorted(group, key=lambda run: (-means[run.name].value, run.name)):
        row = cells[run.name] | {plain(name): interval(run.scores[name]) for name in targets}
        if set(chosen) != set(targets):
            row[f"mean of {plain(listed(chosen))}"] = interval(means[run.name])
        if len(targets) > 1:
            row["mean"] = interval(run.scores["mean"])
        row |= _spread_cells(run, chosen)
        if default is not None:
            drawn = "" if run.groups is None else run.groups.to_csv()
            if drawn not in against:  # it may have more clips or targets
                predicted = default.predictions.loc[truth.index]
                against[drawn] = resampled_scores("emotion", truth[chosen], predicted, run.groups)
            apart = _signed(run.resampled.difference(against[drawn], chosen))
            row[f"difference to {code(default.name)}"] = "the default" if run is default else apart
        rows.append(row)
    return markdown(rows)


def _measures(runs: list[Run]) -> list[str]:
    """Table of the measures that papers report, of the runs that have them: one row per run and target."""
    rows = [
        {"run": _name(run), "target": plain(target)}
        | {
            MEASURES[name]: interval(scores[target])
            for name, scores in run.file.measures.items()
            if target in scores
        }
        for run in runs
        if run.file.measures
        for target in run.scores
        if len(run.scores) - 1 <= _MOST_NAMED or target == "mean"
    ]
    return [_OTHER, markdown(rows)] if rows else []


def _signed(difference: dict[str, float]) -> str:
    """Format a difference with its interval; bold if the interval excludes 0."""
    low, high = difference["low"], difference["high"]
    text = f"{difference['value']:+z.3f} [{low:z.3f}, {high:z.3f}]"
    return f"{f'**{text}**' if low > 0 or high < 0 else text}, n = {difference['n']}"


def _ablation(name: str, runs: dict[str, Run], headline: Sequence[str]) -> list[str]:
    """Table of a run and the runs that differ in one or two settings, on the same clips and folds."""
    experiments = {run.name: run.experiment for run in runs.values() if run.experiment is not None}
    if name not in experiments:
        what = f"--ablations: '{name}' has no out-of-fold scores, or as a blend no settings"
        raise InputError(f"{what}; {nearest(name, experiments)}")
    usual, base = experiments[name], runs[name]
    changed = {name: ""}
    for other, experiment in experiments.items():
        different = {k: v for k, v in _differences(experiment, usual).items() if k != "name"}
        if experiment.is_classical == usual.is_classical and 0 < len(different) <= _MOST_CHANGED:
            changed[other] = _settings(different)
    (group,) = (group for group in _same_clips(list(runs.values())) if base in group)
    group = [run for run in group if run.name in changed and _n_folds(run) == _n_folds(base)]
    how = (
        f"Runs on the same clips and folds that differ from {code(name)} only in the settings named. It has "
        f"{usual.train.epochs} passes over the training clips, {usual.folds.n} folds, seeds "
        f"{', '.join(map(str, usual.seeds))}."
    )
    cells = {run.name: {"setting": changed[run.name], "run": _name(run)} for run in group}
    return [f"## Ablations of {code(name)}", how, _target_table(group, headline, base, cells)]


def _blends(runs: list[Run]) -> list[str]:
    rows = [
        {"blend": code(run.name), "member": code(member), "scale": run.recipe.method}
        | {"shrinkage": f"{run.recipe.shrinkage:g}"}
        | {f"weight of {plain(target)}": f"{weight:.3f}" for target, weight in weights.items()}
        for run in runs
        if run.recipe is not None
        for member, weights in run.recipe.weights.items()
    ]
    return ["## Blends", markdown(rows)] if rows else []


def _not_paired(runs: list[Run], experiments: Path) -> list[str]:
    """Tables of genre runs, best first, and of repeated splits, grouped by data."""
    tables: dict[str, list[Row]] = {}
    for run in sorted(runs, key=lambda run: -run.scores.get("macro_f1", Score(value=0)).value):
        if not run.file.classes and not run.file.repeated:
            continue
        title = f"## {_title([run], runs)}{', repeated splits' * bool(run.file.repeated)}"
        parts = [(run.scores, ""), (run.file.repeated.get("last", {}), ", last epoch")]
        for scores, mark in [part for part in parts if part[0]]:
            row = _run_cells(run, experiments)
            row["run"] += mark
            sizes = [each.n_test for each in run.file.repeats] or [each.n or 0 for each in scores.values()]
            size = " to ".join(map(str, sorted({min(sizes), max(sizes)})))
            row["clips"] = f"{size}, {'test split' if run.truth.empty else 'out of fold'}"
            row["classes"] = str(len(run.file.classes) or "")
            row |= {_MEASURES.get(name, plain(name)): interval(score) for name, score in scores.items()}
            tables.setdefault(title, []).append(row | _spread_cells(run, ["macro_f1"]))
    page = [part for title in sorted(tables) for part in (title, markdown(tables[title]))]
    return page + _measures([run for run in runs if run.file.repeated])


def _costs(runs: list[Run]) -> list[str]:
    rows: list[Row] = []
    seconds: list[float] = []
    for run in runs:
        if run.experiment is None:
            continue
        costs = pd.DataFrame(run.costs, dtype=object)
        row = {"run": code(run.name), "folds": str(len(costs))}
        if len(costs) and costs["seconds"].notna().all():
            seconds.append(costs["seconds"].sum())
            row |= {"minutes": _minutes(seconds[-1]), "per fold": _minutes(seconds[-1] / len(costs))}
        for name, title in _COSTS.items():
            values = costs.get(name, pd.Series(dtype=object)).dropna()
            if name.endswith("bytes") and len(values):
                values = pd.Series([f"{values.max() / 1e9:.2f} GB"])
            row[title] = ", ".join(f"{v:,}" if isinstance(v, int) else v for v in values.unique())
        rows.append(row)
    together = f"{_minutes(sum(seconds))} minutes together, of {len(seconds)} runs that tell their time."
    return ["## Cost", markdown(rows), together] if rows else []


def _submissions(report: Report) -> list[str]:
    rows = []
    for card in report.submissions:
        mark, day = " *(selected on validation)*", re.search(r"\d{4}-\d{2}-\d{2}(?=\.csv$)", card.file)
        row = {"date": day[0] if day else "", "file": code(card.file) + mark * card.selected_on_validation}
        row |= {"runs": ", ".join(code(Path(path).name) for path in card.runs), "commit": card.commit}
        row |= {plain(name): interval(score) for name, score in card.out_of_fold.items()}
        rows.append(row | {"leaderboard": "" if card.leaderboard is None else f"{card.leaderboard:g}"})
    rows.sort(key=lambda row: (row["date"], row["file"]))
    return ["## Submissions", markdown(rows)] if rows else []


def _run_cells(run: Run, experiments: Path) -> Row:
    """First cells of a run's row: name, description, scored folds and seeds."""
    seeds = {fold.seed for fold in run.file.per_fold.scores} or run.file.repeats
    folds = str(_n_folds(run))
    if run.experiment is not None and not run.truth.empty and _n_folds(run) < run.experiment.folds.n:
        folds += f" of {run.experiment.folds.n}"
    row = {"run": _name(run), "what": _description(run, experiments), "folds": folds}
    return row | {"seeds": "" if run.recipe else str(len(seeds))}  # a blend has no seeds


def _n_folds(run: Run) -> int:
    """Largest number of scored folds of a seed."""
    seeds = [fold.seed for fold in run.file.per_fold.scores]
    return max(map(seeds.count, seeds), default=1)


def _spread_cells(run: Run, names: Sequence[str]) -> Row:
    """Standard deviations over seeds and over folds, with the numbers of seeds and folds."""
    return {
        f"± {what}": f"{'unknown' if deviation is None else f'{deviation:z.3f}'}, n = {n}"
        for what, (n, deviation) in spread_of(run.file.model_dump(), names).items()
    }


def _title(group: list[Run], runs: list[Run]) -> str:
    """Title of a table: the data folders of the runs (for a vote, of its members), and the targets."""
    members = [f"/{path}" for run in group for path in run.members]
    known = [run for run in runs if run in group or any(path.endswith(f"/{run.name}") for path in members)]
    data = [run.experiment.data for run in known if run.experiment is not None]
    roots = sorted({code(each.windows or each.root) for each in data})
    scores = group[0].scores
    learnt = "genres" if "macro_f1" in scores else plain(listed([name for name in scores if name != "mean"]))
    return f"{', '.join(roots) or 'Unknown data'}: {learnt}"


def _name(run: Run) -> str:
    return code(run.name) + " *(selected on validation)*" * run.file.selected_on_validation


def _description(run: Run, experiments: Path) -> str:
    """First comment of a run's experiment file, or else the settings that differ from the default."""
    if run.experiment is None:
        members = ", ".join(code(Path(path).name) for path in run.members)
        return f"{'blend' if run.recipe else 'vote'} of {members}" if members else ""
    comment, usual, path = "", Experiment(), experiments / f"{run.name}.toml"
    with suppress(InputError, OSError):  # the file is missing, or from another version
        named = build_experiment(read_differences(path), str(path))
        if lines := re.match(r"(#.*\n)+", path.read_text(encoding="utf-8")):
            comment, usual = " ".join(re.sub("^#+", "", lines[0], flags=re.MULTILINE).split()), named
    own = _settings(_differences(run.experiment, usual))
    if comment:
        return f"{comment} Here with {own}." if own else comment
    return own or "the default"


def _differences(experiment: Experiment, other: Experiment) -> dict[str, Any]:
    """Settings of an experiment that differ from another experiment, by dotted key."""
    own, others = (dotted(experiment_to_dict(each)) for each in (experiment, other))
    return {key: value for key, value in own.items() if value != others[key]}


def _settings(different: dict[str, Any]) -> str:
    """Format settings and their values as text, without names and paths."""
    cells = []
    for key, value in different.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = "off" if value is None else text
        if key not in _PLACES:
            cells.append(code(f"{key} {text if len(text) <= 60 else '…'}"))
    more = [f"{len(cells) - _MOST_NAMED} more settings"] * (len(cells) > _MOST_NAMED)
    return ", ".join(cells[:_MOST_NAMED] + more)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}" if seconds >= 60 else f"{seconds / 60:.2g}"


def interval(score: Score) -> str:
    """Format a score with its standard deviation and interval, if known."""
    text = f"{score.value:z.3f}" + ("" if score.sd is None else f" ± {score.sd:.3f}")
    if score.low is None or score.high is None:
        return text
    return f"{text} [{score.low:z.3f}, {score.high:z.3f}]"


def listed(names: Sequence[str]) -> str:
    """Join names with commas and "and"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def plain(name: str) -> str:
    """Escape the characters of a name that mean something in Markdown."""
    return re.sub(r"[\\`*<>\[\]&~$|]|\b_|_\b", lambda match: f"&#{ord(match[0])};", name)


def code(name: str) -> str:
    """Quote a name as code in Markdown."""
    return f"`` {name} ``" if "`" in name else f"`{name}`"


def markdown(rows: list[Row]) -> str:
    """Format rows as a Markdown table, with – in empty cells."""
    table = pd.DataFrame(rows).fillna("").replace("", "–").map(_cell).rename(columns=_cell)
    return table.to_markdown(index=False, disable_numparse=True)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
