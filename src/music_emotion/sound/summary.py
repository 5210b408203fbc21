"""A clip in a few dozen numbers: statistics of a fused array that have names and units."""

import numpy as np
from scipy.signal import find_peaks

from music_emotion.errors import InputError
from music_emotion.sound.spectrogram import N_CHROMA, N_MELS, N_ROWS, row_slice

# How well each pitch class fits a key on C: ratings by listeners, Krumhansl and Kessler (1982).
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_N_BANDS = 8  # of 16 mel rows each: near an octave above 1 kHz, wider below
_ROLL_OFF_SHARE = 0.85
_SLOWEST_BPM, _FASTEST_BPM = 40.0, 240.0
_USUAL_BPM, _USUAL_WIDTH_OCTAVES = 120.0, 0.9  # where listeners tap, as Ellis (2007) weighs it
_TINY = 1e-10  # keeps logarithms and ratios of silence finite


def fused_statistics(fused: np.ndarray, frame_seconds: float) -> dict[str, float]:
    """Sum up a clip in named statistics.

    Level, spectral shape and onsets are read from the mel rows, key and mode from the chroma
    rows. Levels are below the clip's own loudest point, so none says how loud the clip was.

    Parameters
    ----------
    fused : np.ndarray [shape=(140, n_frames)]
        Mel rows in dB, -80 to 0, on chroma rows, 0 to 1; at least one frame.
    frame_seconds : float
        Time from one frame to the next, in seconds. Beat-synchronous arrays have no constant
        one; with the mean span between beats, rates and tempi are then rough.

    Returns
    -------
    dict of str to float
        The same names in the same order for every clip, all finite. A name ends in its unit:
        `db`, `rows` (mel rows, 0 to 127), `bpm`, `hz` (per second); the others are ratios.

    Raises
    ------
    InputError
        When the array is not of shape (140, n_frames) with n_frames at least 1, or
        `frame_seconds` is not positive.
    """
    if fused.ndim != 2 or fused.shape[0] != N_ROWS or fused.shape[1] == 0:
        raise InputError(
            f"The array has shape {fused.shape}; clip statistics need ({N_ROWS}, n_frames): "
            f"{N_MELS} mel rows on {N_CHROMA} chroma rows, and at least one frame."
        )
    if not frame_seconds > 0:
        raise InputError(f"frame_seconds is {frame_seconds}; it must be positive.")
    mel_db = fused[row_slice("mel")].astype(np.float64)
    chroma = fused[row_slice("chroma")].astype(np.float64)
    statistics = {
        **_level_statistics(mel_db),
        **_shape_statistics(mel_db),
        **_band_statistics(mel_db),
        **_onset_statistics(mel_db, frame_seconds),
        **_chroma_statistics(chroma),
        **_key_statistics(chroma.mean(axis=1)),
    }
    return {name: float(value) for name, value in statistics.items()}


def _power(mel_db: np.ndarray) -> np.ndarray:
    return 10 ** (mel_db / 10)


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(power + _TINY)


def _mean_and_std(name: str, values: np.ndarray, unit: str = "") -> dict[str, float]:
    ending = f"_{unit}" if unit else ""
    return {f"{name}_mean{ending}": values.mean(), f"{name}_std{ending}": values.std()}


def _level_statistics(mel_db: np.ndarray) -> dict[str, float]:
    level = _decibels(_power(mel_db).mean(axis=0))
    tenth, half, most, softest, loudest = np.percentile(level, [10, 50, 90, 5, 95])
    return {
        **_mean_and_std("level", level, "db"),
        "level_p10_db": tenth,
        "level_p50_db": half,
        "level_p90_db": most,
        "dynamic_range_db": loudest - softest,
        "peak_over_mean_db": level.max() - _decibels(_power(mel_db).mean()),
    }


