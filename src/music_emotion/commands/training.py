"""Training: genres, emotion, and studies of many settings."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from accelerate import Accelerator
from cyclopts import Parameter

from music_emotion.commands import ExperimentFlags
from music_emotion.config import Experiment
from music_emotion.evaluation import shift
from music_emotion.files import InputError
from music_emotion.plots import draw_scores
from music_emotion.studies import BEST, run_study
from music_emotion.study_file import read_study
from music_emotion.training import loop
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment, run_pretraining


def pretrain(
    file: Path,
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
    overfit_batch: bool = False,
    check_shift: bool = False,
    tracker: str | None = None,
) -> None:
    """Train a genre experiment; emotion experiments start from it with --model.trunk.

    Parameters
    ----------
    file
        The experiment: experiments/pretrain.toml.
    experiment
        Flags that change single settings of it.
    runs
        Folder of all runs.
    overfit_batch
        Only check that the network can learn one batch by heart.
    check_shift
        Only say whether a classifier can tell test clips from training clips, and by what.
    tracker
        Log every epoch to a tracker of Accelerate, such as tensorboard.
    """
    if experiment.task != "genre":
        raise InputError(
            f"{file} has the task '{experiment.task}'; pretraining needs 'genre'. Use `music-emotion train`."
        )
    if experiment.has_repeats:
        raise InputError(
            f"{file} has parts of its own to test on, so it is no pretraining. Use `music-emotion train`."
        )
    accelerator = make_accelerator(tracker, runs)
    if overfit_batch:
        check_overfits(experiment, accelerator)
        return
    if check_shift:
        say_shift(experiment, accelerator)
        return
    scores, trunk = run_pretraining(experiment, accelerator, runs / experiment.name)
    accelerator.print(f"{scores}\nThe trunk is in {trunk}.")
    if accelerator.is_main_process:
        draw_scores(runs / experiment.name)


def train(
    file: Path,  # noqa: ARG001 (its settings are laid under the flags)
    *,
    experiment: ExperimentFlags = Experiment(),  # noqa: B008 (frozen)
    runs: Path = Path("runs"),
    only_fold: int | None = None,
    overfit_batch: bool = False,
    check_shift: bool = False,
    tracker: str | None = None,
) -> None:
    """Train an experiment, all its folds or repeats, and score it.

    Parameters
    ----------
    file
        The experiment: experiments/<name>.toml.
    experiment
        Flags that change single settings of it.
    runs
        Folder of all runs.
    only_fold
        Train this fold of every seed alone.
    overfit_batch
        Only check that the network can learn one batch by heart.
    check_shift
        Only say whether a classifier can tell test clips from training clips, and by what: if so, the
        out-of-fold score may not carry over.
    tracker
        Log every epoch to a tracker of Accelerate, such as tensorboard.
    """
    accelerator = make_accelerator(tracker, runs)
    if overfit_batch:
        check_overfits(experiment, accelerator)
        return
    if check_shift:
        say_shift(experiment, accelerator)
        return
    n_folds = 1 if experiment.has_repeats else experiment.folds.n
    if only_fold is not None and not 0 <= only_fold < n_folds:
        raise InputError(f"--only-fold is {only_fold}; the folds are 0 to {n_folds - 1}.")
    directory = runs / experiment.name
    accelerator.print(run_experiment(experiment, accelerator, directory, only_fold))
    if accelerator.is_main_process:
        draw_scores(directory)


def check_overfits(experiment: Experiment, accelerator: Accelerator) -> None:
    """Say whether the network can learn one batch by heart."""
    clips, _ = load_sets(experiment, accelerator)
    if experiment.is_classical:
        raise InputError(f"--overfit-batch is for networks; classical.kind is '{experiment.classical.kind}'.")
    network = make_network(experiment, clips, experiment.seeds[0])
    first, last, updates = loop.overfit_batch(network, clips, accelerator)
    verdict = (
        "It can learn one batch." if last < loop.NEAR_ZERO else "It could not: look at data, loss and rate."
    )
    accelerator.print(
        f"loss of one batch: {first:.4f} at first, {last:.4f} after {updates} updates. {verdict}"
    )


def say_shift(experiment: Experiment, accelerator: Accelerator) -> None:
    """Say whether the test split differs from the training split, and in what."""
    clips, test = load_sets(experiment, accelerator)
    if accelerator.is_main_process:
        print(shift.check_shift(experiment, clips, test))


def study(
    file: Annotated[Path, Parameter(name="study")],
    *,
    root: Annotated[str | None, Parameter(name="--data.root")] = None,
    stores: Annotated[str | None, Parameter(name="--data.stores")] = None,
    genres: Annotated[str | None, Parameter(name="--data.genres")] = None,
    statistics: Annotated[str | None, Parameter(name="--data.statistics")] = None,
    windows: Annotated[str | None, Parameter(name="--data.windows")] = None,
    groups: Annotated[str | None, Parameter(name="--folds.groups")] = None,
    runs: Path = Path("runs"),
) -> None:
    """Train every row of a study, and print and save its table; a finished row is not trained again.

    Parameters
    ----------
    file
        experiments/studies/<name>.toml. What no flag gives is as its experiment says.
    root
        Folder at or a few levels above the competition's folders.
    stores
        Where the packed arrays are kept.
    genres
        Raw class to class, as JSON; '{}' keeps the raw classes.
    statistics
        CSV of `music-emotion statistics`, read in place of the arrays; "{split}" in it is train or test.
    windows
        Folder of X.npy and labels.npy; "{split}" in it is train, val or test.
    groups
        CSV with columns Id and group; a group is never on two sides of a split.
    runs
        Folder of all runs; the rows are in runs/<study>. Processes that see it share them.
    """
    given = {
        **{"data.root": root, "data.stores": stores, "data.genres": read_genres(genres)},
        **{"data.statistics": statistics, "data.windows": windows, "folds.groups": groups},
    }
    described = read_study(file, {key: value for key, value in given.items() if value is not None}, runs)
    table = run_study(described, make_accelerator())
    if not table.empty:  # as it is in all processes but the main one
        print_table(table, described.folder)


def read_genres(text: str | None) -> dict[str, Any] | None:
    """The flag --data.genres; None where it is not given."""
    if text is None:
        return None
    try:
        genres = json.loads(text)
    except ValueError:
        genres = None
    if not isinstance(genres, dict):
        example = """'{"Psych-Rock": "Rock"}'"""
        raise InputError(f"--data.genres is {text}; give JSON, such as {example}, or '{{}}' for raw classes.")
    return genres


def print_table(table: pd.DataFrame, folder: Path) -> None:
    """Print a study's table, and of a search the best experiment."""
    shown = table.drop(columns=["low", "high", "problem"], errors="ignore").to_string(
        index=False, float_format="{:.4g}".format
    )
    print(f"\n{shown}\n\nThe table is {folder / 'table.csv'}; each row's run lies beside it.")
    if "problem" in table:
        print("\nNo score, since the training diverged (delete the directory that is named to try again):")
        for line in table[table["problem"] != ""].drop_duplicates("row").to_dict("records"):
            print(f"  {line['row']}: {line['problem']}")
    if "searched" in table and (folder / BEST).exists():
        print(f"\n{(folder / BEST).read_text(encoding='utf-8')}")
        print(f"This is {folder / BEST}, for `music-emotion train`. It was chosen by `searched`, which is")
        print("therefore too good. Of folds, `score` is the same number. Of repeated holdouts it is that of")
        print("test clips; but those of one repeat validate another, so it is a little too good as well,")
        print("less than `searched` is.")
