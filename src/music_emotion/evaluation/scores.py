"""Scores of emotion predictions: pooled with bootstrap intervals, per seed and per fold."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from music_emotion.evaluation.bootstrap import check_known, with_interval, with_pair
from music_emotion.evaluation.metrics import is_constant, spearman_per_target
from music_emotion.evaluation.rank_resampling import resampled_spearman
from music_emotion.evaluation.spread import spreads
from music_emotion.files import InputError, check_predictions


def emotion_scores(
    truth: pd.DataFrame, out_of_fold: Mapping[int, pd.DataFrame], fold_of: Mapping[int, pd.Series]
) -> dict[str, Any]:
    """Score out-of-fold predictions: pooled over folds, per seed, and per fold.

    Parameters
    ----------
    truth : pd.DataFrame
        Target values; may know more clips than were predicted.
    out_of_fold : mapping of int to pd.DataFrame
        Seed to predictions, of all clips or of those whose folds are done.
    fold_of : mapping of int to pd.Series
        Seed to the fold of every clip, indexed by `Id`.

    Returns
    -------
    dict
        Ready for JSON. ``n`` clips and the ``folds`` done, by seed; ``pooled``: of the mean over
        seeds, per target and their ``mean``, value with 95 % bootstrap interval and n; ``per_seed``;
        ``per_fold``: scores and their mean; ``spread``: as by `spreads`;
        ``constant``: every seed, fold and target that was predicted as one value, and scores 0.

    Raises
    ------
    InputError
        When there are no predictions, ids or targets do not fit, or a truth can't be ranked.
    """
    if not out_of_fold or "mean" in truth.columns:
        raise InputError("Give out-of-fold predictions of at least one seed, of no target named 'mean'.")
    tables = {seed: _checked(seed, out_of_fold[seed], truth, fold_of) for seed in sorted(out_of_fold)}
    pooled = pd.concat(list(tables.values())).groupby(level=0).mean()
    folds = [row for seed, table in tables.items() for row in _fold_rows(seed, table, truth, fold_of[seed])]
    constant = [
        {"seed": row["seed"], "fold": row["fold"], "target": target}
        for row in folds
        for target in row.pop("constant")
    ]
    of_each = {
        "per_seed": {str(seed): target_scores(truth, table) for seed, table in tables.items()},
        "per_fold": {
            "scores": folds,
            "mean": pd.DataFrame([row["scores"] for row in folds]).mean().to_dict(),
        },
    }
    return {
        "n": len(pooled),
        "folds": {str(seed): [row["fold"] for row in folds if row["seed"] == seed] for seed in tables},
        "pooled": pooled_scores(truth, pooled),
        **of_each,
        "spread": spreads(of_each),
        "constant": constant,
    }


def _checked(
    seed: int, table: pd.DataFrame, truth: pd.DataFrame, fold_of: Mapping[int, pd.Series]
) -> pd.DataFrame:
    place = f"out-of-fold predictions of seed {seed}"
    check_predictions(table, place)
    check_known(table.index, truth.index, place, "truth")
    check_known(table.index, fold_of[seed].index if seed in fold_of else pd.Index([]), place, "fold")
    if sorted(table.columns) != sorted(truth.columns):
        raise InputError(
            f"The {place} have the targets {', '.join(table.columns)}, but the truth has "
            f"{', '.join(truth.columns)}. Give the truth of the same targets."
        )
    return table[list(truth.columns)]


def target_scores(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, float]:
    """Spearman correlation of a table's clips per target, and their `mean`.

    Parameters
    ----------
    truth, table : pd.DataFrame
        Target values and predictions of the same targets, indexed by `Id`; the truth may know more clips.
    """
    known = truth.loc[table.index].to_numpy()
    scores = spearman_per_target(known, table.to_numpy(), [str(name) for name in truth.columns])
    return scores | {"mean": float(np.mean(list(scores.values())))}


def mean_score(truth: pd.DataFrame, table: pd.DataFrame, targets: Sequence[str]) -> dict[str, float]:
    """Spearman's correlation, averaged over some targets.

    Parameters
    ----------
    truth, table : pd.DataFrame
        Target values and predictions, indexed by `Id`; clips that one of them lacks do not count.
    targets : sequence of str
        Which of the columns.

    Returns
    -------
    dict
        ``value``, ``low`` and ``high`` of its 95 % bootstrap interval, and ``n``, the number of clips.

    Raises
    ------
    InputError
        As `paired_difference`.
    """
    tables = _common(truth, [table], targets)
    value, resampled = _resampled_mean(*tables)
    return with_interval(value, resampled, len(tables[0]))


def paired_difference(
    truth: pd.DataFrame, one: pd.DataFrame, other: pd.DataFrame, targets: Sequence[str]
) -> dict[str, float]:
    """By how much one's mean Spearman correlation is above the other's, over the clips both predict.

    Both are scored in the same resamples of the clips, so that clips that are hard for both do not widen
    the interval.

    Parameters
    ----------
    truth, one, other : pd.DataFrame
        Target values and two runs' predictions, indexed by `Id`, in any order; clips that one of them
        lacks do not count.
    targets : sequence of str
        Which of the columns the mean is over.

    Returns
    -------
    dict
        ``value``, ``low`` and ``high`` of its 95 % bootstrap interval, ``n``, the number of clips, and
        ``above``, the share of resamples in which one is above the other.

    Raises
    ------
    InputError
        When a table lacks one of the targets, they share fewer than two clips, or a truth can't be ranked.
    """
    tables = _common(truth, [one, other], targets)
    (value, resampled), (others_value, others_resampled) = (
        _resampled_mean(tables[0], table) for table in tables[1:]
    )
    return with_pair(value - others_value, resampled, others_resampled, len(tables[0]))


def _common(
    truth: pd.DataFrame, predictions: Sequence[pd.DataFrame], targets: Sequence[str]
) -> list[pd.DataFrame]:
    """Truth and predictions of the clips that all of them have, ascending, and of some targets."""
    ids = truth.index
    for table in predictions:
        ids = ids.intersection(table.index)
    if missing := [name for name in targets for table in (truth, *predictions) if name not in table]:
        raise InputError(
            f"A table has no '{missing[0]}', so it can't be compared. Name targets that all have."
        )
    if len(ids) < 2:
        raise InputError(f"Only {len(ids)} clips are in all tables. Compare predictions of the same clips.")
    return [table.loc[ids.sort_values(), list(targets)] for table in (truth, *predictions)]


def _resampled_mean(truth: pd.DataFrame, table: pd.DataFrame) -> tuple[float, np.ndarray]:
    """The mean over the targets, of all clips and in every resample [shape=(n_resamples,)]."""
    resampled = resampled_spearman(truth.to_numpy(), table.to_numpy())
    return target_scores(truth, table)["mean"], resampled.mean(axis=1)


def pooled_scores(truth: pd.DataFrame, table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Every target's Spearman correlation and their `mean`, each with interval and number of clips.

    Parameters
    ----------
    truth, table : pd.DataFrame
        Target values and predictions of the same targets, indexed by `Id`; the truth may know more clips.
    """
    values = target_scores(truth, table)
    resampled = resampled_spearman(truth.loc[table.index].to_numpy(), table.to_numpy())
    columns = [*resampled.T, resampled.mean(axis=1)]
    return {
        name: with_interval(values[name], column, len(table))
        for name, column in zip(values, columns, strict=True)
    }


def _fold_rows(
    seed: int, table: pd.DataFrame, truth: pd.DataFrame, fold_of: pd.Series
) -> Iterator[dict[str, Any]]:
    for fold, part in table.groupby(fold_of.loc[table.index]):
        try:
            scores = target_scores(truth, part)
        except InputError as error:
            raise InputError(f"Seed {seed}, fold {fold}: {error}") from None
        constant = [str(name) for name, column in part.items() if is_constant(column.to_numpy())]
        yield {"seed": seed, "fold": int(str(fold)), "n": len(part), "scores": scores, "constant": constant}
