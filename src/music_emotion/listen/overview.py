"""What the picture of a song needs of its sound: a reduced spectrogram and the beats."""

from dataclasses import dataclass
from typing import Any

import librosa
import numpy as np

from music_emotion.audio.features import N_MELS, SILENCE_DB
from music_emotion.listen.predict import Song

_MOST_COLUMNS = 1500  # of the reduced spectrogram
_LONGEST_WITH_BEATS_SECONDS = 600.0  # beyond, their marks would run together
_QUIETEST_ONSET_DB = -40.0  # what flickers below is the noise of lossy compression
_TICKS_HZ = (256, 1024, 4096)


@dataclass(frozen=True)
class Overview:
    """The sound of a song in a picture.

    Attributes
    ----------
    seconds : float
        Length of the song, up to a frame.
    spectrogram : np.ndarray [shape=(128, n_columns)]
        Mean dB below the loudest, in at most 1500 columns for the song.
    beats : np.ndarray [shape=(n_beats,)]
        Seconds of the beats; none where a song is longer than ten minutes.
    ticks : dict of int to float
        Where some frequencies in Hz lie among the mel rows.
    """

    seconds: float
    spectrogram: np.ndarray
    beats: np.ndarray
    ticks: dict[int, float]


def overview_of(song: Song) -> Overview:
    """Reduce the spectrogram and track the beats of a song.

    Beats are tracked on the onset strength of the whole sound, which is there anyway. The percussive part,
    on which the features' beats are tracked, takes longer than all the rest.
    """
    settings, decibels, n_frames = song.settings, song.rows[:, :N_MELS], len(song.rows)
    rate: dict[str, Any] = {"sr": settings.sample_rate_hz, "hop_length": settings.hop_length}
    seconds = n_frames * settings.hop_length / settings.sample_rate_hz
    columns = np.arange(n_frames) * min(n_frames, _MOST_COLUMNS) // n_frames
    starts = np.flatnonzero(np.diff(columns, prepend=-1))
    mean = (np.add.reduceat(decibels, starts, axis=0) / np.bincount(columns)[:, None]).T
    beats = np.empty(0)
    if seconds <= _LONGEST_WITH_BEATS_SECONDS:
        audible = np.maximum(decibels, _QUIETEST_ONSET_DB).T
        onsets = librosa.onset.onset_strength(S=audible, n_fft=settings.n_fft, **rate)
        beats = librosa.beat.beat_track(onset_envelope=onsets, units="time", **rate)[1]
    centres_hz = librosa.mel_frequencies(N_MELS + 2, fmax=settings.sample_rate_hz / 2)[1:-1]
    shown = [frequency for frequency in _TICKS_HZ if frequency < centres_hz[-1]]
    rows = np.interp(shown, centres_hz, np.arange(N_MELS) + 0.5)
    ticks = dict(zip(shown, rows.tolist(), strict=True))
    return Overview(seconds, np.maximum(mean - mean.max(), SILENCE_DB), beats, ticks)
