"""Statistics of clips that a person can name: how loud which frequencies are, which notes, and how long."""

from pathlib import Path

import librosa
import numpy as np
import pandas as pd

from music_emotion.config import N_MELS, DataSection, Task
from music_emotion.datasets.clip_set import ClipSet, read_statistics, statistics_file
from music_emotion.datasets.extract import read_settings
from music_emotion.datasets.layout import find_set

_BANDS, _ROWS_PER_BAND = 16, N_MELS // 16
_NOTES = ("C", "C sharp", "D", "D sharp", "E", "F", "F sharp", "G", "G sharp", "A", "A sharp", "B")


def plain_statistics(clips: ClipSet, test: ClipSet, data: DataSection, task: Task) -> pd.DataFrame:
    """One row per clip of the one set, then of the other, and one column per statistic, named in words.

    Parameters
    ----------
    clips, test : ClipSet
        Of arrays full-rate or beat-synchronous, or of a table of statistics, whose columns are taken.
    data : DataSection
        Where they come from.
    task : {"emotion", "genre"}

    Returns
    -------
    pd.DataFrame [shape=(n, n_statistics)]
    """
    if not clips.store.is_fused:
        columns = list(read_statistics(statistics_file(data, "train"), data.columns).columns)
        rows = [part.store.frames[start] for part in (clips, test) for start in _places(part)["start"]]
        return pd.DataFrame(np.stack(rows), columns=columns)
    bands = _band_names(read_settings(find_set(Path(data.root), task, data.rate)).sample_rate_hz)
    names = [
        *(f"mean level of {band}" for band in bands),
        *(f"level of {band} in quiet moments" for band in bands),
        *(f"level of {band} in loud moments" for band in bands),
        *(f"changes of level of {band}" for band in bands),
        *(f"strength of the note {note}" for note in _NOTES),
        "length in frames" if data.rate == "full" else "number of beats",
    ]
    rows = [
        _of_array(part.store.frames[start : start + length].astype(np.float32))
        for part in (clips, test)
        for start, length in _places(part).to_numpy()
    ]
    return pd.DataFrame(np.stack(rows), columns=names)


def _places(part: ClipSet) -> pd.DataFrame:
    return part.store.index.loc[part.ids, ["start", "length"]]


def _of_array(frames: np.ndarray) -> np.ndarray:
    """Statistics of a clip's array, time first, in the order of their names."""
    bands = frames[:, :N_MELS].reshape(len(frames), _BANDS, _ROWS_PER_BAND).mean(axis=2)
    quiet, loud = np.quantile(bands, [0.1, 0.9], axis=0)
    notes = frames[:, N_MELS:].mean(axis=0)
    return np.concatenate([bands.mean(axis=0), quiet, loud, bands.std(axis=0), notes, [len(frames)]])


def _band_names(sample_rate_hz: int) -> list[str]:
    """Such as "400 to 640 Hz": the frequencies between which the middles of eight mel bands lie."""
    edges = librosa.mel_frequencies(N_MELS + 2, fmin=0.0, fmax=sample_rate_hz / 2)
    return [
        f"{_rounded(edges[start])} to {_rounded(edges[start + _ROWS_PER_BAND])} Hz"
        for start in range(0, N_MELS, _ROWS_PER_BAND)
    ]


def _rounded(frequency_hz: float) -> str:
    return f"{round(frequency_hz, -1 if frequency_hz < 1000 else -2):,.0f}"
