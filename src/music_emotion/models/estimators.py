"""Classical estimators of targets and genres from clip statistics; they know families of statistics."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from music_emotion.config import ClassicalSection
from music_emotion.files import InputError

_FARTHEST = 4.0  # deviations at which a statistic of a clip is cut off, for distances square it
_MEAN_DISTANCE = 1.5  # at which relevance starts, all families together
_N_STEPS = 60
_LEAST_DISTANCE = 1e-10  # squared, of what rounding alone makes of a family that does not vary
_LEAST_NOISE = 1e-6  # in parts of all variance; keeps the covariance of equal clips invertible
_HELD_OUT = 5  # splits of the clips, each of which calibrates what is fitted to the others

Families = Sequence[str] | None


_NAMES = {  # of our settings in each package
    "boosting": {
        **{"rounds": "max_iter", "leaves": "max_leaf_nodes", "leaf_clips": "min_samples_leaf"},
        **{"feature_share": "max_features", "l2": "l2_regularization"},
    },
    "xgboost": {
        **{"rounds": "n_estimators", "leaves": "max_leaves", "leaf_clips": "min_child_weight"},
        **{"feature_share": "colsample_bynode", "clip_share": "subsample", "l2": "reg_lambda"},
    },
    "lightgbm": {
        **{"rounds": "n_estimators", "leaves": "num_leaves", "leaf_clips": "min_child_samples"},
        **{"feature_share": "feature_fraction_bynode", "clip_share": "subsample", "l2": "reg_lambda"},
    },
}
_FIXED: dict[str, dict[str, Any]] = {
    "boosting": {"early_stopping": False},
    "xgboost": {"tree_method": "hist", "grow_policy": "lossguide", "n_jobs": 1, "verbosity": 0},
    # sums depend on the number of threads and, without force_row_wise, on which way was faster
    "lightgbm": {
        **{"subsample_freq": 1, "deterministic": True, "force_row_wise": True},
        **{"n_jobs": 1, "verbosity": -1},
    },
}


def make_regressor(classical: ClassicalSection, seed: int, families: Families) -> RegressorMixin:
    """An unfitted scikit-learn regressor for all targets at once.

    It standardises statistics and targets over the clips it is fitted to, so that settings mean the
    same for every statistic and target, and every family of statistics weighs alike.

    Parameters
    ----------
    classical : ClassicalSection
        Which estimator of targets, and its settings.
    seed : int
        Of trees; the others draw nothing.
    families : sequence of str
        The family of every statistic.

    Returns
    -------
    RegressorMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and targets [shape=(n, n_targets)], its
        `predict` gives targets in their own units.

    Raises
    ------
    InputError
        When the estimator's package is missing.
    """
    estimators = {
        "gp": FamilyProcess(families),
        "ridge": Ridge(classical.alpha),
        "svr": GaussianSvr(classical.c, classical.gamma),
    }
    estimator = estimators.get(classical.kind or "") or _trees(classical, "Regressor", seed)
    # each target by itself, since scikit-learn 1.6 flattens a single one before scaling it
    standardised = make_pipeline(FamilyScaler(families), estimator)
    return MultiOutputRegressor(TransformedTargetRegressor(standardised, transformer=StandardScaler()))


def make_classifier(
    classical: ClassicalSection, seed: int, families: Families, balanced: bool
) -> ClassifierMixin:
    """An unfitted scikit-learn classifier of genres.

    It standardises statistics over the clips it is fitted to, and every family weighs alike.

    Parameters
    ----------
    classical : ClassicalSection
        Which estimator of genres, and its settings.
    seed : int
        Of trees; the SVM draws nothing.
    families : sequence of str
        The family of every statistic.
    balanced : bool
        Weight classes by the inverse of their frequency.

    Returns
    -------
    ClassifierMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and class indices [shape=(n,)] of at
        least two classes, which may have gaps; its `predict_proba` gives one column for each of
        its `classes_`.

    Raises
    ------
    InputError
        When the estimator's package is missing.
    """
    svm = SVC(C=classical.c, gamma=classical.gamma)
    estimator = svm if classical.kind == "svm" else _trees(classical, "Classifier", seed)
    return make_pipeline(FamilyScaler(families), GenreClassifier(estimator, balanced))


def _trees(classical: ClassicalSection, ending: str, seed: int) -> Any:
    """Unfitted boosted trees of scikit-learn, XGBoost or LightGBM."""
    kind = classical.kind or ""
    module, name, any_depth = {
        "boosting": ("sklearn.ensemble", "HistGradientBoosting", None),
        "xgboost": ("xgboost", "XGB", 0),
        "lightgbm": ("lightgbm", "LGBM", -1),
    }[kind]
    try:
        make = getattr(import_module(module), name + ending)
    except (ImportError, OSError) as error:  # the latter where a library of the system is missing
        raise InputError(
            f"classical.kind '{kind}' needs the package of that name, which can't be imported ({error}). "
            f"Give another kind, or: pip install 'music-emotion[classical]'."
        ) from None
    settings = {theirs: getattr(classical, ours) for ours, theirs in _NAMES[kind].items()}
    if kind == "xgboost":  # versions differ in where they start
        settings["base_score"] = 0.0 if ending == "Regressor" else 0.5
    return make(
        learning_rate=classical.learning_rate,
        max_depth=classical.depth or any_depth,
        random_state=seed,
        **settings,
        **_FIXED[kind],
    )


class FamilyScaler(TransformerMixin, BaseEstimator):
    """Standardise statistics such that every family weighs alike, however many it has.

    A statistic's weight is 1 where all families are of one size, or there is one.

    Parameters
    ----------
    families : sequence of str, optional
        The family of every statistic, in their order; all are of one family, if not given.
    """

    def __init__(self, families: Families = None):
        self.families = families

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:  # noqa: ARG002
        """Learn mean and deviation of statistics [shape=(n, n_statistics)]."""
        X = validate_data(self, X)
        self.standard_ = StandardScaler().fit(X)
        _, family, sizes = np.unique(
            self.families or ["one"] * X.shape[1], return_inverse=True, return_counts=True
        )
        self.weights_ = np.sqrt(len(family) / len(sizes) / sizes[family])
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Weighted deviations from the mean, of the same shape; outliers are cut off."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return self.standard_.transform(X).clip(-_FARTHEST, _FARTHEST) * self.weights_


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
    families : sequence of str, optional
        The family of every statistic, in their order; all are of one family, if not given.
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

    def __init__(self, families: Families = None, spread: float = 1.5):
        self.families = families
        self.spread = spread

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to scaled statistics [shape=(n, n_statistics)] and one standardised target [shape=(n,)]."""
        # squares in float32 would hide small distances
        self.known_, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        families = self.families or ["one"] * self.known_.shape[1]
        self.names_, family = np.unique(families, return_inverse=True)
        self.columns_ = [np.flatnonzero(family == number) for number in range(len(self.names_))]
        with _one_thread():
            distances = self._distances(self.known_)
            means = distances.mean(axis=(1, 2))
            self.scales_ = np.where(means > _LEAST_DISTANCE, means, np.float32(np.inf))
            distances /= self.scales_[:, None, None]
            self._learn(torch.from_numpy(distances), torch.tensor(y, dtype=torch.float64))
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The target of each clip [shape=(n,)]."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        with _one_thread(), torch.no_grad():
            distances = self._distances(X) / self.scales_[:, None, None]
            likeness = _likeness(self.logarithms_[:-2], torch.from_numpy(distances))
            return (likeness @ self.solved_).numpy()

    def _distances(self, statistics: np.ndarray) -> np.ndarray:
        """Squared distances to the known clips [shape=(n_families, n, n_known)], float32."""
        pairs = [(statistics[:, part], self.known_[:, part]) for part in self.columns_]
        squares = [
            (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T for one, other in pairs
        ]
        return np.maximum(squares, 0).astype(np.float32)

    def _learn(self, distances: torch.Tensor, target: torch.Tensor) -> None:
        start = 2 * np.log(_MEAN_DISTANCE) - np.log(len(distances))
        # logarithms of the relevances, of the signal's and of the noise's variance
        logarithms = torch.full((len(distances) + 2,), start, dtype=torch.float64)
        logarithms[-2:] = torch.tensor([0.0, np.log(0.7)])
        logarithms.requires_grad_()
        optimizer = torch.optim.LBFGS([logarithms], max_iter=_N_STEPS, line_search_fn="strong_wolfe")

        def negative_log_likelihood() -> torch.Tensor:
            optimizer.zero_grad()
            factor = torch.linalg.cholesky(_covariance(logarithms, distances))
            solved = torch.cholesky_solve(target[:, None], factor)[:, 0]
            loss = target @ solved / 2 + factor.diagonal().log().sum()
            loss = loss + (logarithms[:-2] - start).square().sum() / (2 * self.spread**2)
            loss.backward()
            return loss

        optimizer.step(negative_log_likelihood)
        self.logarithms_ = logarithms.detach()
        signal, noise = _variances(self.logarithms_)
        factor = torch.linalg.cholesky(_covariance(self.logarithms_, distances))
        self.solved_ = signal * torch.cholesky_solve(target[:, None], factor)[:, 0]
        self.noise_ = noise.item()
        relevances = self.logarithms_[:-2].exp().tolist()
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


class GaussianSvr(RegressorMixin, BaseEstimator):
    """Support vector regression whose `gamma` counts in parts of scikit-learn's "scale".

    Parameters
    ----------
    c : float, default 1
        Weight of errors.
    gamma : float, default 1
        How narrow the Gaussian kernel is.
    """

    def __init__(self, c: float = 1.0, gamma: float = 1.0):
        self.c = c
        self.gamma = gamma

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to standardised statistics [shape=(n, n_statistics)] and one target [shape=(n,)]."""
        X, y = validate_data(self, X, y, y_numeric=True)
        self.svr_ = SVR(C=self.c, gamma=_absolute(self.gamma, X)).fit(X, y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The target of each clip [shape=(n,)]."""
        check_is_fitted(self)
        return self.svr_.predict(validate_data(self, X, reset=False))


def _absolute(gamma: float, statistics: np.ndarray) -> float:
    """A kernel's gamma from parts of "scale"; statistics that never vary don't count."""
    return gamma / (np.shape(statistics)[1] * (np.ascontiguousarray(statistics).var() or 1.0))


class GenreClassifier(ClassifierMixin, BaseEstimator):
    """Calibrate a support vector machine, or balance trees, on classes without gaps.

    Parameters
    ----------
    estimator : ClassifierMixin, optional
        An SVC whose `gamma` counts in parts of scikit-learn's "scale" (the default), or boosted trees.
    balanced : bool, default False
        Weight classes by the inverse of their frequency.
    """

    def __init__(self, estimator: Any = None, balanced: bool = False):
        self.estimator = estimator
        self.balanced = balanced

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit to statistics [shape=(n, n_statistics)] and class indices [shape=(n,)].

        Raises
        ------
        InputError
            When there are fewer than two classes, or the SVM has one with a single clip.
        """
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        n_classes, rarest = len(self.classes_), int(np.bincount(codes).min())
        if n_classes < 2:
            raise InputError(
                f"All {len(codes)} clips to learn from are of one class, {self.classes_[0]}. "
                f"Give clips of two classes or more."
            )
        estimator = clone(SVC(gamma=1.0) if self.estimator is None else self.estimator)
        class_weight = "balanced" if self.balanced else None
        if isinstance(estimator, SVC):
            if rarest < 2:
                raise InputError(
                    "A class has a single clip to learn from, but the SVM holds clips of every class out to "
                    "learn what its margins mean. Leave the class out with data.genres, or give another "
                    "classical.kind."
                )
            # of all clips, though the SVM is fitted to fewer
            gamma = _absolute(estimator.gamma, X)
            machines = OneVsRestClassifier(estimator.set_params(gamma=gamma, class_weight=class_weight))
            estimator = CalibratedClassifierCV(machines, ensemble=False, cv=min(_HELD_OUT, rarest))
        elif "min_child_weight" in estimator.get_params() and "grow_policy" in estimator.get_params():
            # XGBoost weighs a clip by how the loss bends, here where all classes are alike. The surer it
            # is of a clip, the less it weighs, so later leaves hold more than leaf_clips.
            weight = (1 / n_classes) * (1 - 1 / n_classes) * (2 if n_classes > 2 else 1)
            estimator.set_params(min_child_weight=estimator.min_child_weight * weight)
        weights = compute_sample_weight(class_weight, codes)
        with warnings.catch_warnings():  # machines are weighted by class, so their calibration alone by clip
            warnings.filterwarnings("ignore", ".*does not appear to accept sample_weight")
            self.estimator_ = estimator.fit(X, codes, sample_weight=weights)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities [shape=(n, n_classes)], in the order of `classes_`."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(validate_data(self, X, reset=False))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The likeliest class of each clip [shape=(n,)]."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]
