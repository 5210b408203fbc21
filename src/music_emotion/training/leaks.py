"""Leak checks before each training: no clip, group or recording may be both trained on and scored.

A shared clip or group is an error. Two clips of one recording only give a warning, since the user may be
unable to change the data set. Normalisation, target scale and weights cannot leak, since they are computed
from training clips alone.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator
from tqdm import tqdm

from music_emotion.config import Experiment, Rate
from music_emotion.datasets import duplicates
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, group_names, groups_file
from music_emotion.datasets.store import Store
from music_emotion.files import InputError, first_five, read_predictions, write_table
from music_emotion.models.card import read_card
from music_emotion.runs import open_run

FOLD_BORDER, TRAIN_AND_TEST = "fold border", "train and test"
_REMEDIES = {
    FOLD_BORDER: "Give each such pair one group in a table for --folds.groups, or the score is too good.",
    TRAIN_AND_TEST: "Their out-of-fold score does not estimate their test score.",
}


def check_leaks(
    experiment: Experiment, folds: Sequence[Fold], test: ClipSet, accelerator: Accelerator, directory: Path
) -> None:
    """Refuse folds that train and score on the same clips or groups, and warn of near duplicates.

    Opens the run's directory and lists near duplicates, if any, in its `leaks.csv`.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
        Before any pseudo-labelled clips are added.
    test : ClipSet
        The test split; may be empty.
    accelerator : Accelerator
        Its main process searches for near duplicates.
    directory : Path
        ``runs/<name>``.

    Raises
    ------
    InputError
        As for `check_folds` and `check_trunk`, or when the directory holds another experiment.
    """
    check_folds(experiment, folds)
    check_trunk(experiment, folds)
    open_run(directory, experiment, accelerator)
    if accelerator.is_main_process:
        pairs, n = find_leaks(folds, test, experiment.data.rate)
        path = directory / "leaks.csv"
        if n:
            write_table(path, pairs)
            most = duplicates.MOST_LISTED
            listed = "all" if n <= most else f"the {most:,} most similar"
            said = [f"warning: Pairs of clips seem to share a recording ({listed} are in {path})."]
            for where, found in pairs.groupby("where"):
                rows = found.head(6).itertuples(index=False)
                named = first_five(f"{row.Id} and {row.duplicate} ({row.similarity:.2f})" for row in rows)
                said.append(f"{len(found)} ({where}): {named}. {_REMEDIES[str(where)]}")
            print(*said, flush=True)
        else:
            path.unlink(missing_ok=True)
    accelerator.wait_for_everyone()


def check_folds(experiment: Experiment, folds: Sequence[Fold]) -> None:
    """Refuse folds in which a clip or a group is in two of training, validation and test.

    Raises
    ------
    InputError
        When there are any. The message names the fold and up to five of the clips or groups.
    """
    pairs = [(fold, *pair) for fold in folds for pair in _comparable(fold)]
    names = group_names(experiment, folds[0].training) if pairs else None
    groups = pd.Series(dtype=object) if names is None else names
    of_file = "" if names is None else f" of {groups_file(experiment)}"
    for fold, *sets in pairs:
        ids = (set(clips.ids.tolist()) for clips in sets)
        named = (set(groups.reindex(clips.ids).dropna()) for clips in sets)
        for parts, unit, where in ((ids, "clip", ""), (named, "group", of_file)):
            if shared := set.intersection(*parts):
                raise InputError(
                    f"{fold.folder}: {len(shared)} {unit}s{where} are in two of training, validation and "
                    f"test: {first_five(sorted(shared))}. Give each {unit} to one of them."
                )


def _comparable(fold: Fold) -> list[tuple[ClipSet, ClipSet]]:
    """Pairs of a fold's sets from one store; ids and groups of different stores are unrelated."""
    return [(one, other) for one, other in combinations(fold.sets, 2) if one.store is other.store]


