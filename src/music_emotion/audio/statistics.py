"""Named statistics of a fused array and of a waveform, and the moments they are made of."""

import math
from functools import partial

import librosa
import numpy as np
from scipy.signal import find_peaks

from music_emotion.audio.features import N_CHROMA, N_MELS, N_ROWS, FeatureSettings, row_slice
from music_emotion.files import InputError

_PITCH_CLASSES = ("c", "c_sharp", "d", "d_sharp", "e", "f", "f_sharp", "g", "g_sharp", "a", "a_sharp", "b")
# How well each pitch class fits a key on C: ratings by listeners, Krumhansl and Kessler (1982).
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_N_BANDS = 8  # of 16 mel rows each: near an octave above 1 kHz, wider below
_N_MFCC = 13
_SLOWEST_BPM, _FASTEST_BPM = 40.0, 240.0
_USUAL_BPM, _USUAL_WIDTH_OCTAVES = 120.0, 0.9  # where listeners tap, as Ellis (2007) weighs it
# Half a beat is high where notes fall between the beats, or the tempo is an octave too low. Two, three and
# four beats are bars, so a waltz differs from a march whatever the tempo.
_BEATS = {"half_beat": 0.5, "two_beats": 2.0, "three_beats": 3.0, "four_beats": 4.0}
_ROLL_OFF_SHARE = 0.85
_TINY = 1e-10  # -100 dB, the floor of `librosa.power_to_db`; keeps logarithms and ratios of silence finite
_LAGS_SECONDS = 3.0 / 2.0 ** np.arange(7, -1, -1)
_decibels = partial(librosa.power_to_db, amin=_TINY, top_db=None)


def fused_statistics(
    fused: np.ndarray, frame_seconds: float, sample_rate_hz: float = FeatureSettings().sample_rate_hz
) -> dict[str, float]:
    """Summarise a fused array in named statistics.

    Level, timbre and onsets come from the mel rows, key and mode from the chroma rows. Levels, and `mfcc0`,
    are relative to the clip's own loudest point, so none says how loud the clip was.

    Parameters
    ----------
    fused : np.ndarray [shape=(140, n_frames)]
        Mel rows in dB, -80 to 0, on chroma rows, 0 to 1; at least one frame.
    frame_seconds : float
        Time from one frame to the next, in seconds. Beat-synchronous arrays have no constant one. With
        the mean span between beats, their rates and tempi are rough.
    sample_rate_hz : float
        Sample rate of the audio that the array was made of. The mel rows end at its half.

    Returns
    -------
    dict of str to float
        The same names in the same order for every clip, all finite. A name ends in its unit: `db`, `rows`
        (mel rows, 0 to 127), `bpm`, `hz` (or per second). Those on `chroma`, `key`, `major`, `minor`,
        `mode`, `pulse_strength` and `onset_autocorrelation` are ratios. Statistics of the pulse are 0 where
        the clip is too short to repeat, or has no onsets.

    Raises
    ------
    InputError
        When the array is not of shape (140, n_frames) with n_frames at least 1, holds a value that is not
        finite, or `frame_seconds` or `sample_rate_hz` is not positive.
    """
    fused = checked(fused, {"frame_seconds": frame_seconds, "sample_rate_hz": sample_rate_hz})
    mel_db, chroma = fused[row_slice("mel")], fused[row_slice("chroma")]
    power = 10 ** (mel_db / 10)
    statistics = {
        **_relative_levels(power),
        **_mel_shape(mel_db, power, sample_rate_hz),
        **_bands(mel_db),
        **_mfccs(mel_db),
        **_onsets(mel_db, frame_seconds),
        **_pitch_classes(chroma),
        **_key(chroma.mean(axis=1)),
    }
    return {name: float(value) for name, value in statistics.items()}


