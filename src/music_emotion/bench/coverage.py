"""How often the 95 % intervals of scores hold the value of the whole population."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from music_emotion.bench import populations
from music_emotion.bench.populations import GenreSample, Sample, Scores
from music_emotion.evaluation.intervals import (
    class_intervals,
    paired_classes,
    paired_difference,
    pooled_scores,
)
from music_emotion.files import InputError

_TARGET, _ALLOWED = 95.0, 2.0
_ENOUGH = 300  # clips, from which on intervals have to hold what they say


@dataclass(frozen=True)
class Case:
    """Clips of one kind, which are drawn many times.

    Attributes
    ----------
    what : str
    n : int
        Clips each time.
    draw : callable
    known : dict of str to dict or None
        What the intervals shall hold, by what it is; None is what each sample knows itself.
    independent : bool
        Whether what the bootstrap takes for granted is so: clips that have nothing to do with each other,
        and a value that belongs to the networks scored.
    """

    what: str
    n: int
    draw: Callable[[np.random.Generator, int], Sample | GenreSample]
    known: dict[str, Scores | None] = field(default_factory=lambda: {"": None})
    independent: bool = True


def coverage(*, simulations: int = 1000, seed: int = 0, jobs: int = -1) -> None:
    """Simulate predictions whose true scores are known: how often do the intervals hold them?

    The intervals are those of scores.json, RESULTS.md and compare.py, computed by the same functions: of
    single targets, of their mean, of the paired difference of two runs, and of genre scores. What they do not
    hold is shown too: macro F1 of a hundred clips with rare classes, the expected score of a recipe whose
    folds have offsets of their own, and clips of one artist. Takes some
    ten minutes of one core in all.

    Parameters
    ----------
    simulations
        How often each kind of clips is drawn anew.
    seed
        Of the simulations; the same gives the same numbers.
    jobs
        Processes; -1 for one per core.
    """
    if simulations < 2:
        raise InputError(f"--simulations is {simulations}; expected 2 or more, such as 1000.")
    error = 100 * np.sqrt(0.95 * 0.05 / simulations)
    print(f"{simulations} simulations of each kind; a percentage has a standard error of {error:.1f}.")
    outside, taken = [], []
    for case in cases():
        for name, row in measure(case, simulations, seed, jobs).items():
            what = f"{case.what}{name}, {case.n} clips"
            print(f"{what}:\n  {'  '.join(f'{score} {p:.1f}' for score, p in row.items())}", flush=True)
            outside += [f"{what}: {score} {p:.1f}" for score, p in row.items() if not _within(p)]
            taken += list(row.values()) if case.independent and case.n >= _ENOUGH and not name else []
    print(f"not within {_TARGET:g} ± {_ALLOWED:g} %: {'; '.join(outside) or 'none'}")
    farthest = max(taken, key=lambda percent: abs(percent - _TARGET))
    print(
        f"independent clips, {_ENOUGH} or more: {min(taken):.1f} to {max(taken):.1f} % "
        f"of {len(taken)} intervals"
    )
    print(f"coverage_farthest {farthest:.1f} within_2 {'yes' if _within(farthest) else 'no'}")


def _within(percent: float) -> bool:
    return abs(percent - _TARGET) <= _ALLOWED


def cases() -> list[Case]:
    """All that are simulated; small n first."""
    of_recipe = {"": None, ", the expected score of the recipe": populations.folds_scores()}
    return [
        Case("independent clips", 60, populations.normal),
        Case("independent clips", 300, populations.normal),
        Case("independent clips", 600, populations.normal),
        Case("labels in eleven steps", 600, populations.steps, {"": populations.steps_scores()}),
        Case("folds with offsets of their own", 600, populations.folds, of_recipe),
        Case("genres of eight classes", 100, populations.genres),
        Case("genres of eight classes", 600, populations.genres),
        Case("clips of artists", 600, populations.artists, independent=False),
    ]


def measure(case: Case, simulations: int, seed: int, jobs: int) -> dict[str, Scores]:
    """In how many of 100 simulations each interval holds the known value.

    Returns
    -------
    dict of str to dict of str to float
        One row for each of the case's `known`, by score.
    """
    draws = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(simulations)]
    run = Parallel(n_jobs=jobs, return_as="generator")(delayed(_held)(case, draw) for draw in draws)
    progress = tqdm(run, desc=f"{case.what}, {case.n}", total=simulations, leave=False)
    found = list(progress)
    return {name: _percentages([row[name] for row in found]) for name in case.known}


def _percentages(held: list[dict[str, bool]]) -> Scores:
    return {str(score): 100 * float(values.mean()) for score, values in pd.DataFrame(held).items()}


def _held(case: Case, random: np.random.Generator) -> dict[str, dict[str, bool]]:
    """Whether the intervals of one simulation hold what is known, by what that is and by score."""
    sample = case.draw(random, case.n)
    intervals = _of_targets(sample) if isinstance(sample, Sample) else _of_genres(sample)
    rows = {name: sample.known if known is None else known for name, known in case.known.items()}
    return {
        name: {score: each["low"] <= known[score] <= each["high"] for score, each in intervals.items()}
        for name, known in rows.items()
    }


def _of_targets(sample: Sample) -> dict[str, dict[str, float]]:
    targets = [str(name) for name in sample.truth]
    difference = paired_difference(sample.truth, sample.one, sample.other, targets)
    return pooled_scores(sample.truth, sample.one) | {"difference": difference}


def _of_genres(sample: GenreSample) -> dict[str, dict[str, float]]:
    classes = [f"class {number}" for number in range(sample.one.shape[1])]
    ahead = paired_classes(sample.truth, sample.one, sample.other, classes)
    scores = class_intervals(sample.truth, sample.one, classes)
    return scores | {f"{name}_ahead": each for name, each in ahead.items()}
