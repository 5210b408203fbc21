"""All runs and submissions on one page, written from their files alone."""

import shlex
from pathlib import Path

from command_line import run
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_page import make_page
from music_emotion.evaluation.report_sections import make_ablation, make_sections
from music_emotion.files import write_text

RUNS, SUBMISSIONS = Path("runs"), Path("submissions")


def report(
    *,
    runs: Path = RUNS,
    submissions: Path = SUBMISSIONS,
    out: Path = Path("RESULTS.md"),
    default: str | None = None,
    headline: tuple[str, ...] = (),
    ablations: tuple[str, ...] = (),
) -> None:
    """Write RESULTS.md: scores with intervals, differences to the default, time, weights and memory.

    Needs no data, stores or weights.

    Parameters
    ----------
    runs
        Folder of all runs.
    submissions
        Folder of the submissions' cards.
    out
        The page.
    default
        The run that others are compared with; one of the default experiment without it.
    headline
        Targets whose mean sorts the runs and is compared; all without it.
    ablations
        Runs, each of which gets a table of those that differ from it in one setting or two.
    """
    known = read_report(runs, submissions)
    sections = make_sections(known, headline, default)
    varied = [make_ablation(known, name, headline) for name in ablations]
    command = ["python", "scripts/report.py"]
    for flag, given, usual in (("--runs", runs, RUNS), ("--submissions", submissions, SUBMISSIONS)):
        command += [] if given == usual else [flag, str(given)]
    command += [] if default is None else ["--default", default]
    command += ["--headline", *headline] if headline else []
    command += ["--ablations", *ablations] if ablations else []
    write_text(out, make_page(known, sections, shlex.join(command), Path("experiments"), default, varied))
    print(
        f"{out}: {len(known.runs)} runs, {len(known.submissions)} submissions; "
        f"{len(known.problems)} without numbers."
    )


if __name__ == "__main__":
    run(report)
