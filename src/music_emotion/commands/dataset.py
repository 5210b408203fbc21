"""Commands that read public data sets, and score models on them."""

import re
from pathlib import Path
from typing import Annotated

import pandas as pd
from cyclopts import Parameter

from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.public_sets import NAMES, public_set, write_dataset
from music_emotion.files import InputError, nearest, write_table


def dataset(
    name: str | None = None,
    folder: Path | None = None,
    *,
    out: Path = Path("clips.csv"),
    variant: str | None = None,
    as_published: bool = False,
    list_sets: Annotated[bool, Parameter(name="--list")] = False,
) -> None:
    """Write the table of clips of a public data set, for extract.

    Parameters
    ----------
    name
        The set, as --list names it.
    folder
        Where it was unpacked, at any depth.
    out
        CSV to write. Source, corrections and licence are written beside it: dataset.json, or
        NAME-dataset.json for a table that is not called clips.
    variant
        One of the set's variants, such as another of its splits.
    as_published
        Keep known faults of the labels, for comparison with published figures.
    list_sets
        Print which sets can be read.
    """
    if list_sets:
        known = {name: public_set(name) for name in NAMES}
        rows = [(n, f"{s.title}: {s.about}", "\n".join(s.variants), s.licence) for n, s in known.items()]
        table = pd.DataFrame(rows, columns=["name", "what", "variants", "licence"])
        print(table.to_markdown(index=False, tablefmt="grid", maxcolwidths=[None, 30, None, 20]))
        return
    if name is None or folder is None:
        raise InputError(
            f"Name a set and its folder, such as {NAMES[0]} ~/{NAMES[0].upper()}. --list shows all."
        )
    print(write_dataset(name, folder, out, variant, as_published))


def score(
    model: Path,
    *sets: Path,
    also: tuple[Path, ...] = (),
    map: tuple[str, ...] = (),
    measure: str = "spearman",
    curves: bool = False,
    window: float = 6.0,
    out: Path = Path("scores.csv"),
    jobs: int = -1,
) -> None:
    """Score a model on other sets than its own, and print a table of models and sets.

    Parameters
    ----------
    model
        Folder of an emotion run, or a model file; "package" for the model in the package.
    sets
        Tables of clips, as for extract, or folders that extract has written.
    also
        More models, for more rows.
    map
        Pairs of targets, as in arousal=energy: the set's, and the model's that predicts it. Others are paired
        by name.
    measure
        What the table shows: spearman, r2, pearson, ccc, rmse, rmse_own_scale, roc_auc or pr_auc. --out has
        all of them.
    curves
        Score time lines on the labels over time that dataset has written beside the tables, in place of whole
        clips.
    window
        With --curves, length of the windows in seconds.
    out
        CSV to write.
    jobs
        Worker processes of the extraction; -1 for one per core.
    """
    from music_emotion.listen.score import OF_CURVES, TITLES, score_curves, score_sets  # imports torch

    if measure not in TITLES:
        raise InputError(f"--measure {measure}: {nearest(measure, TITLES)}")
    wrong = [pair for pair in map if not re.fullmatch("[^=]+=[^=]+", pair)]
    if wrong or not sets:
        problem = f"--map {wrong[0]} is no pair" if wrong else "There is no set to score on"
        raise InputError(f"{problem}. Give, for example, clips.csv --map arousal=energy.")
    names, models = dict(pair.split("=") for pair in map), (model, *also)
    if curves:
        table, notes = score_curves(models, sets, names, window)
    else:
        table, notes = score_sets(models, sets, names, Workers(jobs))
    for theirs, ours in names.items():
        if not ((table["target"] == theirs) & (table["by"] == ours)).any():
            raise InputError(
                f"--map {theirs}={ours} pairs nothing: no set has the target '{theirs}', or no model "
                f"predicts '{ours}'. Correct it, or leave it out."
            )
    if table.empty:
        raise InputError("\n".join(["No target of a set is one of a model's. Pair them with --map.", *notes]))
    write_table(out, table)
    print("\n".join(f"{theirs} is scored against the predicted {ours}." for theirs, ours in names.items()))
    for name in OF_CURVES if curves else [measure]:
        of = table[table["measure"] == name]
        cells = [f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}], n = {row.n}" for row in of.itertuples()]
        target = of["target"].where(of["target"] == of["by"], of["target"] + " by " + of["by"])
        cell = of.assign(target=target, cell=cells)
        matrix = cell.pivot_table("cell", ["model", "target"], "set", "first")
        print(f"{TITLES[name]}:\n{matrix.fillna('–').reset_index().to_markdown(index=False)}")
    print("\n".join([*notes, f"All measures are in {out}."]))
