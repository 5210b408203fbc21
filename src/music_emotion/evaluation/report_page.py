"""A report as a page of Markdown."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from music_emotion.evaluation.report_cells import (
    code,
    cost_cells,
    description,
    mark,
    minutes,
    score,
    settings,
    spread_cells,
    three,
)
from music_emotion.evaluation.report_notes import how_to_read
from music_emotion.evaluation.report_parts import Report, Run, Score, Submission
from music_emotion.evaluation.report_sections import Ablation, Line, Section, roots_of

_MEASURES = {"accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1", "loss": "loss"}
_SPREAD = ["± seeds", "± folds"]
_REPEATS = "Mean ± deviation [smallest, largest] over repeats, each of them on clips of its own."


def make_page(
    report: Report,
    sections: Sequence[Section],
    command: str,
    experiments: Path,
    default: str | None = None,
    ablations: Sequence[Ablation] = (),
) -> str:
    """Write a report as Markdown.

    Parameters
    ----------
    report : Report
    sections : sequence of Section
        Its emotion runs.
    command : str
        That makes the page again; its first line.
    experiments : Path
        Folder of experiment files, whose comments say what a run is; may be missing.
    default : str, optional
        The run that was named to compare with.
    ablations : sequence of Ablation

    Returns
    -------
    str
        The same for the same files, whenever and wherever it is made.
    """
    parts = [f"<!-- {command} -->", "# Results", how_to_read(command, default)]
    titles: list[str] = []
    for section in sections:
        title = f"{_title(section.roots)}: {_listed(section.targets)}, {section.n} clips"
        titles.append(title)  # equal ones are of labels that have changed
        again = f" (other labels, {titles.count(title)})" if titles.count(title) > 1 else ""
        parts += [f"## {title}{again}", _of_targets(section, experiments)]
    for ablation in ablations:
        parts += _of_ablation(ablation)
    parts += _of_blends(report.runs)
    parts += _of_genres(report.runs, experiments)
    parts += _of_repeats(report.runs, experiments)
    parts += _of_costs(report.runs)
    parts += _of_submissions(report.submissions)
    parts += _of_problems(report.problems)
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in line) + " |" for line in lines
    )


def _of_targets(section: Section, experiments: Path) -> str:
    several, partly = len(section.targets) > 1, set(section.headline) != set(section.targets)
    head = ["run", "what", "folds", "seeds", *section.targets]
    head += [f"mean of {_listed(section.headline)}"] if partly else []
    head += ["mean of all" if partly else "mean"] if several else []
    head += _SPREAD
    if section.default:
        head += [f"difference to {code(section.default)}"]
    return _table(head, (_target_row(line, section, experiments) for line in section.lines))


def _of_ablation(ablation: Ablation) -> list[str]:
    section, base = ablation.section, code(ablation.section.default or "")
    head = ["setting", "run", *section.headline, f"mean of {_listed(section.headline)}"]
    head += [f"difference to {base}"]
    rows = []
    for line in section.lines:
        changed = ablation.changed.get(line.run.name, {})
        cells = [settings(changed), _name(line.run)] + [score(line.run.scores[t]) for t in section.headline]
        rows.append([*cells, score(line.headline), _against_default(line, section)])
    how = (
        f"Runs on the same clips and folds that differ from {base} in nothing but the settings "
        f"named. Its budget: {ablation.budget}."
    )
    return [f"## Ablations of {base}", how, _table(head, rows)]


def _target_row(line: Line, section: Section, experiments: Path) -> list[str]:
    run, partly = line.run, set(section.headline) != set(section.targets)
    cells = [_name(run), description(run, experiments), _folds(run)]
    cells += ["" if run.recipe is not None else str(run.seeds)]  # the members have seeds, the blend has none
    cells += [score(run.scores[name]) for name in section.targets]
    cells += [score(line.headline)] if partly else []
    if len(section.targets) > 1:
        cells += [score(run.scores.get("mean")) if partly else score(line.headline)]
    cells += spread_cells(run, section.headline)
    if section.default:
        cells += [_against_default(line, section)]
    return cells


def _against_default(line: Line, section: Section) -> str:
    return "the default" if line.run.name == section.default else _difference(line.difference)


def _difference(difference: Score | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return ""
    text = f"{three(difference.value, signed=True)} [{three(difference.low)}, {three(difference.high)}]"
    excludes_zero = difference.low > 0 or difference.high < 0
    return f"{f'**{text}**' if excludes_zero else text}, n = {difference.n}"


def _of_blends(runs: Sequence[Run]) -> list[str]:
    rows = [
        [
            *(code(run.name), code(name), run.recipe.method, f"{run.recipe.shrinkage:g}"),
            ", ".join(f"{target} {three(weight)}" for target, weight in weights.items()),
        ]
        for run in runs
        if run.recipe is not None
        for name, weights in run.recipe.weights.items()
    ]
    head = ["blend", "member", "scale", "shrinkage", "weights, chosen on all clips"]
    return ["## Blends", _table(head, rows)] if rows else []


def _of_genres(runs: Sequence[Run], experiments: Path) -> list[str]:
    parts: list[str] = []
    for title, members in _by_title(runs, [run for run in runs if run.classes]):
        measures = list(dict.fromkeys(name for run in members for name in run.scores))
        head = ["run", "what", "clips", "n", "classes", "folds", "seeds"]
        rows = []
        for run in sorted(members, key=lambda run: (-_macro_f1(run), run.name)):
            which = "out of fold" if run.out_of_fold else "test split"
            n = next((str(held.n) for held in run.scores.values() if held.n is not None), "")
            cells = [_name(run), description(run, experiments), which, n, str(len(run.classes)), _folds(run)]
            cells += [str(run.seeds), *(score(run.scores.get(name)) for name in measures)]
            rows.append([*cells, *spread_cells(run, ["macro_f1"])])
        named = [f"{name} of macro F1" for name in _SPREAD]
        parts += [f"## {title}", _table([*head, *map(_measure, measures), *named], rows)]
    return parts


def _of_repeats(runs: Sequence[Run], experiments: Path) -> list[str]:
    parts: list[str] = []
    repeated = [run for run in runs if run.n_test]
    for title, members in _by_title(runs, repeated):
        measures = list(dict.fromkeys(name for run in members for name in run.scores))
        rows = []
        for run in sorted(members, key=lambda run: run.name):
            for scores, which in ((run.scores, ""), (run.last_scores, ", last epoch")):
                if scores:
                    sizes = " to ".join(str(n) for n in dict.fromkeys((run.n_test[0], run.n_test[-1])))
                    cells = [_name(run) + which, description(run, experiments), str(run.seeds), sizes]
                    rows.append(cells + [_spread(scores.get(name)) for name in measures])
        head = ["run", "what", "repeats", "test clips each", *map(_measure, measures)]
        parts += [f"## {title}, repeated splits", _REPEATS, _table(head, rows)]
    return parts


def _spread(held: Score | None) -> str:
    if held is None:
        return ""
    return score(held) if held.sd is None else score(held).replace(" [", f" ± {three(held.sd)} [")


def _of_costs(runs: Sequence[Run]) -> list[str]:
    trained = [run for run in runs if run.experiment is not None]
    head = ["run", "minutes", "per fold", "folds", "weights", "memory", "GPU memory"]
    head += ["device", "threads", "processes", "precision", "commit"]
    rows = [[code(run.name), *cost_cells(run.cost)] for run in trained]
    total = [run.cost.seconds for run in trained if run.cost.seconds is not None]
    together = f"{minutes(sum(total))} minutes together, of {len(total)} runs that tell their time."
    return ["## Cost", _table(head, rows), together] if rows else []


def _of_submissions(cards: Sequence[Submission]) -> list[str]:
    head = ["file", "date", "runs", "commit", "out of fold", "mean", "leaderboard"]
    rows = []
    for card in cards:
        single = [f"{name} {three(held.value)}" for name, held in card.out_of_fold.items() if name != "mean"]
        runs = ", ".join(code(Path(path).name) for path in card.runs)
        cells = [code(card.file) + mark(card.selected_on_validation), card.date, runs, card.commit]
        cells += [", ".join(single), score(card.out_of_fold.get("mean"))]
        rows.append([*cells, "" if card.leaderboard is None else f"{card.leaderboard:g}"])
    return ["## Submissions", _table(head, rows)] if rows else []


def _of_problems(problems: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"- {code(name)}: {' '.join(sentence.split())}" for name, sentence in problems]
    return ["## Without numbers", "\n".join(lines)] if lines else []


def _by_title(runs: Sequence[Run], chosen: Sequence[Run]) -> list[tuple[str, list[Run]]]:
    """Some of the runs by the data they are of, and by what is learnt."""
    titles: dict[str, list[Run]] = {}
    for run in chosen:
        learnt = "genres" if "macro_f1" in run.scores else _listed(run.targets)
        titles.setdefault(f"{_title(sorted(roots_of(run, runs)))}: {learnt}", []).append(run)
    return sorted(titles.items())


def _title(roots: Sequence[str]) -> str:
    return ", ".join(code(root) for root in roots) or "Unknown data"


def _name(run: Run) -> str:
    return code(run.name) + mark(run.selected)


def _folds(run: Run) -> str:
    planned = run.experiment.folds.n if run.experiment is not None and run.out_of_fold else run.folds
    return str(run.folds) if run.folds >= planned else f"{run.folds} of {planned}"


def _measure(name: str) -> str:
    return _MEASURES.get(name, name)


def _macro_f1(run: Run) -> float:
    held = run.scores.get("macro_f1")
    return 0.0 if held is None else held.value


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
