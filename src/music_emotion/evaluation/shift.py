"""Adversarial validation: can a classifier tell test clips from training clips?

References
----------
D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017. Here, the score is the
area under the ROC curve (AUC), which does not depend on the sizes of the splits.
"""

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import groups_of
from music_emotion.datasets.statistics_table import plain_statistics
from music_emotion.evaluation.intervals import resampled_measures
from music_emotion.files import InputError

_N_FOLDS, _N_NAMED = 5, 5
_LARGE_AUC = 0.6
_INVERSE_PENALTY = 0.01  # strong, because there are about a hundred statistics


def check_shift(experiment: Experiment, clips: ClipSet, test: ClipSet) -> str:
    """Test whether the clips of the test split differ from those of the training split.

    Parameters
    ----------
    experiment : Experiment
        Its groups (for example artists) stay in one fold of the cross-validation.
    clips, test : ClipSet
        Training and test clips. Labels are not used.

    Returns
    -------
    str
        AUC with 95 % bootstrap interval, its interpretation, and the statistics that differ most.

    Raises
    ------
    InputError
        When the experiment has repeated splits, or a split is missing or has fewer than five clips.
    """
    if experiment.has_repeats:
        own = f"'{experiment.name}' tests on clips of its own"
        raise InputError(f"--check-shift needs a test split, but {own}. Give an experiment of folds.")
    n_train, n_test = len(clips), len(test)
    if min(n_train, n_test) < _N_FOLDS:
        found = f"{n_train} training and {n_test} test clips" if n_test else "no test split"
        held = f"{experiment.data.root} has {found}"
        raise InputError(f"--check-shift needs {_N_FOLDS} clips of each split, but {held}. Give more clips.")
    known = groups_of(experiment, clips)
    known = clips.ids if known is None else known
    groups = np.unique(known, return_inverse=True)[1]
    groups = np.concatenate([groups, groups.max() + 1 + np.arange(n_test)])  # each test clip is its own group
    described = [plain_statistics(split, experiment.data, experiment.task) for split in (clips, test)]
    table = pd.concat(described, ignore_index=True)
    is_test = np.repeat([False, True], [n_train, n_test])
    score = shift_score(table.to_numpy(), is_test, groups)
    meaning = "The splits can't be told apart, so the out-of-fold score should carry over to the test split."
    if score["low"] > 0.5:
        little = "" if score["value"] >= _LARGE_AUC else " a little"
        meaning = f"The splits differ{little}, so the out-of-fold score may not carry over to the test split."
    return (
        f"Telling test clips from training clips: AUC {score['value']:.3f} "
        f"[{score['low']:.3f}, {score['high']:.3f}], n = {n_train} + {n_test} (0.5 is guessing, 1 is "
        f"certain). {meaning}\n{_largest_differences(table, is_test)}"
    )


def shift_score(statistics: np.ndarray, is_test: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Compute the cross-validated AUC of classifiers that tell test clips from training clips.

    Parameters
    ----------
    statistics : np.ndarray [shape=(n, n_statistics)]
    is_test : np.ndarray [shape=(n,)], bool
    groups : np.ndarray [shape=(n,)]
        Group of each clip. Clips of one group are in the same fold.

    Returns
    -------
    dict
        ``value``: AUC of the mean probability of logistic regression and gradient-boosted trees; 0.5 is
        chance. ``low`` and ``high``: 95 % bootstrap interval. ``n``: number of clips.
    """
    folds = StratifiedGroupKFold(_N_FOLDS, shuffle=True, random_state=0)
    linear = LogisticRegression(C=_INVERSE_PENALTY, class_weight="balanced", max_iter=1000)
    trees = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.1, max_leaf_nodes=8, class_weight="balanced", random_state=0
    )
    probabilities = [
        cross_val_predict(each, statistics, is_test, groups=groups, cv=folds, method="predict_proba")[:, 1]
        for each in (make_pipeline(StandardScaler(), linear), trees)
    ]
    probability = np.mean(probabilities, axis=0)
    truth, likely = (pd.DataFrame({"test": each}) for each in (is_test.astype(float), probability))
    return resampled_measures(truth, likely)["roc_auc"]["test"]


def _largest_differences(table: pd.DataFrame, is_test: np.ndarray) -> str:
    """List the statistics with the largest difference of means, in standard deviations."""
    train, test = table[~is_test], table[is_test]
    spread = np.sqrt((train.var() + test.var()) / 2)
    differs = ((test.mean() - train.mean()) / spread.where(spread > 0)).dropna()
    chance = np.sqrt(1 / len(train) + 1 / len(test))
    lines = [f"What differs most (of {len(differs)} means, {chance:.2f} deviations are usual by chance):"]
    for name, value in differs.sort_values(key=abs, ascending=False).head(_N_NAMED).items():
        direction = "higher" if value > 0 else "lower"
        lines.append(f"  {name}: {abs(value):.2f} deviations {direction} in the test split")
    return "\n".join(lines)
