"""Clips to batches of excerpts: random ones for training, evenly spaced ones for test.

Both datasets are asked for many items at once (`__getitems__`) and answer with a padded batch,
a dict of tensors:

- ``frames`` [shape=(n_excerpts, n_rows, n_frames)], float32
- ``lengths`` [shape=(n_excerpts,)]: frames before the padding
- ``values`` [shape=(n_items, n_outputs)]: targets or one-hot classes
- ``ids`` [shape=(n_items,)]
"""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from music_emotion.audio.spectrogram import silent_rows
from music_emotion.config import DataSection, ExcerptSection
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.files import InputError

Batch = dict[str, torch.Tensor]


class _Cutter:
    """Reads excerpts out of a clip set into padded arrays."""

    def __init__(self, clips: ClipSet, data: DataSection, excerpt: ExcerptSection):
        self.clips = clips
        self.n_frames = excerpt.frames
        self.rows = clips.store.part(data.rows)
        padding = np.zeros(clips.store.frames.shape[1], np.float32)
        if clips.store.is_fused and excerpt.padding == "silence":
            padding = silent_rows()
        self.padding = padding[self.rows, None]
        place = clips.store.index.loc[clips.ids]
        self.starts, self.lengths = place["start"].to_numpy(), place["length"].to_numpy()
        if not clips.store.is_fused and (self.lengths < self.n_frames).any():
            raise InputError(
                f"excerpt.frames is {self.n_frames}, but the shortest clip has {self.lengths.min()} frames, "
                f"and what is silence in these is not known. Give excerpt.frames {self.lengths.min()}."
            )

    def cut(self, clips: np.ndarray, offsets: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Excerpts of the clips at some positions, each from an offset in frames."""
        lengths = self.lengths[clips] - offsets
        longest = self.n_frames or int(lengths.max())
        lengths = np.minimum(lengths, longest)
        batch = np.empty((len(clips), len(self.padding), longest), np.float32)
        for excerpt, (clip, offset, length) in enumerate(zip(clips, offsets, lengths, strict=True)):
            start = self.starts[clip] + offset
            batch[excerpt, :, :length] = self.clips.store.frames[start : start + length, self.rows].T
            batch[excerpt, :, length:] = self.padding
        return torch.from_numpy(batch), torch.from_numpy(lengths)

    def room(self, clips: np.ndarray) -> np.ndarray:
        """By how many frames an excerpt can be moved inside each clip."""
        n_frames = self.n_frames or self.lengths[clips]
        return np.maximum(self.lengths[clips] - n_frames, 0)


class TrainingExcerpts(Dataset):
    """Random excerpts; `set_epoch` draws new ones in a new order.

    Parameters
    ----------
    clips : ClipSet
        The training folds.
    data, excerpt : DataSection, ExcerptSection
        What is read and how it is cut.
    seed : int
        Order and offsets follow from it and the epoch alone.
    """

    def __init__(self, clips: ClipSet, data: DataSection, excerpt: ExcerptSection, seed: int):
        self.cutter = _Cutter(clips, data, excerpt)
        self.per_clip, self.seed = excerpt.per_clip, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of clips and the offset of every excerpt of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        n = len(self.cutter.clips)
        self.order = rng.permutation(np.repeat(np.arange(n), self.per_clip))
        self.offsets = rng.integers(0, self.cutter.room(self.order) + 1)

    def __len__(self) -> int:
        return len(self.order)

    def __getitems__(self, items: list[int]) -> Batch:
        clips = self.order[items]
        frames, lengths = self.cutter.cut(clips, self.offsets[items])
        return {"frames": frames, "lengths": lengths, **_known(self.cutter.clips, clips)}


class EvenExcerpts(Dataset):
    """Every clip once, as evenly spaced excerpts that follow each other in the batch.

    Parameters
    ----------
    clips : ClipSet
        Validation or test clips.
    data, excerpt : DataSection, ExcerptSection
        ``excerpt.test`` excerpts of each clip.
    """

    def __init__(self, clips: ClipSet, data: DataSection, excerpt: ExcerptSection):
        self.cutter = _Cutter(clips, data, excerpt)
        self.n_excerpts = excerpt.test if excerpt.frames else 1

    def __len__(self) -> int:
        return len(self.cutter.clips)

    def __getitems__(self, items: list[int]) -> Batch:
        clips = np.asarray(items)
        steps = (np.arange(self.n_excerpts) + 0.5) / self.n_excerpts
        if self.n_excerpts > 1:
            steps = np.linspace(0, 1, self.n_excerpts)
        offsets = np.rint(self.cutter.room(clips)[:, None] * steps).astype(np.int64)
        frames, lengths = self.cutter.cut(np.repeat(clips, self.n_excerpts), offsets.ravel())
        return {"frames": frames, "lengths": lengths, **_known(self.cutter.clips, clips)}


def _known(clips: ClipSet, positions: np.ndarray) -> Batch:
    values, ids = clips.values[positions], clips.ids[positions]
    return {"values": torch.from_numpy(values), "ids": torch.from_numpy(ids)}


def _as_is(batch: Any) -> Any:
    return batch  # __getitems__ has collated it


def batches(dataset: TrainingExcerpts | EvenExcerpts, batch_size: int) -> DataLoader:
    """Loader over a dataset in its own order.

    A last short batch is left out in training, where batch statistics of few excerpts would
    harm, unless it is the only one.
    """
    training = isinstance(dataset, TrainingExcerpts)
    drop_last = training and len(dataset) >= batch_size
    return DataLoader(dataset, batch_size, shuffle=False, drop_last=drop_last, collate_fn=_as_is)


def row_statistics(clips: ClipSet, data: DataSection) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every row over all frames of some clips.

    Parameters
    ----------
    clips : ClipSet
        The training folds, and only them.
    data : DataSection
        Gives the rows.

    Returns
    -------
    mean, deviation : np.ndarray [shape=(n_rows,)], float64
        A row that never changes gets the deviation 1.
    """
    rows = clips.store.part(data.rows)
    total, squares, n_frames = 0.0, 0.0, 0
    for start, length in clips.store.index.loc[clips.ids].to_numpy():
        frames = clips.store.frames[start : start + length, rows].astype(np.float32)
        total = total + frames.sum(axis=0, dtype=np.float64)
        squares = squares + np.square(frames).sum(axis=0, dtype=np.float64)
        n_frames += length
    mean = total / n_frames
    deviation = np.sqrt(np.maximum(squares / n_frames - mean**2, 0))
    return np.asarray(mean), np.where(deviation > 1e-6, deviation, 1.0)
