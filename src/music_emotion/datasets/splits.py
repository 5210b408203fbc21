"""How the labelled clips of an experiment are split: folds, repeated holdouts, or parts that are given."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.folds import assign_folds, assign_parts, groups_of, target_strata
from music_emotion.datasets.labels import read_groups
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.window_set import load_windows
from music_emotion.files import InputError, first_five


@dataclass(frozen=True)
class Fold:
    """Clips to train on, clips to validate with, and perhaps clips to test on.

    Attributes
    ----------
    seed, number : int
        Together they name the folder of what is learnt: ``seed<s>/fold<k>``.
    training, valid : ClipSet
        With labels.
    test : ClipSet or None
        Clips with labels that neither train nor validate, where the fold has its own.
    """

    seed: int
    number: int
    training: ClipSet
    valid: ClipSet
    test: ClipSet | None = None

    @property
    def folder(self) -> Path:
        """Its folder in the directory of a run."""
        return Path(f"seed{self.seed}", f"fold{self.number}")

    @property
    def own_seed(self) -> int:
        """Another one for every seed and fold."""
        return self.seed * 1000 + self.number


def folds_of_run(experiment: Experiment, clips: ClipSet) -> list[Fold]:
    """The folds of every seed.

    Where the experiment `has_repeats`, every seed has one fold, with test clips of its own; else its
    folds together predict each clip once.

    Raises
    ------
    InputError
        When there are too few clips or groups, or a group is not known.
    """
    return [fold for seed in experiment.seeds for fold in folds_of_seed(experiment, clips, seed)]


def folds_of_seed(experiment: Experiment, clips: ClipSet, seed: int) -> list[Fold]:
    """The folds of one seed, as `folds_of_run`."""
    if experiment.data.windows != "none":
        return [_given(experiment, clips, seed)]
    groups, strata = _groups(experiment, clips), _strata(experiment, clips)
    if experiment.folds.split == "holdout":
        held_out = experiment.folds.valid_share, experiment.folds.test_share
        part_of = assign_parts(strata, (1 - sum(held_out), *held_out), seed, groups)
        training, valid, test = (clips.select(part_of == part) for part in range(3))
        return [Fold(seed, 0, training, valid, test)]
    if experiment.task == "genre":
        _check_rare(clips)
    fold_of = assign_folds(strata, experiment.folds.n, seed, groups)
    return [
        Fold(seed, number, clips.select(fold_of != number), clips.select(fold_of == number))
        for number in range(experiment.folds.n)
    ]


def folds_of_pretraining(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    """One fold per seed, for networks that are scored on the test split.

    A training whose length is fixed may watch the test split and use every training clip; one that
    selects its best epoch must not, so it holds out one fold of the training split.

    Raises
    ------
    InputError
        When the test split is missing or has no labels.
    """
    if not len(test) or not test.has_labels:
        raise InputError(
            f"{experiment.data.root} has no genre test_labels.txt, which pretraining is scored on."
        )
    if experiment.train.select == "last":
        return [Fold(seed, 0, clips, test) for seed in experiment.seeds]
    return [folds_of_seed(experiment, clips, seed)[0] for seed in experiment.seeds]


def _check_rare(clips: ClipSet) -> None:
    """Refuse a class that no fold can both learn and be scored on."""
    single = np.flatnonzero(clips.values.sum(axis=0) == 1)
    if len(single):
        named = [f"{clips.outputs[c]} (clip {clips.ids[clips.values[:, c] == 1][0]})" for c in single]
        raise InputError(
            f"{len(single)} classes have one clip only, so a fold that is scored on it has never heard the "
            f"class: {first_five(named)}. Map them to 'none' or to a larger class in data.genres."
        )


def _given(experiment: Experiment, clips: ClipSet, seed: int) -> Fold:
    valid, test = (load_windows(experiment.data, split, clips.outputs) for split in ("val", "test"))
    return Fold(seed, 0, clips, valid, test)


def groups_file(experiment: Experiment) -> Path | None:
    """The table of groups that an experiment names, or the one of its set; None for no groups.

    Raises
    ------
    InputError
        When it is not known which clips of the set share a recording.
    """
    if experiment.folds.groups == "none":
        return None
    if experiment.folds.groups != "set":
        return Path(experiment.folds.groups)
    folder = find_set(Path(experiment.data.root), experiment.task)
    if (folder / "groups-train.csv").exists():
        return folder / "groups-train.csv"
    origin = folder / "ids-train.csv"  # the extraction's record of where each clip comes from
    if origin.exists() and pd.read_csv(origin)["path"].is_unique:
        return None
    raise InputError(
        f"{folder} has no groups-train.csv, so which clips share a recording is not known. Give a table with "
        f"--folds.groups, or 'none' if none do."
    )


def _groups(experiment: Experiment, clips: ClipSet) -> np.ndarray | None:
    path = groups_file(experiment)
    return None if path is None else groups_of(clips.ids, read_groups(path))


def _strata(experiment: Experiment, clips: ClipSet) -> np.ndarray:
    return clips.values.argmax(axis=1) if experiment.task == "genre" else target_strata(clips.values)
