"""What only audio tells of a clip, in named numbers."""

import librosa
import numpy as np

from music_emotion.audio.moments import autocorrelation, mean_and_std, spectral_shape
from music_emotion.audio.spectrogram import N_MELS, N_ROWS, FeatureSettings, row_slice
from music_emotion.files import InputError

_TINY = 1e-10  # -100 dB: the least level that is told from silence, as in librosa's `power_to_db`


def audio_statistics(waveform: np.ndarray, fused: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    """Sum up in named statistics what a fused array has lost: absolute level, and frequency in Hz.

    They complete `fused_statistics` of the same clip, and share no name with it. The tempo is
    that of the whole mixture, not of its percussive part: the likeliest of `librosa.feature.tempo`
    over the rise in dB of the mel rows.

    Parameters
    ----------
    waveform : np.ndarray [shape=(n_samples,)]
        Mono, at `settings.sample_rate_hz`; full scale is -1 to 1.
    fused : np.ndarray [shape=(140, 1 + n_samples // hop_length)]
        The full-rate array made of it.
    settings : FeatureSettings
        Those that the array was made with.

    Returns
    -------
    dict of str to float
        The same names in the same order for every clip, all finite. A name ends in its unit:
        `dbfs` (0 for a square wave at full scale, -3.01 for a sine), `db`, `bpm`, `hz` (or per
        second). `spectral_flatness` and `onset_autocorrelation` are ratios. Tempo and
        autocorrelation are 0 where there are no onsets.

    Raises
    ------
    InputError
        When the waveform is not one channel of floating-point samples, the array is not of its
        length, or either has a value that is not finite.

    References
    ----------
    G. Tzanetakis and P. Cook, "Musical genre classification of audio signals", IEEE Transactions
    on Speech and Audio Processing 10, 2002, section III, for most of them.
    """
    _check(waveform, fused, settings)
    # padded here, for librosa warns when it is to pad a clip shorter than a window
    padded = np.pad(waveform, settings.n_fft // 2)
    spectrum = librosa.stft(padded, n_fft=settings.n_fft, hop_length=settings.hop_length, center=False)
    magnitude, mel_db = np.abs(spectrum), fused[row_slice("mel")]
    frequencies_hz = librosa.fft_frequencies(sr=settings.sample_rate_hz, n_fft=settings.n_fft)
    statistics = {
        **_crossing_statistics(waveform, settings),
        **spectral_shape(magnitude, frequencies_hz, "spectral_", "hz"),
        **mean_and_std("spectral_flatness", librosa.feature.spectral_flatness(S=magnitude)),
        **_level_statistics(waveform, settings),
        **_mel_level_statistics(mel_db, magnitude, settings),
        **_tempo_statistics(mel_db, settings),
    }
    return {name: float(value) for name, value in statistics.items()}


def _check(waveform: np.ndarray, fused: np.ndarray, settings: FeatureSettings) -> None:
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
    for name, values in {"waveform": waveform, "array": fused}.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"The {name} has {np.sum(~np.isfinite(values))} values that are not finite numbers. "
                f"Decode and extract the clip again."
            )


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, _TINY))


def _windows(values: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Whole windows only: the silence that centred ones are padded with would count as music."""
    length = min(settings.n_fft, len(values))
    return np.lib.stride_tricks.sliding_window_view(values, length)[:: settings.hop_length]


def _crossing_statistics(waveform: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    """Changes of sign per second, up and down both: twice the frequency of a sine.

    librosa's needs numba to compile it, which several processes must not do at once.
    """
    below = waveform < -_TINY
    crossed = np.diff(below, prepend=below[:1])
    rate_hz = _windows(crossed, settings).mean(axis=1) * settings.sample_rate_hz
    return mean_and_std("zero_crossing_rate", rate_hz, "hz")


def _level_statistics(waveform: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    power = waveform**2
    level = _decibels(_windows(power, settings).mean(axis=1))
    softest, half, loudest = np.percentile(level, [5, 50, 95])
    peak = _decibels(power.max())
    return {
        "rms_mean_dbfs": level.mean(),
        "rms_std_db": level.std(),
        "rms_p5_dbfs": softest,
        "rms_p50_dbfs": half,
        "rms_p95_dbfs": loudest,
        "peak_dbfs": peak,
        "crest_factor_db": peak - _decibels(power.mean()),
    }


def _mel_level_statistics(
    mel_db: np.ndarray, magnitude: np.ndarray, settings: FeatureSettings
) -> dict[str, float]:
    """The power that the array calls 0 dB, and with it MFCC 0 as `librosa.feature.mfcc` has it."""
    row, frame = np.unravel_index(mel_db.argmax(), mel_db.shape)
    filters = librosa.filters.mel(sr=settings.sample_rate_hz, n_fft=settings.n_fft, n_mels=N_MELS)
    loudest_db = _decibels(filters[row] @ magnitude[:, frame] ** 2)
    # an orthonormal transform turns a constant over the rows into its root of N_MELS times
    return {
        "mel_loudest_db": loudest_db,
        "mfcc0_absolute_mean_db": (mel_db.mean() + loudest_db) * N_MELS**0.5,
    }


def _tempo_statistics(mel_db: np.ndarray, settings: FeatureSettings) -> dict[str, float]:
    rate_hz, hop_length = settings.sample_rate_hz, settings.hop_length
    onsets = librosa.onset.onset_strength(S=mel_db, sr=rate_hz, hop_length=hop_length, n_fft=settings.n_fft)
    correlation = autocorrelation(onsets)
    bpm, lag = 0.0, 0
    if correlation[0]:  # of nothing, librosa would say its prior, 120 bpm
        bpm = float(librosa.feature.tempo(onset_envelope=onsets, sr=rate_hz, hop_length=hop_length)[0])
        lag = round(60 * rate_hz / hop_length / bpm)
    at_tempo = correlation[lag] if lag < len(correlation) else 0.0
    return {"tempo_bpm": bpm, "onset_autocorrelation_at_tempo": at_tempo}
