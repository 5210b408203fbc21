"""Split labelled clips into stratified, optionally grouped folds or holdouts, or load given splits."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import SPANS, ClipSet, load_clip_set, load_windows
from music_emotion.datasets.labels import read_groups, read_splits
from music_emotion.datasets.layout import SPLIT_FILE, find_set, read_scales, set_name
from music_emotion.files import InputError, first_five

_N_STRATA = 10
_MOST_CROSSED = 3
_N_VALIDATED = 10  # of so many training clips, one is for validation where a published split has none

_HOLDOUT = (1 - 0.15 - 0.15, 0.15, 0.15)  # shares of training, validation and test clips


@dataclass(frozen=True)
class Fold:
    """Training, validation and optional test clips of one model.

    Attributes
    ----------
    seed, number : int
        Seed and fold number. The model is saved in ``seed<s>/fold<k>``.
    training, valid : ClipSet
        Labelled clips.
    test : ClipSet or None
        Labelled clips that are used neither for training nor for validation.
    """

    seed: int
    number: int
    training: ClipSet
    valid: ClipSet
    test: ClipSet | None = None

    @property
    def folder(self) -> Path:
        """Folder of the fold, relative to the directory of the run."""
        return Path(f"seed{self.seed}", f"fold{self.number}")

    @property
    def own_seed(self) -> int:
        """Random seed for training, unique for each seed and fold."""
        return self.seed * 1000 + self.number

    def test_clips(self, split: ClipSet) -> ClipSet:
        """The clips to test on: the fold's own, even if there are none, or else the test split."""
        return split if self.test is None else self.test

    @property
    def sets(self) -> list[ClipSet]:
        """Training, validation and, if given, test clips."""
        return [self.training, self.valid, *([] if self.test is None else [self.test])]


def folds_of_run(experiment: Experiment, clips: ClipSet) -> list[Fold]:
    """Split clips into the folds of all seeds.

    Parameters
    ----------
    experiment : Experiment
    clips : ClipSet
        All labelled clips; only the training windows with ``data.windows``.

    Returns
    -------
    list of Fold
        If the experiment `has_repeats`, each seed has one fold with its own test clips. Otherwise each clip
        is validated in exactly one fold of each seed.

    Raises
    ------
    InputError
        When there are too few clips or groups, a clip's group or published split is unknown, or a target does
        not vary.
    """
    if experiment.folds.split == "published" and experiment.data.windows is None:
        folds = _published_folds(experiment, clips)
    else:
        folds = [fold for seed in experiment.seeds for fold in folds_of_seed(experiment, clips, seed)]
    if experiment.task == "emotion":
        _check_targets(experiment, folds)
    return folds


def _check_targets(experiment: Experiment, folds: Sequence[Fold]) -> None:
    """Refuse targets that do not vary among the clips that a fold learns from or is scored on."""
    same = dict[str, str]()
    for fold in folds:
        for clips in fold.sets:
            use = "learns from" if clips is fold.training else "is scored on"
            for target, values in clips.truth.items():
                n = values.count()  # a published split may lack targets of other sets
                if values.nunique() < 2 and (n or clips is fold.training or not experiment.has_repeats):
                    how = f"the same for all {n} clips" if n else "unknown for all clips"
                    same.setdefault(str(target), f"{how} that {fold.folder} {use}")
    if same:
        target, place = next(iter(same.items()))
        others = [name for name in folds[0].training.outputs if name not in same]
        also = f" (likewise {', '.join([*same][1:])})" if len(same) > 1 else ""
        remedies = ["Check the label file, or use fewer folds."]
        if others:
            remedies.append(f"To learn the others alone, add --data.targets {' '.join(others)}.")
        raise InputError(f"{target} is {place}, so they have no order{also}. {' '.join(remedies)}")


