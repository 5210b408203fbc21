"""Any audio file to predictions, over time and for the whole of it, in memory that does not grow with it.

The file is decoded in blocks. As soon as all that an excerpt needs has been decoded, every network
predicts it.

Conventions
-----------
Networks were trained on clips of up to 30 s, whose mel rows are in dB below the clip's own maximum. So
every excerpt is heard as a part of a clip: it is referred to the loudest frame of the 31 s around it
(at the file's ends, of the first or last 31 s), whatever else an hour of music holds. A shorter file is
one clip, and its predictions are those of `predict_array` on its array.

A window is predicted as the mean over excerpts at the networks' own length, spread over it so that
windows share them; a shorter one is a single excerpt, padded as in training. The file as a whole is
the mean over evenly spaced excerpts, as many for every 31 s as the experiment takes of a test clip.

PyTorch is imported only when something is predicted, so that a `HearingProcess` starts in a second.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tqdm import tqdm

from music_emotion.audio.features import FeatureSettings
from music_emotion.files import InputError
from music_emotion.listen.excerpt_plan import DecodedFrames, ExcerptPlan
from music_emotion.listen.feature_blocks import SILENT_DB, feature_blocks
from music_emotion.listen.hearing import HearingProcess, Listener, hear

if TYPE_CHECKING:
    from accelerate import Accelerator

    from music_emotion.models.build import Network


@dataclass(frozen=True)
class Sliding:
    """Windows over a file, and the blocks it is read in.

    Attributes
    ----------
    window_seconds : float
        Length of a window; a shorter file is one window.
    hop_seconds : float
        From one window's start to the next one's; longer than a window, it leaves gaps.
    block_seconds : float
        What is decoded at a time; it changes memory and time, not results.

    Raises
    ------
    InputError
        When a length is below 0.1 s or not finite.
    """

    window_seconds: float = 10.0
    hop_seconds: float = 2.0
    block_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.1 <= value < math.inf:
                flag = f"--{name.removesuffix('_seconds')}"
                raise InputError(f"{flag} is {value:g} s; give a number of seconds from 0.1 up.")

    def windows(self, seconds: float) -> np.ndarray:
        """Start and end of every window in seconds [shape=(n, 2)]; the last ends where the file does."""
        length = min(self.window_seconds, seconds)
        # the millionth makes up for rounding, lest a window be followed by itself
        n_before = max(0, math.ceil((seconds - length) / self.hop_seconds - 1e-6))
        starts = np.append(np.arange(n_before) * self.hop_seconds, seconds - length)
        return np.stack([starts, np.minimum(starts + length, seconds)], axis=1)


@dataclass(frozen=True)
class Timeline:
    """What networks say of a file.

    Attributes
    ----------
    seconds : float
        Length of the file.
    times : pd.DataFrame
        `start_seconds` and `end_seconds`, one row per window.
    targets, genres : pd.DataFrame
        One row per window: targets in their own units, class probabilities. Without columns where no
        network gives them; nan where all around a window is silent.
    whole_targets, whole_genres : dict of str to float
        The same of the whole file.
    """

    seconds: float
    times: pd.DataFrame
    targets: pd.DataFrame
    genres: pd.DataFrame
    whole_targets: dict[str, float]
    whole_genres: dict[str, float]

    @property
    def likeliest_genre(self) -> str | None:
        """The class that gets most of the whole file."""
        return max(self.whole_genres, key=lambda name: self.whole_genres[name], default=None)


def predict_file(
    path: Path,
    networks: Sequence["Network"],
    sliding: Sliding,
    settings: FeatureSettings,
    accelerator: "Accelerator",
    listener: Listener | None = None,
    process: HearingProcess | None = None,
) -> Timeline:
    """Predict an audio file over time and as a whole.

    Parameters
    ----------
    path : Path
        Whatever `read_waveform` reads.
    networks : sequence of Network
        On the accelerator's device, of full-rate arrays. Those of one output are averaged.
    sliding : Sliding
        Windows and blocks.
    settings : FeatureSettings
        Those of the networks' training clips.
    accelerator : Accelerator
        Gives the device and, where it is no CPU, the precision.
    listener : Listener, optional
        Is shown the frames, too.
    process : HearingProcess, optional
        Computes the frames; this process by default.

    Returns
    -------
    Timeline

    Raises
    ------
    InputError
        When the file can't be decoded, is shorter than a frame, silent, or not finite.
    """
    with_chroma = any(network.card.experiment.data.rows != "mel" for network in networks)
    blocks = feature_blocks(path, sliding.block_seconds, settings, with_chroma)
    times = sliding.windows(blocks.seconds)
    plans = [ExcerptPlan(group, times, sliding.hop_seconds, blocks) for group in _grouped(networks)]
    heard = process.hear(blocks, listener) if process else hear(blocks, listener)
    with tqdm(heard, path.name, len(blocks), leave=False, unit="block") as shown:
        peak = _predict_blocks(shown, plans, accelerator)
    if peak <= SILENT_DB:
        raise InputError(f"{path}: the recording is silent.")
    return _put_together(blocks.seconds, times, plans)


def _grouped(networks: Sequence["Network"]) -> list[list["Network"]]:
    """Networks that read the same rows of the same excerpts, side by side."""
    groups: dict[object, list[Network]] = {}
    for network in networks:
        experiment = network.card.experiment
        groups.setdefault((experiment.data.rows, experiment.excerpt), []).append(network)
    return list(groups.values())


def _predict_blocks(
    blocks: Iterable[np.ndarray], plans: Sequence[ExcerptPlan], accelerator: "Accelerator"
) -> float:
    """Predict all plans, block by block; returns how loud the loudest frame is, in dB."""
    from music_emotion.listen.prediction_threads import PredictionThreads

    decoded = DecodedFrames()
    with PredictionThreads(accelerator) as threads:
        for block in blocks:
            decoded.add(block)
            for plan in plans:
                plan.predict_ready(decoded, threads)
            decoded.drop_before(min(plan.first_needed(len(decoded.loudest)) for plan in plans))
    return float(decoded.loudest.max())


def _put_together(seconds: float, times: np.ndarray, plans: Sequence[ExcerptPlan]) -> Timeline:
    """Average the networks of each output."""
    columns: dict[str, dict[str, list[np.ndarray]]] = {"emotion": {}, "genre": {}}
    for plan in plans:
        for number, network in enumerate(plan.networks):
            for name, column in zip(network.card.outputs, plan.means(number).T, strict=True):
                columns[network.card.experiment.task].setdefault(name, []).append(column)
    targets, genres = (
        pd.DataFrame({name: np.mean(of_networks, axis=0) for name, of_networks in named.items()})
        for named in columns.values()
    )
    spans = pd.DataFrame(times, columns=["start_seconds", "end_seconds"])
    # the row after the windows' is the file's
    whole = [{str(name): float(table[name].iloc[-1]) for name in table} for table in (targets, genres)]
    return Timeline(seconds, spans, targets.reindex(spans.index), genres.reindex(spans.index), *whole)
