"""The recipe of a blend: which runs, on which scale, with which weights; all that a prediction needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from music_emotion.config import STRICT
from music_emotion.evaluation.ensemble import Method, blend, in_target_units
from music_emotion.files import InputError, read_json, shortened


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """What `blend.json` holds.

    Attributes
    ----------
    members : list of str
        Directories of the runs.
    method : {"z-score", "rank"}
        Scale on which predictions are averaged.
    shrinkage : float
        Of the weights towards equal ones.
    weights : dict of str to dict of str to float
        Name of a run to the weight of each target.
    target_mean, target_deviation : dict of str to float
        Of the training clips' labels: the units that a blend is given.
    """

    members: list[str]
    method: Method
    shrinkage: float
    weights: dict[str, dict[str, float]]
    target_mean: dict[str, float]
    target_deviation: dict[str, float]

    def __post_init__(self) -> None:
        if set(self.weights) != {Path(member).name for member in self.members}:
            raise ValueError("the runs of weights are not those of members")
        tables = [self.target_deviation, *self.weights.values()]
        if not self.target_mean or any(table.keys() != self.target_mean.keys() for table in tables):
            raise ValueError("target_mean, target_deviation and weights are not of the same targets")
        if min(value for table in tables for value in table.values()) < 0:
            raise ValueError("a weight or a deviation is negative")
        if not all(any(table[target] > 0 for table in tables[1:]) for target in self.targets):
            raise ValueError("all weights of a target are 0")

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets."""
        return tuple(self.target_mean)

    def predict(self, tables: Mapping[str, Sequence[pd.DataFrame]]) -> pd.DataFrame:
        """Blend the predictions of every fold and seed.

        Parameters
        ----------
        tables : mapping of str to sequence of pd.DataFrame
            Name of a run to its tables, all of the same clips.

        Returns
        -------
        pd.DataFrame
            In the units of the targets, indexed by `Id`.
        """
        runs = [blend(tables[name], self.method) for name in self.weights]
        weights = pd.DataFrame.from_dict(self.weights, orient="index")
        mean, deviation = pd.Series(self.target_mean), pd.Series(self.target_deviation)
        return in_target_units(blend(runs, self.method, weights), mean, deviation)


def read_recipe(blended: Path) -> Recipe:
    """Read the recipe of a blend.

    Raises
    ------
    InputError
        When the directory does not exist or is not of a blend, or its recipe is not whole.
    """
    path = blended / "blend.json"
    if not path.exists():
        what = "is not a blend" if blended.is_dir() else "is not a folder"
        remedy = "Name one that ensemble.py wrote."
        if (blended / "oof.csv").exists():
            remedy = (
                f"Make one, of a single run too: python scripts/ensemble.py {blended} --name "
                f"{blended.name}-blend"
            )
        raise InputError(f"{blended} {what}. {remedy}")
    return parse_recipe(read_json(path), path)


def parse_recipe(fields: Any, place: Path) -> Recipe:
    """Check the fields of a recipe."""
    try:
        return TypeAdapter(Recipe).validate_python(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = shortened(".".join(map(str, first["loc"])))
        what = first["msg"] + (f": {where}" if where else "")
        raise InputError(f"{place} does not hold a whole recipe ({what}). Blend the runs again.") from None