def _published_folds(experiment: Experiment, clips: ClipSet) -> list[Fold]:
    """Make one fold per seed of the split that a set was published with.

    All clips of `data.more` are training clips.
    """
    data = experiment.data
    folder = find_set(Path(data.root), experiment.task, data.rate)
    own = clips.ids if clips.origin is None else clips.ids[clips.origin.loc[clips.ids, "set"] == 0]
    known = read_splits(folder / SPLIT_FILE).reindex(own)
    if len(wrong := known.index[~known.isin(["train", "validation"])]):
        problem = f"{len(wrong)} clips of {folder / 'train'} are not train or validation: {first_five(wrong)}"
        raise InputError(f"{folder / SPLIT_FILE}: {problem}. Extract the set anew.")
    if not (folder / "test_labels.txt").exists():
        lacking = "has no test_labels.txt, so its published test clips can't be scored"
        raise InputError(f"{folder} {lacking}. Extract a table in which they have a label.")
    test = load_clip_set(data, experiment.task, "test", clips.outputs)
    held_out = np.isin(clips.ids, known.index[known == "validation"])
    print(
        f"published split: {(~held_out).sum()} training, {held_out.sum()} validation, {len(test)} test clips."
    )
    paths = [folder / f"groups-{split}.csv" for split in ("train", "test")]
    if all(path.exists() for path in paths):
        learnt, tested = (read_groups(path) for path in paths)
        if n := int(tested.isin(learnt).sum()):
            shared = f"{n} of {len(tested)} test clips share a group, such as an artist, with other clips"
            print(f"{shared} of the set, so the score is too good for new ones.")
    parts = dict.fromkeys(experiment.seeds, held_out)
    if not held_out.any():
        groups, strata = groups_of(experiment, clips), _strata(experiment, clips)
        units = len(np.unique(clips.ids if groups is None else groups))
        n = max(2, min(_N_VALIDATED, units))
        parts = {seed: assign_folds(strata, n, seed, groups) == 0 for seed in experiment.seeds}
        print(f"The set has no validation clips, so each seed holds out one in {n} training clips for them.")
    return [Fold(seed, 0, clips.select(~part), clips.select(part), test) for seed, part in parts.items()]


def _strata(experiment: Experiment, clips: ClipSet) -> np.ndarray:
    return clips.values.argmax(axis=1) if experiment.task == "genre" else target_strata(clips.values)


def folds_of_seed(experiment: Experiment, clips: ClipSet, seed: int) -> list[Fold]:
    """Split clips into the folds of one seed. See `folds_of_run`."""
    data, folds = experiment.data, experiment.folds
    if data.windows is not None:
        valid, test = (load_windows(data, split, clips.outputs) for split in ("val", "test"))
        return [Fold(seed, 0, clips, valid, test)]
    groups = groups_of(experiment, clips)
    is_genre = experiment.task == "genre"
    strata = _strata(experiment, clips)
    if folds.split == "holdout":
        assigned = assign_holdout(strata, seed, groups)
        return [Fold(seed, 0, *(clips.select(assigned == number) for number in range(3)))]
    single = np.flatnonzero(is_genre & (clips.values.sum(axis=0) == 1))
    if len(single):  # such a class can't be in both training and validation
        named = [f"{clips.outputs[c]} (clip {clips.ids[clips.values[:, c] == 1][0]})" for c in single]
        raise InputError(
            f"{len(single)} classes have one clip only, so a fold that is scored on it has never heard the "
            f"class: {first_five(named)}. Map them to a larger class in data.genres, or to false "
            f"to leave them out."
        )
    fold_of = assign_folds(strata, folds.n, seed, groups)
    return [
        Fold(seed, number, clips.select(fold_of != number), clips.select(fold_of == number))
        for number in range(folds.n)
    ]


