"""Families of clip statistics. Each family describes one aspect of timbre, rhythm or tonality."""

import librosa
import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks, welch

from music_emotion.audio.settings import row_slice
from music_emotion.audio.spectrum import running_median
from music_emotion.audio.statistics import MAJOR, MINOR, autocorrelation, checked, likeliest_beat
from music_emotion.config import N_MELS

_LAGS_SECONDS = 3.0 / 2.0 ** np.arange(7, -1, -1)
_MODULATION_SECONDS = 6.0  # two periods of the slowest modulation
_ATTACK_SECONDS = np.linspace(-0.1, 0.45, 8)  # relative to an onset
_NO_POWER = 1e-4  # dB squared per cycle per frame, far below the rises of any music
_PER_BEAT = np.array([0.25, 0.5, 1.0, 2.0, 4.0])  # cycles per beat
_QUANTILES = (10, 25, 50, 75, 90)
_MODULATION_EDGES_HZ = np.array([0.3, 0.7, 1.4, 2.8, 5.6, 11.0, 21.5])
_TINY, _TINY_VARIANCE = 1e-9, 1e-10


def statistic_families(fused: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Compute families of statistics of the timbre, rhythm and tonality of a clip.

    A family is a vector whose elements have no names. The families serve estimators that weight each family
    as a whole. `timbre_families`, `rhythm_families` and `tonality_families` describe them. Some statistics
    depend on the frame rate, so compare only clips of one frame rate.

    Parameters
    ----------
    fused : np.ndarray [shape=(140, n_frames)]
        128 mel rows in dB, -80 to 0, then 12 chroma rows, 0 to 1; at least one frame. A clip shorter than 6 s
        or 4 frames is repeated until it is long enough.
    frame_seconds : float
        Time from one frame to the next, in seconds. For beat-synchronous arrays, use the mean time between
        beats; statistics of onsets and pulse are then rough.

    Returns
    -------
    dict of str to np.ndarray [shape=(n_statistics_of_the_family,)], float64
        All values are finite. Names, order and sizes of the families are the same for every clip.

    Raises
    ------
    InputError
        When the array is not of shape (140, n_frames) with n_frames at least 1, or holds a value that is not
        finite.

    Examples
    --------
    >>> families = statistic_families(np.full((140, 300), -30.0), frame_seconds=0.023)
    >>> families["contrast"].shape
    (16,)
    """
    fused = checked(fused)
    fewest = max(4, _whole_frames(_MODULATION_SECONDS, frame_seconds))  # thirds of a clip need four frames
    if fused.shape[1] < fewest:
        fused = np.tile(fused, -(-fewest // fused.shape[1]))
    mel_db, chroma = fused[row_slice("mel")], fused[row_slice("chroma")]
    families = {
        **timbre_families(mel_db, frame_seconds),
        **rhythm_families(mel_db, frame_seconds),
        **tonality_families(chroma, frame_seconds),
    }
    return {name: np.asarray(values, np.float64).ravel() for name, values in families.items()}


def _whole_frames(seconds: float, frame_seconds: float) -> int:
    """Convert seconds to a number of frames, at least one."""
    return max(1, round(seconds / frame_seconds))


def _skewness(rows: np.ndarray) -> np.ndarray:
    """Third standardised moment of every row; 0 for a constant row."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    squares = centred**2
    variance = squares.mean(axis=1)
    third = (squares * centred).mean(axis=1)  # much faster than a power of 3
    return np.where(variance > _TINY_VARIANCE, third / np.maximum(variance, _TINY_VARIANCE) ** 1.5, 0.0)


def timbre_families(mel_db: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Compute the families of timbre, in dB unless stated otherwise.

    `loud_bands`
        90th percentile of the level of each of 32 bands. Only this family depends on the clip's level.
    `band_skewness`
        Skewness of the level of each of these 32 bands, without a unit. Short gaps in a sound make it
        negative, short sounds in silence make it positive.
    `band_correlation`
        Pearson correlation of the levels of each pair of 16 bands, without a unit; 0 for constant bands.
    `cepstral_flux`
        Standard deviation of the frame-to-frame change of each of 20 MFCCs.
    `contrast`
        Spectral contrast of eight bands.
    `peaks`
        Height of spectral peaks in 16 bands; large for tones.
    `unsteadiness`
        Mean absolute deviation of the level from its running mean over one second, in 16 bands.
    `harmonic_percussive`
        Level of the harmonic minus the percussive part (HPSS) in eight bands.
    `texture`
        Variation of the MFCCs within seconds and between seconds.
    `shape_changes`
        Mean change of centroid and roll-off (in rows), flatness and level after 0.02, 0.05, ... 3 s.

    Parameters
    ----------
    mel_db : np.ndarray [shape=(128, n_frames)], float32
        At least 6 s.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    dict of str to np.ndarray
        Name of a family to its statistics.
    """
    cepstrum = librosa.feature.mfcc(S=mel_db, n_mfcc=20)
    narrow, wide = (mel_db.reshape(n, -1, mel_db.shape[1]).mean(axis=1) for n in (32, 16))
    second = _whole_frames(1, frame_seconds)
    shape, lags = _shape(mel_db), [_whole_frames(lag, frame_seconds) for lag in _LAGS_SECONDS]
    return {
        "loud_bands": np.percentile(narrow, 90, axis=1),
        "band_skewness": _skewness(narrow),
        "band_correlation": _correlations(wide),
        "cepstral_flux": np.diff(cepstrum, axis=1).std(axis=1),
        "contrast": _contrast(mel_db),
        "peaks": _peaks(mel_db),
        "unsteadiness": _mean_of_bands(np.abs(mel_db - uniform_filter1d(mel_db, second, axis=1)), 16),
        "harmonic_percussive": _harmonic_percussive(mel_db, frame_seconds),
        "texture": _texture(cepstrum[:13], second),
        "shape_changes": np.stack([np.abs(shape[:, lag:] - shape[:, :-lag]).mean(axis=1) for lag in lags]),
    }


def _mean_of_bands(rows: np.ndarray, n_bands: int) -> np.ndarray:
    return rows.reshape(n_bands, -1).mean(axis=1)


def _correlations(rows: np.ndarray) -> np.ndarray:
    """Pearson correlation of every pair of rows, in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    covariance = centred @ centred.T / rows.shape[1]
    deviation = np.sqrt(np.maximum(covariance.diagonal(), _TINY_VARIANCE))
    return (covariance / np.outer(deviation, deviation))[np.triu_indices(len(rows), 1)]


def _contrast(mel_db: np.ndarray) -> np.ndarray:
    """Spectral contrast (loudest minus softest rows) of eight bands: mean and standard deviation over frames.

    Jiang et al., 2002, "Music type classification by spectral contrast feature", applied to mel rows.
    """
    ordered = np.sort(mel_db.reshape(8, 16, -1), axis=1)
    contrast = ordered[:, -3:].mean(axis=1) - ordered[:, :4].mean(axis=1)
    return np.concatenate([contrast.mean(axis=1), contrast.std(axis=1)])


def _peaks(mel_db: np.ndarray) -> np.ndarray:
    """Height of each row above the mean of nine rows: mean and 99th percentile in 16 bands."""
    above = mel_db - uniform_filter1d(mel_db, 9, axis=0)
    highest = np.percentile(above, 99, axis=1)
    return np.concatenate([_mean_of_bands(np.maximum(above, 0), 16), _mean_of_bands(highest, 16)])


def _harmonic_percussive(mel_db: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Harmonic minus percussive level, and the distance of the spectrum from both parts, in eight bands.

    The parts are running medians of dB over time and over frequency (Fitzgerald, 2010, "Harmonic/percussive
    separation using median filtering").
    """
    n_frames = 2 * round(0.37 / frame_seconds / 2) + 1  # odd
    harmonic = running_median(np.ascontiguousarray(mel_db.T), n_frames).T
    percussive = running_median(mel_db, 13)
    levels = (harmonic - percussive, np.abs(mel_db - harmonic), np.abs(mel_db - percussive))
    return np.concatenate([_mean_of_bands(level, 8) for level in levels])


def _texture(cepstrum: np.ndarray, second: int) -> np.ndarray:
    """Summarise coefficients over texture windows of one second.

    Each window has a mean and a standard deviation. The statistics are the mean of the deviations, the
    standard deviation of the means, and the standard deviation of the deviations. Frames after the last whole
    second are dropped (Tzanetakis and Cook, 2002, "Musical genre classification of audio signals").
    """
    n_seconds = cepstrum.shape[1] // second
    windows = cepstrum[:, : n_seconds * second].reshape(len(cepstrum), n_seconds, second)
    within, means = windows.std(axis=2), windows.mean(axis=2)
    return np.concatenate([within.mean(axis=1), means.std(axis=1), within.std(axis=1)])


def _shape(mel_db: np.ndarray) -> np.ndarray:
    """Centroid and roll-off in rows, flatness and level in dB, per frame [shape=(4, n_frames)]."""
    power = 10 ** (mel_db / 10)
    total = power.sum(axis=0) + 1e-12
    centroid = np.arange(N_MELS) @ power / total
    roll_off = (power.cumsum(axis=0) < 0.85 * total).sum(axis=0)
    level = 10 * np.log10(total / N_MELS + 1e-10)
    return np.stack([centroid, roll_off, mel_db.mean(axis=0) - level, level])


def rhythm_families(mel_db: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Compute the families of rhythm. They do not depend on the clip's level.

    A rise is the increase in dB from one frame to the next, averaged over the rows of a band. The mean rise
    over all bands is the spectral flux (Boeck and Widmer, 2013, without their vibrato filter).

    `onsets_by_band`
        Rate and strength of the onsets in each of eight bands.
    `pulse_by_band`
        Strength (0 to 1) and period (seconds) of the periodicity of each band's rises.
    `beat_modulation`
        Power of each band's rises at periods of four, two, one, a half and a quarter beat.
    `onset_intervals`
        Onsets of the flux per second, and the seconds between onsets.
    `attack`
        Level of each band from 0.1 s before an onset of the flux to 0.45 s after it.
    `slow_dynamics`
        Change of the level from second to second.

    Parameters
    ----------
    mel_db : np.ndarray [shape=(128, n_frames)], float32
        At least 6 s and 4 frames.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    dict of str to np.ndarray
        Name of a family to its statistics.
    """
    bands = mel_db.reshape(8, 16, -1)
    rises = np.maximum(np.diff(bands, axis=2), 0).mean(axis=1)
    flux = rises.mean(axis=0)
    onsets = _onsets(flux, frame_seconds)
    return {
        "onsets_by_band": _onsets_by_band(rises, frame_seconds),
        "pulse_by_band": np.concatenate([_pulse(rise, frame_seconds) for rise in rises]),
        "beat_modulation": _beat_modulation(rises, flux, frame_seconds),
        "onset_intervals": _onset_intervals(onsets, len(flux), frame_seconds),
        "attack": _attack(bands.mean(axis=1), onsets, frame_seconds),
        "slow_dynamics": _slow_dynamics(mel_db, frame_seconds),
    }


def _onsets(flux: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Find peaks of the flux that exceed its mean by a standard deviation and are at least 0.07 s apart."""
    apart = _whole_frames(0.07, frame_seconds)
    return find_peaks(flux, height=flux.mean() + flux.std(), distance=apart)[0]


def _onsets_by_band(rises: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Onsets per second, mean and standard deviation of the rises, and share of strong rises of each band."""
    rates = [len(_onsets(rise, frame_seconds)) / (len(rise) * frame_seconds) for rise in rises]
    mean, deviation = rises.mean(axis=1), rises.std(axis=1)
    strong = (rises > (mean + 2 * deviation)[:, None]).mean(axis=1)
    return np.concatenate([rates, mean, deviation, strong])


def _pulse(rise: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Highest autocorrelation of a band's rises at lags of 0.25 to 1.5 s, and its lag in seconds.

    A band without rises has correlation 0 at the shortest lag.
    """
    first = _whole_frames(0.25, frame_seconds)
    last = max(first + 1, _whole_frames(1.5, frame_seconds))
    repetition = autocorrelation(rise)[first:last]
    return np.array([repetition.max(), (first + repetition.argmax()) * frame_seconds])


def _beat_modulation(rises: np.ndarray, flux: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Log power of the bands' rises at multiples of the beat frequency, which is independent of the tempo.

    Fluctuation patterns (Pampalk, 2006, "Computational models of music similarity and their application in
    music information retrieval"), with frequencies in cycles per beat instead of hertz.
    """
    beat = likeliest_beat(autocorrelation(flux), frame_seconds)
    if not beat:
        return np.full(len(rises) * len(_PER_BEAT), np.log(_NO_POWER))
    n_window = min(rises.shape[1], _whole_frames(_MODULATION_SECONDS, frame_seconds))
    per_frame, power = welch(rises, nperseg=n_window)
    log_power = np.log(power + _NO_POWER)
    return np.concatenate([np.interp(_PER_BEAT / beat, per_frame, band) for band in log_power])


def _onset_intervals(onsets: np.ndarray, n_frames: int, frame_seconds: float) -> np.ndarray:
    """Onsets per second, and quantiles and coefficient of variation of the seconds between onsets."""
    rate = len(onsets) / (n_frames * frame_seconds)
    if len(onsets) < 2:
        return np.array([rate, *(0.0 for _ in _QUANTILES), 0.0])
    intervals = np.diff(onsets) * frame_seconds
    return np.array([rate, *np.percentile(intervals, _QUANTILES), intervals.std() / intervals.mean()])


def _attack(bands: np.ndarray, onsets: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Mean level of the bands at eight times around an onset, in dB relative to the mean over these times.

    All 0 if every onset is too close to the start or end of the clip.
    """
    frames = onsets[:, None] + 1 + np.rint(_ATTACK_SECONDS / frame_seconds).astype(int)  # a rise ends later
    whole = frames[(frames[:, 0] >= 0) & (frames[:, -1] < bands.shape[1])]
    if not len(whole):
        return np.zeros(len(bands) * len(_ATTACK_SECONDS))
    courses = bands[:, whole]  # [band, onset, time]
    return (courses - courses.mean(axis=2, keepdims=True)).mean(axis=1).ravel()


def _slow_dynamics(mel_db: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Standard deviation, mean step, rise from the first to the last third, and skewness of the level.

    The level is averaged over one second every half second. The skewness is computed from single frames.
    """
    level = 10 * np.log10((10 ** (mel_db / 10)).mean(axis=0) + 1e-10)
    second = _whole_frames(1, frame_seconds)
    slow = uniform_filter1d(level, second)[:: max(1, second // 2)]
    third = len(slow) // 3
    rise = slow[-third:].mean() - slow[:third].mean()
    return np.array([slow.std(), np.abs(np.diff(slow)).mean(), rise, *_skewness(level[None])])


def tonality_families(chroma: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Compute the families of tonality. They do not depend on the key.

    `pitch_spectrum`, `chord_spectrum`
        Magnitudes of the Fourier coefficients 1 to 6 of the pitch-class distribution. They measure how
        chromatic, whole-tone, diatonic and so on it is (E. Amiot, 2016, "Music through Fourier space").
        `pitch_spectrum` uses the whole clip, `chord_spectrum` the mean and standard deviation over frames.
    `intervals`
        Strength of each interval between simultaneous pitch classes.
    `local_key`
        Clarity of the key and of its mode, every second (key profiles as in `fused_statistics`).
    `harmonic_flux`
        Change of the pitch classes from one frame to the next (Harte, Sandler and Gasser, 2006, "Detecting
        harmonic change in musical audio", without their projection).
    `harmonic_rhythm`
        Log power of the modulation of the chroma rows, in octaves from 0.3 Hz up.

    Parameters
    ----------
    chroma : np.ndarray [shape=(12, n_frames)], float32
        From 0 to 1; at least 6 s and 4 frames.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    dict of str to np.ndarray
        Name of a family to its statistics.
    """
    shares = chroma / (chroma.sum(axis=0) + _TINY)
    spectra = np.abs(np.fft.rfft(shares, axis=0))[1:]
    mean = chroma.mean(axis=1)
    n_window = min(_whole_frames(_MODULATION_SECONDS, frame_seconds), chroma.shape[1])
    frequencies, power = welch(chroma, 1 / frame_seconds, nperseg=n_window)
    sums = np.histogram(frequencies, _MODULATION_EDGES_HZ, weights=power.mean(axis=0))[0]
    counts = np.histogram(frequencies, _MODULATION_EDGES_HZ)[0]
    return {
        "pitch_spectrum": np.abs(np.fft.rfft(mean / (mean.sum() + _TINY)))[1:],
        "chord_spectrum": np.concatenate([spectra.mean(axis=1), spectra.std(axis=1)]),
        "intervals": _intervals(chroma),
        "local_key": _local_key(chroma, frame_seconds),
        "harmonic_flux": _harmonic_flux(chroma),
        "harmonic_rhythm": np.log(sums / np.maximum(counts, 1) + 1e-8),
    }


def _intervals(chroma: np.ndarray) -> np.ndarray:
    """Strength of intervals of one to six semitones between pitch classes, as shares of the power.

    Mean and standard deviation over frames. Two equal notes give 1 / 2 at their interval. A tritone gives 1,
    because it is its own inversion and both directions count.
    """
    power = (chroma**2).sum(axis=0) + _TINY
    together = np.stack([(chroma * np.roll(chroma, n, axis=0)).sum(axis=0) / power for n in range(1, 7)])
    return np.concatenate([together.mean(axis=1), together.std(axis=1)])


def _local_key(chroma: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Correlation with the best major and the best minor key every second, over windows of four seconds.

    The statistics are the means of both correlations, and mean and standard deviation of their difference.
    They also include the share of windows in major and the share of key changes.
    """
    length, step = _whole_frames(4, frame_seconds), _whole_frames(1, frame_seconds)
    seconds = _standardised(uniform_filter1d(chroma, length, axis=1)[:, ::step])
    profiles = _standardised(np.stack([MAJOR, MINOR], axis=1)).T
    fits = [np.stack([np.roll(profile, n) for n in range(12)]) @ seconds / 12 for profile in profiles]
    major, minor = (fit.max(axis=0) for fit in fits)
    mode = major - minor
    changes = np.diff(np.concatenate(fits).argmax(axis=0)) != 0
    return np.array([major.mean(), minor.mean(), mode.mean(), (mode > 0).mean(), changes.mean(), mode.std()])


def _standardised(columns: np.ndarray) -> np.ndarray:
    return (columns - columns.mean(axis=0)) / (columns.std(axis=0) + _TINY)


def _harmonic_flux(chroma: np.ndarray) -> np.ndarray:
    """Quantiles and skewness of the frame-to-frame change of chroma, and the share of large changes."""
    change = np.abs(np.diff(chroma, axis=1)).sum(axis=0)
    large = (change > 2 * change.mean()).mean()
    return np.array([*np.percentile(change, [10, 25, 50, 75, 90, 97]), *_skewness(change[None]), large])