def check_trunk(experiment: Experiment, folds: Sequence[Fold]) -> None:
    """Refuse a trunk that may have been trained on clips which the folds are scored on.

    A trunk of the same task and data must have held out these clips. The `valid.csv` beside its model lists
    its held-out clips; for repeated holdouts, so does `test.csv`.

    Raises
    ------
    InputError
        When there are such clips. The message names the trunk and the first such fold.
    """
    if experiment.model.trunk is None or experiment.is_classical:
        return
    trunk = Path(experiment.model.trunk)
    origin = read_card(trunk).experiment
    one, other = origin.data, experiment.data
    if not origin.distil.labels:
        return
    places, others = ([Path(root).resolve() for root in (data.root, *data.more)] for data in (one, other))
    same_place = set(places) & set(others)
    if not (origin.task == experiment.task and one.windows is other.windows is None and same_place):
        return
    # joined sets have other ids, if they are joined with others
    held_out = (
        []
        if places != others
        else [trunk.with_name(f"{name}.csv") for name in ("valid", *["test"] * origin.has_repeats)]
    )
    unseen = [clip_id for path in held_out if path.exists() for clip_id in read_predictions(path).index]
    for fold in folds:
        for _, scored in _comparable(fold):
            seen = np.setdiff1d(scored.ids, unseen)
            if len(seen):
                raise InputError(
                    f"{fold.folder} is scored on {len(seen)} clips that may have trained {trunk}: "
                    f"{first_five(seen)}. That network has learnt the same task from the same data "
                    f"({one.root}). Name another model.trunk, such as one of genres for emotion."
                )


def find_leaks(folds: Sequence[Fold], test: ClipSet, rate: Rate = "full") -> tuple[pd.DataFrame, int]:
    """Find near duplicates between training clips and scored clips, in any fold or in the test split.

    Clips are compared by fingerprints. Only exact copies are found among more than `MOST_COMPARED` clips, and
    for statistics and windows, which have no fingerprints.

    Parameters
    ----------
    folds : sequence of Fold
    test : ClipSet
        The test split; may be empty.
    rate : {"full", "beat"}
        Rate of the arrays.

    Returns
    -------
    pairs : pd.DataFrame
        `Id`, `duplicate`, `similarity` (up to 1) and `where`, most similar first. Between train and test,
        the duplicate is the clip of the test split. At most `MOST_LISTED` rows.
    n : int
        Total number of pairs.
    """
    sets = [*(clips for fold in folds for clips in fold.sets), test]
    stores = list({id(clips.store): clips.store for clips in sets}.values())
    used = [(s, np.unique(np.concatenate([c.ids for c in sets if c.store is s]))) for s in stores]
    learnt = _membership(used, [fold.training for fold in folds])
    tested = _membership(used, [fold.test_clips(test) for fold in folds])
    # Pretraining may validate on its test split.
    validated = _membership(used, [fold.valid for fold in folds]) & ~tested

    def meet(scored: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether the two clips of each pair are a training clip and a scored clip of the same fold."""
        return ((learnt[first] & scored[second]) | (learnt[second] & scored[first])).any(axis=1)

    pairs, n = duplicates.most_similar(
        _near_duplicates(used, rate), lambda *pair: meet(validated | tested, *pair)
    )
    first, second = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    at_border = meet(validated, first, second)
    is_turned = ~at_border & ~(learnt[first] & tested[second]).any(axis=1)
    first, second = np.where(is_turned, second, first), np.where(is_turned, first, second)
    ids = np.concatenate([own for _, own in used])
    table = {"Id": ids[first], "duplicate": ids[second], "similarity": pairs["similarity"].round(3)}
    return pd.DataFrame(table).assign(where=np.where(at_border, FOLD_BORDER, TRAIN_AND_TEST)), n


# Stores, each with the ids of its clips that are used.
Used = list[tuple[Store, np.ndarray]]


def _membership(used: Used, sets: list[ClipSet]) -> np.ndarray:
    """Membership of each clip in each set, as packed bits to save memory [shape=(n, n_sets / 8)]."""
    columns = [
        np.concatenate([np.isin(ids, clips.ids) & (store is clips.store) for store, ids in used])
        for clips in sets
    ]
    return np.packbits(np.stack(columns, axis=1), axis=1)


def _near_duplicates(used: Used, rate: Rate) -> Iterator[pd.DataFrame]:
    """Find pairs with similar fingerprints (equal ones among many clips), or with equal arrays."""
    prints, contents = [], []
    is_small = sum(len(ids) for _, ids in used) <= duplicates.MOST_COMPARED
    for store, ids in used:
        for clip_id in tqdm(ids, "fingerprints", unit="clip", delay=2):
            frames = np.ascontiguousarray(store.frames_of(clip_id))
            print_of = np.zeros((duplicates.N_STEPS, duplicates.N_BANDS), np.float16)
            if store.is_fused:
                print_of = duplicates.fingerprint(frames, duplicates.FRAMES_PER_STEP[rate])
            prints.append(print_of)
            if print_of.any():
                contents.append(b"" if is_small else print_of.tobytes())
            else:
                contents.append(blake2b(frames.tobytes(), digest_size=16).digest())
    if is_small:
        yield from duplicates.near_duplicates(np.stack(prints))
    yield from duplicates.copies(contents)
