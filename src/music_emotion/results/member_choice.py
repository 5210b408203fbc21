"""Which runs a blend needs: one after the other, as long as clips that did not choose them gain."""

from collections.abc import Mapping

import pandas as pd

from music_emotion.results.ensemble import Method, choose_weights, nested_blend
from music_emotion.results.scores import target_scores


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

    def score(names: list[str]) -> float:
        def weigh(truth: pd.DataFrame, known: Mapping[str, pd.DataFrame], _: pd.Series) -> pd.DataFrame:
            return choose_weights(truth, known, method, shrinkage)

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


def chosen_weights(
    truth: pd.DataFrame,
    members: Mapping[str, pd.DataFrame],
    folds: pd.Series,
    method: Method,
    shrinkage: float,
) -> pd.DataFrame:
    """Weights of the best members, and 0 for the others.

    Takes what `rank_members` does.

    Returns
    -------
    pd.DataFrame [shape=(n_members, n_targets)]
        Indexed by run name; every column sums to 1.
    """
    best = best_members(rank_members(truth, members, folds, method, shrinkage))
    weights = choose_weights(truth, {name: members[name] for name in best}, method, shrinkage)
    return weights.reindex(list(members), fill_value=0.0)
