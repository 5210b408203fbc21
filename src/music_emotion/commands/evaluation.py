"""Commands that blend, submit, compare and report finished runs."""

import shlex
from datetime import date
from pathlib import Path

from music_emotion.evaluation.blend import Method, read_recipe
from music_emotion.evaluation.blend_runs import blend_runs, check_current, vote
from music_emotion.evaluation.compare import compare_runs
from music_emotion.evaluation.report import read_report
from music_emotion.evaluation.report_tables import make_page
from music_emotion.evaluation.submission import default_sample, read_sample, write_submission
from music_emotion.files import InputError, read_object, read_predictions, write_text
from music_emotion.runs import commit, read_experiment

RUNS, SUBMISSIONS = Path("runs"), Path("submissions")


def blend(
    *members: Path,
    name: str = "blend",
    method: Method = "z-score",
    shrinkage: float = 0.5,
    choose: bool = False,
    runs: Path = Path("runs"),
) -> None:
    """Blend emotion runs, with weights chosen and scored by nested cross-validation; let genre runs vote.

    Parameters
    ----------
    members
        Directories of finished runs on the same clips, such as runs/multitask.
    name
        The blend is written to runs/<name>.
    method
        Scale on which folds, seeds and emotion runs are averaged: z-score or rank. Genre runs
        average their probabilities.
    shrinkage
        For emotion runs: 0 takes the fitted weights, 1 equal ones.
    choose
        For emotion runs: leave out those that do not raise the score; members.csv lists all contributions.
    runs
        Folder of all runs.
    """
    if members and read_experiment(members[0]).task == "genre":
        from music_emotion.plots import draw_scores

        print(vote(list(members), runs / name))
        draw_scores(runs / name)
    else:
        print(blend_runs(list(members), runs / name, method, shrinkage, choose))


def submit(
    blended: Path,
    *,
    sample: Path | None = None,
    name: str | None = None,
    out: Path = Path("submissions"),
    day: str = date.today().isoformat(),
    overwrite: bool = False,
) -> None:
    """Write submissions/<name>-<date>.csv and its card.

    Parameters
    ----------
    blended
        Directory of a blend, or of one run.
    sample
        The competition's sample_submission.csv, which determines header, id form and row order.
    name
        Name of the submission; the run's by default.
    out
        Folder of submissions.
    day
        The date in the name.
    overwrite
        Replace a submission of the same name.
    """
    predictions = read_predictions(blended / "test.csv")
    targets = tuple(predictions.columns)
    asked = read_sample(sample, targets) if sample else default_sample(targets, predictions.index.tolist())
    scores = read_object(blended / "scores.json")
    if "classes" in scores:
        raise InputError(f"{blended} is a genre run; submissions hold emotion targets. Name an emotion run.")
    for key in ("pooled", "selected_on_validation"):
        if key not in scores:
            raise InputError(f"{blended / 'scores.json'} has no '{key}'. Run the command that made it again.")
    members = [str(blended)]
    if (blended / "blend.json").exists():
        recipe = read_recipe(blended)
        check_current(blended, recipe)
        members = recipe.members
    card = {
        "runs": members,
        "commit": commit(),
        "out_of_fold": scores["pooled"],
        "selected_on_validation": scores["selected_on_validation"],
        "leaderboard": None,
    }
    path = out / f"{name or blended.name}-{day}.csv"
    write_submission(path, predictions, asked, card, overwrite)
    print(f"{path}: {len(predictions)} rows, every rule checked. Its card is {path.with_suffix('.json')}.")


def pack(run: Path, *, out: Path, genres: Path | None = None) -> None:
    """Write the folds of runs with 8-bit weights, their intervals and coverage: a model for predict --model.

    Needs the first run's data.

    Parameters
    ----------
    run
        Directory of a finished emotion run of a network with one seed, such as runs/multitask.
    out
        Folder for the model.
    genres
        Directory of a genre run, if the model is to predict genres, too.
    """
    from music_emotion.listen.pack import pack  # imports torch

    print(pack(run, out, genres))


def compare(one: Path, other: Path, *, headline: tuple[str, ...] = (), common: bool = False) -> None:
    """Compare two runs or blends: scores and their difference, with paired bootstrap 95 % intervals.

    Needs no data, stores or weights.

    Parameters
    ----------
    one
        Directory of a run or blend, such as runs/multitask.
    other
        Directory of another one with the same clips.
    headline
        Targets whose mean is compared; all by default. For genres, macro F1 is compared.
    common
        Also compare unfinished runs and runs on different clips, on the clips that both have predicted.
    """
    print(compare_runs(one, other, headline, common))


def report(
    *,
    runs: Path = RUNS,
    submissions: Path = SUBMISSIONS,
    out: Path = Path("RESULTS.md"),
    default: str | None = None,
    headline: tuple[str, ...] = (),
    ablations: tuple[str, ...] = (),
) -> None:
    """Write one page: scores with intervals, differences to the default, time, weights and memory.

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
        The run that others are compared with; by default a run of the default experiment.
    headline
        Targets whose mean sorts the runs and is compared; all by default.
    ablations
        For each of these runs, add a table of the runs that differ from it in one or two settings.
    """
    known = read_report(runs, submissions)
    command = ["music-emotion", "report"]
    for flag, given, usual in (("--runs", runs, RUNS), ("--submissions", submissions, SUBMISSIONS)):
        command += [] if given == usual else [flag, str(given)]
    command += [] if default is None else ["--default", default]
    command += ["--headline", *headline] if headline else []
    command += ["--ablations", *ablations] if ablations else []
    write_text(out, make_page(known, shlex.join(command), Path("experiments"), headline, default, ablations))
    print(
        f"{out}: {len(known.runs)} runs, {len(known.submissions)} submissions; "
        f"{len(known.problems)} without numbers."
    )
