"""Blends of prediction tables: standardised, weighted by out-of-fold evidence, scored nested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic.dataclasses import dataclass
from scipy.optimize import nnls
from scipy.stats import rankdata

from music_emotion.config import STRICT
from music_emotion.evaluation.metrics import table_scores
from music_emotion.files import InputError, check_predictions, checked, first_five, read_json
from music_emotion.runs import BLEND

Method = Literal["z-score", "rank"]
Members = Mapping[str, pd.DataFrame]  # name of a run to its out-of-fold predictions


def standardise(table: pd.DataFrame, method: Method) -> pd.DataFrame:
    """Give every column mean 0 and deviation 1; a constant column becomes zeros.

    Parameters
    ----------
    table : pd.DataFrame
        Predictions, indexed by `Id`.
    method : {"z-score", "rank"}
        ``rank`` first replaces values by their ranks; ties share their mean rank.
    """
    values = table.to_numpy(dtype=np.float64)
    if method == "rank":
        values = rankdata(values, axis=0)
    varies = values.min(axis=0) < values.max(axis=0)  # rounding can give a constant a tiny deviation
    centred = values - values.mean(axis=0)
    scaled = np.divide(centred, values.std(axis=0), out=np.zeros_like(values), where=varies)
    return pd.DataFrame(scaled, table.index, table.columns)


def blend(
    tables: Sequence[pd.DataFrame], method: Method, weights: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Weighted mean of tables, each standardised over its clips.

    Parameters
    ----------
    tables : sequence of pd.DataFrame
        Predictions of the same clips and targets, in any order of rows and columns.
    method : {"z-score", "rank"}
        As for `standardise`.
    weights : pd.DataFrame [shape=(n_tables, n_targets)], optional
        One row per table, in their order, 0 or more; scaled to sum 1. Equal without.

    Returns
    -------
    pd.DataFrame
        Mean 0, deviation at most 1; sorted by `Id`.

    Raises
    ------
    InputError
        When a table fails `check_predictions`, or their ids or targets differ.
    """
    same = aligned({f"table {number}": table for number, table in enumerate(tables, start=1)})
    targets = same[0].columns
    shares = np.ones((len(same), len(targets))) if weights is None else weights[targets].to_numpy()
    shares = shares / shares.sum(axis=0)
    parts = np.stack([standardise(table, method).to_numpy() for table in same])
    return pd.DataFrame((parts * shares[:, np.newaxis, :]).sum(axis=0), same[0].index, targets)


