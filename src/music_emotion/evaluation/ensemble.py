"""Blend prediction tables: of folds, of seeds, and of runs weighted by out-of-fold evidence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.stats import rankdata

from music_emotion.evaluation.metrics import is_constant
from music_emotion.files import InputError, check_predictions, first_five

Method = Literal["z-score", "rank"]
# Truth, members and folds of some clips to the weights of the members.
Weigh = Callable[[pd.DataFrame, Mapping[str, pd.DataFrame], pd.Series], pd.DataFrame]


def standardise(table: pd.DataFrame, method: Method) -> pd.DataFrame:
    """Give every column mean 0 and deviation 1, so that tables can be averaged.

    Parameters
    ----------
    table : pd.DataFrame
        Predictions, indexed by `Id`.
    method : {"z-score", "rank"}
        ``rank`` first replaces values by their ranks, ties by their mean rank, and so does not
        change under strictly increasing maps of a column.

    Returns
    -------
    pd.DataFrame
        Of the same shape; a constant column becomes zeros.
    """
    values = table.to_numpy(dtype=np.float64)
    if method == "rank":
        values = rankdata(values, axis=0)
    deviation = values.std(axis=0)
    for column, entries in enumerate(values.T):
        if is_constant(entries):  # rounding of the mean can leave it a tiny deviation
            deviation[column] = 0.0
    centred = values - values.mean(axis=0)
    scaled = np.divide(centred, deviation, out=np.zeros_like(values), where=deviation > 0)
    return pd.DataFrame(scaled, table.index, table.columns)


def blend(
    tables: Sequence[pd.DataFrame], method: Method, weights: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Mean over tables, after each is standardised over its clips.

    Parameters
    ----------
    tables : sequence of pd.DataFrame
        Predictions of the same clips and targets, in any order of rows and columns.
    method : {"z-score", "rank"}
        As for `standardise`.
    weights : pd.DataFrame [shape=(n_tables, n_targets)], optional
        One row per table, in their order, and one column per target; 0 or more. Equal without.

    Returns
    -------
    pd.DataFrame
        Mean 0, deviation at most 1, without units; sorted by `Id`.

    Raises
    ------
    InputError
        When there is no table, a table fails `check_predictions`, the tables' ids or targets
        differ, or the weights do not fit.
    """
    same = aligned({f"table {number}": table for number, table in enumerate(tables, start=1)})
    targets = same[0].columns
    shares = _shares(weights, len(same), targets)
    parts = np.stack([standardise(table, method).to_numpy() for table in same])
    return pd.DataFrame((parts * shares[:, np.newaxis, :]).sum(axis=0), same[0].index, targets)


