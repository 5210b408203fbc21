"""Classical estimators of targets and genres from clip statistics, which are grouped in families."""

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

_FARTHEST = 4.0  # statistics are limited to this many standard deviations, since distances square them
_MEAN_DISTANCE = 1.5  # initial mean of the weighted distance over all families
_N_STEPS = 60
_LEAST_DISTANCE = 1e-10  # mean squared distance below which a family counts as constant
_LEAST_NOISE = 1e-6  # share of the total variance; keeps the covariance matrix of equal clips invertible
_LEAST_DEVIATION = 1e-5  # of a statistic, relative to its mean; less is the rounding of a constant
_HELD_OUT = 5  # folds of the classifier's calibration

Families = Sequence[str] | None

_NAMES = {  # names of our settings in scikit-learn, XGBoost and LightGBM
    "rounds": ("max_iter", "n_estimators", "n_estimators"),
    "learning_rate": ("learning_rate", "learning_rate", "learning_rate"),
    "leaves": ("max_leaf_nodes", "max_leaves", "num_leaves"),
    "leaf_clips": ("min_samples_leaf", "min_child_weight", "min_child_samples"),
    "feature_share": ("max_features", "colsample_bynode", "feature_fraction_bynode"),
    "clip_share": ("", "subsample", "subsample"),
    "l2": ("l2_regularization", "reg_lambda", "reg_lambda"),
}


def make_regressor(classical: ClassicalSection, seed: int, families: Families) -> RegressorMixin:
    """Build an unfitted scikit-learn regressor for all targets.

    It standardises statistics and targets over the training clips, and gives every family of statistics the
    same weight. So settings carry over to other statistics and targets.

    Parameters
    ----------
    classical : ClassicalSection
        Kind of estimator, and its settings.
    seed : int
        Random state of trees; the other estimators are deterministic.
    families : sequence of str
        Family of every statistic, in the order of the columns.

    Returns
    -------
    RegressorMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and targets [shape=(n, n_targets)]. Its
        `predict` returns targets in their own units.

    Raises
    ------
    InputError
        When the estimator's package is missing.
    """
    estimators = {
        "gp": FamilyProcess(families),
        "ridge": Ridge(classical.alpha),
        "svr": SVR(C=classical.c, gamma=classical.gamma),
    }
    estimator = estimators.get(classical.kind or "") or _trees(classical, "Regressor", seed)
    # one model per target, since scikit-learn 1.6 flattens a single target before scaling it
    standardised = make_pipeline(FamilyScaler(families, classical.kind == "svr"), estimator)
    return MultiOutputRegressor(TransformedTargetRegressor(standardised, transformer=StandardScaler()))


def make_classifier(
    classical: ClassicalSection, seed: int, families: Families, balanced: bool
) -> ClassifierMixin:
    """Build an unfitted scikit-learn classifier for genres.

    Parameters
    ----------
    classical : ClassicalSection
        Kind of estimator, and its settings.
    seed, families
        As for `make_regressor`.
    balanced : bool
        Weight classes by the inverse of their frequency.

    Returns
    -------
    ClassifierMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and class indices [shape=(n,)] of at
        least two classes; indices may have gaps. Its `predict_proba` returns one column for each of
        its `classes_`.

    Raises
    ------
    InputError
        When the estimator's package is missing.
    """
    svm = SVC(C=classical.c, gamma=classical.gamma)
    estimator = svm if classical.kind == "svm" else _trees(classical, "Classifier", seed)
    scaler = FamilyScaler(families, classical.kind == "svm")
    return make_pipeline(scaler, GenreClassifier(estimator, balanced))


