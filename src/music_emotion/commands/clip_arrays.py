"""The two arrays of one clip, full-rate and beat-synchronous: from a set by its id, or from audio."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from music_emotion.audio.features import FeatureSettings, beat_frames, fused_features
from music_emotion.config import Rate
from music_emotion.datasets.extract import read_clip, read_settings
from music_emotion.datasets.labels import read_genres, read_targets
from music_emotion.datasets.layout import Split, Task, find_set, split_files
from music_emotion.datasets.store import read_frames
from music_emotion.files import InputError, first_five


@dataclass(frozen=True)
class ClipArrays:
    """One clip in both forms.

    Attributes
    ----------
    name : str
        For file names, such as ``emotion-train-1004``.
    title : str
        For people, with the clip's labels where they are known.
    full : np.ndarray [shape=(140, n_frames)]
        Mel in dB above chroma 0 to 1.
    beat_synchronous : np.ndarray [shape=(140, n_spans)]
        The same, one column per span between beats.
    settings : FeatureSettings
        How both were made.
    span_edges_seconds : np.ndarray [shape=(n_spans + 1,)] or None
        Where the spans begin and end; None where only the arrays are left.
    """

    name: str
    title: str
    full: np.ndarray
    beat_synchronous: np.ndarray
    settings: FeatureSettings
    span_edges_seconds: np.ndarray | None = None

    @property
    def frame_seconds(self) -> float:
        """From one full-rate frame to the next."""
        return self.settings.hop_length / self.settings.sample_rate_hz

    def at_rate(self, rate: Rate) -> np.ndarray:
        """The array that a network of a rate reads."""
        return self.full if rate == "full" else self.beat_synchronous


def read_clip_arrays(
    clip: str, root: Path, task: Task, split: Split, settings: FeatureSettings
) -> ClipArrays:
    """Read a clip by what a user calls it.

    Parameters
    ----------
    clip : str
        An id, which is digits alone, or the path of an audio file.
    root : Path
        Holds the competition's layout; looked at for ids only.
    task, split
        Where in the layout.
    settings : FeatureSettings
        For audio only: arrays were made as their set's `settings.json` says.

    Raises
    ------
    InputError
        For an id the split does not have, or a file that is not audio.
    """
    if clip.isascii() and clip.isdigit():
        clip_id, folder = int(clip), find_set(root, task)
        full, beat = (_array(clip_id, find_set(root, task, rate), split) for rate in ("full", "beat"))
        title = f"clip {clip_id} of {folder.name}/{split}{_labels(clip_id, folder, split, task)}"
        return ClipArrays(f"{task}-{split}-{clip_id}", title, full, beat, read_settings(folder))
    path = Path(clip)
    if path.name.endswith((".npy", ".npy.gz")):
        raise InputError(f"{path} is an array, not audio. Give its id, and its folder with --data.root.")
    if not path.is_file():
        raise InputError(f"The audio file {path} does not exist. Correct its path, or give a clip's id.")
    waveform = read_clip(path, settings)
    full, beat_synchronous = fused_features(waveform, settings)
    beats = beat_frames(waveform, settings)
    edges = np.unique([0, *beats.tolist(), full.shape[1]])  # as librosa's `sync` cuts
    seconds = edges * settings.hop_length / settings.sample_rate_hz
    return ClipArrays(path.stem, path.name, full, beat_synchronous, settings, seconds)


def _array(clip_id: int, folder: Path, split: Split) -> np.ndarray:
    arrays = split_files(folder, split).arrays
    if clip_id not in arrays:
        other: Split = "train" if split == "test" else "test"
        is_there = (folder / other).is_dir() and clip_id in split_files(folder, other).arrays
        near = sorted(sorted(arrays, key=lambda known: abs(known - clip_id))[:5])
        remedy = (
            f"It is in the other split: --split {other}." if is_there else f"Ids near it: {first_five(near)}."
        )
        raise InputError(f"{folder / split} has no clip {clip_id}. {remedy}")
    return np.asarray(read_frames(arrays[clip_id]).T, np.float32)


def _labels(clip_id: int, folder: Path, split: Split, task: Task) -> str:
    """What the label file says of a clip, whatever the range; empty if it says nothing."""
    path = folder / f"{split}_labels.txt"
    if not path.exists():
        return ""
    if task == "genre":
        known: pd.Series | pd.DataFrame = read_genres(path)
    else:
        known = read_targets(path, allowed=(-np.inf, np.inf))
    if clip_id not in known.index:
        return ""
    row = known.loc[clip_id]
    return f": {row if task == 'genre' else ', '.join(f'{name} {value:.2f}' for name, value in row.items())}"
