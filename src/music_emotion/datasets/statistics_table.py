"""Many clips to a table of statistics: from their audio, or from arrays where there are only those."""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.families import statistic_families
from music_emotion.audio.features import FeatureSettings, full_features
from music_emotion.audio.statistics import audio_statistics, fused_statistics
from music_emotion.config import N_MELS, DataSection, Task
from music_emotion.datasets.clip_set import ClipSet, read_statistics, statistics_file
from music_emotion.datasets.clip_table import Windows, cut_windows
from music_emotion.datasets.extract import read_clip, read_settings
from music_emotion.datasets.layout import find_set
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.resume import Item, Journal, Outcome, items_of, work_through
from music_emotion.datasets.store import Store
from music_emotion.files import InputError, alone_at, remove_unfinished

_N_BANDS = 16
_NOTES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")


def array_statistics(store: Store, ids: np.ndarray, settings: FeatureSettings) -> pd.DataFrame:
    """Statistics of clips from their full-rate arrays.

    Parameters
    ----------
    store : Store
    ids : np.ndarray [shape=(n,)], integer
        Clips that the store holds.
    settings : FeatureSettings
        Those the arrays were made with.

    Returns
    -------
    pd.DataFrame
        One column per statistic, indexed by `Id`.
    """
    return _table(store, ids, partial(_of_array, settings=settings))


def array_families(store: Store, ids: np.ndarray, settings: FeatureSettings) -> pd.DataFrame:
    """Families of statistics of clips from their full-rate arrays.

    Takes what `array_statistics` does.

    Returns
    -------
    pd.DataFrame
        One column per statistic, ``family.number``, indexed by `Id`.
    """

    def describe(fused: np.ndarray) -> dict[str, float]:
        families = statistic_families(fused, settings.hop_length / settings.sample_rate_hz)
        return {f"{name}.{n}": value for name, values in families.items() for n, value in enumerate(values)}

    return _table(store, ids, describe)


def families_of(table: pd.DataFrame) -> tuple[str, ...]:
    """The family of every column; those of foreign tables are one family."""
    names = [str(column).rpartition(".") for column in table.columns]
    return tuple(family if number.isdigit() else "" for family, _, number in names)


def _table(store: Store, ids: np.ndarray, describe: Callable[[np.ndarray], dict[str, float]]) -> pd.DataFrame:
    """What a function says of clips' arrays, each [shape=(140, n_frames)], float32; indexed by `Id`."""
    places = tqdm(store.index.loc[ids].to_numpy(), desc="statistics", unit="clip")
    rows = [describe(store.frames[start : start + length].astype(np.float32).T) for start, length in places]
    return pd.DataFrame(rows, pd.Index(ids, name="Id"))


class Statistics:
    """Statistics of clips, whatever they were read as; of a store's arrays they are computed once.

    Parameters
    ----------
    data : DataSection
        Where the clips come from.
    task : {"emotion", "genre"}
    """

    def __init__(self, data: DataSection, task: Task):
        self.data, self.task = data, task
        self._of_stores: list[tuple[Store, pd.DataFrame]] = []

    def of(self, clips: ClipSet) -> pd.DataFrame:
        """One row per clip, in their order [shape=(n, n_statistics)], indexed by `Id`.

        Raises
        ------
        InputError
            When the clips are windows of several frames, which are neither audio nor statistics.
        """
        for store, table in self._of_stores:
            if store is clips.store:
                return table.loc[clips.ids]
        self._of_stores.append((clips.store, self._read(clips.store)))
        return self.of(clips)

    def _read(self, store: Store) -> pd.DataFrame:
        if store.is_fused:
            settings = read_settings(find_set(Path(self.data.root), self.task, self.data.rate))
            return array_families(store, store.index.index.to_numpy(), settings)
        if (store.index["length"] > 1).any():
            raise InputError(
                f"{self.data.windows} holds windows of several frames. Estimators on statistics need one "
                f"vector of features per window."
            )
        rows = [store.frames[start] for start in store.index["start"]]
        return pd.DataFrame(np.stack(rows), store.index.index)


