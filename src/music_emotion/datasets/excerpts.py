"""Batches of excerpts of clips: random for training, evenly spaced for validation and test.

`__getitems__` of both datasets returns a padded batch, a dict of tensors:

- ``frames`` [shape=(n_excerpts, n_rows, n_frames)], float32
- ``lengths`` [shape=(n_excerpts,)]: frames before the padding
- ``values`` [shape=(n_items, n_outputs)]: targets or one-hot classes
- ``ids`` [shape=(n_items,)]
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from music_emotion.audio.settings import silent_rows
from music_emotion.config import DataSection, ExcerptSection
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.files import InputError

Batch = dict[str, torch.Tensor]


class _Excerpts(Dataset):
    """Read excerpts of clips into padded batches."""

    def __init__(self, clips: ClipSet, data: DataSection, excerpt: ExcerptSection):
        self.clips, self.n_frames = clips, excerpt.frames
        self.rows = clips.store.row_slice(data.rows)
        padding = np.zeros(clips.store.frames.shape[1], np.float32)
        if clips.store.is_fused and excerpt.padding == "silence":
            padding = silent_rows()
        self.padding = padding[self.rows, None]
        place = clips.store.index.loc[clips.ids]
        self.starts, self.lengths = place["start"].to_numpy(), place["length"].to_numpy()
        if not clips.store.is_fused and self.n_frames and (self.lengths < self.n_frames).any():
            shortest = f"the shortest clip has {self.lengths.min()} frames and can't be padded with silence"
            raise InputError(f"excerpt.frames is {self.n_frames}, but {shortest}. Lower excerpt.frames.")

    def _cut(self, excerpt_clips: np.ndarray, offsets: np.ndarray, item_clips: np.ndarray) -> Batch:
        """Cut excerpts at offsets in frames. Values and ids come from `item_clips`."""
        lengths = self.lengths[excerpt_clips] - offsets
        longest = self.n_frames or int(lengths.max())
        lengths = np.minimum(lengths, longest)
        frames = np.empty((len(excerpt_clips), len(self.padding), longest), np.float32)
        starts = self.starts[excerpt_clips] + offsets
        for excerpt, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            frames[excerpt, :, :length] = self.clips.store.frames[start : start + length, self.rows].T
            frames[excerpt, :, length:] = self.padding
        values, ids = self.clips.values[item_clips], self.clips.ids[item_clips]
        arrays = {"frames": frames, "lengths": lengths, "values": values, "ids": ids}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _slack(self, clips: np.ndarray) -> np.ndarray:
        """Largest possible offset of an excerpt in each clip, in frames."""
        return np.maximum(self.lengths[clips] - (self.n_frames or self.lengths[clips]), 0)


class TrainingExcerpts(_Excerpts):
    """Random excerpts of clips in random order. `set_epoch` redraws both.

    Parameters
    ----------
    clips : ClipSet
        Training clips.
    data, excerpt : DataSection, ExcerptSection
        The rows to read, and the length and number of excerpts.
    seed : int
        Order and offsets depend on the seed and the epoch.

    Raises
    ------
    InputError
        When clips of statistics or windows are shorter than ``excerpt.frames``.
    """

    def __init__(self, clips: ClipSet, data: DataSection, excerpt: ExcerptSection, seed: int):
        super().__init__(clips, data, excerpt)
        self.per_clip, self.seed = excerpt.per_clip, seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of the clips and the offset of every excerpt of an epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        self.order = rng.permutation(np.repeat(np.arange(len(self.clips)), self.per_clip))
        self.offsets = rng.integers(0, self._slack(self.order) + 1)

    def __len__(self) -> int:
        return len(self.order)

    def __getitems__(self, items: list[int]) -> Batch:
        return self._cut(self.order[items], self.offsets[items], self.order[items])


class EvenExcerpts(_Excerpts):
    """Evenly spaced excerpts of every clip. Excerpts of one clip are adjacent in the batch.

    Parameters
    ----------
    clips : ClipSet
        Validation or test clips.
    data, excerpt : DataSection, ExcerptSection
        The rows to read, and the length and number (``excerpt.test``) of excerpts.

    Raises
    ------
    InputError
        As `TrainingExcerpts`.
    """

    def __init__(self, clips: ClipSet, data: DataSection, excerpt: ExcerptSection):
        super().__init__(clips, data, excerpt)
        self.n_excerpts = excerpt.test if excerpt.frames else 1

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, items: list[int]) -> Batch:
        clips = np.asarray(items)
        steps = np.linspace(0, 1, self.n_excerpts) if self.n_excerpts > 1 else np.array([0.5])
        offsets = np.rint(self._slack(clips)[:, None] * steps).astype(np.int64)
        return self._cut(np.repeat(clips, self.n_excerpts), offsets.ravel(), clips)


def batches(dataset: TrainingExcerpts | EvenExcerpts, batch_size: int) -> DataLoader:
    """Make a loader that keeps the order of a dataset.

    In training, an incomplete last batch is dropped unless it is the only one, because batch normalisation is
    noisy for few excerpts.

    Parameters
    ----------
    dataset : TrainingExcerpts or EvenExcerpts
    batch_size : int
        Excerpts per training batch; otherwise clips per batch.

    Returns
    -------
    DataLoader
        Yields the batches described in this module.
    """
    drop_last = isinstance(dataset, TrainingExcerpts) and len(dataset) >= batch_size
    # __getitems__ returns a collated batch
    return DataLoader(dataset, batch_size, shuffle=False, drop_last=drop_last, collate_fn=lambda batch: batch)


def row_statistics(clips: ClipSet, data: DataSection) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean and standard deviation of every row over all frames, for standardisation.

    Parameters
    ----------
    clips : ClipSet
        Training clips of a fold.
    data : DataSection
        ``data.rows`` selects the rows.

    Returns
    -------
    mean, deviation : np.ndarray [shape=(n_rows,)], float64
        The deviation of a constant row is set to 1.
    """
    rows = clips.store.row_slice(data.rows)
    total, squares, n_frames = 0.0, 0.0, 0
    for clip_id in clips.ids:
        frames = clips.store.frames_of(clip_id)[:, rows].astype(np.float32)
        total = total + frames.sum(axis=0, dtype=np.float64)
        squares = squares + np.square(frames).sum(axis=0, dtype=np.float64)
        n_frames += len(frames)
    mean = total / n_frames
    deviation = np.sqrt(np.maximum(squares / n_frames - mean**2, 0))
    return np.asarray(mean), np.where(deviation > 1e-6, deviation, 1.0)