def folds_of_pretraining(experiment: Experiment, clips: ClipSet, test: ClipSet) -> list[Fold]:
    """Make one fold per seed for pretraining, which is scored on the test split.

    If training keeps the last epoch, it uses all training clips and validates on the test split. If it
    selects the best epoch, it validates on one held-out fold of the training split. If embeddings are learnt
    without labels, every tenth clip, drawn at random, is held out, with all its spans.

    Parameters
    ----------
    experiment : Experiment
    clips, test : ClipSet
        Training and test split.

    Returns
    -------
    list of Fold

    Raises
    ------
    InputError
        When the test split is missing or has no labels, or an embedding does not vary.
    """
    if not experiment.distil.labels:
        _, unit = np.unique(clips.ids // (SPANS if experiment.distil.spans else 1), return_inverse=True)
        held_out = {
            seed: (np.random.default_rng(seed).permutation(unit.max() + 1) % 10 == 0)[unit]
            for seed in experiment.seeds
        }
        folds = [
            Fold(seed, 0, clips.select(~chosen), clips.select(chosen)) for seed, chosen in held_out.items()
        ]
        _check_targets(experiment, folds)
        return folds
    if not len(test) or not test.has_labels:
        root = experiment.data.root
        raise InputError(f"{root} has no genre test_labels.txt, which pretraining is scored on.")
    if experiment.train.select == "last":
        return [Fold(seed, 0, clips, test) for seed in experiment.seeds]
    return [folds_of_seed(experiment, clips, seed)[0] for seed in experiment.seeds]


def groups_file(experiment: Experiment, root: str | None = None) -> Path | None:
    """Find the table of groups: ``folds.groups``, or `groups-train.csv` of the set. None without groups.

    Parameters
    ----------
    experiment : Experiment
    root : str, optional
        Folder of the set, by default ``data.root``.

    Raises
    ------
    InputError
        When `groups-train.csv` is missing and clips may share a recording.
    """
    if experiment.folds.groups is None:
        return None
    if experiment.folds.groups != "set":
        return Path(experiment.folds.groups)
    folder = find_set(Path(root or experiment.data.root), experiment.task)
    if (folder / "groups-train.csv").exists():
        return folder / "groups-train.csv"
    origin = folder / "ids-train.csv"  # the extraction writes the recording of each clip
    if origin.exists() and pd.read_csv(origin)["path"].is_unique:
        return None
    unknown = f"{folder} has no groups-train.csv, so which clips share a recording is unknown."
    raise InputError(f"{unknown} Give a table with --folds.groups, or false if none do.")


def group_names(experiment: Experiment, clips: ClipSet) -> pd.Series | None:
    """Read the table of groups, indexed by `Id`; None without groups.

    With ``data.more`` and the sets' own groups, a group belongs to one set. A clip of a set without groups is
    its own group.
    """
    data, of_set = experiment.data, experiment.folds.groups == "set"
    if clips.origin is None or not (data.more and of_set):
        path = groups_file(experiment)
        return None if path is None else read_groups(path)
    named = []
    for number, root in enumerate((data.root, *data.more)):
        ids, path = clips.origin.loc[clips.origin["set"] == number, "id"], groups_file(experiment, root)
        named.append(f"{root}: " + (ids.astype(str) if path is None else ids.map(read_groups(path))))
    return pd.concat(named)


def groups_of(experiment: Experiment, clips: ClipSet) -> np.ndarray | None:
    """Read the group of every clip [shape=(n,)]; None without groups.

    Raises
    ------
    InputError
        When the table of groups is missing or damaged, or clips have no group (the message names five).
    """
    names = group_names(experiment, clips)
    if names is None:
        return None
    groups = names.reindex(clips.ids)
    missing = groups.index[groups.isna()]
    if len(missing):
        named = first_five(missing)
        raise InputError(f"{len(missing)} clips have no group in the group file ({named}). Add them to it.")
    return groups.to_numpy()


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank the known values of each column, scaled to the number of all; unknown ones get the mean rank."""
    n, n_known = len(values), np.isfinite(values).sum(axis=0)
    ranks = rankdata(values, axis=0, nan_policy="omit") * (n / np.maximum(n_known, 1))
    return np.nan_to_num(ranks, nan=(n + 1) / 2)


def known_for_scores(experiment: Experiment, clips: ClipSet) -> dict[str, Any]:
    """What `score_run` takes beside the labels: ``groups`` of the clips, and ``scales`` of their targets."""
    if experiment.data.windows is not None:
        return {}
    groups, data = groups_of(experiment, clips), experiment.data
    folder = find_set(Path(data.root), experiment.task, "full" if data.statistics else data.rate)
    known = None if groups is None else pd.Series(groups, clips.ids)
    if known is not None and experiment.folds.split == "published":
        of_test = folder / "groups-test.csv"
        tested = read_groups(of_test) if of_test.exists() else None
        # ids of other sets, which are trained on alone, may be those of test clips
        known = None if tested is None else pd.concat([known.drop(tested.index, errors="ignore"), tested])
    return {
        "groups": known,
        "scales": read_scales(folder.with_name(set_name(experiment.task, "full"))),
    }


def target_strata(values: np.ndarray) -> np.ndarray:
    """Bin regression targets into strata for stratified splits.

    Parameters
    ----------
    values : np.ndarray [shape=(n, n_targets)]
        Target values.

    Returns
    -------
    np.ndarray [shape=(n,)], integer
        Stratum of each clip: the combination of the targets' quantile bins, about ten combinations in all.
        For more than three targets, the quantile bin of the mean rank. Unknown values (NaN) count as average.
    """
    if values.shape[1] > _MOST_CROSSED:  # with more, almost every clip would be its own stratum
        values = _ranks(values).mean(axis=1, keepdims=True)
    n, n_targets = values.shape
    n_bins = max(2, round(_N_STRATA ** (1 / n_targets)))
    bins = np.floor((_ranks(values) - 0.5) / n * n_bins).astype(np.int64)
    return bins @ (n_bins ** np.arange(n_targets))


def assign_folds(strata: np.ndarray, n_folds: int, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Assign each clip to the fold in which it is validated.

    Parameters
    ----------
    strata : np.ndarray [shape=(n,)], integer
        Classes, or `target_strata` of regression targets. Each is spread evenly over the folds.
    n_folds : int
        2 or more.
    seed : int
        Seed of the random assignment.
    groups : np.ndarray [shape=(n,)], optional
        Clips of one group get the same fold.

    Returns
    -------
    np.ndarray [shape=(n,)], integer
        Fold of each clip, 0 to ``n_folds - 1``. No fold is empty.

    Raises
    ------
    InputError
        When there are fewer clips or groups than folds.
    """
    n_units, unit = (len(strata), "clips") if groups is None else (len(np.unique(groups)), "groups")
    if n_units < n_folds:
        raise InputError(f"There are {n_units} {unit} for {n_folds} folds. Lower --folds.n.")
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    splitter = kind(n_splits=n_folds, shuffle=True, random_state=seed)
    # A stratum with fewer clips than folds can't be in every fold, so these strata are merged.
    values, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    merged = np.where(counts[inverse] < n_folds, len(values), inverse)
    fold_of = np.empty(len(strata), dtype=np.int64)
    with warnings.catch_warnings():  # the merged stratum may also be too small
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (_, valid) in enumerate(splitter.split(strata, merged, groups)):
            fold_of[valid] = fold
    return fold_of


def assign_holdout(strata: np.ndarray, seed: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Assign 70 % of the clips to training, 15 % to validation and 15 % to test.

    Groups are assigned one by one, in random order with a preference for large groups first. Each goes to the
    set with the largest deficit of the group's classes and of clips.

    Parameters
    ----------
    strata : np.ndarray [shape=(n,)], integer
        Classes, or `target_strata` of regression targets. Each is spread over the sets by their shares. A
        class with fewer clips than sets goes to the first sets.
    seed : int
        Seed of the random order.
    groups : np.ndarray [shape=(n,)], optional
        Clips of one group get the same set.

    Returns
    -------
    np.ndarray [shape=(n,)], integer
        0 for training, 1 for validation, 2 for test. No set is empty.

    Raises
    ------
    InputError
        When there are too few clips or groups.

    References
    ----------
    Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011; here,
    items are groups, and their labels are the classes of their clips.
    """
    _, unit_of = np.unique(np.arange(len(strata)) if groups is None else groups, return_inverse=True)
    classes, class_of = np.unique(strata, return_inverse=True)
    counts = np.zeros((unit_of.max() + 1, len(classes) + 1))  # the last column counts all classes
    np.add.at(counts, (unit_of, class_of), 1)
    counts[:, -1] = counts.sum(axis=1)
    wanted = np.outer(_HOLDOUT, counts.sum(axis=0))
    missing = wanted.copy()
    set_of = np.empty(len(counts), np.int64)
    # Large groups fit best early. Sorted by size alone, they would get the same set for every seed.
    lateness = np.random.default_rng(seed).random(len(counts)) / counts[:, -1]
    for unit in np.argsort(lateness):
        # deficit relative to the wanted number of clips, or to 1 if that is larger
        chosen = ((missing / np.maximum(wanted, 1)) @ counts[unit]).argmax()
        set_of[unit] = chosen
        missing[chosen] -= counts[unit]
    if len(set(set_of)) < len(_HOLDOUT):
        unit = "clips" if groups is None else "groups"
        problem = f"There are {len(counts)} {unit}, too few to be split into {len(_HOLDOUT)} parts."
        raise InputError(f"{problem} Give more, or the split 'folds' with a small --folds.n.")
    return set_of[unit_of]
