"""Blend prediction tables: standardise them, fit weights on out-of-fold predictions, and score nested."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic.dataclasses import dataclass
from scipy.optimize import nnls
from scipy.stats import rankdata
from sklearn.preprocessing import scale

from music_emotion.config import STRICT
from music_emotion.evaluation.metrics import table_scores
from music_emotion.files import InputError, check_predictions, checked, first_five, read_json
from music_emotion.runs import BLEND

Method = Literal["z-score", "rank"]
Members = Mapping[str, pd.DataFrame]  # run name to out-of-fold predictions


def standardise(table: pd.DataFrame, method: Method) -> pd.DataFrame:
    """Standardise every column to mean 0 and standard deviation 1. A constant column becomes zeros.

    Parameters
    ----------
    table : pd.DataFrame
        Predictions, indexed by `Id`.
    method : {"z-score", "rank"}
        ``rank`` first replaces values by their ranks; ties get their mean rank.

    Returns
    -------
    pd.DataFrame
        A table of the same shape.
    """
    values = table.to_numpy(dtype=np.float64)
    if method == "rank":
        values = rankdata(values, axis=0)
    # rounding can give a constant column a tiny mean and deviation
    scaled = np.where(np.ptp(values, axis=0) > 0, scale(values), 0.0)
    return pd.DataFrame(scaled, table.index, table.columns)


def blend(
    tables: Sequence[pd.DataFrame], method: Method, weights: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Average tables with weights, after standardising each over its clips.

    Parameters
    ----------
    tables : sequence of pd.DataFrame
        Predictions of the same clips and targets, in any order of rows and columns.
    method : {"z-score", "rank"}
        As for `standardise`.
    weights : pd.DataFrame [shape=(n_tables, n_targets)], optional
        One row per table, in the order of the tables; 0 or more, scaled to sum 1. The default is equal
        weights.

    Returns
    -------
    pd.DataFrame
        Columns with mean 0 and standard deviation at most 1, sorted by `Id`.

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
    """Check that tables have the same clips and columns, and align their rows and columns.

    Parameters
    ----------
    tables : mapping of str to pd.DataFrame
        Name, for error messages, to table.

    Returns
    -------
    list of pd.DataFrame
        Sorted by `Id`, with the column order of the first table.

    Raises
    ------
    InputError
        When a table fails `check_predictions`, or ids or columns differ.
    """
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
    """Rescale a blend to the mean and standard deviation of each target.

    Values are not clipped to the range of the targets, because clipping would create ties.

    Parameters
    ----------
    table : pd.DataFrame
        From `blend`.
    mean, deviation : pd.Series
        Mean and standard deviation per target.

    Returns
    -------
    pd.DataFrame
    """
    return table * deviation[table.columns] + mean[table.columns]


def blend_members(
    tables: Mapping[str, Sequence[pd.DataFrame]],
    method: Method,
    weights: pd.DataFrame,
    mean: pd.Series,
    deviation: pd.Series,
) -> pd.DataFrame:
    """Blend the tables of each run, and then the runs, in the units of the targets.

    Parameters
    ----------
    tables : mapping of str to sequence of pd.DataFrame
        Run name to its prediction tables, all of the same clips.
    method : {"z-score", "rank"}
    weights : pd.DataFrame
        One row per run, indexed by its name, and one column per target.
    mean, deviation : pd.Series
        Of each target.
    """
    runs = [blend(tables[name], method) for name in weights.index]
    return in_target_units(blend(runs, method, weights), mean, deviation)


def choose_weights(truth: pd.DataFrame, members: Members, method: Method, shrinkage: float) -> pd.DataFrame:
    """Fit weights of runs, per target, to the ranks of the truth.

    The standardised ranks of the truth are regressed on the standardised predictions by non-negative least
    squares [1]_. The weights are scaled to sum 1. They are shrunk towards equal weights, because weights
    fitted on a thousand clips are noisy.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values of the same clips as the members.
    members : mapping of str to pd.DataFrame
        Run name to out-of-fold predictions; at least one.
    method : {"z-score", "rank"}
        As for `standardise`.
    shrinkage : float
        0 gives the fitted weights, 1 equal weights.

    Returns
    -------
    pd.DataFrame [shape=(n_members, n_targets)]
        Indexed by run name; every column sums to 1. Equal weights if all fitted weights are 0.

    Raises
    ------
    InputError
        When the shrinkage is outside 0 to 1, or ids or targets differ.

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
    """Blend runs with nested cross-validation: the weights of each fold are fitted on the other folds.

    Members are standardised over all clips, which needs no labels.

    Parameters
    ----------
    truth, members, method, shrinkage
        As for `choose_weights`.
    folds : pd.Series
        Fold of every clip, indexed by `Id`; at least two folds.
    choose : bool
        Whether the other folds also select the members, by `chosen_weights`.

    Returns
    -------
    pd.DataFrame
        Standardised predictions, sorted by `Id`.

    Raises
    ------
    InputError
        When `choose` is set for runs of two folds. It needs at least three.
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
        # the deviation depends on the weights, so each fold's blend is standardised again
        parts.append(standardise(blend(tables, method, weights), method).loc[folds.index[folds == fold]])
    return pd.concat(parts).sort_index()


def rank_members(
    truth: pd.DataFrame, members: Members, folds: pd.Series, method: Method, shrinkage: float
) -> pd.Series:
    """Order runs by greedy forward selection. Each step adds the run that gives the best nested score.

    Parameters
    ----------
    truth, members, folds, method, shrinkage
        As for `nested_blend`.

    Returns
    -------
    pd.Series
        Nested score (mean Spearman correlation) of the blend after adding each run. Indexed by run, in the
        order of selection.

    References
    ----------
    Caruana et al., "Ensemble selection from libraries of models", ICML 2004, section 2. Here, members have
    weights instead of being repeated.
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
    """Select the best members for each target, and fit their weights. Other runs get weight 0.

    Each target has its own selection, because a run may help one target and harm another.

    Parameters
    ----------
    truth, members, folds, method, shrinkage
        As for `nested_blend`.

    Returns
    -------
    weights : pd.DataFrame [shape=(n_members, n_targets)]
        Indexed by run name; every column sums to 1.
    order : pd.DataFrame
        Columns ``target``, ``run`` and ``score``: the result of `rank_members` for each target.
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
    """Content of `blend.json`: everything needed to blend predictions of new clips.

    Attributes
    ----------
    members : list of str
        Directories of the runs.
    method : {"z-score", "rank"}
        Scale on which predictions are averaged.
    shrinkage : float
        0 for fitted weights, 1 for equal weights.
    weights : dict of str to dict of str to float
        Run name to weight per target.
    target_mean, target_deviation : dict of str to float
        Mean and standard deviation of the training labels, which give the blend its units.
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
        """Blend the predictions of all folds and seeds of the members.

        Parameters
        ----------
        tables : mapping of str to sequence of pd.DataFrame
            Run name to its prediction tables, all of the same clips.

        Returns
        -------
        pd.DataFrame
            In the units of the targets, indexed by `Id`.
        """
        weights = pd.DataFrame.from_dict(self.weights, orient="index")
        units = pd.Series(self.target_mean), pd.Series(self.target_deviation)
        return blend_members(tables, self.method, weights, *units)


def read_recipe(blended: Path) -> Recipe:
    """Read the recipe of a blend.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.

    Returns
    -------
    Recipe

    Raises
    ------
    InputError
        When the directory does not exist or holds no blend, or the recipe is damaged.
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
