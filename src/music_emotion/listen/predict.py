"""Predict emotion and genre of an audio file, over time and as a whole.

Conventions
-----------
Networks are trained on clips of up to 30 s with mel rows in dB relative to the clip's maximum. Therefore, the
mel rows of an excerpt are in dB relative to the maximum of the 31 s around it. At the ends of the file, these
are the first or last 31 s. A file of up to 31 s gets the same prediction as `predict_array` on its array.

The prediction of a window is the mean over excerpts of the network's length. Neighbouring windows share
excerpts. A window shorter than an excerpt is padded as in training. The prediction of the file is the mean
over evenly spaced excerpts, ``excerpt.test`` for every 31 s.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.decode import read_clip, recording_seconds
from music_emotion.audio.mel import mel_decibels
from music_emotion.audio.settings import SILENCE_DB, FeatureSettings, row_slice, silent_rows
from music_emotion.config import N_MELS, N_ROWS_OF
from music_emotion.files import InputError, printable, shortened
from music_emotion.models.card import ModelCard

if TYPE_CHECKING:
    from music_emotion.models.network import Network

_CLIP_SECONDS = 31.0  # longest training clips: 30 s and the padding of mp3
SILENT_DB = -100.0  # the floor of `librosa.power_to_db`
_BLOCK_SECONDS = 60.0
_CHROMA_MARGIN_SECONDS = 3.0  # twice the reach of the longest filter
AT_ONCE = 8  # excerpts in a batch; activations of a layer then fit into the CPU cache


@dataclass(frozen=True)
class Song:
    """Features of a whole file.

    Attributes
    ----------
    seconds : float
        Length of the file.
    rows : np.ndarray [shape=(n_frames, 140)], float32
        Mel rows in absolute dB, and chroma rows, or zeros if not computed.
    settings : FeatureSettings
    """

    seconds: float
    rows: np.ndarray
    settings: FeatureSettings


@dataclass(frozen=True)
class Sliding:
    """Length and hop of the windows over a file.

    Attributes
    ----------
    window_seconds : float
        Length of a window. A shorter file is one window.
    hop_seconds : float
        Time from the start of one window to the start of the next. A hop longer than a window leaves gaps.

    Raises
    ------
    InputError
        When a length is below 0.1 s or not finite.
    """

    window_seconds: float = 10.0
    hop_seconds: float = 2.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.1 <= value < math.inf:
                flag = f"--{name.removesuffix('_seconds')}"
                raise InputError(f"{flag} is {value:g} s; give a number of seconds from 0.1 up.")

    def windows(self, seconds: float) -> np.ndarray:
        """Start and end of every window in seconds [shape=(n, 2)]. The last window ends with the file."""
        length = min(self.window_seconds, seconds)
        # 1e-6 absorbs rounding errors, which would repeat the last window
        n_before = max(0, math.ceil((seconds - length) / self.hop_seconds - 1e-6))
        starts = np.append(np.arange(n_before) * self.hop_seconds, seconds - length)
        return np.stack([starts, np.minimum(starts + length, seconds)], axis=1)


@dataclass(frozen=True)
class Timeline:
    """Predictions of a file.

    Attributes
    ----------
    seconds : float
        Length of the file.
    times : pd.DataFrame
        `start_seconds` and `end_seconds`, one row per window.
    targets, genres : pd.DataFrame
        Targets in their own units, and class probabilities, one row per window. Empty without a network for
        the task. NaN if a window and the 31 s around it are silent.
    whole_targets, whole_genres : dict of str to float
        Predictions of the whole file.
    features : np.ndarray [shape=(n_features,)]
        Mean of the first trunk's features over the whole file.
    """

    seconds: float
    times: pd.DataFrame
    targets: pd.DataFrame
    genres: pd.DataFrame
    whole_targets: dict[str, float]
    whole_genres: dict[str, float]
    features: np.ndarray

    @property
    def likeliest_genre(self) -> str | None:
        """Most probable class of the whole file; None without genres."""
        return max(self.whole_genres, key=lambda name: self.whole_genres[name], default=None)


class Ensemble(Protocol):
    """Networks that share a trunk, in PyTorch or ONNX.

    Attributes
    ----------
    cards : sequence of ModelCard
        One per network; all have the same input and excerpts.
    n_features : int
        Features of the trunk.
    """

    cards: Sequence[ModelCard]
    n_features: int

    @property
    def precision(self) -> str:
        """Precision as Accelerate names it: "no" is single."""

    def outputs(self, frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Predict excerpts.

        Parameters
        ----------
        frames : np.ndarray [shape=(n, n_rows, n_frames)], float32
            As in the arrays: mel in dB, chroma 0 to 1.
        lengths : np.ndarray [shape=(n,)], int64
            Frames before the padding.

        Returns
        -------
        np.ndarray [shape=(n, n_features + n_outputs)], float32
            Features of the trunk, and the targets or probabilities of each network.
        """


