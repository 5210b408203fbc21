"""Tables of clip statistics, computed from stored arrays or read from files."""

from collections.abc import Callable
from copy import copy
from functools import partial
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.families import statistic_families
from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.statistics import fused_statistics
from music_emotion.config import N_MELS, DataSection, Task
from music_emotion.datasets.clip_set import ClipSet, in_order
from music_emotion.datasets.layout import find_set, read_settings
from music_emotion.datasets.store import Store
from music_emotion.files import InputError

_N_BANDS = 16
_NOTES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")


def array_statistics(store: Store, ids: np.ndarray, settings: FeatureSettings) -> pd.DataFrame:
    """Compute the named statistics of clips (see `fused_statistics`) from their full-rate arrays.

    Parameters
    ----------
    store : Store
    ids : np.ndarray [shape=(n,)], integer
        Ids of clips in the store.
    settings : FeatureSettings
        Feature settings of the arrays.

    Returns
    -------
    pd.DataFrame
        One column per statistic, indexed by `Id`.
    """
    rate = settings.sample_rate_hz
    describe = partial(fused_statistics, frame_seconds=settings.hop_length / rate, sample_rate_hz=rate)
    return _table(store, ids, describe)


def families_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Family of each column ``family:number``. Other columns belong to the family ""."""
    return tuple(str(column).rpartition(":")[0] for column in table.columns)


def _table(store: Store, ids: np.ndarray, describe: Callable[[np.ndarray], dict[str, float]]) -> pd.DataFrame:
    """Apply `describe` to the array of each clip, float32 [shape=(140, n_frames)]; one row per clip."""
    places = tqdm(store.index.loc[ids].to_numpy(), desc="statistics", unit="clip")
    rows = [describe(store.frames[start : start + length].astype(np.float32).T) for start, length in places]
    return pd.DataFrame(rows, pd.Index(ids, name="Id"))


class Statistics:
    """Statistics of clips, the inputs of estimators. They are computed once per store.

    Parameters
    ----------
    data : DataSection
        Data of the experiment.
    task : {"emotion", "genre"}
    """

    def __init__(self, data: DataSection, task: Task):
        self.data, self.task = data, task
        self._tables: dict[Store, pd.DataFrame] = {}
        self._first: pd.DataFrame | None = None
        self._beside: pd.DataFrame | None = None

    def beside(self, table: pd.DataFrame) -> "Statistics":
        """Also give the embeddings of a table, indexed by `Id`, in place of those of the clip sets."""
        other = copy(self)  # shares what is computed from arrays
        other._beside = table
        return other

    def of(self, clips: ClipSet) -> pd.DataFrame:
        """Statistics of clips.

        Parameters
        ----------
        clips : ClipSet

        Returns
        -------
        pd.DataFrame [shape=(n, n_statistics)]
            In the order of the clips, indexed by `Id`. For arrays, the families of `statistic_families` in
            columns ``family:number``. Tables of statistics and single-vector windows are used unchanged, and
            the columns of embeddings follow.

        Raises
        ------
        InputError
            When the clips are windows of several frames, or their table lacks columns of the first clips.
        """
        store, own = clips.store, clips.table if self._beside is None else self._beside
        if own is not None and not store.is_fused:
            return self._in_order(own).loc[clips.ids]
        if store not in self._tables:
            self._tables[store] = self._of_arrays(store) if store.is_fused else self._of_vectors(store)
        parts = [self._tables[store], *([] if own is None else [self._in_order(own)])]
        return pd.concat([part.loc[clips.ids] for part in parts], axis=1)

    def _in_order(self, table: pd.DataFrame) -> pd.DataFrame:
        """Select the columns of the first table."""
        self._first = table if self._first is None else self._first
        return in_order(table, self._first, self.data)

    def _of_arrays(self, store: Store) -> pd.DataFrame:
        settings = read_settings(find_set(Path(self.data.root), self.task, self.data.rate))
        frame_seconds = settings.hop_length / settings.sample_rate_hz

        def describe(fused: np.ndarray) -> dict[str, float]:
            families = statistic_families(fused, frame_seconds).items()
            return {f"{name}:{n}": value for name, values in families for n, value in enumerate(values)}

        return _table(store, store.index.index.to_numpy(), describe)

    def _of_vectors(self, store: Store) -> pd.DataFrame:
        if (store.index["length"] > 1).any():
            needed = "Estimators need one vector of features per window."
            raise InputError(f"{self.data.windows} holds windows of several frames. {needed}")
        return pd.DataFrame(store.frames[: len(store.index)], store.index.index)


def plain_statistics(clips: ClipSet, data: DataSection, task: Task) -> pd.DataFrame:
    """Compute easily interpreted statistics: band levels, strengths of notes, and length.

    Parameters
    ----------
    clips : ClipSet
        Clips with arrays, or from a table of statistics, whose columns are then returned.
    data : DataSection
        Data of the experiment.
    task : {"emotion", "genre"}

    Returns
    -------
    pd.DataFrame [shape=(n, n_statistics)]
        Column names are words, for example "mean level of 400 to 640 Hz".
    """
    if not clips.store.is_fused:
        return Statistics(data, task).of(clips)
    sample_rate_hz = read_settings(find_set(Path(data.root), task, data.rate)).sample_rate_hz
    # between two edges lie the centres of eight mel bands
    edges = librosa.mel_frequencies(N_MELS + 2, fmin=0.0, fmax=sample_rate_hz / 2)[:: N_MELS // _N_BANDS]
    rounded = [f"{round(edge, -1 if edge < 1000 else -2):,.0f}" for edge in edges]
    bands = [f"{low} to {high} Hz" for low, high in pairwise(rounded)]
    kinds = ("mean level of {}", "level of {} in quiet moments", "level of {} in loud moments")
    names = [kind.format(band) for kind in (*kinds, "changes of level of {}") for band in bands]
    names += [f"strength of the note {note}" for note in _NOTES]
    names += ["length in frames" if data.rate == "full" else "number of beats"]

    def describe(fused: np.ndarray) -> dict[str, float]:
        frames = fused.T
        levels = frames[:, :N_MELS].reshape(len(frames), _N_BANDS, -1).mean(axis=2)
        quiet, loud = np.quantile(levels, [0.1, 0.9], axis=0)
        notes = frames[:, N_MELS:].mean(axis=0)
        values = [*levels.mean(axis=0), *quiet, *loud, *levels.std(axis=0), *notes, len(frames)]
        return dict(zip(names, values, strict=True))

    return _table(clips.store, clips.ids, describe)