def plain_statistics(clips: ClipSet, data: DataSection, task: Task) -> pd.DataFrame:
    """Statistics of clips that a person can name: loudness of bands, strength of notes, length.

    Parameters
    ----------
    clips : ClipSet
        Of arrays full-rate or beat-synchronous, or of a table of statistics, whose columns are taken.
    data : DataSection
        Where they come from.
    task : {"emotion", "genre"}

    Returns
    -------
    pd.DataFrame [shape=(n, n_statistics)]
        Columns are named in words, such as "mean level of 400 to 640 Hz".
    """
    if not clips.store.is_fused:
        named = read_statistics(statistics_file(data, "train"), data.columns)
        return Statistics(data, task).of(clips).set_axis(named.columns, axis=1)
    sample_rate_hz = read_settings(find_set(Path(data.root), task, data.rate)).sample_rate_hz
    # the frequencies between which the middles of eight mel bands lie
    edges = librosa.mel_frequencies(N_MELS + 2, fmin=0.0, fmax=sample_rate_hz / 2)[:: N_MELS // _N_BANDS]
    rounded = [f"{round(edge, -1 if edge < 1000 else -2):,.0f}" for edge in edges]
    bands = [f"{low} to {high} Hz" for low, high in pairwise(rounded)]
    kinds = ("mean level of {}", "level of {} in quiet moments", "level of {} in loud moments")
    names = [
        *(kind.format(band) for kind in (*kinds, "changes of level of {}") for band in bands),
        *(f"strength of the note {note}" for note in _NOTES),
        "length in frames" if data.rate == "full" else "number of beats",
    ]

    def describe(fused: np.ndarray) -> dict[str, float]:
        frames = fused.T
        levels = frames[:, :N_MELS].reshape(len(frames), _N_BANDS, -1).mean(axis=2)
        quiet, loud = np.quantile(levels, [0.1, 0.9], axis=0)
        notes = frames[:, N_MELS:].mean(axis=0)
        values = [*levels.mean(axis=0), *quiet, *loud, *levels.std(axis=0), *notes, len(frames)]
        return dict(zip(names, values, strict=True))

    return _table(clips.store, clips.ids, describe)


def summarise_clips(
    clips: pd.DataFrame,
    out: Path,
    settings: FeatureSettings,
    windows: Windows | None = None,
    workers: Workers | None = None,
    max_failed: float = 0.01,
) -> Outcome:
    """Write the statistics of clips that there is audio of.

    Only clips that are missing in the table, or whose audio or span has changed, are read.

    Parameters
    ----------
    clips : pd.DataFrame
        As `read_clips` gives it.
    out : Path
        CSV with one row per clip: `id`, what it was made from, the statistics, whose names end in
        their unit, and why it failed, if it did.
    settings : FeatureSettings
    windows : Windows, optional
        Into which clips are cut; each is a clip of its own then.
    workers : Workers, optional
        One process per core by default.
    max_failed : float
        Share of clips, 0 to 1, that may fail before the run does.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        When `out` is another table, another process writes it, or too many clips fail.
    """
    out = out.resolve()
    with alone_at(out, "give another --out"):
        remove_unfinished(out)
        return work_through(
            items_of(cut_windows(clips, windows or Windows()), settings),
            partial(_summarise_one, settings),
            Journal(out, _names(settings)),
            workers or Workers(),
            partial(_names, settings),
            "statistics",
            max_failed,
        )


def _of_array(fused: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    frame_seconds = settings.hop_length / settings.sample_rate_hz
    return fused_statistics(fused, frame_seconds, sample_rate_hz=settings.sample_rate_hz)


def _of_waveform(waveform: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    fused = full_features(waveform, settings)
    return {**_of_array(fused, settings), **audio_statistics(waveform, fused, settings)}


def _summarise_one(settings: FeatureSettings, item: Item) -> dict[str, Any]:
    waveform = read_clip(Path(item.path), settings, item.start_seconds, item.end_seconds)
    # six digits tell any two clips apart, and keep the table of a hundred thousand readable
    return {name: f"{value:.6g}" for name, value in _of_waveform(waveform, settings).items()}


@cache
def _names(settings: FeatureSettings) -> tuple[str, ...]:
    """Names and order of the statistics, which are the same for every clip."""
    noise = np.random.default_rng(0).standard_normal(settings.sample_rate_hz).astype(np.float32)
    return tuple(_of_waveform(noise, settings))