def _shape_statistics(mel_db: np.ndarray) -> dict[str, float]:
    """Moments, roll-off and flatness of each frame's power over the mel rows."""
    power = _power(mel_db) + _TINY
    share = power / power.sum(axis=0)
    rows = np.arange(N_MELS)[:, None]
    centroid = (rows * share).sum(axis=0)
    bandwidth = np.sqrt(((rows - centroid) ** 2 * share).sum(axis=0))
    roll_off = (share.cumsum(axis=0) >= _ROLL_OFF_SHARE).argmax(axis=0)
    flatness = np.log10(power).mean(axis=0) - np.log10(power.mean(axis=0))
    return {
        **_mean_and_std("centroid", centroid, "rows"),
        **_mean_and_std("bandwidth", bandwidth, "rows"),
        **_mean_and_std("roll_off", roll_off, "rows"),
        **_mean_and_std("flatness", 10 * flatness, "db"),
    }


def _band_statistics(mel_db: np.ndarray) -> dict[str, float]:
    bands = mel_db.reshape(_N_BANDS, -1, mel_db.shape[1]).mean(axis=1)
    numbered = [_mean_and_std(f"band{number}", band, "db") for number, band in enumerate(bands, start=1)]
    return {name: value for band in numbered for name, value in band.items()}


def _onset_statistics(mel_db: np.ndarray, frame_seconds: float) -> dict[str, float]:
    """Spectral flux, how many onsets it shows, and the pulse they make.

    Flux is the mean rise in dB from a frame to the next (Boeck and Widmer, 2013, without
    their vibrato filter); the pulse is the peak of its autocorrelation.
    """
    rises = np.maximum(np.diff(mel_db, axis=1, prepend=mel_db[:, :1]), 0)
    flux, low_flux, high_flux = rises.mean(axis=0), rises[:16].mean(axis=0), rises[-48:].mean(axis=0)
    onsets, _ = find_peaks(flux, height=flux.mean() + flux.std(), distance=2)
    strength, tempo_bpm = _pulse(flux, frame_seconds)
    low_strength, low_tempo_bpm = _pulse(low_flux, frame_seconds)
    return {
        **_mean_and_std("flux", flux, "db"),
        **_mean_and_std("low_flux", low_flux, "db"),
        **_mean_and_std("high_flux", high_flux, "db"),
        "flux_p90_db": np.percentile(flux, 90),
        "onset_rate_hz": len(onsets) / (len(flux) * frame_seconds),
        "pulse_strength": strength,
        "pulse_tempo_bpm": tempo_bpm,
        "low_pulse_strength": low_strength,
        "low_pulse_tempo_bpm": low_tempo_bpm,
    }


def _pulse(flux: np.ndarray, frame_seconds: float) -> tuple[float, float]:
    """Autocorrelation of the flux at its likeliest beat period, and the tempo there in bpm.

    Both are 0 where the clip is too short to repeat or has no onsets.
    """
    centred = flux - flux.mean()
    spectrum = np.fft.rfft(centred, 2 * len(flux))
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: len(flux)]
    bpm = 60 / (frame_seconds * np.arange(1, len(flux)))
    possible = (bpm >= _SLOWEST_BPM) & (bpm <= _FASTEST_BPM)
    if correlation[0] < _TINY or not possible.any():
        return 0.0, 0.0
    bpm, strength = bpm[possible], correlation[1:][possible] / correlation[0]
    weight = np.exp(-0.5 * (np.log2(bpm / _USUAL_BPM) / _USUAL_WIDTH_OCTAVES) ** 2)
    best = np.argmax(strength * weight)
    return strength[best], bpm[best]


def _chroma_statistics(chroma: np.ndarray) -> dict[str, float]:
    """Describe the use of pitch classes whatever the key: most used first."""
    mean = chroma.mean(axis=1)
    share = (mean + _TINY) / (mean + _TINY).sum()
    ranked = np.sort(mean)[::-1]
    change = np.abs(np.diff(chroma, axis=1, prepend=chroma[:, :1])).mean()
    return {
        **{f"chroma_rank{rank}": value for rank, value in enumerate(ranked, start=1)},
        "chroma_entropy": -(share * np.log(share)).sum() / np.log(N_CHROMA),
        "chroma_std": chroma.std(axis=1).mean(),
        "chroma_change": change,
    }


def _key_statistics(mean_chroma: np.ndarray) -> dict[str, float]:
    """Correlation with the best of 12 major and of 12 minor keys (Krumhansl, 1990, chapter 4)."""
    major = _best_key(mean_chroma, _MAJOR)
    minor = _best_key(mean_chroma, _MINOR)
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
