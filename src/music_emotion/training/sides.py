"""That nothing is on two sides of a fold: checked on the folds themselves, whatever has split them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.labels import read_groups
from music_emotion.datasets.splits import Fold, groups_file
from music_emotion.files import InputError, first_five, read_predictions
from music_emotion.models.build import read_card


def check_sides(experiment: Experiment, folds: Sequence[Fold]) -> None:
    """Refuse folds of which two sides share a clip or a group.

    Parameters
    ----------
    experiment : Experiment
        Names the groups.
    folds : sequence of Fold
        Sides that come from other arrays, such as a test split, have unrelated ids and no groups.

    Raises
    ------
    InputError
        Naming the fold and five of what is on both sides.
    """
    pairs = [(fold, *pair) for fold in folds for pair in _pairs_of_sides(fold)]
    if not pairs:
        return
    path = groups_file(experiment)
    groups = None if path is None else read_groups(path)
    for fold, one, other in pairs:
        shared = np.intersect1d(one.ids, other.ids)
        if len(shared):
            raise InputError(
                f"{fold.folder}: {len(shared)} clips are on two sides, to be learnt from and scored: "
                f"{first_five(shared)}. Split the clips so that each is on one side."
            )
        if groups is not None:
            _check_groups(fold, groups.reindex(one.ids), groups.reindex(other.ids), path)


def _check_groups(fold: Fold, one: pd.Series, other: pd.Series, path: Path | None) -> None:
    split = sorted(set(one.dropna()) & set(other.dropna()))
    if split:
        raise InputError(
            f"{fold.folder}: {len(split)} groups of {path} are on two sides: {first_five(split)}. Split the "
            f"clips so that a group is on one side."
        )


def _pairs_of_sides(fold: Fold) -> list[tuple[ClipSet, ClipSet]]:
    """Two sides each, of the same arrays."""
    sides = [side for side in (fold.training, fold.valid, fold.test) if side is not None]
    pairs = [(one, other) for number, one in enumerate(sides) for other in sides[number + 1 :]]
    return [(one, other) for one, other in pairs if one.store is other.store]


def check_trunk(experiment: Experiment, folds: Sequence[Fold]) -> None:
    """Refuse a trunk that was trained on labels of clips which the folds are scored on.

    So is one of the same task and the same data, unless its own fold had held out these clips; its
    `valid.csv`, and where it has test clips of its own `test.csv`, beside the model tell which.

    Raises
    ------
    InputError
        Naming the trunk, and the first fold with such clips.
    """
    if experiment.model.trunk == "none" or experiment.is_classical:
        return
    trunk = Path(experiment.model.trunk)
    origin = read_card(trunk).experiment
    if not _same_clips(origin, experiment):
        return
    held_out = [trunk.parent / name for name in ("valid.csv", *(["test.csv"] if origin.has_repeats else []))]
    unseen = np.concatenate(
        [np.zeros(0, np.int64), *(read_predictions(path).index for path in held_out if path.exists())]
    )
    for fold in folds:
        for _, scored in _pairs_of_sides(fold):
            seen = np.setdiff1d(scored.ids, unseen)
            if len(seen):
                raise InputError(
                    f"{fold.folder} is scored on {len(seen)} clips that may have trained {trunk}: "
                    f"{first_five(seen)}. That network has learnt the same task from the same data "
                    f"({origin.data.root}). Name another model.trunk, such as one of genres for emotion."
                )


def _same_clips(origin: Experiment, experiment: Experiment) -> bool:
    """Whether two experiments learn the same labels of the same clips."""
    one, other = origin.data, experiment.data
    same_place = Path(one.root).resolve() == Path(other.root).resolve()
    return origin.task == experiment.task and one.windows == other.windows == "none" and same_place
