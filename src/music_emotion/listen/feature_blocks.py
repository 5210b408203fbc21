"""An audio file as blocks of frames, in memory that does not grow with the file.

A block is decoded with a margin at either end, so its frames are those that the whole file gives. Mel
rows are in absolute dB here, since what they are referred to is known only when more has been decoded.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np

from music_emotion.audio.constant_q import chroma, estimate_tuning, short_time_spectrum
from music_emotion.audio.decode import read_waveform, recording_seconds
from music_emotion.audio.features import (
    N_MELS,
    N_ROWS,
    FeatureSettings,
    mel_power,
)
from music_emotion.files import InputError

CLIP_SECONDS = 31.0  # the longest training clips: 30 s, and what mp3 adds
SILENT_DB = -100.0  # the floor of `librosa.power_to_db`: sound that never rises above it is silence
_LOUDEST = 1e6  # full scale is 1; beyond, a file is damaged
_CHROMA_MARGIN_SECONDS = 3.0  # twice what the lowest filter reads beyond its frame


@dataclass(frozen=True)
class FeatureBlocks:
    """Blocks of frames [shape=(n, 140)], float32, that are computed while one iterates over them.

    Attributes
    ----------
    path : Path
        Whatever `read_waveform` reads.
    seconds : float
        Length of the file.
    n_per_block : int
        Frames in each block but the last.
    settings : FeatureSettings
    with_chroma : bool
        Whether the chroma rows are computed; else they are zero. They are tuned as the middle 31 s of
        the file are.

    Raises
    ------
    InputError
        When the file is shorter than one window of the transform; on iteration, when it can't be
        decoded or holds values that are not finite.
    """

    path: Path
    seconds: float
    n_per_block: int
    settings: FeatureSettings
    with_chroma: bool = False

    def __post_init__(self) -> None:
        if self.n_samples < self.settings.n_fft:
            raise InputError(
                f"{self.path}: the recording has {self.n_samples} samples at {self.settings.sample_rate_hz} "
                f"Hz; at least {self.settings.n_fft} are needed."
            )

    @property
    def n_samples(self) -> int:
        """Samples of the file at the sample rate of the analysis."""
        # resampling rounds up; the millionth makes up for rounding in the seconds
        return math.ceil(self.seconds * self.settings.sample_rate_hz - 1e-6)

    @property
    def n_frames(self) -> int:
        """Frames of the whole file."""
        return 1 + self.n_samples // self.settings.hop_length

    def __len__(self) -> int:
        return math.ceil(self.n_frames / self.n_per_block)

    def __iter__(self) -> Iterator[np.ndarray]:
        tuning = _tuning(self) if self.with_chroma else None
        for first in range(0, self.n_frames, self.n_per_block):
            yield _frames(self, first, min(first + self.n_per_block, self.n_frames), tuning)


def feature_blocks(
    path: Path, block_seconds: float, settings: FeatureSettings, with_chroma: bool
) -> FeatureBlocks:
    """Blocks of about so many seconds of a file, whose length is read from its header."""
    n_per_block = max(1, round(block_seconds * settings.sample_rate_hz / settings.hop_length))
    return FeatureBlocks(path, recording_seconds(path), n_per_block, settings, with_chroma)


def _tuning(blocks: FeatureBlocks) -> float:
    """Deviation from equal temperament in the middle of a file, as long as a clip."""
    settings = blocks.settings
    clip = round(CLIP_SECONDS * settings.sample_rate_hz / settings.hop_length)
    first = max(0, (blocks.n_frames - clip) // 2)
    middle = _samples(blocks, first, min(first + clip, blocks.n_frames))
    return estimate_tuning(np.abs(short_time_spectrum(middle)), settings.sample_rate_hz)


def _frames(blocks: FeatureBlocks, first: int, last: int, tuning: float | None) -> np.ndarray:
    """Frames from `first` to before `last`; without chroma where there is no tuning."""
    settings = blocks.settings
    margin = math.ceil(settings.n_fft / settings.hop_length)
    if tuning is not None:
        margin += math.ceil(_CHROMA_MARGIN_SECONDS * settings.sample_rate_hz / settings.hop_length)
    start = max(0, first - margin)
    waveform = _samples(blocks, start, min(last + margin, blocks.n_frames))
    inner = slice(first - start, last - start)
    frames = np.zeros((last - first, N_ROWS), np.float32)
    magnitude = np.abs(short_time_spectrum(waveform, settings.n_fft, settings.hop_length))
    decibels = librosa.power_to_db(mel_power(magnitude[:, inner], settings), ref=1.0, top_db=None)
    frames[:, :N_MELS] = decibels.T
    if tuning is not None:
        rows = chroma(waveform, tuning, settings.sample_rate_hz, settings.hop_length)
        frames[:, N_MELS:] = rows[:, inner].T
    return frames


def _samples(blocks: FeatureBlocks, first: int, last: int) -> np.ndarray:
    """The waveform from one frame's centre to another's, or to the file's end.

    A second more is decoded at either end, so that resampling has no borders; and whole seconds, in
    which every sample rate has whole samples, so that its samples lie where those of the whole file do.
    """
    path, rate_hz, hop_length = blocks.path, blocks.settings.sample_rate_hz, blocks.settings.hop_length
    start, stop, end = first * hop_length, last * hop_length, (blocks.n_frames - 1) * hop_length
    from_second, to_second = max(0, start // rate_hz - 1), math.ceil(stop / rate_hz) + 1
    is_end = last == blocks.n_frames or to_second * rate_hz > end
    waveform = read_waveform(path, rate_hz, from_second, None if is_end else to_second)
    if not np.abs(waveform).max() < _LOUDEST:
        raise InputError(f"{path}: the audio holds values that are not finite, or far beyond full scale.")
    part = waveform[start - from_second * rate_hz :]
    if last < blocks.n_frames:
        return part[: stop - start]
    # a decoder may give up to a tenth of a second less than the header promises
    return np.pad(part, (0, max(0, end - start - len(part))))
