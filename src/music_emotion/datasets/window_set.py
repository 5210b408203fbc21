"""Windows that others have cut and computed: `X.npy` and `labels.npy` for each of three splits."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import ClipSet, one_hot
from music_emotion.datasets.labels import map_genres
from music_emotion.datasets.store import Store
from music_emotion.files import InputError, first_five

WindowSplit = Literal["train", "val", "test"]


def load_windows(data: DataSection, split: WindowSplit, outputs: tuple[str, ...] = ()) -> ClipSet:
    """Read the windows of one split.

    Parameters
    ----------
    data : DataSection
        ``windows`` is a folder that holds `X.npy`, one vector of features per window [shape=(n, n_rows)]
        or its frames [shape=(n, n_frames, n_rows)], and `labels.npy` [shape=(n,)]; "{split}" in it stands
        for the split. ``genres`` maps the labels.
    split : {"train", "val", "test"}
    outputs : tuple of str
        The training split's classes, when another one is read.

    Returns
    -------
    ClipSet
        Windows are numbered from 0; a vector is a window of one frame. The features stay on the disk.

    Raises
    ------
    InputError
        When a file is missing, damaged or of another shape, when values are not finite, or a class is
        not among `outputs`.
    """
    if "{split}" not in data.windows:
        raise InputError(f"data.windows is '{data.windows}'. Put {{split}} where train, val and test differ.")
    place = Path(data.windows.replace("{split}", split))
    features, labels = _read(place / "X.npy"), _read_labels(place / "labels.npy")
    if features.dtype.kind != "f" or features.ndim not in {2, 3} or 0 in features.shape:
        raise InputError(
            f"{place / 'X.npy'} has shape {features.shape} of {features.dtype}; expected floats of shape "
            f"(windows, features) or (windows, frames, rows)."
        )
    if len(features) != len(labels):
        raise InputError(f"{place}: X.npy has {len(features)} windows, but labels.npy {len(labels)} labels.")
    _check_finite(place / "X.npy", features)
    genres = map_genres(pd.Series(labels), data.genres, str(place / "labels.npy"))
    classes = outputs or tuple(sorted(set(genres)))
    unknown = sorted(set(genres) - set(classes))
    if unknown:
        raise InputError(f"{place}: no training window has the classes {first_five(unknown)}.")
    ids = np.arange(len(features))
    n_frames = 1 if features.ndim == 2 else features.shape[1]
    index = pd.DataFrame({"start": ids * n_frames, "length": n_frames}, pd.Index(ids, name="Id"))
    store = Store(features.reshape(-1, features.shape[-1]), index, is_fused=False)
    return ClipSet(genres.index.to_numpy(), store, classes, one_hot(genres, classes))


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path} does not exist. Correct data.windows; {{split}} stands for a split.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is not a whole array of numbers or text ({error}).") from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} is an archive of several arrays; expected one.")
    return array


def _read_labels(path: Path) -> np.ndarray:
    labels = _read(path)
    if labels.ndim != 1 or labels.dtype.kind not in "USiu":
        raise InputError(
            f"{path} has shape {labels.shape} of {labels.dtype}; expected one name or number per window."
        )
    return np.array([label.decode() if isinstance(label, bytes) else str(label) for label in labels])


def _check_finite(path: Path, features: np.ndarray) -> None:
    broken = [number for number, window in enumerate(features) if not np.isfinite(window).all()]
    if broken:
        raise InputError(
            f"{path}: {len(broken)} windows have values that are not finite: {first_five(broken)}. Leave "
            f"them out of X.npy and labels.npy."
        )
