"""Decode audio to a mono waveform at a given sample rate."""

from pathlib import Path

import librosa
import numpy as np
import soundfile

from music_emotion.errors import InputError


def read_waveform(
    path: Path,
    sample_rate_hz: int = 22050,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> np.ndarray:
    """Read a span of an audio file as mono.

    Parameters
    ----------
    path : Path
        Any file that libsndfile reads (wav, flac, ogg, mp3, ...), mono or not.
    sample_rate_hz : int
        Sample rate of the result; resampled with soxr's high quality where it differs.
    start_seconds, end_seconds : float
        The span to read; to the end of the file when `end_seconds` is None. Only that span
        is decoded.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
        The waveform, nominally in -1 to 1.

    Raises
    ------
    InputError
        When the file can't be decoded or the span holds no samples; the message names the file.
    """
    try:
        with soundfile.SoundFile(path) as file:
            native_rate_hz = file.samplerate
            start = round(start_seconds * native_rate_hz)
            stop = file.frames if end_seconds is None else round(end_seconds * native_rate_hz)
            if not 0 <= start < file.frames:
                raise InputError(
                    f"{path}: the clip starts at {start_seconds} s, but the recording goes from 0 to "
                    f"{file.frames / native_rate_hz:.2f} s."
                )
            file.seek(start)
            # a negative count would read to the end of the file
            channels = file.read(max(stop - start, 0), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise InputError(f"{path}: the audio can't be decoded ({error}).") from error
    if len(channels) == 0:
        raise InputError(f"{path}: there are no samples from {start_seconds} s to {end_seconds} s.")
    waveform = channels.mean(axis=1)
    if native_rate_hz != sample_rate_hz:
        waveform = librosa.resample(
            waveform, orig_sr=native_rate_hz, target_sr=sample_rate_hz, res_type="soxr_hq"
        )
    return waveform