def _trees(classical: ClassicalSection, ending: str, seed: int) -> Any:
    """Build unfitted boosted trees of scikit-learn, XGBoost or LightGBM."""
    settings: dict[str, Any] = {"random_state": seed}
    match kind := classical.kind:
        case "boosting":
            number, module, name = 0, "sklearn.ensemble", "HistGradientBoosting"
            settings |= {"max_depth": classical.depth, "early_stopping": False}
        case "xgboost":
            number, module, name = 1, "xgboost", "XGB"
            settings |= {"max_depth": classical.depth or 0, "tree_method": "hist", "grow_policy": "lossguide"}
            # versions differ in their default base_score
            settings |= {"base_score": 0.0 if ending == "Regressor" else 0.5, "n_jobs": 1, "verbosity": 0}
        case _:
            number, module, name = 2, "lightgbm", "LGBM"
            settings |= {"max_depth": classical.depth or -1, "subsample_freq": 1, "verbosity": -1}
            # results depend on the number of threads and, without force_row_wise, on a speed test
            settings |= {"n_jobs": 1, "deterministic": True, "force_row_wise": True}
    settings |= {names[number]: getattr(classical, ours) for ours, names in _NAMES.items() if names[number]}
    try:
        return getattr(import_module(module), name + ending)(**settings)
    except (ImportError, OSError) as error:  # OSError if a system library is missing
        raise InputError(
            f"classical.kind '{kind}' needs the package of that name, which can't be imported ({error}). "
            f"Give another kind, or: pip install 'music-emotion[classical]'."
        ) from None


