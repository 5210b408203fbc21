"""Which runs a blend needs: one after the other, as long as clips that did not choose them gain."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from music_emotion.evaluation.ensemble import Method, choose_weights, nested_blend, weights_of_all
from music_emotion.evaluation.scores import target_scores


def rank_members(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    folds: pd.Series,
    method: Method,
    shrinkage: float,
) -> pd.Series:
    """Take the best run first, then always the one with which the blend scores best.

    Parameters
    ----------
    truth, members, folds, method
        As for `nested_blend`.
    shrinkage : float
        As for `choose_weights`.

    Returns
    -------
    pd.Series
        Of every run, in the order in which they were taken, the score of the blend up to it: mean
        Spearman correlation of clips whose weights were chosen on other folds.

    References
    ----------
    Caruana et al., 2004, "Ensemble selection from libraries of models", section 2, with weights in
    place of repeated members.
    """
    weigh = partial(weights_of_all, method=method, shrinkage=shrinkage)

    def score(names: list[str]) -> float:
        nested = nested_blend(truth, {name: members[name] for name in names}, folds, method, weigh)
        return target_scores(truth, nested)["mean"]

    taken: dict[str, float] = {}
    while len(taken) < len(members):
        scores = {name: score([*taken, name]) for name in members if name not in taken}
        best = max(scores, key=lambda name: scores[name])
        taken[best] = scores[best]
    return pd.Series(taken, name="score")


def best_members(ranked: pd.Series) -> list[str]:
    """Runs up to the blend that scored best."""
    return [str(name) for name in ranked.index[: int(ranked.to_numpy().argmax()) + 1]]


def rank_by_target(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    folds: pd.Series,
    method: Method,
    shrinkage: float,
) -> dict[str, pd.Series]:
    """Every target's own order of runs, since one may help a target and harm another.

    Takes what `rank_members` does.
    """
    ranked = {}
    for target in truth.columns:
        tables = {name: table[[target]] for name, table in members.items()}
        ranked[str(target)] = rank_members(truth[[target]], tables, folds, method, shrinkage)
    return ranked


def weights_of_best(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    ranked: Mapping[str, pd.Series],
    method: Method,
    shrinkage: float,
) -> pd.DataFrame:
    """Weights of every target's best members, and 0 for the others.

    Parameters
    ----------
    truth, members, method, shrinkage
        As for `choose_weights`.
    ranked : mapping of str to pd.Series
        As `rank_by_target` gives it.

    Returns
    -------
    pd.DataFrame [shape=(n_members, n_targets)]
        Indexed by run name; every column sums to 1.
    """
    weights = pd.DataFrame(0.0, pd.Index(list(members), name="run"), list(truth.columns))
    for target, scores in ranked.items():
        best = {name: members[name][[target]] for name in best_members(scores)}
        chosen = choose_weights(truth[[target]], best, method, shrinkage)
        weights.loc[chosen.index, target] = chosen[target]
    return weights


def chosen_weights(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    folds: pd.Series,
    method: Method,
    shrinkage: float,
) -> pd.DataFrame:
    """`weights_of_best` of the clips that are given, for `nested_blend`."""
    ranked = rank_by_target(truth, members, folds, method, shrinkage)
    return weights_of_best(truth, members, ranked, method, shrinkage)
