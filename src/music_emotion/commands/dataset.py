"""The command that reads public data sets."""

from pathlib import Path
from typing import Annotated

import pandas as pd
from cyclopts import Parameter

from music_emotion.datasets.public_sets import NAMES, public_set, write_dataset
from music_emotion.files import InputError


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
        CSV to write. dataset.json with source, corrections and licence is written beside it.
    variant
        One of the set's variants, such as another of its splits.
    as_published
        Keep known faults of the labels, for comparison with published figures.
    list_sets
        Print which sets can be read.
    """
    if list_sets:
        known = {name: public_set(name) for name in NAMES}
        rows = [(n, s.title, s.about, ", ".join(s.variants), s.licence) for n, s in known.items()]
        print(
            pd.DataFrame(rows, columns=["name", "set", "what", "variants", "licence"]).to_markdown(
                index=False
            )
        )
        return
    if name is None or folder is None:
        raise InputError(
            f"Name a set and its folder, such as {NAMES[0]} ~/{NAMES[0].upper()}. --list shows all."
        )
    print(write_dataset(name, folder, out, variant, as_published))
