"""What a picture needs of a file's sound: a reduced spectrogram and the beats."""

import librosa
import numpy as np

from music_emotion.audio.features import N_MELS, SILENCE_DB, FeatureSettings

_MOST_COLUMNS = 1500  # of the reduced spectrogram
_LONGEST_WITH_BEATS_SECONDS = 600.0  # beyond, their marks would run together
_QUIETEST_ONSET_DB = -40.0  # what flickers below is the noise of lossy compression
_TICKS_HZ = (256, 1024, 4096)


class Overview:
    """What the picture needs of a file's sound, gathered block by block while it is decoded.

    Parameters
    ----------
    settings : FeatureSettings
        How the blocks are made.

    Attributes
    ----------
    beats : np.ndarray [shape=(n_beats,)]
        Seconds of the beats; none where a file is longer than ten minutes.
    ticks : dict of int to float
        Where some frequencies in Hz lie among the mel rows.
    """

    def __init__(self, settings: FeatureSettings):
        self.settings = settings
        self.n_frames = self.n_heard = 0
        self.sums = np.empty((0, N_MELS))
        self.onsets: list[np.ndarray] = []
        self.latest: np.ndarray | None = None
        self.beats = np.empty(0)
        self.ticks: dict[int, float] = {}

    @property
    def seconds(self) -> float:
        """Length of the file, up to a frame."""
        return self.n_frames * self.settings.hop_length / self.settings.sample_rate_hz

    def listen(self, decibels: np.ndarray, n_frames: int) -> None:
        """Take in a block.

        Parameters
        ----------
        decibels : np.ndarray [shape=(n, 128)]
            Mel rows, absolute dB.
        n_frames : int
            Of the whole file.
        """
        if not self.n_heard:
            self.n_frames, self.sums = n_frames, np.zeros((min(n_frames, _MOST_COLUMNS), N_MELS))
        columns = np.arange(self.n_heard, self.n_heard + len(decibels)) * len(self.sums) // n_frames
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        self.sums[columns[starts]] += np.add.reduceat(decibels, starts, axis=0)
        self.n_heard += len(decibels)
        if self.seconds <= _LONGEST_WITH_BEATS_SECONDS:
            self._add_onsets(np.maximum(decibels, _QUIETEST_ONSET_DB))

    def _add_onsets(self, decibels: np.ndarray) -> None:
        """Onset strength as librosa has it: how much louder the mel rows become, on average."""
        before = decibels[:1] if self.latest is None else self.latest
        rises = np.diff(decibels, axis=0, prepend=before)
        self.onsets.append(np.maximum(rises, 0).mean(axis=1))
        self.latest = decibels[-1:]

    def spectrogram(self) -> np.ndarray:
        """Mean dB below the loudest [shape=(128, n_columns)], at most 1500 columns for the file."""
        counts = np.bincount(np.arange(self.n_frames) * len(self.sums) // self.n_frames)
        mean = (self.sums / counts[:, None]).T
        return np.maximum(mean - mean.max(), SILENCE_DB)

    def finish(self) -> None:
        """Do what takes librosa, which takes long to load, so that it is done where the frames are made.

        Beats are tracked on the onset strength of the whole sound, which is there anyway; the
        percussive part, on which the features' beats are tracked, takes longer than all the rest.
        """
        settings = self.settings
        centres = librosa.mel_frequencies(N_MELS + 2, fmax=settings.sample_rate_hz / 2)[1:-1]
        shown = [frequency for frequency in _TICKS_HZ if frequency < centres[-1]]
        rows = np.interp(shown, centres, np.arange(N_MELS) + 0.5)
        self.ticks = dict(zip(shown, rows.tolist(), strict=True))
        if self.onsets:
            # a window of the transform sees an onset before its centre reaches it
            late = settings.n_fft // (2 * settings.hop_length)
            strength = np.pad(np.concatenate(self.onsets), (late, 0))[: self.n_frames]
            _, frames = librosa.beat.beat_track(
                onset_envelope=strength, sr=settings.sample_rate_hz, hop_length=settings.hop_length
            )
            self.beats = frames * settings.hop_length / settings.sample_rate_hz
