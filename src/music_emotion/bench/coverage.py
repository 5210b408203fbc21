"""Coverage of the 95 % intervals of scores: how often they contain the population's score."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from music_emotion.config import Task
from music_emotion.evaluation.intervals import resampled_scores
from music_emotion.evaluation.metrics import table_scores
from music_emotion.files import InputError

_ENOUGH = 300  # clips from which on intervals must have the stated coverage

_TARGETS = ["weak", "middle", "strong"]
# correlation of truth and prediction per target; the second run of a pair has slightly less
_PEARSON = np.array([0.3, 0.6, 0.9]) - np.array([[0], [0.05]])
_BETWEEN_TARGETS = np.array([[1, 0.1, 0.15], [0.1, 1, 0.4], [0.15, 0.4, 1]])  # as on the bench set
_ROOT = np.linalg.cholesky(_BETWEEN_TARGETS)
_SHARED = 0.8  # share of the noise variance that both runs of a pair have in common
_FOLDS, _SHIFT, _STRETCH = 5, 0.2, 0.15  # the bench set's networks have offsets of .03 to .18
_MANY = 20_000  # clips that represent a population; their standard error is a sixth of that of 600
# clips per artist of the bench set, and the artist's share of the variance of truth and of both runs' errors
_ARTISTS = np.repeat([1, 2, 3, 4, 5, 6, 9, 10, 12], [349, 56, 14, 7, 4, 3, 1, 1, 1])
_OF_ARTIST = (0.6, 0.3, 0.3)
_SHARES, _RIGHT = np.array([0.25, 0.2, 0.16, 0.13, 0.11, 0.08, 0.04, 0.03]), (0.65, 0.6)

Scores = dict[Any, float]  # by name


class Sample(NamedTuple):
    """Simulated clips with two runs' predictions.

    Attributes
    ----------
    truth, one, other : pd.DataFrame [shape=(n, 3)]
        One column per target; for genres one-hot [shape=(n, n_classes)].
    known : dict of str to float
        Scores of the population. For targets: the correlation of `one` per target, the ``mean``, and its
        ``difference`` from the mean of `other`. For genres: accuracy and F1 of `one`, and the same names
        with ``_ahead`` for the lead over `other`.
    groups : pd.Series or None
        Group of every clip, if they have any.
    """

    truth: pd.DataFrame
    one: pd.DataFrame
    other: pd.DataFrame
    known: Scores
    groups: pd.Series | None = None


class Case(NamedTuple):
    """A kind of simulated clips.

    Attributes
    ----------
    what : str
    n : int
        Clips per simulation.
    draw : callable
        Draws a `Sample` of n clips with a random generator.
    known : dict of str to dict
        Further true values to compare with the intervals, by name. The name "" replaces those of the
        samples.
    independent : bool
        Whether clips are independent.
    by_group : bool
        Whether groups are resampled instead of clips.
    """

    what: str
    n: int
    draw: Callable[[np.random.Generator, int], Sample]
    known: dict[str, Scores] = {}  # noqa: RUF012 (never changed)
    independent: bool = True
    by_group: bool = False


def coverage(*, simulations: int = 1000, seed: int = 0, jobs: int = -1) -> None:
    """Simulate predictions whose true scores are known: how often do the intervals contain them?

    The intervals are those of scores.json, RESULTS.md and compare, computed by the same functions. They cover
    single targets, their mean, the paired difference of two runs, and genre scores. Cases in which intervals
    fail are included: macro F1 of a hundred clips with rare classes, the expected score of a recipe whose
    folds have their own offsets, and clips of one artist. The total is about ten minutes of one core.

    Parameters
    ----------
    simulations
        Number of simulations per kind of clips.
    seed
        Seed of the simulations.
    jobs
        Worker processes; -1 for one per core.
    """
    if simulations < 2:
        raise InputError(f"--simulations is {simulations}; expected 2 or more, such as 1000.")
    error = 100 * np.sqrt(0.95 * 0.05 / simulations)
    print(f"{simulations} simulations of each kind; a percentage has a standard error of {error:.1f}.")
    counted = []
    for case in cases():
        for name, row in measure(case, simulations, seed, jobs).items():
            what = f"{case.what}{name}, {case.n} clips"
            print(f"{what}:\n  {'  '.join(f'{score} {p:.1f}' for score, p in row.items())}", flush=True)
            counted += list(row.values()) if case.independent and case.n >= _ENOUGH and not name else []
    extremes = f"{min(counted):.1f} to {max(counted):.1f} % of {len(counted)} intervals"
    print(f"independent clips, {_ENOUGH} or more: {extremes}")
    farthest = max(counted, key=lambda percent: abs(percent - 95))
    print(f"coverage_farthest {farthest:.1f} within_2 {'yes' if abs(farthest - 95) <= 2 else 'no'}")


def cases() -> list[Case]:
    """All kinds of clips to simulate, small n first."""
    of_steps = _scores(steps(np.random.default_rng(0), 50 * _MANY))
    random = np.random.default_rng(0)
    of_recipe = pd.DataFrame([folds(random, 2).known for _ in range(100)]).mean().to_dict()
    recipe = {", the expected score of the recipe": of_recipe}
    return [
        *(Case("independent clips", n, normal) for n in (60, 300, 600)),
        Case("labels in eleven steps", 600, steps, {"": of_steps}),
        Case("folds with offsets of their own", 600, folds, recipe),
        *(Case("genres of eight classes", n, genres) for n in (100, 600)),
        Case("clips of artists", 600, artists, independent=False),
        Case("clips of artists, artists resampled", 600, artists, independent=False, by_group=True),
    ]


def measure(case: Case, simulations: int, seed: int, jobs: int) -> dict[str, Scores]:
    """Percentage of simulations in which each interval contains the known value.

    Returns
    -------
    dict of str to dict of str to float
        Percentages by score, for each name in the case's `known`; "" for the samples' own values.
    """
    draws = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(simulations)]
    run = Parallel(n_jobs=jobs, return_as="generator")(delayed(_contained)(case, draw) for draw in draws)
    found = list(tqdm(run, desc=f"{case.what}, {case.n}", total=simulations, leave=False))
    return {name: (100 * pd.DataFrame([row[name] for row in found]).mean()).to_dict() for name in found[0]}


def _contained(case: Case, random: np.random.Generator) -> dict[str, dict[str, bool]]:
    """Whether the intervals of one simulation contain the true values, by name and score."""
    sample = case.draw(random, case.n)
    task: Task = "genre" if "accuracy" in sample.known else "emotion"
    one, other = (
        resampled_scores(task, sample.truth, table, sample.groups if case.by_group else None)
        for table in (sample.one, sample.other)
    )
    names = {f"{name}_ahead": name for name in one.drawn} if task == "genre" else {"difference": "mean"}
    found = one.intervals() | {pair: one.difference(other, [name]) for pair, name in names.items()}
    return {
        name: {score: each["low"] <= known[score] <= each["high"] for score, each in found.items()}
        for name, known in ({"": sample.known} | case.known).items()
    }


def normal(random: np.random.Generator, n: int) -> Sample:
    """Draw independent clips with normally distributed truth and predictions."""
    return _sample(*(_targets(random, n) for _ in range(3)))


def artists(random: np.random.Generator, n: int) -> Sample:
    """Draw clips by artists as in the bench set; truth and errors correlate within an artist."""
    of_clip = np.repeat(np.arange(len(_ARTISTS)), _ARTISTS)[:n]
    sample = _sample(
        *(
            np.sqrt(share) * _targets(random, len(_ARTISTS))[of_clip]
            + np.sqrt(1 - share) * _targets(random, len(of_clip))
            for share in _OF_ARTIST
        )
    )
    return sample._replace(groups=pd.Series(of_clip, sample.truth.index))


def steps(random: np.random.Generator, n: int) -> Sample:
    """Draw labels in eleven steps from 0 to 1; `known` holds the scores for the labels before rounding."""
    sample = normal(random, n)
    return sample._replace(truth=(0.5 + 0.2 * sample.truth).clip(0, 1).round(1))


def folds(random: np.random.Generator, n: int) -> Sample:
    """Draw out-of-fold predictions; the network of each fold has its own offset and scale.

    `known` holds the scores of these networks on new clips.
    """
    deviations = np.reshape([_SHIFT, _STRETCH], (2, 1, 1))
    networks = random.normal(0, deviations, (2, 2, _FOLDS, len(_TARGETS)))  # by run, offset or scale

    def predicted(clips: Sample) -> Sample:
        fold = np.arange(len(clips.truth)) % _FOLDS
        one, other = (
            offset[fold] + np.exp(stretch)[fold] * table
            for table, (offset, stretch) in zip((clips.one, clips.other), networks, strict=True)
        )
        return clips._replace(one=one, other=other)

    sample, large = predicted(normal(random, n)), predicted(normal(random, _MANY))
    return sample._replace(known=_scores(large))


def genres(random: np.random.Generator, n: int) -> Sample:
    """Draw independent clips of eight classes, whose shares are 0.25 to 0.03."""
    truth = random.choice(len(_SHARES), n, p=_SHARES)
    luck, guess = random.random(n), random.choice(len(_SHARES), n, p=_SHARES)
    runs = (np.where(luck < right, truth, guess) for right in _RIGHT)
    table, one, other = (pd.DataFrame(np.eye(len(_SHARES))[classes]) for classes in (truth, *runs))
    known, others = (_genre_scores(right) for right in _RIGHT)
    ahead = {f"{name}_ahead": known[name] - others[name] for name in known}
    return Sample(table, one, other, known | ahead)


def _targets(random: np.random.Generator, n: int) -> np.ndarray:
    return random.standard_normal((n, len(_TARGETS))) @ _ROOT.T


def _sample(truth: np.ndarray, noise: np.ndarray, others_noise: np.ndarray) -> Sample:
    alike = np.sqrt(_SHARED) * noise + np.sqrt(1 - _SHARED) * others_noise
    runs = (r * truth + np.sqrt(1 - r**2) * each for r, each in zip(_PEARSON, (noise, alike), strict=True))
    ids = pd.RangeIndex(len(truth), name="Id")
    table, one, other = (pd.DataFrame(values, ids, _TARGETS) for values in (truth, *runs))
    spearman, others = 6 / np.pi * np.arcsin(_PEARSON / 2)  # from Pearson's, for normal variables
    known = dict(zip(_TARGETS, spearman.tolist(), strict=True))
    means = {"mean": spearman.mean(), "difference": spearman.mean() - others.mean()}
    return Sample(table, one, other, known | means)


def _scores(sample: Sample) -> Scores:
    one, other = (table_scores("emotion", sample.truth, table) for table in (sample.one, sample.other))
    return one | {"difference": one["mean"] - other["mean"]}


def _genre_scores(right: float) -> Scores:
    """True scores of a run that is right for a share of the clips, and guesses the others at random."""
    hits = _SHARES * (right + (1 - right) * _SHARES)
    f1 = hits / _SHARES  # precision equals recall
    return {"accuracy": hits.sum(), "macro_f1": f1.mean(), "weighted_f1": (f1 * _SHARES).sum()}
