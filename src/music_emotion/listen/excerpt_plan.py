"""Which excerpts of a file are predicted, and what networks say of them, while the file is decoded."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from music_emotion.audio.features import N_MELS, N_ROWS, SILENCE_DB
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.store import Store
from music_emotion.listen.feature_blocks import CLIP_SECONDS, SILENT_DB, FeatureBlocks

if TYPE_CHECKING:
    from music_emotion.datasets.excerpts import Batch
    from music_emotion.listen.prediction_threads import PredictionThreads
    from music_emotion.models.build import Network

_AT_ONCE = 8  # excerpts in a batch, of which layers still find their input in the cache


class DecodedFrames:
    """The latest frames of a file, and how loud each of it has been so far.

    Attributes
    ----------
    frames : np.ndarray [shape=(n, 140)]
        Those that are kept, mel in absolute dB.
    first : int
        The frame of the file that the first of them is.
    loudest : np.ndarray [shape=(n_decoded,)]
        Maximum of the mel rows of every frame, kept or not.
    """

    def __init__(self) -> None:
        self.frames, self.first = np.empty((0, N_ROWS), np.float32), 0
        self.loudest = np.empty(0, np.float32)

    def add(self, block: np.ndarray) -> None:
        """Append a block."""
        self.frames = np.concatenate([self.frames, block])
        self.loudest = np.append(self.loudest, block[:, :N_MELS].max(axis=1))

    def drop_before(self, frame: int) -> None:
        """Keep what begins with a frame of the file."""
        n_dropped = max(0, frame - self.first)
        self.frames, self.first = self.frames[n_dropped:], self.first + n_dropped

    def cut(self, places: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        """Excerpts at places (first frame, length), one after the other, mel in dB below given peaks."""
        cut = np.concatenate([self.frames[first : first + n] for first, n in places - [self.first, 0]])
        decibels = cut[:, :N_MELS] - np.repeat(peaks, places[:, 1])[:, None]
        cut[:, :N_MELS] = np.maximum(decibels, SILENCE_DB)
        return cut


class ExcerptPlan:
    """The excerpts that some networks predict, and what they say of each.

    Parameters
    ----------
    networks : sequence of Network
        Which read the same rows of the same excerpts.
    times : np.ndarray [shape=(n_windows, 2)]
        Start and end of every window in seconds; all are equally long.
    hop_seconds : float
        From one window to the next.
    blocks : FeatureBlocks
        The file.

    Attributes
    ----------
    places : np.ndarray [shape=(n_excerpts, 2)], integer
        First frame and length, each pair once.
    windows, whole : np.ndarray [shape=(n_windows, n)] and [shape=(1, n)], integer
        The excerpts of every window and of the file.
    around : np.ndarray [shape=(n_excerpts, 2)], integer
        The clip that an excerpt is heard as a part of: first frame, and the one after the last.
    values : list of np.ndarray [shape=(n_excerpts, n_outputs)]
        One for each network; nan where all around is silent, or not yet predicted.
    """

    def __init__(
        self, networks: Sequence["Network"], times: np.ndarray, hop_seconds: float, blocks: FeatureBlocks
    ):
        experiment = networks[0].card.experiment
        self.networks, self.data = networks, experiment.data
        self.excerpt = experiment.excerpt.model_copy(update={"test": 1})
        n_frames, rate_hz = blocks.n_frames, blocks.settings.sample_rate_hz / blocks.settings.hop_length
        clip = max(math.ceil(CLIP_SECONDS * rate_hz), experiment.excerpt.frames or 0)
        length = min(experiment.excerpt.frames or clip, n_frames)
        starts, within = _starts_in_windows(times * rate_hz, hop_seconds * rate_hz, length, n_frames)
        per_clip = experiment.excerpt.test if experiment.excerpt.frames else 1
        planned = np.unique(starts) if within == length else np.empty(0, np.int64)
        whole = _starts_in_file(n_frames, length, clip, per_clip, planned)
        places = [(start, within) for start in starts.ravel()] + [(start, length) for start in whole]
        self.places, at = np.unique(np.array(places), axis=0, return_inverse=True)
        self.windows, self.whole = at[: starts.size].reshape(starts.shape), at[None, starts.size :]
        centres = self.places[:, 0] + self.places[:, 1] // 2
        first = np.clip(centres - clip // 2, 0, max(0, n_frames - clip))
        self.around = np.stack([first, np.minimum(first + clip, n_frames)], axis=1)
        self.is_done = np.zeros(len(self.places), bool)
        shapes = [(len(self.places), len(network.card.outputs)) for network in networks]
        self.values = [np.full(shape, np.nan) for shape in shapes]

    def predict_ready(self, decoded: DecodedFrames, threads: "PredictionThreads") -> None:
        """Predict the excerpts that have been decoded with all around them."""
        ready = np.flatnonzero(~self.is_done & (self.around[:, 1] <= len(decoded.loudest)))
        self.is_done[ready] = True
        peaks = np.array([decoded.loudest[slice(*around)].max() for around in self.around[ready]], np.float32)
        is_heard = peaks > SILENT_DB
        ready, peaks = ready[is_heard], peaks[is_heard]
        jobs = []
        for at_once in _batched(self.places[ready, 1]):
            batch = self._batch(decoded, ready[at_once], peaks[at_once])
            jobs += [(number, ready[at_once], batch) for number in range(len(self.networks))]
        answers = threads.predict([(self.networks[number], batch) for number, _, batch in jobs])
        for (number, excerpts, _), answer in zip(jobs, answers, strict=True):
            self.values[number][excerpts] = answer

    def _batch(self, decoded: DecodedFrames, excerpts: np.ndarray, peaks: np.ndarray) -> "Batch":
        """Some excerpts in dB below their peaks, padded as in training."""
        from music_emotion.datasets.excerpts import EvenExcerpts, batches

        places = self.places[excerpts]
        # each excerpt is a clip here, so that padding and rows are those of training
        clips = ClipSet.unlabelled(Store.in_memory(decoded.cut(places, peaks), places[:, 1]))
        return next(iter(batches(EvenExcerpts(clips, self.data, self.excerpt), len(clips))))

    def first_needed(self, n_decoded: int) -> int:
        """The first frame that is still to be predicted."""
        return int(self.places[~self.is_done, 0].min(initial=n_decoded))

    def means(self, number: int) -> np.ndarray:
        """What a network says of every window and, last, of the file [shape=(n_windows + 1, n_outputs)].

        The mean over excerpts that are not silent; nan where all are.
        """
        values = self.values[number]
        return np.concatenate([_mean_known(values[self.windows]), _mean_known(values[self.whole])])


def _starts_in_windows(times: np.ndarray, hop: float, length: int, n_frames: int) -> tuple[np.ndarray, int]:
    """First frames of the excerpts of every window [shape=(n_windows, n)], and their length.

    Windows and hop are given in frames. An excerpt is as long as networks read, or as the window.
    """
    window = min(n_frames, 1 + math.floor(times[0, 1] - times[0, 0]))
    within = min(length, window)
    starts = np.rint(times[:, :1] + _offsets(window, within, hop))
    return np.clip(starts, 0, n_frames - within).astype(np.int64), within


def _offsets(window: int, length: int, hop: float) -> np.ndarray:
    """Where in a window excerpts start, in frames: in the middle of it, a whole part of a hop apart.

    So windows share excerpts. Each overlaps the next by half at least.
    """
    step = hop / math.ceil(hop / max(1, length / 2))
    n_steps = math.floor((window - length) / step)
    return (window - length - n_steps * step) / 2 + np.arange(n_steps + 1) * step


def _starts_in_file(n_frames: int, length: int, clip: int, per_clip: int, planned: np.ndarray) -> np.ndarray:
    """First frames of excerpts evenly spaced over a file, as `EvenExcerpts` spaces those of a clip.

    In a file longer than a clip they move to planned ones, which are predicted anyway, within a
    quarter of their length.
    """
    n = per_clip * math.ceil(n_frames / clip)
    shares = np.linspace(0, 1, n) if n > 1 else np.array([0.5])
    wanted = np.rint((n_frames - length) * shares).astype(np.int64)
    if n_frames <= clip or not len(planned):
        return wanted
    nearest = planned[pd.Index(planned).get_indexer(wanted, method="nearest")]
    return np.where(np.abs(nearest - wanted) <= length // 4, nearest, wanted)


def _batched(lengths: np.ndarray) -> list[np.ndarray]:
    """Positions of excerpts, in batches of equal length, lest networks of whole clips get padding."""
    batches = []
    for length in np.unique(lengths):
        chosen = np.flatnonzero(lengths == length)
        batches += np.split(chosen, range(_AT_ONCE, len(chosen), _AT_ONCE))
    return batches


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over excerpts [shape=(n, n_excerpts, n_outputs)] that have a value; nan where none has."""
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(axis=1)
    return np.divide(mean, known.sum(axis=1), out=np.full(mean.shape, np.nan), where=known.any(axis=1))
