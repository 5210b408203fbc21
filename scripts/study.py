"""A study: one experiment in all settings of a grid or of a search, and a table of what they reach."""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from cyclopts import Parameter

from command_line import make_accelerator, run
from music_emotion.files import InputError
from music_emotion.studies.search import BEST
from music_emotion.studies.study import read_study, run_study


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
        CSV of scripts/summarise.py, read in place of the arrays; "{split}" in it is train or test.
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
    described = read_study(file, {key: value for key, value in given.items() if value is not None})
    table = run_study(described, runs, make_accelerator())
    if not table.empty:  # as it is in all processes but the main one
        print_table(table, runs / described.name)


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
        print(
            f"\nNo score, since the training diverged (to try a row again, delete its directory in {folder}):"
        )
        for line in table[table["problem"] != ""].drop_duplicates("row").to_dict("records"):
            print(f"  {line['row']}: {line['problem']}")
    if "searched" in table and (folder / BEST).exists():
        print(f"\n{(folder / BEST).read_text(encoding='utf-8')}")
        print(f"This is {folder / BEST}, for scripts/train.py. It was chosen by `searched`, which is")
        print("therefore too good. Of folds, `score` is the same number. Of repeated holdouts it is that of")
        print("test clips; but those of one repeat validate another, so it is a little too good as well,")
        print("less than `searched` is.")


if __name__ == "__main__":
    run(study)
