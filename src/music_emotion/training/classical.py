"""Folds of a classical estimator: fitted in seconds, so never saved, but fitted again where needed."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from music_emotion.data.clip_set import ClipSet
from music_emotion.data.clip_statistics import set_statistics
from music_emotion.experiment import Experiment
from music_emotion.models.classical import make_regressor
from music_emotion.predictions import prediction_table, write_predictions
from music_emotion.training.fold import Fold, check_spread


def fit_folds(experiment: Experiment, folds: Sequence[Fold], test: ClipSet, directory: Path) -> None:
    """Fit the folds that are not finished, and write `valid.csv` and `test.csv` of each.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
    test : ClipSet
    directory : Path
        ``runs/<name>``.

    Raises
    ------
    InputError
        When the training labels of a target are all the same.
    """
    # the test predictions are written last
    waiting = [fold for fold in folds if not (directory / fold.folder / "test.csv").exists()]
    if not waiting:
        return
    known = pd.concat(
        [set_statistics(clips, experiment.data) for clips in (folds[0].training, folds[0].valid)]
    )
    unknown = set_statistics(test, experiment.data)
    for fold, valid, tested in predict_folds(experiment, waiting, known, unknown):
        write_predictions(directory / fold.folder / "valid.csv", valid)
        write_predictions(directory / fold.folder / "test.csv", tested)


def predict_folds(
    experiment: Experiment, folds: Sequence[Fold], known: pd.DataFrame, unknown: pd.DataFrame
) -> Iterator[tuple[Fold, pd.DataFrame, pd.DataFrame]]:
    """Fit each fold to its training clips, and predict its validation clips and others.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
    known : pd.DataFrame
        Statistics of the folds' clips, indexed by `Id`.
    unknown : pd.DataFrame
        Statistics of the other clips, such as the test split's.

    Yields
    ------
    fold : Fold
    valid, test : pd.DataFrame
        Predictions, indexed by `Id`.

    Raises
    ------
    InputError
        When the training labels of a target are all the same.
    """
    for fold in tqdm(folds, desc=f"{experiment.classical.kind} folds", unit="fold"):
        targets = fold.training.outputs
        check_spread(fold.training)
        regressor = make_regressor(experiment.classical, fold.own_seed)
        regressor.fit(known.loc[fold.training.ids].to_numpy(), fold.training.truth.to_numpy())
        valid, tested = (
            prediction_table(table.index.to_numpy(), regressor.predict(table.to_numpy()), targets)
            for table in (known.loc[fold.valid.ids], unknown)
        )
        yield fold, valid, tested
