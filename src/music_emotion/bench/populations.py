"""Simulated clips and predictions whose scores in the whole population are known."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

TARGETS = ("weak", "middle", "strong")
_PEARSON = np.array([0.3, 0.6, 0.9])  # of truth and prediction, by target
_LESS = 0.05  # of the other run in a pair
_BETWEEN_TARGETS = np.array([[1, 0.1, 0.15], [0.1, 1, 0.4], [0.15, 0.4, 1]])  # as on the bench set
_ROOT = np.linalg.cholesky(_BETWEEN_TARGETS)
_SHARED = 0.8  # of the noise of both runs of a pair
_FOLDS, _SHIFT, _STRETCH = 5, 0.2, 0.15  # offsets of the bench set's CNN, process and ridge are .03 to .18
_MANY = 20_000  # clips that stand for a population; their own error is a sixth of that of 600
# clips per artist of the bench set, and how much of truth and error is the artist's
_ARTISTS = np.repeat([1, 2, 3, 4, 5, 6, 9, 10, 12], [349, 56, 14, 7, 4, 3, 1, 1, 1])
_TRUTH_OF_ARTIST, _NOISE_OF_ARTIST = 0.6, 0.3
_SHARES, _RIGHT = np.array([0.25, 0.2, 0.16, 0.13, 0.11, 0.08, 0.04, 0.03]), (0.65, 0.6)

Scores = dict[str, float]


@dataclass(frozen=True)
class Sample:
    """Clips with two runs' predictions.

    Attributes
    ----------
    truth, one, other : pd.DataFrame [shape=(n, 3)]
    known : dict of str to float
        Of the population: correlation of `one` per target, their ``mean``, and ``difference``, how far that
        is above the mean of `other`.
    """

    truth: pd.DataFrame
    one: pd.DataFrame
    other: pd.DataFrame
    known: Scores


def normal(random: np.random.Generator, n: int) -> Sample:
    """Independent clips, truth and predictions normal."""
    truth, noise = _targets(random, n), _targets(random, n)
    return _sample(truth, noise, _targets(random, n))


def artists(random: np.random.Generator, n: int) -> Sample:
    """Clips of artists as many as the bench set's: those of one are alike in truth and in error."""
    of_clip = np.repeat(np.arange(len(_ARTISTS)), _ARTISTS)[:n]
    shares = (_TRUTH_OF_ARTIST, _NOISE_OF_ARTIST, _NOISE_OF_ARTIST)
    truth, noise, others_noise = (
        np.sqrt(share) * _targets(random, len(_ARTISTS))[of_clip]
        + np.sqrt(1 - share) * _targets(random, len(of_clip))
        for share in shares
    )
    return _sample(truth, noise, others_noise)


def steps(random: np.random.Generator, n: int) -> Sample:
    """Labels in eleven steps from 0 to 1, beyond which none is; `known` is not theirs."""
    sample = normal(random, n)
    return replace(sample, truth=(0.5 + 0.2 * sample.truth).clip(0, 1).round(1))


def steps_scores() -> Scores:
    """Scores of `steps` in the population, by a large sample."""
    return _scores(steps(np.random.default_rng(0), 50 * _MANY))


def folds(random: np.random.Generator, n: int) -> Sample:
    """Out-of-fold predictions: the network of each fold has an offset and a scale of its own.

    `known` is what these very networks would score on further clips.
    """
    networks = [_networks(random) for _ in range(2)]
    sample = _through(normal(random, n), networks)
    large = _through(normal(random, _MANY), networks)
    return replace(sample, known=_scores(large))


def folds_scores() -> Scores:
    """Scores of `folds` to be expected over trainings: the mean of 100."""
    random = np.random.default_rng(0)
    trained = pd.DataFrame([folds(random, 2).known for _ in range(100)])
    return {str(name): float(values.mean()) for name, values in trained.items()}


def normal_scores() -> Scores:
    """Spearman's correlation of normal variables from Pearson's: 6/pi asin(r/2)."""
    one, other = (6 / np.pi * np.arcsin(r / 2) for r in (_PEARSON, _PEARSON - _LESS))
    return _named(one, other)


def _named(one: np.ndarray, other: np.ndarray) -> Scores:
    mean = float(one.mean())
    return dict(zip(TARGETS, one.tolist(), strict=True)) | {
        "mean": mean,
        "difference": mean - float(other.mean()),
    }


def _targets(random: np.random.Generator, n: int) -> np.ndarray:
    return random.standard_normal((n, len(TARGETS))) @ _ROOT.T


def _sample(truth: np.ndarray, noise: np.ndarray, others_noise: np.ndarray) -> Sample:
    alike = np.sqrt(_SHARED) * noise + np.sqrt(1 - _SHARED) * others_noise
    one, other = (
        r * truth + np.sqrt(1 - r**2) * each for r, each in ((_PEARSON, noise), (_PEARSON - _LESS, alike))
    )
    return Sample(_table(truth), _table(one), _table(other), normal_scores())


def _table(values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, pd.RangeIndex(len(values), name="Id"), list(TARGETS))


def _networks(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and scales of a run's folds, each [shape=(n_folds, n_targets)]."""
    shape = (_FOLDS, len(TARGETS))
    return random.normal(0, _SHIFT, shape), np.exp(random.normal(0, _STRETCH, shape))


def _through(sample: Sample, networks: list[tuple[np.ndarray, np.ndarray]]) -> Sample:
    fold = np.arange(len(sample.truth)) % _FOLDS
    one, other = (
        offset[fold] + scale[fold] * table
        for table, (offset, scale) in zip((sample.one, sample.other), networks, strict=True)
    )
    return replace(sample, one=one, other=other)


def _scores(sample: Sample) -> Scores:
    one, other = (
        np.array([spearmanr(sample.truth[name], table[name]).statistic for name in TARGETS])
        for table in (sample.one, sample.other)
    )
    return _named(one, other)


@dataclass(frozen=True)
class GenreSample:
    """Clips with two runs' genres.

    Attributes
    ----------
    truth : np.ndarray [shape=(n,)], integer
    one, other : np.ndarray [shape=(n, n_classes)]
        Probabilities, of a single class each.
    known : dict of str to float
        Accuracy and F1 of `one` in the population, and by how much each is above that of `other`.
    """

    truth: np.ndarray
    one: np.ndarray
    other: np.ndarray
    known: Scores


def genres(random: np.random.Generator, n: int) -> GenreSample:
    """Independent clips of eight classes, from a quarter to three in a hundred."""
    truth = random.choice(len(_SHARES), n, p=_SHARES)
    luck, guess = random.random(n), random.choice(len(_SHARES), n, p=_SHARES)
    one, other = (np.eye(len(_SHARES))[np.where(luck < right, truth, guess)] for right in _RIGHT)
    (known, others) = (_genre_scores(right) for right in _RIGHT)
    return GenreSample(
        truth, one, other, known | {f"{name}_ahead": known[name] - others[name] for name in known}
    )


def _genre_scores(right: float) -> Scores:
    """Of a run that knows the genre of a share of the clips, and guesses that of the others."""
    hits = _SHARES * (right + (1 - right) * _SHARES)
    f1 = hits / _SHARES  # as many are guessed as there are
    return {"accuracy": hits.sum(), "macro_f1": f1.mean(), "weighted_f1": (f1 * _SHARES).sum()}
