"""Families of statistics of the mel rows: what sounds there are, and how they last and change."""

import librosa
import numpy as np
from scipy.ndimage import uniform_filter1d

from music_emotion.audio.moments import correlations, lag_changes, skewness, whole_frames
from music_emotion.audio.separation import running_median
from music_emotion.audio.spectrogram import N_MELS

_N_CEPSTRAL, _N_TEXTURE = 20, 13
_HARMONIC_SECONDS, _PERCUSSIVE_ROWS = 0.37, 13
_NEIGHBOURS = 9  # mel rows around a peak, itself among them


def timbre_families(mel_db: np.ndarray, frame_seconds: float) -> dict[str, np.ndarray]:
    """Families of timbre of a clip, in dB unless it says otherwise.

    `loud_bands`
        The level that each of 32 bands exceeds for a tenth of the time: the only family that
        depends on the clip's level.
    `band_skewness`
        Skewness of those bands' levels, without a unit: below 0 where short gaps interrupt sound,
        above 0 where short sounds interrupt silence.
    `band_correlation`
        Which of 16 bands get loud together, as correlations of their levels, without a unit.
    `cepstral_flux`
        Deviation of the change from a frame to the next of 20 mel cepstral coefficients.
    `contrast`, `peaks`
        How uneven the spectrum is, as hills in eight bands and as lines in sixteen.
    `unsteadiness`
        How little sounds last: how far the level is from its mean over a second, in 16 bands.
    `harmonic_percussive`, `texture`
        What lasts against what is struck, and timbre within seconds against between them.
    `shape_changes`
        How much centroid and roll-off (in rows), flatness and level differ after 0.02 to 3 s.

    Parameters
    ----------
    mel_db : np.ndarray [shape=(128, n_frames)], float32
        At least 6 s.
    frame_seconds : float
        Time from one frame to the next, in seconds.

    Returns
    -------
    dict of str to np.ndarray
    """
    cepstrum = librosa.feature.mfcc(S=mel_db, n_mfcc=_N_CEPSTRAL)
    narrow, wide = _bands(mel_db, 32), _bands(mel_db, 16)
    second = whole_frames(1, frame_seconds)
    return {
        "loud_bands": np.percentile(narrow, 90, axis=1),
        "band_skewness": skewness(narrow),
        "band_correlation": correlations(wide),
        "cepstral_flux": np.diff(cepstrum, axis=1).std(axis=1),
        "contrast": _contrast(mel_db),
        "peaks": _peaks(mel_db),
        "unsteadiness": _mean_of_bands(np.abs(mel_db - uniform_filter1d(mel_db, second, axis=1)), 16),
        "harmonic_percussive": _harmonic_percussive(mel_db, frame_seconds),
        "texture": _texture(cepstrum[:_N_TEXTURE], second),
        "shape_changes": lag_changes(_shape(mel_db), frame_seconds),
    }


def _bands(rows: np.ndarray, n_bands: int) -> np.ndarray:
    return rows.reshape(n_bands, -1, rows.shape[1]).mean(axis=1)


def _mean_of_bands(rows: np.ndarray, n_bands: int) -> np.ndarray:
    return rows.reshape(n_bands, -1).mean(axis=1)


def _contrast(mel_db: np.ndarray) -> np.ndarray:
    """How far the loudest rows of eight bands stand above the softest: mean, deviation over frames.

    Jiang et al., 2002, "Music type classification by spectral contrast feature", on mel rows.
    """
    ordered = np.sort(mel_db.reshape(8, 16, -1), axis=1)
    contrast = ordered[:, -3:].mean(axis=1) - ordered[:, :4].mean(axis=1)
    return np.concatenate([contrast.mean(axis=1), contrast.std(axis=1)])


def _peaks(mel_db: np.ndarray) -> np.ndarray:
    """How far rows rise above their neighbours, on average and at their highest: tones do, noise less.

    The latter is exceeded in a hundredth of the frames; both are means of the rows of 16 bands.
    """
    above = mel_db - uniform_filter1d(mel_db, _NEIGHBOURS, axis=0)
    highest = np.percentile(above, 99, axis=1).reshape(16, -1).mean(axis=1)
    return np.concatenate([_mean_of_bands(np.maximum(above, 0), 16), highest])


def _harmonic_percussive(mel_db: np.ndarray, frame_seconds: float) -> np.ndarray:
    """What lasts less what is struck, and how far the sound is from either, in eight bands.

    They are medians along time and along frequency (Fitzgerald, 2010, "Harmonic/percussive
    separation using median filtering"), here of dB: both are as loud as the sound where it lasts.
    """
    n_frames = 2 * round(_HARMONIC_SECONDS / frame_seconds / 2) + 1  # odd
    lasting = running_median(np.ascontiguousarray(mel_db.T), n_frames).T
    struck = running_median(mel_db, _PERCUSSIVE_ROWS)
    parts = (lasting - struck, np.abs(mel_db - lasting), np.abs(mel_db - struck))
    return np.concatenate([_mean_of_bands(part, 8) for part in parts])


def _texture(cepstrum: np.ndarray, second: int) -> np.ndarray:
    """Deviations of coefficients within seconds: their mean; that of the seconds' means; their own.

    Texture windows of Tzanetakis and Cook, 2002, "Musical genre classification of audio signals".
    What is left after the last whole second doesn't count.
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
