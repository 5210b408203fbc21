"""A clip in named numbers: statistics of a fused array, whose names end in their units."""

import math

import librosa
import numpy as np
from scipy.signal import find_peaks

from music_emotion.audio.moments import autocorrelation, mean_and_std, spectral_shape
from music_emotion.audio.spectrogram import N_CHROMA, N_MELS, N_ROWS, FeatureSettings, row_slice
from music_emotion.files import InputError

_PITCH_CLASSES = ("c", "c_sharp", "d", "d_sharp", "e", "f", "f_sharp", "g", "g_sharp", "a", "a_sharp", "b")
# How well each pitch class fits a key on C: ratings by listeners, Krumhansl and Kessler (1982).
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_N_BANDS = 8  # of 16 mel rows each: near an octave above 1 kHz, wider below
_N_MFCC = 13
_SLOWEST_BPM, _FASTEST_BPM = 40.0, 240.0
_USUAL_BPM, _USUAL_WIDTH_OCTAVES = 120.0, 0.9  # where listeners tap, as Ellis (2007) weighs it
# Half a beat is high where notes fall between the beats, or the tempo is an octave too low; two,
# three and four are bars, so that a waltz differs from a march whatever the tempo.
_BEATS = {"half_beat": 0.5, "two_beats": 2.0, "three_beats": 3.0, "four_beats": 4.0}
_TINY = 1e-10  # keeps logarithms and ratios of silence finite


def fused_statistics(
    fused: np.ndarray, frame_seconds: float, sample_rate_hz: float = FeatureSettings().sample_rate_hz
) -> dict[str, float]:
    """Sum up a clip in named statistics.

    Level, timbre and onsets are read from the mel rows, key and mode from the chroma rows. Levels,
    `mfcc0` among them, are below the clip's own loudest point, so none says how loud the clip was.

    Parameters
    ----------
    fused : np.ndarray [shape=(140, n_frames)]
        Mel rows in dB, -80 to 0, on chroma rows, 0 to 1; at least one frame.
    frame_seconds : float
        Time from one frame to the next, in seconds. Beat-synchronous arrays have no constant
        one; with the mean span between beats, rates and tempi are then rough.
    sample_rate_hz : float
        Sample rate of the audio the array was made of; its half is where the mel rows end.

    Returns
    -------
    dict of str to float
        The same names in the same order for every clip, all finite. A name ends in its unit:
        `db`, `rows` (mel rows, 0 to 127), `bpm`, `hz` (or per second). Those on `chroma`, `key`,
        `major`, `minor`, `mode`, `pulse_strength` and `onset_autocorrelation` are ratios. What
        is said of the pulse is 0 where the clip is too short to repeat, or has no onsets.

    Raises
    ------
    InputError
        When the array is not of shape (140, n_frames) with n_frames at least 1, or holds a value
        that is not finite, or `frame_seconds` or `sample_rate_hz` is not positive.
    """
    check_fused(fused, {"frame_seconds": frame_seconds, "sample_rate_hz": sample_rate_hz})
    # a clip of a store comes transposed, and sums over it would round differently
    fused = np.ascontiguousarray(fused, np.float32)
    mel_db, chroma = fused[row_slice("mel")], fused[row_slice("chroma")]
    power = 10 ** (mel_db / 10)
    statistics = {
        **_level_statistics(power),
        **_shape_statistics(mel_db, power, sample_rate_hz),
        **_band_statistics(mel_db),
        **_mfcc_statistics(mel_db),
        **_onset_statistics(mel_db, frame_seconds),
        **_chroma_statistics(chroma),
        **_key_statistics(chroma.mean(axis=1)),
    }
    return {name: float(value) for name, value in statistics.items()}


def check_fused(fused: np.ndarray, positive: dict[str, float]) -> None:
    """Refuse an array that is no clip, and settings that are not positive.

    Raises
    ------
    InputError
        Saying which, and what it must be.
    """
    if fused.ndim != 2 or fused.shape[0] != N_ROWS or fused.shape[1] == 0:
        raise InputError(
            f"The array has shape {fused.shape}; clip statistics need ({N_ROWS}, n_frames): "
            f"{N_MELS} mel rows on {N_CHROMA} chroma rows, and at least one frame."
        )
    if not np.isfinite(fused).all():
        raise InputError(
            f"The array has {np.sum(~np.isfinite(fused))} values that are not finite numbers. "
            f"Extract the clip again."
        )
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; it must be positive.")


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + _TINY)


def _level_statistics(power: np.ndarray) -> dict[str, float]:
    level = _decibels(power.mean(axis=0))
    tenth, half, most, softest, loudest = np.percentile(level, [10, 50, 90, 5, 95])
    return {
        **mean_and_std("level", level, "db"),
        "level_p10_db": tenth,
        "level_p50_db": half,
        "level_p90_db": most,
        "dynamic_range_db": loudest - softest,
        "peak_over_mean_db": level.max() - _decibels(power.mean()),
    }


def _shape_statistics(mel_db: np.ndarray, power: np.ndarray, sample_rate_hz: float) -> dict[str, float]:
    """Shape of each frame's power over the mel rows, and over their centre frequencies.

    A row is power per hertz (Slaney's norm), so in Hz it counts as often as its band is wide.
    """
    edges_hz = librosa.mel_frequencies(N_MELS + 2, fmin=0, fmax=sample_rate_hz / 2)
    widths_hz = (edges_hz[2:] - edges_hz[:-2]).astype(np.float32)
    flatness = mel_db.mean(axis=0) - _decibels(power.mean(axis=0))
    return {
        **spectral_shape(power, np.arange(N_MELS, dtype=float), "", "rows"),
        **mean_and_std("flatness", flatness, "db"),
        **spectral_shape(power * widths_hz[:, None], edges_hz[1:-1], "mel_", "hz"),
    }