def aligned(tables: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Checked tables with the rows of the first, sorted by id, and its columns."""
    if not tables:
        raise InputError("There is no table to blend. Give at least one.")
    names = list(tables)
    for name in names:
        check_predictions(tables[name], name)
        _check_same(names[0], tables[names[0]], name, tables[name])
    first = tables[names[0]].sort_index()
    return [tables[name].loc[first.index, first.columns] for name in names]


def _check_same(first_name: str, first: pd.DataFrame, name: str, table: pd.DataFrame) -> None:
    lacking, extra = first.index.difference(table.index), table.index.difference(first.index)
    if len(lacking) or len(extra):
        raise InputError(
            f"{name} lacks {len(lacking)} ids of {first_name} ({first_five(lacking) or 'none'}) and has "
            f"{len(extra)} others ({first_five(extra) or 'none'}). Blend only predictions of the same clips."
        )
    if sorted(first.columns) != sorted(table.columns):
        raise InputError(
            f"{first_name} has the targets {', '.join(first.columns)}, but {name} has "
            f"{', '.join(table.columns)}. Blend only predictions of the same targets."
        )


def _shares(weights: pd.DataFrame | None, n_tables: int, targets: pd.Index) -> np.ndarray:
    """Weights that sum to 1 over tables [shape=(n_tables, n_targets)]."""
    if weights is None:
        return np.full((n_tables, len(targets)), 1 / n_tables)
    if len(weights) != n_tables or sorted(weights.columns) != sorted(targets):
        raise InputError(
            f"There are {len(weights)} rows of weights for {', '.join(weights.columns)}, but {n_tables} "
            f"tables of {', '.join(targets)}. Give one weight per table and target."
        )
    values = weights[list(targets)].to_numpy(dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and (values.sum(axis=0) > 0).all()):
        raise InputError("Weights must be 0 or more, and above 0 for at least one table of every target.")
    return values / values.sum(axis=0)


def choose_weights(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    method: Method,
    shrinkage: float = 0.5,
) -> pd.DataFrame:
    """Weights of runs, per target, that fit the ranks of the truth best.

    Non-negative least squares of the standardised ranks of the truth on the standardised
    predictions [1]_, scaled to sum 1 and shrunk towards equal weights, since weights fitted to a
    thousand clips are noisy.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values of the same clips as the members.
    members : mapping of str to pd.DataFrame
        Name of a run to its out-of-fold predictions.
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
        When the shrinkage is not 0 to 1, there is no member, or ids or targets differ.

    References
    ----------
    .. [1] L. Breiman, "Stacked regressions", Machine Learning 24, 1996: weights are kept from
       being negative and fitted to predictions of clips that were not trained on.
    """
    if not 0 <= shrinkage <= 1:
        raise InputError(f"The shrinkage is {shrinkage:g}; expected 0 (fitted weights) to 1 (equal weights).")
    if not members:
        raise InputError("There is no run to weight. Name at least one.")
    sorted_truth, *tables = aligned({"the truth": truth, **members})
    ranks = standardise(sorted_truth, "rank")
    scaled = [standardise(table, method) for table in tables]
    equal = 1 / len(tables)
    weights = {
        target: shrinkage * equal + (1 - shrinkage) * _fit([part[target] for part in scaled], ranks[target])
        for target in ranks.columns
    }
    return pd.DataFrame(weights, pd.Index(list(members), name="run"))[list(truth.columns)]


def weights_of_all(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    _folds: pd.Series,
    method: Method,
    shrinkage: float,
) -> pd.DataFrame:
    """`choose_weights` for `nested_blend`: the folds of the clips do not matter to it."""
    return choose_weights(truth, members, method, shrinkage)


def _fit(columns: Sequence[pd.Series], ranks: pd.Series) -> np.ndarray:
    """Non-negative weights that sum to 1 [shape=(n_members,)]."""
    weights, _ = nnls(np.column_stack([column.to_numpy() for column in columns]), ranks.to_numpy())
    if weights.sum() == 0:
        return np.full(len(columns), 1 / len(columns))
    return weights / weights.sum()


def nested_blend(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    folds: pd.Series,
    method: Method,
    weigh: Weigh,
) -> pd.DataFrame:
    """Blend runs such that no clip is blended with weights that were chosen on it.

    Members are standardised over all clips, which needs no labels; every fold's clips then get
    the weights chosen on the clips of the other folds.

    Parameters
    ----------
    truth, members, method
        As for `choose_weights`.
    folds : pd.Series
        Fold of every clip, indexed by `Id`; may know more clips than the truth.
    weigh : callable
        Truth, members and folds of some clips to weights such as those of `choose_weights`.

    Returns
    -------
    pd.DataFrame
        Without units, sorted by `Id`; its score is honest where that of ``blend`` with the
        weights of `choose_weights` is not.

    Raises
    ------
    InputError
        As for `choose_weights`, and when clips have no fold or all have the same one.
    """
    homeless = truth.index.difference(folds.index)
    if len(homeless):
        raise InputError(
            f"{len(homeless)} clips have no fold: {first_five(homeless)}. Train all folds first."
        )
    fold_of = folds.loc[truth.index]
    if fold_of.nunique() < 2:
        raise InputError(
            "All clips are of one fold, so no others can choose its weights. Train another fold."
        )
    tables = list(members.values())
    parts = []
    for fold in sorted(fold_of.unique()):
        inside, others = fold_of.index[fold_of == fold], fold_of.index[fold_of != fold]
        known = {name: table.loc[table.index.isin(others)] for name, table in members.items()}
        weights = weigh(truth.loc[others], known, fold_of.loc[others])
        # runs that are less alike spread less together, so other weights would give another scale
        parts.append(standardise(blend(tables, method, weights), method).loc[inside])
    return pd.concat(parts).sort_index()


def to_target_units(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Give a blend the mean and scale of the targets of the training clips.

    Raises
    ------
    InputError
        When the targets differ.
    """
    return in_target_units(table, truth.mean(), truth.std(ddof=0))


def in_target_units(table: pd.DataFrame, mean: pd.Series, deviation: pd.Series) -> pd.DataFrame:
    """Give a blend a mean and a scale.

    Values are not clipped to the targets' range: clipping makes ties, and the score knows only
    the order.

    Parameters
    ----------
    table : pd.DataFrame
        A blend, with mean 0 and deviation 1 or less.
    mean, deviation : pd.Series
        Of every target, by its name.

    Returns
    -------
    pd.DataFrame
        In the units of the targets.

    Raises
    ------
    InputError
        When the targets differ.
    """
    if sorted(table.columns) != sorted(mean.index):
        raise InputError(
            f"The blend has the targets {', '.join(table.columns)}, but the truth has "
            f"{', '.join(mean.index)}. Give the truth of the same targets."
        )
    return table * deviation[table.columns] + mean[table.columns]
