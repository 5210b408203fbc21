"""Classical estimators that predict emotion targets, or genres, from clip statistics."""

import warnings
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils.class_weight import compute_sample_weight

from music_emotion.config import ClassicalSection
from music_emotion.files import InputError
from music_emotion.models.families import FamilyProcess, FamilyScaler

_HELD_OUT = 5  # parts of the clips, each of which calibrates what is fitted to the others


def make_regressor(classical: ClassicalSection, seed: int, families: tuple[str, ...]) -> RegressorMixin:
    """An unfitted scikit-learn regressor for all targets at once.

    Statistics and targets are standardised over the clips it is fitted to, so that the settings
    mean the same for every statistic and target, and every family of statistics weighs alike.

    Parameters
    ----------
    classical : ClassicalSection
        Which estimator, and its settings.
    seed : int
        For what the estimator draws at random; ridge, SVR and the Gaussian process draw nothing.
    families : tuple of str
        The family of every statistic.

    Returns
    -------
    RegressorMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and targets [shape=(n, n_targets)], its
        `predict` gives targets in their own units.

    Raises
    ------
    InputError
        When the section names no estimator of targets, or one whose package is missing.
    """
    # each target by itself, since scikit-learn 1.6 flattens a single one before scaling it
    standardised = make_pipeline(FamilyScaler(families), _regressor(classical, seed, families))
    return MultiOutputRegressor(TransformedTargetRegressor(standardised, transformer=StandardScaler()))


def make_classifier(
    classical: ClassicalSection, seed: int, families: tuple[str, ...], balanced: bool
) -> ClassifierMixin:
    """An unfitted scikit-learn classifier.

    Statistics are standardised over the clips it is fitted to, and every family weighs alike.

    Parameters
    ----------
    classical : ClassicalSection
        Which estimator, and its settings.
    seed : int
        For what the estimator draws at random; the SVM draws nothing.
    families : tuple of str
        The family of every statistic.
    balanced : bool
        Weight classes by the inverse of their frequency, so that probabilities are those of a clip
        that may be of any class alike.

    Returns
    -------
    ClassifierMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and class indices [shape=(n,)] of at
        least two classes, which may have gaps; its `predict_proba` gives one column for each of
        its `classes_`.

    Raises
    ------
    InputError
        When the section names no estimator of genres, or one whose package is missing.
    """
    if classical.kind != "svm":
        _trees(classical, seed, 2)  # refused before any work
    return make_pipeline(FamilyScaler(families), GenreClassifier(classical, seed, balanced))


class GaussianSvr(RegressorMixin, BaseEstimator):
    """Support vector regression whose kernel is as wide as the number of statistics asks for.

    Parameters
    ----------
    classical : ClassicalSection
        `c` and `gamma`.
    """

    def __init__(self, classical: ClassicalSection):
        self.classical = classical

    def fit(self, statistics: np.ndarray, target: np.ndarray) -> Self:
        """Fit to standardised statistics [shape=(n, n_statistics)] and one target [shape=(n,)]."""
        gamma = _kernel_gamma(self.classical, statistics)
        self.svr_ = SVR(C=self.classical.c, gamma=gamma)
        self.svr_.fit(statistics, target)
        return self

    def predict(self, statistics: np.ndarray) -> np.ndarray:
        """The target of each clip [shape=(n,)]."""
        return self.svr_.predict(statistics)


class GenreClassifier(ClassifierMixin, BaseEstimator):
    """Any of the classifiers, each told the weights of clips and classes without gaps.

    Parameters
    ----------
    classical : ClassicalSection
    seed : int
    balanced : bool
    """

    def __init__(self, classical: ClassicalSection, seed: int, balanced: bool):
        self.classical = classical
        self.seed = seed
        self.balanced = balanced

    def fit(self, statistics: np.ndarray, classes: np.ndarray) -> Self:
        """Fit to statistics [shape=(n, n_statistics)] and class indices [shape=(n,)].

        Raises
        ------
        InputError
            When there are fewer than two classes, or the SVM has one with a single clip.
        """
        self.classes_, codes = np.unique(classes, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"All {len(codes)} clips to learn from are of class {self.classes_[0]}. "
                f"Give clips of two classes or more."
            )
        class_weight = "balanced" if self.balanced else None
        if self.classical.kind == "svm":
            machine = _machine(self.classical, statistics, class_weight)
            self.estimator_ = _calibrated(machine, codes)
        else:
            self.estimator_ = _trees(self.classical, self.seed, len(self.classes_))
        weights = compute_sample_weight(class_weight, codes)
        with warnings.catch_warnings():  # machines are weighted by class, so their calibration alone by clip
            warnings.filterwarnings("ignore", ".*does not appear to accept sample_weight")
            self.estimator_.fit(statistics, codes, sample_weight=weights)
        return self

    def predict_proba(self, statistics: np.ndarray) -> np.ndarray:
        """Probabilities [shape=(n, n_classes)], in the order of `classes_`."""
        return self.estimator_.predict_proba(statistics)

    def predict(self, statistics: np.ndarray) -> np.ndarray:
        """The likeliest class of each clip [shape=(n,)]."""
        return self.classes_[self.predict_proba(statistics).argmax(axis=1)]