def aligned(tables: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Check that tables share clips and columns; sort them by id, with the columns of the first."""
    first_name, first = next(iter(tables.items()))
    for name, table in tables.items():
        check_predictions(table, name)
        for what, one, other in (
            ("clips", first.index, table.index),
            ("columns", first.columns, table.columns),
        ):
            if len(apart := one.symmetric_difference(other)):
                differ = f"{name} and {first_name} differ in {len(apart)} {what} ({first_five(apart)})."
                raise InputError(f"{differ} Give predictions of the same {what}.")
    return [table.loc[first.index.sort_values(), first.columns] for table in tables.values()]


def in_target_units(table: pd.DataFrame, mean: pd.Series, deviation: pd.Series) -> pd.DataFrame:
    """Give a blend every target's mean and deviation.

    Values are not clipped to the targets' range, since clipping makes ties.
    """
    return table * deviation[table.columns] + mean[table.columns]


def choose_weights(truth: pd.DataFrame, members: Members, method: Method, shrinkage: float) -> pd.DataFrame:
    """Weights of runs, per target, that fit the ranks of the truth best.

    Non-negative least squares of the standardised ranks of the truth on the standardised predictions
    [1]_, scaled to sum 1 and shrunk towards equal weights, since a thousand clips give noisy weights.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values of the same clips as the members.
    members : mapping of str to pd.DataFrame
        Name of a run to its out-of-fold predictions; at least one.
    method : {"z-score", "rank"}
        As for `standardise`.
    shrinkage : float
        0 takes the fitted weights, 1 equal ones.

    Returns
    -------
    pd.DataFrame [shape=(n_members, n_targets)]
        Indexed by run name; every column sums to 1. Equal weights where no run helps.

    Raises
    ------
    InputError
        When the shrinkage is not 0 to 1, or ids or targets differ.

    References
    ----------
    .. [1] L. Breiman, "Stacked regressions", Machine Learning 24, 1996.
    """
    if not 0 <= shrinkage <= 1:
        raise InputError(f"The shrinkage is {shrinkage:g}; expected 0 (fitted weights) to 1 (equal weights).")
    known, *tables = aligned({"the truth": truth, **members})
    ranks, scaled = standardise(known, "rank"), [standardise(table, method) for table in tables]
    equal = np.full(len(tables), 1 / len(tables))
    weights = {}
    for target in truth.columns:
        fitted, _ = nnls(np.column_stack([table[target] for table in scaled]), ranks[target].to_numpy())
        fitted = fitted / fitted.sum() if fitted.any() else equal
        weights[target] = shrinkage * equal + (1 - shrinkage) * fitted
    return pd.DataFrame(weights, pd.Index(list(members), name="run"))


def nested_blend(
    truth: pd.DataFrame,
    members: Members,
    folds: pd.Series,
    method: Method,
    shrinkage: float,
    choose: bool = False,
) -> pd.DataFrame:
    """Blend runs so that no clip gets weights that were chosen on it.

    Members are standardised over all clips, which needs no labels. Every fold's clips then get the
    weights chosen on the other folds.

    Parameters
    ----------
    truth, members, method, shrinkage
        As for `choose_weights`.
    folds : pd.Series
        Fold of every clip, at least two different ones, indexed by `Id`.
    choose : bool
        Whether the other folds also choose the members, as `chosen_weights` does.

    Returns
    -------
    pd.DataFrame
        Without units, sorted by `Id`.

    Raises
    ------
    InputError
        When members are to be chosen by runs of two folds: the choice itself needs two.
    """
    tables, folds = list(members.values()), folds.loc[truth.index]
    if choose and folds.nunique() < 3:
        raise InputError("Members can't be chosen by runs of two folds. Leave out --choose, or train three.")
    parts = []
    for fold in sorted(folds.unique()):
        others = folds.index[folds != fold]
        known = {name: table.loc[table.index.isin(others)] for name, table in members.items()}
        if choose:
            weights, _ = chosen_weights(truth.loc[others], known, folds.loc[others], method, shrinkage)
        else:
            weights = choose_weights(truth.loc[others], known, method, shrinkage)
        # other weights give another deviation, so every fold's blend is standardised again
        parts.append(standardise(blend(tables, method, weights), method).loc[folds.index[folds == fold]])
    return pd.concat(parts).sort_index()


def rank_members(
    truth: pd.DataFrame, members: Members, folds: pd.Series, method: Method, shrinkage: float
) -> pd.Series:
    """Order runs by greedy forward selection: each next run is the one with which the blend scores best.

    Parameters
    ----------
    truth, members, folds, method, shrinkage
        As for `nested_blend`.

    Returns
    -------
    pd.Series
        Indexed by run, in the order they are taken: nested score of the blend up to it (mean Spearman
        correlation).

    References
    ----------
    Caruana et al., "Ensemble selection from libraries of models", ICML 2004, section 2, with weights in
    place of repeated members.
    """
    taken: dict[str, float] = {}
    while left := [name for name in members if name not in taken]:
        scores = {}
        for name in left:
            tables = {each: members[each] for each in [*taken, name]}
            nested = nested_blend(truth, tables, folds, method, shrinkage)
            scores[name] = table_scores("emotion", truth, nested)["mean"]
        best = max(scores, key=scores.__getitem__)
        taken[best] = scores[best]
    return pd.Series(taken, name="score")


def chosen_weights(
    truth: pd.DataFrame, members: Members, folds: pd.Series, method: Method, shrinkage: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Weights of every target's best members, and 0 for the others.

    Every target has its own order of runs, since a run may help one target and harm another.

    Parameters
    ----------
    truth, members, folds, method, shrinkage
        As for `nested_blend`.

    Returns
    -------
    weights : pd.DataFrame [shape=(n_members, n_targets)]
        Indexed by run name; every column sums to 1.
    order : pd.DataFrame
        Columns ``target``, ``run``, ``score``: what `rank_members` gives for every target.
    """
    weights, order = pd.DataFrame(0.0, pd.Index(list(members), name="run"), list(truth.columns)), []
    for target in truth.columns:
        tables = {name: table[[target]] for name, table in members.items()}
        ranked = rank_members(truth[[target]], tables, folds, method, shrinkage)
        best = list(ranked.index[: int(ranked.to_numpy().argmax()) + 1])
        fitted = choose_weights(truth[[target]], {name: tables[name] for name in best}, method, shrinkage)
        weights.loc[best, target] = fitted[target]
        order.append(ranked.rename_axis("run").reset_index().assign(target=target))
    return weights, pd.concat(order)[["target", "run", "score"]]


@dataclass(frozen=True, config=STRICT)
class Recipe:
    """What `blend.json` holds: everything needed to blend predictions of new clips.

    Attributes
    ----------
    members : list of str
        Directories of the runs.
    method : {"z-score", "rank"}
        Scale on which predictions are averaged.
    shrinkage : float
        0 for fitted weights, 1 for equal ones.
    weights : dict of str to dict of str to float
        Name of a run to the weight of each target.
    target_mean, target_deviation : dict of str to float
        Mean and standard deviation of the training clips' labels: the units of the blend.
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
        blended = blend(runs, self.method, pd.DataFrame.from_dict(self.weights, orient="index"))
        return in_target_units(blended, pd.Series(self.target_mean), pd.Series(self.target_deviation))


def read_recipe(blended: Path) -> Recipe:
    """Read the recipe of a blend.

    Raises
    ------
    InputError
        When the directory does not exist or is not of a blend, or its recipe is damaged.
    """
    path = blended / BLEND
    if not path.exists():
        what = "a blend" if blended.is_dir() else "a folder"
        remedy = "Name one that `music-emotion blend` wrote."
        if (blended / "oof.csv").exists():
            command = f"music-emotion blend {blended} --name {blended.name}-blend"
            remedy = f"Make one, even of a single run: {command}"
        raise InputError(f"{blended} is not {what}. {remedy}")
    return checked(Recipe, read_json(path), path, "Blend the runs again.")
