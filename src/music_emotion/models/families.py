"""Estimators that know which statistics of a clip belong together."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

_FARTHEST = 4.0  # deviations at which a statistic of a clip is cut off, for distances square it
_MEAN_DISTANCE = 1.5  # at which relevance starts, all families together
_N_STEPS = 60
_LEAST_DISTANCE = 1e-10  # squared, of what rounding alone makes of a family that does not vary
_LEAST_NOISE = 1e-6  # in parts of all variance; keeps the covariance of equal clips invertible


class FamilyScaler(TransformerMixin, BaseEstimator):
    """Standardise statistics such that every family weighs alike, however many it has.

    A statistic's weight is 1 where all families are of one size, or there is one.

    Parameters
    ----------
    families : tuple of str
        The family of every statistic, in their order.
    """

    def __init__(self, families: tuple[str, ...]):
        self.families = families

    def fit(self, statistics: np.ndarray, _targets: np.ndarray | None = None) -> Self:
        """Learn mean and deviation of statistics [shape=(n, n_statistics)]."""
        self.standard_ = StandardScaler().fit(statistics)
        _, family, sizes = np.unique(self.families, return_inverse=True, return_counts=True)
        self.weights_ = np.sqrt(len(family) / len(sizes) / sizes[family])
        return self

    def transform(self, statistics: np.ndarray) -> np.ndarray:
        """Weighted deviations from the mean, of the same shape; outliers are cut off."""
        return self.standard_.transform(statistics).clip(-_FARTHEST, _FARTHEST) * self.weights_


class FamilyProcess(RegressorMixin, BaseEstimator):
    """Gaussian process regression that learns how much every family of statistics matters.

    Two clips are as alike as ``exp(-sqrt(sum of w * d))``, over families: ``d`` is their squared
    distance within the family, in parts of its mean over all pairs of clips, and ``w`` the family's
    relevance. A family that does not vary over the clips never counts. Relevances, signal and noise
    maximise the marginal likelihood, that is how probable the training targets are, so that no
    clips have to be held out to choose them [1]_. A normal prior on the logarithm of the
    relevances keeps families alike that the clips say little about.

    Parameters
    ----------
    families : tuple of str
        The family of every statistic, in their order.
    spread : float
        Deviation of that prior, above 0: near 0 families matter alike, at 1.5 one may easily
        matter a hundred times as much as another.

    Attributes
    ----------
    relevance_ : dict of str to float
        Of every family.
    noise_ : float
        Variance of what the statistics do not explain, in that of the target.

    References
    ----------
    .. [1] C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006,
       equations 4.18 (with an exponent of 1), 5.8 and, on relevance, section 5.1.
    """

    def __init__(self, families: tuple[str, ...], spread: float = 1.5):
        self.families = families
        self.spread = spread

    def fit(self, statistics: np.ndarray, target: np.ndarray) -> Self:
        """Fit to scaled statistics [shape=(n, n_statistics)] and one standardised target [shape=(n,)]."""
        self.names_, family = np.unique(self.families, return_inverse=True)
        self.columns_ = [np.flatnonzero(family == number) for number in range(len(self.names_))]
        self.known_ = np.asarray(statistics, np.float64)  # squares in float32 would hide small distances
        with _one_thread():
            distances = self._distances(self.known_)
            means = distances.mean(axis=(1, 2))
            self.scales_ = np.where(means > _LEAST_DISTANCE, means, np.float32(np.inf))
            distances /= self.scales_[:, None, None]
            self._learn(torch.from_numpy(distances), torch.tensor(target, dtype=torch.float64))
        return self

    def predict(self, statistics: np.ndarray) -> np.ndarray:
        """The target of each clip [shape=(n,)]."""
        with _one_thread(), torch.no_grad():
            distances = self._distances(np.asarray(statistics, np.float64)) / self.scales_[:, None, None]
            likeness = _likeness(self._logarithms[:-2], torch.from_numpy(distances))
            return (likeness @ self._solved).numpy()

    def _distances(self, statistics: np.ndarray) -> np.ndarray:
        """Squared distances to the known clips [shape=(n_families, n, n_known)], float32."""
        return np.stack(
            [_squared_distances(statistics[:, part], self.known_[:, part]) for part in self.columns_]
        )

    def _learn(self, distances: torch.Tensor, target: torch.Tensor) -> None:
        start = 2 * np.log(_MEAN_DISTANCE) - np.log(len(distances))
        # logarithms of the relevances, of the signal's and of the noise's variance
        logarithms = torch.full((len(distances) + 2,), start, dtype=torch.float64)
        logarithms[-2:] = torch.tensor([0.0, np.log(0.7)])
        logarithms.requires_grad_()
        optimizer = torch.optim.LBFGS([logarithms], max_iter=_N_STEPS, line_search_fn="strong_wolfe")

        def improbability() -> torch.Tensor:
            optimizer.zero_grad()
            factor = torch.linalg.cholesky(_covariance(logarithms, distances))
            solved = torch.cholesky_solve(target[:, None], factor)[:, 0]
            loss = target @ solved / 2 + factor.diagonal().log().sum()
            loss = loss + (logarithms[:-2] - start).square().sum() / (2 * self.spread**2)
            loss.backward()
            return loss

        optimizer.step(improbability)
        self._logarithms = logarithms.detach()
        relevances = self._logarithms[:-2].exp().tolist()
        signal, noise = _variances(self._logarithms)
        factor = torch.linalg.cholesky(_covariance(self._logarithms, distances))
        self._solved = signal * torch.cholesky_solve(target[:, None], factor)[:, 0]
        self.noise_ = noise.item()
        self.relevance_ = dict(zip(self.names_.tolist(), relevances, strict=True))


def _covariance(logarithms: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    signal, noise = _variances(logarithms)
    own = noise * torch.eye(distances.shape[1], dtype=torch.float64)
    return signal * _likeness(logarithms[:-2], distances) + own


def _variances(logarithms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of signal and noise."""
    signal, noise = logarithms[-2:].exp()
    return signal, noise + _LEAST_NOISE * (1 + signal)


def _likeness(relevance_logarithms: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    weighted = torch.tensordot(relevance_logarithms.exp().float(), distances, 1).double()
    return torch.exp(-torch.sqrt(weighted + 1e-12))  # a root has no slope at 0


def _squared_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.maximum(squares, 0).astype(np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch and BLAS with one thread: sums, and so all that follows, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