def _regressor(classical: ClassicalSection, seed: int, families: tuple[str, ...]) -> RegressorMixin:
    match classical.kind:
        case "gp":
            return FamilyProcess(families)
        case "ridge":
            return Ridge(classical.alpha)
        case "svr":
            return GaussianSvr(classical)
        case "boosting":
            return _scikit_trees(HistGradientBoostingRegressor, classical, seed)
        case "xgboost":  # the targets' mean is 0, and a clip's weight in a leaf 1
            return _xgboost_trees(
                _package("xgboost").XGBRegressor, classical, seed, start=0.0, clip_weight=1.0
            )
        case "lightgbm":
            return _lightgbm_trees(_package("lightgbm").LGBMRegressor, classical, seed)
        case "svm" | None:
            raise InputError(
                f"classical.kind '{classical.kind}' predicts no targets. "
                f"Give 'gp', 'ridge', 'svr', 'boosting', 'xgboost' or 'lightgbm'."
            )


def _machine(classical: ClassicalSection, statistics: np.ndarray, class_weight: str | None) -> SVC:
    return SVC(C=classical.c, gamma=_kernel_gamma(classical, statistics), class_weight=class_weight)


def _calibrated(machine: SVC, codes: np.ndarray) -> CalibratedClassifierCV:
    """One machine for each class, whose margins become probabilities on clips held out."""
    rarest = int(np.bincount(codes).min())
    if rarest < 2:
        raise InputError(
            "A class has a single clip to learn from, but the SVM holds clips of every class out to learn "
            "what its margins mean. Leave the class out with data.genres, or give another classical.kind."
        )
    return CalibratedClassifierCV(OneVsRestClassifier(machine), ensemble=False, cv=min(_HELD_OUT, rarest))


def _trees(classical: ClassicalSection, seed: int, n_classes: int) -> ClassifierMixin:
    match classical.kind:
        case "boosting":
            return _scikit_trees(HistGradientBoostingClassifier, classical, seed)
        case "xgboost":
            # A clip weighs as much as the loss bends, here where all classes are alike, times its
            # class's weight. The surer it is, the less, so later leaves hold more than leaf_clips.
            weight = (1 / n_classes) * (1 - 1 / n_classes) * (2 if n_classes > 2 else 1)
            return _xgboost_trees(
                _package("xgboost").XGBClassifier, classical, seed, start=0.5, clip_weight=weight
            )
        case "lightgbm":
            return _lightgbm_trees(_package("lightgbm").LGBMClassifier, classical, seed)
        case "svm" | "gp" | "ridge" | "svr" | None:
            raise InputError(
                f"classical.kind '{classical.kind}' predicts no genres. "
                f"Give 'svm', 'boosting', 'xgboost' or 'lightgbm'."
            )


def _scikit_trees(make: Callable[..., Any], classical: ClassicalSection, seed: int) -> Any:
    return make(
        learning_rate=classical.learning_rate,
        max_iter=classical.rounds,
        max_leaf_nodes=classical.leaves,
        max_depth=classical.depth,
        min_samples_leaf=classical.leaf_clips,
        l2_regularization=classical.l2,
        max_features=classical.feature_share,
        early_stopping=False,
        random_state=seed,
    )


def _xgboost_trees(
    make: Callable[..., Any], classical: ClassicalSection, seed: int, start: float, clip_weight: float
) -> Any:
    return make(
        n_estimators=classical.rounds,
        learning_rate=classical.learning_rate,
        tree_method="hist",
        grow_policy="lossguide",
        max_leaves=classical.leaves,
        max_depth=classical.depth or 0,
        min_child_weight=classical.leaf_clips * clip_weight,
        colsample_bynode=classical.feature_share,
        subsample=classical.clip_share,
        reg_lambda=classical.l2,
        base_score=start,  # else versions differ in it
        random_state=seed,
        n_jobs=1,  # sums depend on the number of threads
        verbosity=0,
    )


def _lightgbm_trees(make: Callable[..., Any], classical: ClassicalSection, seed: int) -> Any:
    return make(
        n_estimators=classical.rounds,
        learning_rate=classical.learning_rate,
        num_leaves=classical.leaves,
        max_depth=classical.depth or -1,
        min_child_samples=classical.leaf_clips,
        feature_fraction_bynode=classical.feature_share,
        subsample=classical.clip_share,
        subsample_freq=1,
        reg_lambda=classical.l2,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,  # else it tries which way is faster, and sums differ
        n_jobs=1,
        verbosity=-1,
    )


def _package(name: Literal["xgboost", "lightgbm"]) -> ModuleType:
    try:
        return import_module(name)
    except (ImportError, OSError) as error:  # the latter where a library of the system is missing
        raise InputError(
            f"classical.kind '{name}' needs the package of that name, which can't be imported ({error}). "
            f"Give another kind, or: pip install 'music-emotion[classical]'."
        ) from None


def _kernel_gamma(classical: ClassicalSection, statistics: np.ndarray) -> float:
    """As scikit-learn's "scale" at gamma 1: statistics that never vary don't count."""
    variance = np.ascontiguousarray(statistics).var() or 1.0
    return classical.gamma / (statistics.shape[1] * variance)