class FamilyScaler(TransformerMixin, BaseEstimator):
    """Standardise statistics, then scale each so that all families have the same total variance.

    Statistics that are constant up to rounding become 0, and don't count as a part of their family.
    The scale is 1 for a single family, and for families of equal size.

    Parameters
    ----------
    families : sequence of str, optional
        Family of every statistic, in the order of the columns. By default there is one family.
    unit_norm : bool, default False
        Also divide by a constant, so that the mean squared norm of centred statistics is 1. An RBF kernel
        with ``gamma=1`` then equals scikit-learn's with ``gamma="scale"``.
    """

    def __init__(self, families: Families = None, unit_norm: bool = False):
        self.families = families
        self.unit_norm = unit_norm

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Self:  # noqa: ARG002
        """Learn mean and deviation of statistics [shape=(n, n_statistics)]."""
        X = validate_data(self, X)
        self.standard_ = StandardScaler().fit(X)
        varies = np.sqrt(self.standard_.var_) > _LEAST_DEVIATION * np.abs(self.standard_.mean_)
        self.standard_.scale_[~varies] = np.inf
        families = self.families or ["one"] * X.shape[1]
        _, family = np.unique(families, return_inverse=True)
        sizes = np.bincount(family, weights=varies)
        self.weights_ = np.sqrt(sizes.sum() / max(1, (sizes > 0).sum()) / np.maximum(sizes, 1)[family])
        if self.unit_norm:
            scaled = self.transform(X)
            self.weights_ /= np.sqrt(scaled.shape[1] * scaled.var() or 1.0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Standardise, limit to 4 standard deviations and scale statistics; the shape is kept."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return self.standard_.transform(X).clip(-_FARTHEST, _FARTHEST) * self.weights_


class FamilyProcess(RegressorMixin, BaseEstimator):
    """Gaussian process regression with automatic relevance determination per family of statistics.

    The kernel is ``exp(-sqrt(sum of w * d))`` over families. ``d`` is the squared distance of two clips
    within the family, divided by its mean over all pairs of clips. ``w`` is the family's relevance. A
    family that is constant over the clips is ignored. Relevances and the variances of signal and noise
    maximise the marginal likelihood [1]_, which needs no validation clips. A normal prior on log
    relevances shrinks them towards equal relevance where the data is inconclusive.

    Parameters
    ----------
    families : sequence of str, optional
        As for `FamilyScaler`.
    spread : float
        Standard deviation of that prior, above 0. Near 0 all families have the same relevance. At 1.5
        relevances easily differ by a factor of a hundred.

    Attributes
    ----------
    relevance_ : dict of str to float
        Relevance of every family.
    noise_ : float
        Noise variance, in units of the target's variance.

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
        # in float32, rounding would hide small distances
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
            return (_kernel(self.logarithms_[:-2], torch.from_numpy(distances)) @ self.solved_).numpy()

    def _distances(self, statistics: np.ndarray) -> np.ndarray:
        """Squared distances to the training clips [shape=(n_families, n, n_known)], float32."""
        pairs = [(statistics[:, part], self.known_[:, part]) for part in self.columns_]
        squares = [
            (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T for one, other in pairs
        ]
        return np.maximum(squares, 0).astype(np.float32)

    def _learn(self, distances: torch.Tensor, target: torch.Tensor) -> None:
        start = 2 * np.log(_MEAN_DISTANCE) - np.log(len(distances))
        # logarithms of the relevances, then of the variances of signal and noise
        logarithms = torch.full((len(distances) + 2,), start, dtype=torch.float64)
        logarithms[-2:] = torch.tensor([0.0, np.log(0.7)])
        logarithms.requires_grad_()
        optimizer = torch.optim.LBFGS([logarithms], max_iter=_N_STEPS, line_search_fn="strong_wolfe")
        identity = torch.eye(len(target), dtype=torch.float64)

        def solve() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
            """Variances, the covariance's Cholesky factor, and its inverse times the target."""
            signal, noise = logarithms[-2:].exp()
            noise = noise + _LEAST_NOISE * (1 + signal)
            factor = torch.linalg.cholesky(signal * _kernel(logarithms[:-2], distances) + noise * identity)
            return signal, noise, factor, torch.cholesky_solve(target[:, None], factor)[:, 0]

        def negative_log_likelihood() -> torch.Tensor:
            optimizer.zero_grad()
            _, _, factor, solved = solve()
            loss = target @ solved / 2 + factor.diagonal().log().sum()
            loss = loss + (logarithms[:-2] - start).square().sum() / (2 * self.spread**2)
            loss.backward()
            return loss

        optimizer.step(negative_log_likelihood)
        self.logarithms_ = logarithms.requires_grad_(False)
        signal, noise, _, solved = solve()
        self.solved_, self.noise_ = signal * solved, noise.item()
        relevances = self.logarithms_[:-2].exp().tolist()
        self.relevance_ = dict(zip(self.names_.tolist(), relevances, strict=True))


def _kernel(log_relevances: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    weighted = torch.tensordot(log_relevances.exp().float(), distances, 1).double()
    return torch.exp(-torch.sqrt(weighted + 1e-12))  # the square root has no gradient at 0


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run PyTorch and BLAS on one thread, since sums depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


class GenreClassifier(ClassifierMixin, BaseEstimator):
    """A calibrated SVM or boosted trees; class indices may have gaps.

    Parameters
    ----------
    estimator : ClassifierMixin, optional
        Boosted trees, or an SVC (the default).
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
        self.classes_, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
        n_classes, rarest = len(self.classes_), int(counts.min())
        if n_classes < 2:
            raise InputError(
                f"All {len(codes)} clips to learn from are of one class, {self.classes_[0]}. "
                f"Give clips of two classes or more."
            )
        estimator = clone(SVC() if self.estimator is None else self.estimator)
        class_weight = "balanced" if self.balanced else None
        if isinstance(estimator, SVC):
            if rarest < 2:
                raise InputError(
                    "A class has a single clip to learn from, but the SVM's calibration holds out clips of "
                    "every class. Leave the class out with data.genres, or give another classical.kind."
                )
            machines = OneVsRestClassifier(estimator.set_params(class_weight=class_weight))
            estimator = CalibratedClassifierCV(machines, ensemble=False, cv=min(_HELD_OUT, rarest))
        elif "min_child_weight" in estimator.get_params() and "grow_policy" in estimator.get_params():
            # XGBoost's child weight is a sum of Hessians; this is one clip's Hessian at the start. It falls
            # as predictions become confident, so later leaves hold more clips than leaf_clips.
            hessian = (1 / n_classes) * (1 - 1 / n_classes) * (2 if n_classes > 2 else 1)
            estimator.set_params(min_child_weight=estimator.min_child_weight * hessian)
        weights = compute_sample_weight(class_weight, codes)
        with warnings.catch_warnings():  # the SVM has class_weight; only its calibration uses the weights
            warnings.filterwarnings("ignore", ".*does not appear to accept sample_weight")
            self.estimator_ = estimator.fit(X, codes, sample_weight=weights)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities [shape=(n, n_classes)], in the order of `classes_`."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(validate_data(self, X, reset=False))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable class of each clip [shape=(n,)]."""
        likeliest = self.predict_proba(X).argmax(axis=1)  # before `classes_`, to check that it is fitted
        return self.classes_[likeliest]
