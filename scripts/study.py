"""A study: one experiment in all settings of a grid, and a table of what they reach."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from command_line import make_accelerator, run
from music_emotion.results.study import read_study, run_study


def study(
    file: Annotated[Path, Parameter(name="study")],
    *,
    root: Annotated[str, Parameter(name="--data.root")] = "data",
    stores: Annotated[str, Parameter(name="--data.stores")] = "stores",
    groups: Annotated[str, Parameter(name="--folds.groups")] = "none",
    runs: Path = Path("runs"),
) -> None:
    """Train every row of a study, and print and save its table; a finished row is not trained again.

    Parameters
    ----------
    file
        experiments/studies/<name>.toml.
    root
        Folder at or a few levels above the competition's folders.
    stores
        Where the packed arrays are kept.
    groups
        CSV with columns Id and group; no fold of emotion clips splits a group.
    runs
        Folder of all runs; the rows are in runs/<study>.
    """
    described, rows = read_study(file)
    common = {"data.root": root, "data.stores": stores, "folds.groups": groups}
    accelerator = make_accelerator()
    table = run_study(described, rows, runs, accelerator, common)
    if accelerator.is_main_process:
        print(
            f"\n{table.drop(columns=['low', 'high']).to_string(index=False, float_format='{:.3f}'.format)}\n"
        )
        print(f"The table is {runs / described.name / 'table.csv'}; each row's run lies beside it.")


if __name__ == "__main__":
    run(study)
