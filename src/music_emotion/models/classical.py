"""Classical estimators that predict emotion targets from clip statistics."""

from sklearn.base import RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from music_emotion.errors import InputError
from music_emotion.sections import ClassicalSection


def make_regressor(classical: ClassicalSection, seed: int) -> RegressorMixin:
    """An unfitted scikit-learn regressor for all targets at once.

    Statistics and targets are standardised over the clips it is fitted to, so that the settings
    mean the same for every statistic and target.

    Parameters
    ----------
    classical : ClassicalSection
        Which estimator, and its settings.
    seed : int
        For what the estimator draws at random; ridge and SVR draw nothing.

    Returns
    -------
    RegressorMixin
        Its `fit` takes statistics [shape=(n, n_statistics)] and targets [shape=(n, n_targets)], its
        `predict` gives targets in their own units.

    Raises
    ------
    InputError
        When the section names no estimator.
    """
    match classical.kind:
        case "ridge":
            estimator = Ridge(classical.alpha)
        case "svr":
            estimator = SVR(C=classical.c, epsilon=classical.epsilon)
        case "boosting":
            estimator = HistGradientBoostingRegressor(
                learning_rate=classical.learning_rate,
                max_iter=classical.rounds,
                max_leaf_nodes=classical.leaves,
                min_samples_leaf=classical.leaf_clips,
                max_features=classical.feature_share,
                early_stopping=False,
                random_state=seed,
            )
        case "none":
            raise InputError("classical.kind is 'none'. Give 'ridge', 'svr' or 'boosting'.")
    # each target by itself, since scikit-learn 1.6 flattens a single one before scaling it
    standardised = make_pipeline(StandardScaler(), estimator)
    return MultiOutputRegressor(TransformedTargetRegressor(standardised, transformer=StandardScaler()))
