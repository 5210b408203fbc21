"""What every training looks for before it begins: clips that are learnt from and scored at once.

A group on both sides of a fold, or a clip, is refused. Two clips that are probably one recording are
named in a warning, since whoever did not make a set can't mend it. That normalisation, targets' scale
and weights come from a fold's training clips alone is not looked for: a fold's network is given nothing
else, and tests change the other clips and compare every weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pandas as pd
from accelerate import Accelerator

from music_emotion.config import Experiment
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.fingerprint import N_BANDS, N_STEPS
from music_emotion.datasets.splits import Fold
from music_emotion.datasets.store import Store
from music_emotion.datasets.twins import MOST_COMPARED, MOST_LISTED, Pairs, find_copies, find_near_twins
from music_emotion.files import first_five, write_table
from music_emotion.runs import open_run
from music_emotion.training.sides import check_sides, check_trunk

LEAKS = "leaks.csv"
FOLD_BORDER, TRAIN_AND_TEST = "fold border", "train and test"


def check_leaks(
    experiment: Experiment, folds: Sequence[Fold], test: ClipSet, accelerator: Accelerator, directory: Path
) -> None:
    """Refuse folds that share clips or groups, and warn of recordings that are there twice.

    Opens the run's directory. Writes `leaks.csv` there, or removes the one of an earlier look.

    Parameters
    ----------
    experiment : Experiment
    folds : sequence of Fold
        Before any pseudo-labelled clips are added.
    test : ClipSet
        The test split; may be empty.
    accelerator : Accelerator
        Of its processes the main one looks for twins.
    directory : Path
        ``runs/<name>``.

    Raises
    ------
    InputError
        When a clip or a group is on both sides of a fold, the trunk has learnt from clips that are
        scored, or the directory holds another experiment.
    """
    check_sides(experiment, folds)
    check_trunk(experiment, folds)
    open_run(directory, experiment, accelerator)
    if accelerator.is_main_process:
        _warn_of_twins(find_leaks(folds, test), directory / LEAKS)
    accelerator.wait_for_everyone()


@dataclass(frozen=True)
class Leaks:
    """Pairs of clips that are probably one recording, one learnt from where the other is scored.

    Attributes
    ----------
    pairs : pd.DataFrame
        `Id`, `twin`, `similarity` (up to 1) and `where`, most similar first; of train and test, the
        twin is the clip of the test split.
    n : int
        How many there are; more than are listed where there are very many.
    """

    pairs: pd.DataFrame
    n: int


def find_leaks(folds: Sequence[Fold], test: ClipSet) -> Leaks:
    """Look for near twins across the border of a fold, and between what is learnt from and tested.

    Arrays are compared by the fingerprints of their store. Of more clips than `MOST_COMPARED`, and of
    statistics and windows, only copies are found; so it is of arrays without a fingerprint.
    """
    sides = _Sides(folds, test)
    fingerprints = sides.fingerprints()
    few = len(fingerprints) <= MOST_COMPARED
    pairs = Pairs(sides.matter)
    if few:
        find_near_twins(fingerprints, pairs)
    has_one = (fingerprints != 0).any(axis=(1, 2))
    find_copies(
        [
            (b"" if few else fingerprints[number].tobytes()) if has_one[number] else sides.digest(number)
            for number in range(len(fingerprints))
        ],
        pairs,
    )
    return Leaks(sides.named(pairs.table()), pairs.n)


class _Sides:
    """On which side of which fold every clip is, of all that there are in all stores.

    Parameters
    ----------
    folds : sequence of Fold
    test : ClipSet
        The test split; may be empty.
    """

    def __init__(self, folds: Sequence[Fold], test: ClipSet):
        parts = [*(p for f in folds for p in (f.training, f.valid, f.test) if p is not None), test]
        ids_in: dict[int, tuple[Store, np.ndarray]] = {}
        for part in parts:
            _, before = ids_in.get(id(part.store), (part.store, part.ids[:0]))
            ids_in[id(part.store)] = (part.store, np.union1d(before, part.ids))
        self._sets = list(ids_in.values())
        self.ids = np.concatenate([ids for _, ids in self._sets])
        learnt = self._mask([fold.training for fold in folds])
        tested = self._mask([test if fold.test is None else fold.test for fold in folds])
        validated = self._mask([fold.valid for fold in folds]) & ~tested  # pretraining watches its test split
        # Bits of folds, since of many pairs whole rows would take gigabytes.
        self._learnt, self._validated = (np.packbits(side, axis=1) for side in (learnt, validated))
        self._tested = np.packbits(tested, axis=1)

    def _mask(self, parts: Sequence[ClipSet]) -> np.ndarray:
        """Which clips are in each of some parts [shape=(n, n_parts)]."""
        mask = np.zeros((len(self.ids), len(parts)), bool)
        for number, part in enumerate(parts):
            start = 0
            for store, ids in self._sets:
                if store is part.store:
                    mask[start : start + len(ids), number] = np.isin(ids, part.ids)
                start += len(ids)
        return mask

    def _meet(self, held_out: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Pairs of which, in any fold, one is learnt from and the other held out."""
        return ((self._learnt[first] & held_out[second]) | (self._learnt[second] & held_out[first])).any(
            axis=1
        )

    def matter(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Whether pairs of positions are leaks [shape=(n_pairs,)]."""
        return self._meet(self._validated | self._tested, first, second)

    def named(self, table: pd.DataFrame) -> pd.DataFrame:
        """Pairs with ids and the place of their leak, as `Leaks` holds them."""
        first, second = table["first"].to_numpy(), table["second"].to_numpy()
        at_border = self._meet(self._validated, first, second)
        # of train and test, the clip that is learnt from comes first
        turned = ~at_border & ~(self._learnt[first] & self._tested[second]).any(axis=1)
        first, second = np.where(turned, second, first), np.where(turned, first, second)
        return pd.DataFrame(
            {
                "Id": self.ids[first],
                "twin": self.ids[second],
                "similarity": table["similarity"].round(3),
                "where": np.where(at_border, FOLD_BORDER, TRAIN_AND_TEST),
            }
        )

    def fingerprints(self) -> np.ndarray:
        """Of all clips [shape=(n, N_STEPS, N_BANDS)]; zeros where a store has none."""
        none = np.zeros((1, N_STEPS, N_BANDS), np.float16)
        return np.concatenate(
            [
                none.repeat(len(ids), axis=0)
                if store.fingerprints is None
                else store.fingerprints[store.index.index.get_indexer(pd.Index(ids))]
                for store, ids in self._sets
            ]
        )

    def digest(self, number: int) -> bytes:
        """A short stand-in for the array of the clip at a position."""
        for store, ids in self._sets:
            if number < len(ids):
                start, length = store.index.loc[ids[number], ["start", "length"]]
                array = np.ascontiguousarray(store.frames[start : start + length])
                return blake2b(array.tobytes(), digest_size=16).digest()
            number -= len(ids)
        raise IndexError(number)


def _warn_of_twins(leaks: Leaks, path: Path) -> None:
    if not leaks.n:
        path.unlink(missing_ok=True)
        return
    write_table(path, leaks.pairs)
    listed = "all of them are" if leaks.n <= MOST_LISTED else f"the {MOST_LISTED:,} most similar are"
    sentences = [_sentence(leaks.pairs, where) for where in (FOLD_BORDER, TRAIN_AND_TEST)]
    print(f"warning: {' '.join(filter(None, sentences))} ({listed} in {path}.)", flush=True)


def _sentence(pairs: pd.DataFrame, where: str) -> str:
    found = pairs[pairs["where"] == where]
    if not len(found):
        return ""
    named = first_five(
        f"{row.Id} and {row.twin} ({row.similarity:.2f})" for row in found.head(6).itertuples(index=False)
    )
    if where == FOLD_BORDER:
        return (
            f"{len(found)} pairs of clips seem to be one recording, but are trained on and validated in the "
            f"same fold: {named}. Give both clips of a pair one group in a table for --folds.groups, or the "
            f"score out of the folds is too good."
        )
    return (
        f"{len(found)} clips of the training split seem to be clips of the test split, too: {named}. For "
        f"those the out-of-fold score is no estimate."
    )
