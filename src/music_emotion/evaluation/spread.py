"""How far scores of single seeds, and of single folds, lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Spread:
    """Standard deviations of a score; of one seed, or one fold of each, they are not known.

    Attributes
    ----------
    n_seeds, n_folds : int
        How many were scored; `n_folds` of the seed that has most.
    over_seeds : float or None
        Of the score that each seed has over all its clips.
    over_folds : float or None
        Of the scores of single folds about the mean of their seed. It holds the luck of the few clips of
        a fold, too, and so is no spread of trainings.
    """

    n_seeds: int
    n_folds: int
    over_seeds: float | None
    over_folds: float | None

    def in_words(self) -> str:
        """Both, as runs print them behind a score."""
        return (
            f"{_told(self.over_seeds, self.n_seeds, 'seed')}, {_told(self.over_folds, self.n_folds, 'fold')}"
        )


def _told(deviation: float | None, n: int, what: str) -> str:
    if deviation is None:
        return f"± unknown ({n} {what}{'s' * (n != 1)})"
    return f"± {deviation:.3f} ({n} {what}s)"


def spread_of(scores: Mapping[str, Any], names: Sequence[str]) -> Spread | None:
    """The spread of the mean of some scores, from what `scores.json` holds.

    Parameters
    ----------
    scores : mapping
        With ``per_seed``: seed to scores; and perhaps ``per_fold``, whose ``scores`` have ``seed``, ``fold``
        and their own ``scores``.
    names : sequence of str
        Targets or measures; one alone has the spread of itself.

    Returns
    -------
    Spread or None
        None where nothing is said of single seeds.
    """
    if not scores.get("per_seed"):
        return None
    chosen = list(names)
    of_seeds = pd.DataFrame.from_dict(scores["per_seed"], orient="index")[chosen].mean(axis=1)
    rows = (scores.get("per_fold") or {}).get("scores", [])
    seeds = pd.Series([row["seed"] for row in rows], dtype="int64")
    of_folds = pd.Series(
        [sum(row["scores"][name] for name in chosen) / len(chosen) for row in rows], dtype=float
    )
    sizes = of_folds.groupby(seeds).size()
    return Spread(
        n_seeds=len(of_seeds),
        n_folds=int(sizes.max()) if len(sizes) else 0,
        over_seeds=_deviation(of_seeds - of_seeds.mean(), len(of_seeds) - 1),
        over_folds=_deviation(of_folds - of_folds.groupby(seeds).transform("mean"), int((sizes - 1).sum())),
    )


def spreads(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The spread of every score in ``per_seed``, as `scores.json` holds it.

    Returns
    -------
    dict
        ``n_seeds``, ``n_folds``; ``over_seeds`` and ``over_folds``, each by the name of a score. Ready for
        JSON: None is what one seed or one fold can't tell.
    """
    names = list(next(iter(scores["per_seed"].values())))
    found = {name: _known(scores, name) for name in names}
    first = found[names[0]]
    return {
        "n_seeds": first.n_seeds,
        "n_folds": first.n_folds,
        "over_seeds": {name: each.over_seeds for name, each in found.items()},
        "over_folds": {name: each.over_folds for name, each in found.items()},
    }


def _known(scores: Mapping[str, Any], name: str) -> Spread:
    found = spread_of(scores, [name])
    if found is None:
        raise ValueError("scores of no seed have no spread")
    return found


def _deviation(distances: pd.Series, freedom: int) -> float | None:
    return float((distances**2).sum() / freedom) ** 0.5 if freedom > 0 else None
