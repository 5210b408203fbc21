"""Fit the folds of a classical estimator. A fit takes seconds, so it is repeated instead of saved."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_info
from tqdm import tqdm

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.statistics_table import Statistics, families_of
from music_emotion.files import prediction_table, write_predictions
from music_emotion.models.estimators import make_classifier, make_regressor
from music_emotion.runs import Cost, peak_memory, write_cost


@dataclass(frozen=True)
class FittedFold:
    """Predictions of an estimator fitted to one fold.

    Attributes
    ----------
    fold : Fold
    valid, test : pd.DataFrame
        Indexed by `Id`: targets in their own units, or class probabilities.
    seconds : float
        Duration of the fit, in seconds.
    """

    fold: Fold
    valid: pd.DataFrame
    test: pd.DataFrame
    seconds: float


def fit_folds(experiment: Experiment, folds: Sequence[Fold], test: ClipSet, directory: Path) -> None:
    """Fit the folds that are not finished; write `cost.json`, `valid.csv` and `test.csv` of each.

    The parameters are those of `predict_folds`; `directory` is ``runs/<name>``.
    """

    def is_done(fold: Fold) -> bool:
        expected = {"valid.csv": fold.valid, "test.csv": fold.test_clips(test)}
        return all(
            (directory / fold.folder / name).exists() for name, clips in expected.items() if len(clips)
        )

    waiting = [fold for fold in folds if not is_done(fold)]
    for fitted in predict_folds(experiment, waiting, test, Statistics(experiment.data, experiment.task)):
        place = directory / fitted.fold.folder
        threads = max((pool["num_threads"] for pool in threadpool_info()), default=1)
        write_cost(place, Cost(fitted.seconds, "cpu", threads, 1, peak_memory() or None))
        write_predictions(place / "valid.csv", fitted.valid)
        if len(fitted.test):  # last, since a Kaggle kernel treats a fold with it as finished
            write_predictions(place / "test.csv", fitted.test)


def predict_folds(
    experiment: Experiment, folds: Sequence[Fold], test: ClipSet, statistics: Statistics
) -> Iterator[FittedFold]:
    """Fit each fold to its training clips, and predict its validation and test clips.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
    test : ClipSet
        Test clips of folds without their own; may be empty.
    statistics : Statistics
        Source of the clip statistics.

    Yields
    ------
    FittedFold
    """
    for fold in tqdm(folds, desc=f"{experiment.classical.kind} folds", unit="fold", disable=not folds):
        known = statistics.of(fold.training)
        started = time.perf_counter()
        predict = _fit(experiment, fold, known)
        seconds = time.perf_counter() - started
        valid, tested = (
            # estimators refuse an empty set
            prediction_table(clips.ids, predict(statistics.of(clips).to_numpy()), clips.outputs)
            if len(clips)
            else clips.truth
            for clips in (fold.valid, fold.test_clips(test))
        )
        yield FittedFold(fold, valid, tested, seconds)


def _fit(experiment: Experiment, fold: Fold, known: pd.DataFrame) -> Callable[[np.ndarray], np.ndarray]:
    """Fit an estimator; return its prediction function. Classes without training clips get probability 0."""
    families, training = families_of(known), fold.training
    if experiment.task == "emotion":
        regressor = make_regressor(experiment.classical, fold.own_seed, families)
        return regressor.fit(known.to_numpy(), training.truth.to_numpy()).predict
    balanced = experiment.loss.class_weights == "balanced"
    classifier = make_classifier(experiment.classical, fold.own_seed, families, balanced)
    classifier.fit(known.to_numpy(), training.values.argmax(axis=1))

    def probabilities(unknown: np.ndarray) -> np.ndarray:
        table = np.zeros((len(unknown), len(training.outputs)))
        table[:, classifier.classes_] = classifier.predict_proba(unknown)
        return table

    return probabilities
