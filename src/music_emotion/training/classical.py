"""Folds of a classical estimator: fitted in seconds, so never saved, but fitted again where needed."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.clip_statistics import Statistics, families_of
from music_emotion.datasets.splits import Fold
from music_emotion.files import prediction_table, write_predictions
from music_emotion.models.classical import make_classifier, make_regressor
from music_emotion.training.cost import estimator_cost, write_cost
from music_emotion.training.fold import check_spread

Predict = Callable[[np.ndarray], np.ndarray]


def fit_folds(experiment: Experiment, folds: Sequence[Fold], test: ClipSet, directory: Path) -> None:
    """Fit the folds that are not finished; write `cost.json`, `valid.csv` and `test.csv` of each.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
    test : ClipSet
        Predicted by folds without test clips of their own; may be empty.
    directory : Path
        ``runs/<name>``.

    Raises
    ------
    InputError
        When the training labels of a target are all the same.
    """
    waiting = [fold for fold in folds if not _is_done(directory / fold.folder, fold, test)]
    statistics = Statistics(experiment.data, experiment.task)
    for fitted in predict_folds(experiment, waiting, test, statistics):
        place = directory / fitted.fold.folder
        write_cost(place, estimator_cost(fitted.seconds))
        write_predictions(place / "valid.csv", fitted.valid)
        if len(fitted.test):  # last, since a training kernel takes a fold that has it for done
            write_predictions(place / "test.csv", fitted.test)


def _is_done(place: Path, fold: Fold, test: ClipSet) -> bool:
    expected = {"valid.csv": fold.valid, "test.csv": test if fold.test is None else fold.test}
    return all((place / name).exists() for name, clips in expected.items() if len(clips))


@dataclass(frozen=True)
class FittedFold:
    """What a fitted estimator predicts.

    Attributes
    ----------
    fold : Fold
    valid, test : pd.DataFrame
        Predictions, indexed by `Id`: targets in their own units, or class probabilities.
    seconds : float
        That the fitting took.
    """

    fold: Fold
    valid: pd.DataFrame
    test: pd.DataFrame
    seconds: float


def predict_folds(
    experiment: Experiment, folds: Sequence[Fold], test: ClipSet, statistics: Statistics
) -> Iterator[FittedFold]:
    """Fit each fold to its training clips, and predict its validation clips and others.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
    test : ClipSet
        Predicted by folds without test clips of their own; may be empty.
    statistics : Statistics
        What clips are known by.

    Yields
    ------
    FittedFold

    Raises
    ------
    InputError
        When the training labels of a target are all the same.
    """
    for fold in tqdm(folds, desc=f"{experiment.classical.kind} folds", unit="fold", disable=not folds):
        known = statistics.of(fold.training)
        started = time.perf_counter()
        predict = _fit(experiment, fold, known)
        seconds = time.perf_counter() - started
        own_test = test if fold.test is None else fold.test
        valid, tested = (_predictions(predict, clips, statistics) for clips in (fold.valid, own_test))
        yield FittedFold(fold, valid, tested, seconds)


def _predictions(predict: Predict, clips: ClipSet, statistics: Statistics) -> pd.DataFrame:
    if not len(clips):  # which estimators refuse
        return clips.truth
    return prediction_table(clips.ids, predict(statistics.of(clips).to_numpy()), clips.outputs)


def _fit(experiment: Experiment, fold: Fold, known: pd.DataFrame) -> Predict:
    if experiment.task == "genre":
        return _fit_genres(experiment, fold, known)
    check_spread(fold.training)
    regressor = make_regressor(experiment.classical, fold.own_seed, families_of(known))
    predict: Predict = regressor.fit(known.to_numpy(), fold.training.truth.to_numpy()).predict
    return predict


def _fit_genres(experiment: Experiment, fold: Fold, known: pd.DataFrame) -> Predict:
    """Fit a classifier; a class without training clips gets no probability."""
    balanced = experiment.loss.class_weights == "balanced"
    classifier = make_classifier(experiment.classical, fold.own_seed, families_of(known), balanced)
    classifier.fit(known.to_numpy(), fold.training.values.argmax(axis=1))

    def predict(unknown: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(unknown), len(fold.training.outputs)))
        probabilities[:, classifier.classes_] = classifier.predict_proba(unknown)
        return probabilities

    return predict