def read_song(path: Path, settings: FeatureSettings, with_chroma: bool) -> Song:
    """Decode a file and compute its features, block by block to limit memory.

    Parameters
    ----------
    path : Path
        Any file that `read_waveform` reads.
    settings : FeatureSettings
    with_chroma : bool
        Compute the chroma rows. The tuning is estimated on the middle 31 s.

    Returns
    -------
    Song

    Raises
    ------
    InputError
        As `read_clip`.
    """
    waveform = read_clip(path, settings)
    rows = np.zeros((1 + len(waveform) // settings.hop_length, N_ROWS_OF["fused"]), np.float32)
    blocks = _blocks(waveform, settings, with_chroma)
    long = len(waveform) > _BLOCK_SECONDS * settings.sample_rate_hz
    for place, block in tqdm(
        blocks, shortened(printable(path.name)), leave=False, unit="block", disable=not long
    ):
        rows[place, : block.shape[1]] = block
    return Song(recording_seconds(path), rows, settings)


def _blocks(
    waveform: np.ndarray, settings: FeatureSettings, with_chroma: bool
) -> Iterator[tuple[slice, np.ndarray]]:
    """Compute features in blocks of a minute. Margins make them equal to features of the whole file."""
    rate_hz, n_fft, hop_length = settings.sample_rate_hz, settings.n_fft, settings.hop_length
    n_frames, per_second = 1 + len(waveform) // hop_length, rate_hz / hop_length
    n_per_block, margin = max(1, round(_BLOCK_SECONDS * per_second)), math.ceil(n_fft / hop_length)
    if with_chroma:
        from music_emotion.audio import spectrum  # imports librosa, which mel rows do not need

        margin += math.ceil(_CHROMA_MARGIN_SECONDS * per_second)
        first = max(0, (n_frames - round(_CLIP_SECONDS * per_second)) // 2) * hop_length
        middle = waveform[first : first + round(_CLIP_SECONDS * rate_hz)]
        tuning = spectrum.estimate_tuning(np.abs(spectrum.short_time_spectrum(middle)), rate_hz)
    for first in range(0, n_frames, n_per_block):
        last, start = min(first + n_per_block, n_frames), max(0, first - margin)
        part = waveform[start * hop_length : (last + margin) * hop_length]
        block = mel_decibels(part, settings)
        if with_chroma:
            block = np.concatenate([block, spectrum.chroma(part, tuning, rate_hz, hop_length)])
        yield slice(first, last), block[:, first - start : last - start].T


def predict_song(song: Song, ensembles: Sequence[Ensemble], sliding: Sliding | None) -> Timeline:
    """Predict a song over time and as a whole.

    Parameters
    ----------
    song : Song
        With chroma rows if a network needs them.
    ensembles : sequence of Ensemble
        Networks that were trained on full-rate arrays with the feature settings of the song. Predictions of
        the same output are averaged.
    sliding : Sliding or None
        None predicts the file as a whole, without windows.

    Returns
    -------
    Timeline
    """
    times = sliding.windows(song.seconds) if sliding else np.zeros((0, 2))
    hop_seconds = sliding.hop_seconds if sliding else 1.0
    columns: dict[str, dict[str, list[np.ndarray]]] = {"emotion": {}, "genre": {}}
    features = []
    for ensemble in ensembles:
        outputs, heard = _predict_excerpts(song, ensemble, times, hop_seconds)
        features.append(heard)
        for card, of_network in zip(ensemble.cards, outputs, strict=True):
            for name, column in zip(card.outputs, of_network.T, strict=True):
                columns[card.experiment.task].setdefault(name, []).append(column)
    targets, genres = (
        pd.DataFrame({name: np.mean(of_networks, axis=0) for name, of_networks in named.items()})
        for named in columns.values()
    )
    spans = pd.DataFrame(times, columns=["start_seconds", "end_seconds"])
    # the last row is the whole file
    whole, of_genres = (
        {str(name): float(table[name].iloc[-1]) for name in table} for table in (targets, genres)
    )
    tables = targets.reindex(spans.index), genres.reindex(spans.index)
    return Timeline(song.seconds, spans, *tables, whole, of_genres, features[0])


def _predict_excerpts(
    song: Song, ensemble: Ensemble, times: np.ndarray, hop_seconds: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Predict every window and, in the last row, the whole file [shape=(n_windows + 1, n_outputs)].

    The mean features of the trunk over the file are returned, too. A prediction is the mean over the excerpts
    that are not silent; NaN if all are silent.
    """
    card = ensemble.cards[0]
    excerpt, n_frames = card.experiment.excerpt, len(song.rows)
    per_second = song.settings.sample_rate_hz / song.settings.hop_length
    length = min(excerpt.frames or _clip_frames(song, card), n_frames)
    starts, within = np.empty((0, 1), np.int64), length
    if len(times):
        starts, within = _starts_in_windows(times * per_second, hop_seconds * per_second, length, n_frames)
    of_spans = np.stack([starts.ravel(), np.full(starts.size, within)], axis=1)
    wanted = np.concatenate([of_spans, places_in_file(song, card)])
    places, at = np.unique(wanted, axis=0, return_inverse=True)
    peaks = peaks_around(song, card, places)
    sizes = [ensemble.n_features, *(len(each.outputs) for each in ensemble.cards)]
    values = np.full((len(places), sum(sizes)), np.nan)
    batches = [*_batched(places[:, 1], peaks > SILENT_DB)]
    for chosen in tqdm(batches, "predict", leave=False, unit="batch", disable=len(batches) < 100):
        frames = excerpts_at(song, card, places[chosen], peaks[chosen])
        values[chosen] = ensemble.outputs(frames, places[chosen, 1])
    of_windows, of_file = np.split(np.ma.masked_invalid(values)[at], [starts.size])
    means = of_windows.reshape(*starts.shape, sum(sizes)).mean(axis=1), of_file.mean(axis=0, keepdims=True)
    features, *outputs = np.split(np.ma.concatenate(means).filled(np.nan), np.cumsum(sizes)[:-1], axis=1)
    return outputs, features[-1]


def _clip_frames(song: Song, card: ModelCard) -> int:
    """Frames of the clips that the mel rows of an excerpt are relative to."""
    n_frames = math.ceil(_CLIP_SECONDS * song.settings.sample_rate_hz / song.settings.hop_length)
    return max(n_frames, card.experiment.excerpt.frames or 0)


def peaks_around(song: Song, card: ModelCard, places: np.ndarray) -> np.ndarray:
    """Maximum in dB of the clip around each of the `places` [shape=(n,)]."""
    n_frames, clip = len(song.rows), _clip_frames(song, card)
    first = np.clip(places[:, 0] + places[:, 1] // 2 - clip // 2, 0, max(0, n_frames - clip))
    loudest = song.rows[:, :N_MELS].max(axis=1)
    return np.array([loudest[start : start + clip].max() for start in first])


def excerpts_at(song: Song, card: ModelCard, places: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Excerpts in dB relative to the given peaks, padded as in training [shape=(n, n_rows, n_frames)]."""
    experiment = card.experiment
    padding = silent_rows() if experiment.excerpt.padding == "silence" else 0 * silent_rows()
    n_frames = experiment.excerpt.frames or places[0, 1]
    batch = np.tile(padding[:, None], (len(places), 1, n_frames))
    for excerpt, (first, length), peak in zip(batch, places, peaks, strict=True):
        excerpt[:, :length] = song.rows[first : first + length].T
        excerpt[:N_MELS, :length] = np.maximum(excerpt[:N_MELS, :length] - peak, SILENCE_DB)
    return np.ascontiguousarray(batch[:, row_slice(experiment.data.rows)])


def _starts_in_windows(times: np.ndarray, hop: float, length: int, n_frames: int) -> tuple[np.ndarray, int]:
    """First frames of the excerpts of every window [shape=(n_windows, n)], and their length.

    `times` and `hop` are in frames. The excerpts are centred in the window and overlap by at least half. The
    hop is a multiple of the step between excerpts, so windows share excerpts.
    """
    window = min(n_frames, 1 + math.floor(times[0, 1] - times[0, 0]))
    within = min(length, window)
    step = hop / math.ceil(hop / max(1, within / 2))
    n_steps = math.floor((window - within) / step)
    offsets = (window - within - n_steps * step) / 2 + np.arange(n_steps + 1) * step
    starts = np.rint(times[:, :1] + offsets)
    return np.clip(starts, 0, n_frames - within).astype(np.int64), within


def places_in_file(song: Song, card: ModelCard) -> np.ndarray:
    """First frame and length of evenly spaced excerpts of a file, like those of `EvenExcerpts`."""
    excerpt, n_frames, clip = card.experiment.excerpt, len(song.rows), _clip_frames(song, card)
    length = min(excerpt.frames or clip, n_frames)
    n = (excerpt.test if excerpt.frames else 1) * math.ceil(n_frames / clip)
    shares = np.linspace(0, 1, n) if n > 1 else np.array([0.5])
    starts = np.rint((n_frames - length) * shares).astype(np.int64)
    return np.stack([starts, np.full(n, length)], axis=1)


def _batched(lengths: np.ndarray, is_heard: np.ndarray) -> Iterator[np.ndarray]:
    """Yield indices of excerpts that are not silent, in batches of equal length, to avoid padding."""
    for length in np.unique(lengths):
        chosen = np.flatnonzero((lengths == length) & is_heard)
        yield from (chosen[first : first + AT_ONCE] for first in range(0, len(chosen), AT_ONCE))


def predict_array(network: "Network", fused: np.ndarray) -> dict[str, float]:
    """Predict emotion or genre of one clip from its fused array.

    Parameters
    ----------
    network : Network
        From `load_model`.
    fused : np.ndarray [shape=(140, n_frames)]
        From `fused_features` or the competition. It must be full-rate or beat-synchronous like the training
        clips of the network.

    Returns
    -------
    dict of str to float
        Value of every target in its own units, or probability of every class.

    Raises
    ------
    InputError
        When the shape is wrong or values are not finite.

    Examples
    --------
    >>> network = load_model(Path("runs/multitask/seed0/fold0/model.safetensors"))  # doctest: +SKIP
    >>> predict_array(network, np.load("1004.fused.full.npy"))  # doctest: +SKIP
    {'valence': 0.55, 'energy': 0.81, 'danceability': 0.62}
    """
    from music_emotion.datasets.clip_set import ClipSet  # what needs torch is not imported by `predict`
    from music_emotion.datasets.store import Store, check_array
    from music_emotion.training.accelerator import make_accelerator
    from music_emotion.training.predict import predict_clips

    check_array(fused, "The array")
    outputs = network.card.outputs
    clip = ClipSet.unlabelled(Store.in_memory(fused.T, [fused.shape[1]]), outputs)
    predictions = predict_clips(network, clip, make_accelerator())
    return {name: float(value) for name, value in zip(outputs, predictions.iloc[0], strict=True)}
