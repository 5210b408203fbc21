"""Whether a classifier can tell the test split from the training split.

References
----------
D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017; here the score is the area
under the ROC curve, which unequal sizes of the splits do not change.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.folds import groups_of
from music_emotion.datasets.labels import read_groups
from music_emotion.datasets.plain_statistics import plain_statistics
from music_emotion.datasets.splits import groups_file
from music_emotion.evaluation.bootstrap import resamples, with_interval
from music_emotion.files import InputError

_N_PARTS, _N_NAMED, _N_RESAMPLES = 5, 5, 2000
_MUCH = 0.6
_PENALTY = 0.01  # inverse weight of the logistic regression's penalty, strong for a hundred statistics


def check_shift(experiment: Experiment, clips: ClipSet, test: ClipSet) -> str:
    """Say whether the clips of the test split differ from those of the training split.

    Parameters
    ----------
    experiment : Experiment
        Where the clips come from; clips of one of its groups are in one part of the cross-validation,
        so that a known artist does not give a clip away.
    clips, test : ClipSet
        The two splits; labels are not looked at.

    Returns
    -------
    str
        The score with its 95 % bootstrap interval, what it means, and in what the splits differ most.

    Raises
    ------
    InputError
        When the test split is not used, is missing, or a split has fewer than five clips.
    """
    if experiment.has_repeats:
        raise InputError(
            f"--check-shift compares training and test split, but '{experiment.name}' tests on clips of its "
            f"own. Give an experiment of folds."
        )
    if min(len(clips), len(test)) < _N_PARTS:
        found = "no test split" if not len(test) else f"{len(clips)} training and {len(test)} test clips"
        raise InputError(
            f"--check-shift compares the training split with the test split, but {experiment.data.root} has "
            f"{found}. Give {_N_PARTS} clips of each or more."
        )
    table = plain_statistics(clips, test, experiment.data, experiment.task)
    is_test = np.repeat([False, True], [len(clips), len(test)])
    score = shift_score(table.to_numpy(), is_test, _groups(experiment, clips, len(test)))
    return "\n".join([_verdict(score, len(clips), len(test)), *_differences(table, is_test)])


def shift_score(statistics: np.ndarray, is_test: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """How well clips that were not learnt from are told to be of the test split.

    Parameters
    ----------
    statistics : np.ndarray [shape=(n, n_statistics)]
    is_test : np.ndarray [shape=(n,)], bool
    groups : np.ndarray [shape=(n,)]
        Clips of one group are learnt from or scored together.

    Returns
    -------
    dict
        ``value``: area under the ROC curve of the mean of a logistic regression's and of boosted trees'
        probabilities, 0.5 where nothing is told; ``low`` and ``high`` of its 95 % bootstrap interval; ``n``.
    """
    parts = StratifiedGroupKFold(_N_PARTS, shuffle=True, random_state=0)
    estimators = (
        make_pipeline(
            StandardScaler(), LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=1000)
        ),
        HistGradientBoostingClassifier(
            max_iter=60, learning_rate=0.1, max_leaf_nodes=8, class_weight="balanced", random_state=0
        ),
    )
    probability = np.mean(
        [
            cross_val_predict(
                estimator, statistics, is_test, groups=groups, cv=parts, method="predict_proba"
            )[:, 1]
            for estimator in estimators
        ],
        axis=0,
    )
    resampled = np.concatenate(
        [_area(is_test[rows], probability[rows]) for rows in resamples(len(is_test), _N_RESAMPLES, seed=0)]
    )
    return with_interval(float(_area(is_test[None], probability[None])[0]), resampled, len(is_test))


def _area(is_test: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of every row, from the ranks of its test clips; 0.5 without clips of both."""
    n_test = is_test.sum(axis=1)
    n_pairs = n_test * (is_test.shape[1] - n_test)
    below = (rankdata(probability, axis=1) * is_test).sum(axis=1) - n_test * (n_test + 1) / 2
    return np.divide(below, n_pairs, out=np.full(len(below), 0.5), where=n_pairs > 0)


def _groups(experiment: Experiment, clips: ClipSet, n_test: int) -> np.ndarray:
    """The group of every training clip, and one for each test clip, whose groups are not known."""
    path: Path | None = groups_file(experiment)
    known = clips.ids if path is None else groups_of(clips.ids, read_groups(path))
    _, numbers = np.unique(known, return_inverse=True)
    return np.concatenate([numbers, numbers.max() + 1 + np.arange(n_test)])


def _verdict(score: Mapping[str, float], n_train: int, n_test: int) -> str:
    if score["low"] <= 0.5:
        meaning = (
            "The splits can't be told apart, so the out-of-fold score should carry over to the test split."
        )
    else:
        much = "" if score["value"] >= _MUCH else " a little"
        meaning = f"The splits differ{much}, so the out-of-fold score may not carry over to the test split."
    return (
        f"Telling test clips from training clips: AUC {score['value']:.3f} "
        f"[{score['low']:.3f}, {score['high']:.3f}], n = {n_train} + {n_test} (0.5 is guessing, 1 is "
        f"certain). {meaning}"
    )


def _differences(table: pd.DataFrame, is_test: np.ndarray) -> list[str]:
    """The statistics whose means differ most, one a line."""
    train, test = table[~is_test], table[is_test]
    spread = np.sqrt((train.var() + test.var()) / 2)
    differs = ((test.mean() - train.mean()) / spread.where(spread > 0)).dropna()
    largest = differs.reindex(differs.abs().sort_values(ascending=False).index).head(_N_NAMED)
    chance = np.sqrt(1 / len(train) + 1 / len(test))
    lines = [
        f"  {name}: {abs(value):.2f} deviations {'higher' if value > 0 else 'lower'} in the test split"
        for name, value in largest.items()
    ]
    return [
        f"What differs most (of {len(differs)} means, {chance:.2f} deviations are usual by chance):",
        *lines,
    ]
