"""Folds: stratified, optionally grouped, repeated by seed."""

import warnings

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from music_emotion.files import InputError, first_five

_N_STRATA = 10
_MOST_CROSSED = 3


def assign_folds(strata: np.ndarray, n_folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Give every clip the fold in which it is validated.

    Parameters
    ----------
    strata : np.ndarray [shape=(n,)], integer
        Classes, or `target_strata` of regression targets; spread evenly over folds.
    n_folds : int
        2 or more.
    seed : int
        Another seed gives other folds.
    groups : np.ndarray [shape=(n,)], optional
        Clips of one group share a fold.

    Returns
    -------
    np.ndarray [shape=(n,)], integer
        0 to ``n_folds - 1``; every fold has at least one clip.

    Raises
    ------
    InputError
        When there are fewer clips, or groups, than folds.
    """
    n_units = len(strata) if groups is None else len(np.unique(groups))
    if n_units < n_folds:
        unit = "clips" if groups is None else "groups"
        raise InputError(f"There are {n_units} {unit} for {n_folds} folds. Lower --folds.n.")
    splitter = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
        n_splits=n_folds, shuffle=True, random_state=seed
    )
    fold_of = np.empty(len(strata), dtype=np.int64)
    with warnings.catch_warnings():  # a class rarer than the folds is spread as far as it goes
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (_, valid) in enumerate(splitter.split(strata, _mergeable(strata, n_folds), groups)):
            fold_of[valid] = fold
    return fold_of


def assign_parts(
    strata: np.ndarray, shares: tuple[float, ...], seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """Give every clip a part, such as one to train on, one to validate with and one to test on.

    Groups, in random order but the large ones rather early, go where their classes, and clips at all,
    are missed most.

    Parameters
    ----------
    strata : np.ndarray [shape=(n,)], integer
        Classes, or `target_strata` of regression targets; spread over the parts by their shares.
    shares : tuple of float
        Of each part, above 0; together 1. A class too rare for all parts is in the first ones.
    seed : int
        Another seed gives other parts.
    groups : np.ndarray [shape=(n,)], optional
        Clips of one group share a part.

    Returns
    -------
    np.ndarray [shape=(n,)], integer
        0 to ``len(shares) - 1``; every part has at least one clip.

    Raises
    ------
    InputError
        When there are too few clips, or groups, for the parts.

    References
    ----------
    Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011; here
    the items are groups and the labels their clips' classes.
    """
    _, unit_of = np.unique(np.arange(len(strata)) if groups is None else groups, return_inverse=True)
    classes, class_of = np.unique(strata, return_inverse=True)
    counts = np.zeros((unit_of.max() + 1, len(classes) + 1))  # the last column is of all classes
    np.add.at(counts, (unit_of, class_of), 1)
    counts[:, -1] = counts.sum(axis=1)
    wanted = np.outer(shares, counts.sum(axis=0))
    missing = wanted.copy()
    part_of = np.empty(len(counts), np.int64)
    # Early, a large group still fits; but by its size alone it would be in the same part for every seed.
    lateness = np.random.default_rng(seed).random(len(counts)) / counts[:, -1]
    for unit in np.argsort(lateness):
        # of what a part wants; where that is less than a clip, a whole one is too much
        part = ((missing / np.maximum(wanted, 1)) @ counts[unit]).argmax()
        part_of[unit] = part
        missing[part] -= counts[unit]
    if len(set(part_of)) < len(shares):
        unit = "clips" if groups is None else "groups"
        raise InputError(
            f"There are {len(counts)} {unit}, too few to be split into {len(shares)} parts. Give more, or "
            f"the split 'folds' with a small --folds.n."
        )
    return part_of[unit_of]


def _mergeable(strata: np.ndarray, n_folds: int) -> np.ndarray:
    """Put strata smaller than the number of folds together, for none can be in every fold."""
    values, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    return np.where(counts[inverse] < n_folds, len(values), inverse)


def target_strata(values: np.ndarray) -> np.ndarray:
    """Bin regression targets so that folds get equal shares of every region.

    Parameters
    ----------
    values : np.ndarray [shape=(n, n_targets)]
        Target values.

    Returns
    -------
    np.ndarray [shape=(n,)], integer
        The combination of every target's quantile bin, about ten combinations in all; of more than
        three targets, the bin of their mean rank.
    """
    if values.shape[1] > _MOST_CROSSED:  # more would leave a stratum to every clip
        values = rankdata(values, axis=0).mean(axis=1, keepdims=True)
    n, n_targets = values.shape
    n_bins = max(2, round(_N_STRATA ** (1 / n_targets)))
    bins = np.floor((rankdata(values, axis=0) - 0.5) / n * n_bins).astype(np.int64)
    return bins @ (n_bins ** np.arange(n_targets))


def groups_of(ids: np.ndarray, groups: pd.Series) -> np.ndarray:
    """The group of every clip.

    Raises
    ------
    InputError
        When clips have none; the message counts them and names five.
    """
    missing = [clip_id for clip_id in ids if clip_id not in groups.index]
    if missing:
        raise InputError(
            f"{len(missing)} clips have no group in the group file ({first_five(missing)}). Add them to it."
        )
    return groups.loc[ids].to_numpy()
