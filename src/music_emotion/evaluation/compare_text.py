"""What is said of two runs that were compared: a table, a sentence, and what to keep in mind."""

from music_emotion.evaluation.compare import Comparison, Interval, Row
from music_emotion.evaluation.intervals import spread_of
from music_emotion.evaluation.report_parts import Run


def comparison_text(comparison: Comparison) -> str:
    """Scores of both runs, their differences, and whether the last is beyond chance."""
    one, other, rows = comparison.one, comparison.other, comparison.rows
    head = ["", one.name, other.name, "difference", "first above"]
    lines = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(head))]
    table = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    title = f"{one.name} less {other.name}, out of fold, n={rows[-1].difference['n']}:"
    return "\n".join([title, *table, _verdict(comparison), *_notes(comparison)])


def _cells(row: Row) -> list[str]:
    difference = row.difference
    return [
        row.name,
        _in_words(row.one),
        _in_words(row.other),
        f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]",
        f"{100 * difference['above']:.1f} %",
    ]


def _in_words(held: Interval) -> str:
    return f"{held['value']:.3f} [{held['low']:.3f}, {held['high']:.3f}]"


def _verdict(comparison: Comparison) -> str:
    row = comparison.rows[-1]
    found, what = row.difference, f"{'the ' if len(row.parts) > 1 else ''}{row.name}"
    bounds = f"{found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    if found["low"] <= 0 <= found["high"]:
        return f"The difference in {what}, {bounds}, is not beyond the chance of which clips there are."
    where = "above" if found["value"] > 0 else "below"
    return (
        f"{comparison.one.name} is {where} {comparison.other.name} in {what} by {bounds}, beyond the chance "
        f"of which clips there are."
    )


def _notes(comparison: Comparison) -> list[str]:
    pair = (comparison.one, comparison.other)
    notes = [
        f"{run.name} was selected on validation: the scored clips chose its epoch, so its score is too good."
        for run in pair
        if run.selected
    ]
    if _averaged(pair[0]) != _averaged(pair[1]):
        notes.append(
            f"{pair[0].name} is {_averaged(pair[0])} and {pair[1].name} {_averaged(pair[1])}: a mean of "
            f"several usually scores higher than one of them."
        )
    notes += [_of_seeds(run, comparison.rows[-1]) for run in pair]
    return [f"note: {note}" for note in notes]


def _averaged(run: Run) -> str:
    """What was averaged into a run's predictions."""
    if run.experiment is None:
        return f"made of {len(run.members)} runs"
    return f"of {run.seeds} seed{'s' * (run.seeds != 1)}"


def _of_seeds(run: Run, row: Row) -> str:
    """How another training might have scored, as far as it is known."""
    spread = spread_of(run.single, row.parts)
    if run.experiment is None or spread is None or spread.over_seeds is None:
        return f"how far another training of {run.name} would differ is not known: it has no two seeds."
    single = [
        sum(scores[name] for name in row.parts) / len(row.parts) for scores in run.single["per_seed"].values()
    ]
    return (
        f"single seeds of {run.name} score {sum(single) / len(single):.3f} ± {spread.over_seeds:.3f} "
        f"(deviation over {spread.n_seeds})."
    )