def audio_statistics(waveform: np.ndarray, fused: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    """Summarise what a fused array has lost in named statistics: absolute level, and frequency in Hz.

    They complete `fused_statistics` of the same clip and share no name with it. The tempo is the likeliest
    of `librosa.feature.tempo` for the whole mixture, over the rise in dB of the mel rows.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)]
        Mono, at `settings.sample_rate_hz`; full scale is -1 to 1.
    fused : np.ndarray [shape=(140, 1 + n_samples // hop_length)]
        The full-rate array of that waveform.
    settings : FeatureSettings
        Those of that array.

    Returns
    -------
    dict of str to float
        The same names in the same order for every clip, all finite. A name ends in its unit: `dbfs` (0 for
        a square wave at full scale, -3.01 for a sine), `db`, `bpm`, `hz` (or per second).
        `spectral_flatness` and `onset_autocorrelation` are ratios. Tempo and autocorrelation are 0 where
        there are no onsets.

    Raises
    ------
    InputError
        When the waveform is not one channel of floating-point samples, the array is not of its length, or
        either has a value that is not finite.

    References
    ----------
    G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions
    on Speech and Audio Processing 10, 2002, section III, for most of them.
    """
    _check_audio(waveform, fused, settings)
    # padded here, since librosa warns when it pads a clip shorter than a window
    padded = np.pad(waveform, settings.n_fft // 2)
    spectrum = librosa.stft(padded, n_fft=settings.n_fft, hop_length=settings.hop_length, center=False)
    magnitude, mel_db = np.abs(spectrum), fused[row_slice("mel")]
    frequencies_hz = librosa.fft_frequencies(sr=settings.sample_rate_hz, n_fft=settings.n_fft)
    statistics = {
        **_crossings(waveform, settings),
        **spectral_shape(magnitude, frequencies_hz, "spectral_", "hz"),
        **mean_and_std("spectral_flatness", librosa.feature.spectral_flatness(S=magnitude)),
        **_absolute_levels(waveform, settings),
        **_absolute_mel_levels(mel_db, magnitude, settings),
        **_tempo(mel_db, settings),
    }
    return {name: float(value) for name, value in statistics.items()}


def checked(fused: np.ndarray, positive: dict[str, float]) -> np.ndarray:
    """Check a clip's array and numbers that must be positive.

    Returns
    -------
    np.ndarray [shape=(140, n_frames)], float32
        The array, frame after frame in each row, so that sums round alike for a transposed clip of a store.

    Raises
    ------
    InputError
        Saying what is wrong, and what it must be.
    """
    if fused.ndim != 2 or fused.shape[0] != N_ROWS or fused.shape[1] == 0:
        raise InputError(
            f"The array has shape {fused.shape}; clip statistics need ({N_ROWS}, n_frames): "
            f"{N_MELS} mel rows on {N_CHROMA} chroma rows, and at least one frame."
        )
    _check_finite("array", fused, "Extract")
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; it must be positive.")
    return np.ascontiguousarray(fused, np.float32)


def _check_audio(waveform: np.ndarray, fused: np.ndarray, settings: FeatureSettings) -> None:
    if waveform.ndim != 1 or len(waveform) == 0 or waveform.dtype.kind != "f":
        raise InputError(
            f"The waveform is {waveform.dtype} of shape {waveform.shape}; audio statistics need one channel "
            f"of at least one sample, floating-point. Read the clip with read_waveform."
        )
    expected = (N_ROWS, 1 + len(waveform) // settings.hop_length)
    if fused.shape != expected:
        raise InputError(
            f"The array has shape {fused.shape}, but a waveform of {len(waveform)} samples makes {expected}. "
            f"Give the full-rate array of the same clip, and the settings it was made with."
        )
    _check_finite("waveform", waveform, "Decode and extract")
    _check_finite("array", fused, "Decode and extract")


def _check_finite(name: str, values: np.ndarray, remedy: str) -> None:
    if n_wrong := np.sum(~np.isfinite(values)):
        raise InputError(
            f"The {name} has {n_wrong} values that are not finite numbers. {remedy} the clip again."
        )


def _relative_levels(power: np.ndarray) -> dict[str, float]:
    level = 10 * np.log10(power.mean(axis=0) + _TINY)
    p5, p10, p50, p90, p95 = np.percentile(level, [5, 10, 50, 90, 95])
    return {
        **mean_and_std("level", level, "db"),
        **{"level_p10_db": p10, "level_p50_db": p50, "level_p90_db": p90, "dynamic_range_db": p95 - p5},
        "peak_over_mean_db": level.max() - 10 * np.log10(power.mean() + _TINY),
    }


def _mel_shape(mel_db: np.ndarray, power: np.ndarray, sample_rate_hz: float) -> dict[str, float]:
    """Shape of each frame's power over the mel rows, and over their centre frequencies.

    A row is power per hertz (Slaney's norm), so in Hz it counts as often as its band is wide.
    """
    edges_hz = librosa.mel_frequencies(N_MELS + 2, fmin=0, fmax=sample_rate_hz / 2)
    widths_hz = (edges_hz[2:] - edges_hz[:-2]).astype(np.float32)
    flatness = mel_db.mean(axis=0) - 10 * np.log10(power.mean(axis=0) + _TINY)
    return {
        **spectral_shape(power, np.arange(N_MELS, dtype=float), "", "rows"),
        **mean_and_std("flatness", flatness, "db"),
        **spectral_shape(power * widths_hz[:, None], edges_hz[1:-1], "mel_", "hz"),
    }


def _bands(mel_db: np.ndarray) -> dict[str, float]:
    bands = mel_db.reshape(_N_BANDS, -1, mel_db.shape[1]).mean(axis=1)
    statistics: dict[str, float] = {}
    for number, band in enumerate(bands, start=1):
        statistics |= mean_and_std(f"band{number}", band, "db")
        statistics |= {f"band{number}_p{p}_db": np.percentile(band, p) for p in (10, 50, 90)}
    return statistics


def _mfccs(mel_db: np.ndarray) -> dict[str, float]:
    """Cepstral coefficients in dB; only the 0th, 128 ** .5 times the mean row, depends on the level."""
    statistics: dict[str, float] = {}
    for number, row in enumerate(librosa.feature.mfcc(S=mel_db, n_mfcc=_N_MFCC)):
        statistics |= mean_and_std(f"mfcc{number}", row, "db")
    return statistics


def _onsets(mel_db: np.ndarray, frame_seconds: float) -> dict[str, float]:
    """Spectral flux, how many onsets it shows, and the pulse they make.

    Flux is the mean rise in dB from a frame to the next (Boeck and Widmer, 2013, without their vibrato
    filter). The pulse is the peak of its autocorrelation.
    """
    rises = np.maximum(np.diff(mel_db, axis=1, prepend=mel_db[:, :1]), 0)
    flux, low_flux, high_flux = rises.mean(axis=0), rises[:16].mean(axis=0), rises[-48:].mean(axis=0)
    onsets, _ = find_peaks(flux, height=flux.mean() + flux.std(), distance=2)
    return {
        **mean_and_std("flux", flux, "db"),
        **mean_and_std("low_flux", low_flux, "db"),
        **mean_and_std("high_flux", high_flux, "db"),
        "flux_p90_db": np.percentile(flux, 90),
        "onset_rate_hz": len(onsets) / (len(flux) * frame_seconds),
        **_pulse(flux, frame_seconds, "", _BEATS),
        **_pulse(low_flux, frame_seconds, "low_", {}),
    }


def _pulse(
    flux: np.ndarray, frame_seconds: float, prefix: str, multiples: dict[str, float]
) -> dict[str, float]:
    """Autocorrelation of the flux at its likeliest beat period, the tempo there, and some beats later."""
    correlation = autocorrelation(flux)
    beat = likeliest_beat(correlation, frame_seconds)
    statistics = {
        f"{prefix}pulse_strength": correlation[beat] if beat else 0.0,
        f"{prefix}pulse_tempo_bpm": 60 / (beat * frame_seconds) if beat else 0.0,
    }
    for name, multiple in multiples.items():  # the period is known to half a frame
        first, last = max(1, math.floor(multiple * (beat - 0.5))), math.ceil(multiple * (beat + 0.5))
        near = correlation[first : last + 1] if beat else correlation[:0]
        statistics[f"onset_autocorrelation_{name}"] = near.max(initial=0)
    return statistics


def likeliest_beat(correlation: np.ndarray, frame_seconds: float) -> int:
    """Period in frames of the beat that listeners would tap to an autocorrelation; 0 for none."""
    bpm = 60 / (frame_seconds * np.arange(1, len(correlation)))
    possible = (bpm >= _SLOWEST_BPM) & (bpm <= _FASTEST_BPM)
    if correlation[0] == 0 or not possible.any():
        return 0
    weight = np.exp(-0.5 * (np.log2(bpm / _USUAL_BPM) / _USUAL_WIDTH_OCTAVES) ** 2)
    return 1 + int(np.argmax(np.where(possible, correlation[1:] * weight, -np.inf)))


def _pitch_classes(chroma: np.ndarray) -> dict[str, float]:
    """Use of each pitch class by name, and from the most used to the least used."""
    mean = chroma.mean(axis=1)
    share = (mean + _TINY) / (mean + _TINY).sum()
    statistics: dict[str, float] = {}
    for name, row in zip(_PITCH_CLASSES, chroma, strict=True):
        statistics |= mean_and_std(f"chroma_{name}", row)
    return statistics | {
        **{f"chroma_rank{rank}": value for rank, value in enumerate(np.sort(mean)[::-1], start=1)},
        "chroma_entropy": -(share * np.log(share)).sum() / np.log(N_CHROMA),
        "chroma_std": chroma.std(axis=1).mean(),
        "chroma_change": np.abs(np.diff(chroma, axis=1, prepend=chroma[:, :1])).mean(),
    }


def _key(mean_chroma: np.ndarray) -> dict[str, float]:
    """Correlation with the best of 12 major and of 12 minor keys (Krumhansl, 1990, chapter 4)."""
    centred, fits = mean_chroma - mean_chroma.mean(), []
    for profile in (MAJOR, MINOR):
        keys = np.stack([np.roll(profile - profile.mean(), tonic) for tonic in range(N_CHROMA)])
        lengths = np.linalg.norm(keys[0]) * np.linalg.norm(centred)
        fits.append((keys @ centred).max() / max(lengths, _TINY))
    major, minor = fits
    return {
        "key_strength": max(fits),
        "major_strength": major,
        "minor_strength": minor,
        "mode_difference": major - minor,
    }


def _windows(values: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Whole windows only, since the silence that pads centred ones would count as music."""
    length = min(settings.n_fft, len(values))
    return np.lib.stride_tricks.sliding_window_view(values, length)[:: settings.hop_length]


def _crossings(waveform: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    """Changes of sign per second, up and down both: twice the frequency of a sine.

    librosa's function is compiled by numba, which several processes must not do at once.
    """
    below = waveform < -_TINY
    crossed = np.diff(below, prepend=below[:1])
    rate_hz = _windows(crossed, settings).mean(axis=1) * settings.sample_rate_hz
    return mean_and_std("zero_crossing_rate", rate_hz, "hz")


def _absolute_levels(waveform: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    power = waveform**2
    level = _decibels(_windows(power, settings).mean(axis=1))
    peak = _decibels(power.max())
    return {
        "rms_mean_dbfs": level.mean(),
        "rms_std_db": level.std(),
        **{f"rms_p{p}_dbfs": np.percentile(level, p) for p in (5, 50, 95)},
        "peak_dbfs": peak,
        "crest_factor_db": peak - _decibels(power.mean()),
    }


def _absolute_mel_levels(
    mel_db: np.ndarray, magnitude: np.ndarray, settings: FeatureSettings
) -> dict[str, float]:
    """The power that the array calls 0 dB, and with it MFCC 0 as `librosa.feature.mfcc` has it."""
    row, frame = np.unravel_index(mel_db.argmax(), mel_db.shape)
    filters = librosa.filters.mel(sr=settings.sample_rate_hz, n_fft=settings.n_fft, n_mels=N_MELS)
    loudest_db = _decibels(filters[row] @ magnitude[:, frame] ** 2)
    # an orthonormal transform multiplies a constant over the rows by the root of N_MELS
    mfcc0_db = (mel_db.mean() + loudest_db) * N_MELS**0.5
    return {"mel_loudest_db": loudest_db, "mfcc0_absolute_mean_db": mfcc0_db}


def _tempo(mel_db: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    rate_hz, hop_length = settings.sample_rate_hz, settings.hop_length
    onsets = librosa.onset.onset_strength(S=mel_db, sr=rate_hz, hop_length=hop_length, n_fft=settings.n_fft)
    correlation = autocorrelation(onsets)
    bpm, lag = 0.0, 0
    if correlation[0]:  # without onsets, librosa gives its prior, 120 bpm
        bpm = float(librosa.feature.tempo(onset_envelope=onsets, sr=rate_hz, hop_length=hop_length)[0])
        lag = round(60 * rate_hz / hop_length / bpm)
    at_tempo = correlation[lag] if lag < len(correlation) else 0.0
    return {"tempo_bpm": bpm, "onset_autocorrelation_at_tempo": at_tempo}


def whole_frames(seconds: float, frame_seconds: float) -> int:
    """The number of frames nearest to a time, at least one."""
    return max(1, round(seconds / frame_seconds))


def mean_and_std(name: str, values: np.ndarray, unit: str = "") -> dict[str, float]:
    """Mean and standard deviation over the frames of a clip.

    Parameters
    ----------
    name, unit : str
        What the values are, and their unit; none for a ratio.
    values : np.ndarray [shape=(n_frames,)]
        One per frame, in that unit.

    Returns
    -------
    dict of str to float
        `{name}_mean_{unit}` and `{name}_std_{unit}`.

    Examples
    --------
    >>> mean_and_std("level", np.array([-20.0, -10.0]), "db")
    {'level_mean_db': -15.0, 'level_std_db': 5.0}
    """
    ending = f"_{unit}" if unit else ""
    return {f"{name}_mean{ending}": float(values.mean()), f"{name}_std{ending}": float(values.std())}


def spectral_shape(weights: np.ndarray, positions: np.ndarray, prefix: str, unit: str) -> dict[str, float]:
    """Mean and deviation of each frame's centroid, bandwidth and 85 % roll-off.

    They equal librosa's in a quarter of its time. As there, a frame of zeros counts as 0.

    Parameters
    ----------
    weights : np.ndarray [shape=(n_bins, n_frames)]
        Magnitude or power, not negative.
    positions : np.ndarray [shape=(n_bins,)]
        Where the bins are, in `unit`.
    prefix, unit : str
        What the names begin and end with.

    Returns
    -------
    dict of str to float
        Six statistics, all in `unit`.
    """
    # in double precision, for the difference of two squares of 10 kHz may be a few hertz
    sums, first, second = np.stack([np.ones(len(positions)), positions, positions**2]) @ weights
    total = np.where(sums > 0, sums, 1)
    centroid = first / total
    bandwidth = np.sqrt(np.maximum(second / total - centroid**2, 0))
    below = weights.cumsum(axis=0)
    roll_off = positions[(below < _ROLL_OFF_SHARE * below[-1]).sum(axis=0)]
    return {
        **mean_and_std(f"{prefix}centroid", centroid, unit),
        **mean_and_std(f"{prefix}bandwidth", bandwidth, unit),
        **mean_and_std(f"{prefix}roll_off", np.where(sums > 0, roll_off, 0), unit),
    }


def autocorrelation(values: np.ndarray) -> np.ndarray:
    """Correlation of a series with itself some frames later.

    Parameters
    ----------
    values : np.ndarray [shape=(n_frames,)]
        Such as onset strength. The mean is subtracted.

    Returns
    -------
    np.ndarray [shape=(n_frames,)]
        By lag in frames: 1 at lag 0, then less as the overlap shrinks; all 0 for a constant.

    Examples
    --------
    >>> autocorrelation(np.array([1.0, 0.0, 1.0, 0.0])).round(2)
    array([ 1.  , -0.75,  0.5 , -0.25])
    """
    correlation = librosa.autocorrelate(values - values.mean(dtype=np.float64))
    return correlation / correlation[0] if correlation[0] >= _TINY else np.zeros(len(values))


def skewness(rows: np.ndarray) -> np.ndarray:
    """Third standardised moment of every row [shape=(n_rows,)]; 0 of one that does not vary."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    squares = centred**2
    variance = squares.mean(axis=1)
    third = (squares * centred).mean(axis=1)  # a power of 3 takes many times as long
    return np.where(variance > _TINY, third / np.maximum(variance, _TINY) ** 1.5, 0.0)


def correlations(rows: np.ndarray) -> np.ndarray:
    """Pearson correlation of every two rows [shape=(n_pairs,)]; 0 where one does not vary.

    The first row with all others comes first, then the second with those after it.
    """
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    covariance = centred @ centred.T / rows.shape[1]
    deviation = np.sqrt(np.maximum(covariance.diagonal(), _TINY))
    return (covariance / np.outer(deviation, deviation))[np.triu_indices(len(rows), 1)]


def lag_changes(rows: np.ndarray, frame_seconds: float) -> np.ndarray:
    """Mean distance of every row to itself, from 0.02 s later in doublings to 3 s later.

    Parameters
    ----------
    rows : np.ndarray [shape=(n_rows, n_frames)]
        Longer than 3 s, and than one frame.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    np.ndarray [shape=(8, n_rows)]
        In the rows' unit; short times first.
    """
    lags = [whole_frames(lag, frame_seconds) for lag in _LAGS_SECONDS]
    return np.stack([np.abs(rows[:, lag:] - rows[:, :-lag]).mean(axis=1) for lag in lags])