def _band_statistics(mel_db: np.ndarray) -> dict[str, float]:
    bands = mel_db.reshape(_N_BANDS, -1, mel_db.shape[1]).mean(axis=1)
    numbered = {f"band{number}": band for number, band in enumerate(bands, start=1)}
    percentiles = np.percentile(bands, [10, 50, 90], axis=1).T
    statistics: dict[str, float] = {}
    for (name, band), levels in zip(numbered.items(), percentiles, strict=True):
        statistics |= mean_and_std(name, band, "db")
        statistics |= dict(zip([f"{name}_p10_db", f"{name}_p50_db", f"{name}_p90_db"], levels, strict=True))
    return statistics


def _mfcc_statistics(mel_db: np.ndarray) -> dict[str, float]:
    """Cepstral coefficients in dB; only the 0th, 128 ** .5 times the mean row, depends on the level."""
    coefficients = librosa.feature.mfcc(S=mel_db, n_mfcc=_N_MFCC)
    numbered = [mean_and_std(f"mfcc{number}", row, "db") for number, row in enumerate(coefficients)]
    return {name: value for pair in numbered for name, value in pair.items()}


def _onset_statistics(mel_db: np.ndarray, frame_seconds: float) -> dict[str, float]:
    """Spectral flux, how many onsets it shows, and the pulse they make.

    Flux is the mean rise in dB from a frame to the next (Boeck and Widmer, 2013, without
    their vibrato filter); the pulse is the peak of its autocorrelation.
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
        **_pulse_statistics(flux, frame_seconds, "", _BEATS),
        **_pulse_statistics(low_flux, frame_seconds, "low_", {}),
    }


def _pulse_statistics(
    flux: np.ndarray, frame_seconds: float, prefix: str, multiples: dict[str, float]
) -> dict[str, float]:
    """Autocorrelation of the flux at its likeliest beat period, the tempo there, and the bars.

    All are 0 where the clip is too short to repeat or has no onsets.
    """
    correlation = autocorrelation(flux)
    beat = likeliest_beat(correlation, frame_seconds)
    return {
        f"{prefix}pulse_strength": correlation[beat] if beat else 0.0,
        f"{prefix}pulse_tempo_bpm": 60 / (beat * frame_seconds) if beat else 0.0,
        **{
            f"onset_autocorrelation_{name}": _strongest_near(correlation, beat, multiple)
            for name, multiple in multiples.items()
        },
    }


def likeliest_beat(correlation: np.ndarray, frame_seconds: float) -> int:
    """Period in frames of the beat that listeners would tap to an autocorrelation; 0 for none."""
    bpm = 60 / (frame_seconds * np.arange(1, len(correlation)))
    possible = (bpm >= _SLOWEST_BPM) & (bpm <= _FASTEST_BPM)
    if correlation[0] == 0 or not possible.any():
        return 0
    weight = np.exp(-0.5 * (np.log2(bpm / _USUAL_BPM) / _USUAL_WIDTH_OCTAVES) ** 2)
    return 1 + int(np.argmax(np.where(possible, correlation[1:] * weight, -np.inf)))


def _strongest_near(correlation: np.ndarray, beat: int, multiple: float) -> float:
    """Autocorrelation a few beats later, where the period is known to half a frame."""
    if not beat:
        return 0.0
    first = max(1, math.floor(multiple * (beat - 0.5)))
    return float(correlation[first : math.ceil(multiple * (beat + 0.5)) + 1].max(initial=0))


def _chroma_statistics(chroma: np.ndarray) -> dict[str, float]:
    """Use of each pitch class, and of pitch classes whatever the key: most used first."""
    mean = chroma.mean(axis=1)
    share = (mean + _TINY) / (mean + _TINY).sum()
    ranked = np.sort(mean)[::-1]
    change = np.abs(np.diff(chroma, axis=1, prepend=chroma[:, :1])).mean()
    statistics: dict[str, float] = {}
    for name, row in zip(_PITCH_CLASSES, chroma, strict=True):
        statistics |= mean_and_std(f"chroma_{name}", row)
    return statistics | {
        **{f"chroma_rank{rank}": value for rank, value in enumerate(ranked, start=1)},
        "chroma_entropy": -(share * np.log(share)).sum() / np.log(N_CHROMA),
        "chroma_std": chroma.std(axis=1).mean(),
        "chroma_change": change,
    }


def _key_statistics(mean_chroma: np.ndarray) -> dict[str, float]:
    """Correlation with the best of 12 major and of 12 minor keys (Krumhansl, 1990, chapter 4)."""
    major = _best_key(mean_chroma, MAJOR)
    minor = _best_key(mean_chroma, MINOR)
    return {
        "key_strength": max(major, minor),
        "major_strength": major,
        "minor_strength": minor,
        "mode_difference": major - minor,
    }


def _best_key(mean_chroma: np.ndarray, profile: np.ndarray) -> float:
    keys = np.stack([np.roll(profile - profile.mean(), tonic) for tonic in range(N_CHROMA)])
    centred = mean_chroma - mean_chroma.mean()
    lengths = np.linalg.norm(keys[0]) * np.linalg.norm(centred)
    return float((keys @ centred).max() / max(lengths, _TINY))
