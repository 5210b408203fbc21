"""Families of statistics of the rises of mel rows: onsets, their pulse, and slow dynamics."""

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks, welch

from music_emotion.audio.moments import autocorrelation, skewness, whole_frames
from music_emotion.audio.summary import likeliest_beat

_N_BANDS = 8
_ONSET_SECONDS = 0.07  # shortest time between two onsets
_SHORTEST_BEAT_SECONDS, _LONGEST_BEAT_SECONDS = 0.25, 1.5
_SLOWEST_SECONDS = 6.0  # of a modulation that is looked at
_BEFORE_SECONDS, _AFTER_SECONDS, _N_ATTACK = 0.1, 0.45, 8  # of an onset
_NO_POWER = 1e-4  # dB squared per cycle per frame, far below the rises of any music
_PER_BEAT = np.array([0.25, 0.5, 1.0, 2.0, 4.0])  # a bar of four, half of it, beats, halves, quarters
_QUANTILES = (10, 25, 50, 75, 90)


def rhythm_families(mel_db: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Families of rhythm of a clip, none of which depends on its level.

    A rise is what a frame is louder than the one before, in dB, as the mean over the rows of a band;
    their mean over all bands is the flux (Boeck and Widmer, 2013, without their vibrato filter).

    `onsets_by_band`
        How often and how strongly each of eight bands rises.
    `pulse_by_band`
        How clearly a band's rises repeat, from 0 to 1, and after how many seconds.
    `beat_modulation`
        How strongly each band rises once in four beats, in two, on beats, on halves, on quarters.
    `onset_intervals`
        Onsets of the flux per second, and the seconds between them.
    `attack`
        How the eight bands' levels move from 0.1 s before an onset of the flux to 0.45 s after.
    `slow_dynamics`
        How the level moves from second to second.

    Parameters
    ----------
    mel_db : np.ndarray [shape=(128, n_frames)], float32
        At least 6 s and 4 frames.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    dict of str to np.ndarray
    """
    bands = mel_db.reshape(_N_BANDS, -1, mel_db.shape[1])
    rises = np.maximum(np.diff(bands, axis=2), 0).mean(axis=1)
    flux = rises.mean(axis=0)
    onsets = _onsets(flux, frame_seconds)
    return {
        "onsets_by_band": _onsets_by_band(rises, frame_seconds),
        "pulse_by_band": np.concatenate([_pulse(rise, frame_seconds) for rise in rises]),
        "beat_modulation": _beat_modulation(rises, flux, frame_seconds),
        "onset_intervals": _intervals(onsets, len(flux), frame_seconds),
        "attack": _attack(bands.mean(axis=1), onsets, frame_seconds),
        "slow_dynamics": _slow_dynamics(mel_db, frame_seconds),
    }


def _onsets(flux: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Frames at which the flux peaks more than a deviation above its mean."""
    apart = whole_frames(_ONSET_SECONDS, frame_seconds)
    return find_peaks(flux, height=flux.mean() + flux.std(), distance=apart)[0]


def _onsets_by_band(rises: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Onsets per second, mean and deviation of the rises, and the share of strong ones, per band."""
    rates = [len(_onsets(rise, frame_seconds)) / (len(rise) * frame_seconds) for rise in rises]
    mean, deviation = rises.mean(axis=1), rises.std(axis=1)
    strong = (rises > (mean + 2 * deviation)[:, None]).mean(axis=1)
    return np.concatenate([rates, mean, deviation, strong])


def _pulse(rise: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Clarity and period in seconds of a band's strongest repetition within a beat's range.

    A band that never rises has no clarity, and the shortest period.
    """
    first = whole_frames(_SHORTEST_BEAT_SECONDS, frame_seconds)
    last = max(first + 1, whole_frames(_LONGEST_BEAT_SECONDS, frame_seconds))
    repetition = autocorrelation(rise)[first:last]
    return np.array([repetition.max(), (first + repetition.argmax()) * frame_seconds])


def _beat_modulation(rises: np.ndarray, flux: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Log power of the bands' rises at multiples of the beat, so that equal rhythms match at any tempo.

    Like the fluctuation patterns of Pampalk, 2006, "Computational models of music similarity and
    their application in music information retrieval", but in beats in place of hertz.
    """
    beat = likeliest_beat(autocorrelation(flux), frame_seconds)
    if not beat:
        return np.full(len(rises) * len(_PER_BEAT), np.log(_NO_POWER))
    n_window = min(rises.shape[1], whole_frames(_SLOWEST_SECONDS, frame_seconds))
    per_frame, power = welch(rises, nperseg=n_window)
    log_power = np.log(power + _NO_POWER)
    return np.concatenate([np.interp(_PER_BEAT / beat, per_frame, band) for band in log_power])


def _intervals(onsets: np.ndarray, n_frames: int, frame_seconds: float) -> np.ndarray:
    """Onsets per second, quantiles of the seconds between them, and their deviation over their mean."""
    rate = len(onsets) / (n_frames * frame_seconds)
    if len(onsets) < 2:
        return np.array([rate, *(0.0 for _ in _QUANTILES), 0.0])
    intervals = np.diff(onsets) * frame_seconds
    return np.array([rate, *np.percentile(intervals, _QUANTILES), intervals.std() / intervals.mean()])


def _attack(bands: np.ndarray, onsets: np.ndarray, frame_seconds: float) -> np.ndarray:
    """The mean course of the bands around an onset, in dB around its own mean, at eight times.

    It is 0 where no onset has that much of the clip around it.
    """
    times = np.linspace(-_BEFORE_SECONDS, _AFTER_SECONDS, _N_ATTACK)
    frames = onsets[:, None] + 1 + np.rint(times / frame_seconds).astype(int)  # a rise ends a frame later
    whole = frames[(frames[:, 0] >= 0) & (frames[:, -1] < bands.shape[1])]
    if not len(whole):
        return np.zeros(len(bands) * _N_ATTACK)
    courses = bands[:, whole]  # [band, onset, time]
    return (courses - courses.mean(axis=2, keepdims=True)).mean(axis=1).ravel()


def _slow_dynamics(mel_db: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Spread and steps of the level over seconds, rise from the first third to the last, skewness.

    The level is moved on by half seconds; its skewness is that of all frames.
    """
    level = 10 * np.log10((10 ** (mel_db / 10)).mean(axis=0) + 1e-10)
    second = whole_frames(1, frame_seconds)
    slow = uniform_filter1d(level, second)[:: max(1, second // 2)]
    third = len(slow) // 3
    rise = slow[-third:].mean() - slow[:third].mean()
    return np.array([slow.std(), np.abs(np.diff(slow)).mean(), rise, *skewness(level[None])])
