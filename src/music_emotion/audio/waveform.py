"""Decode audio to a mono waveform at a given sample rate."""

from pathlib import Path

import librosa
import numpy as np

from music_emotion.audio.cut_off import is_cut_off
from music_emotion.audio.decoders import Recording, open_recording
from music_emotion.files import InputError

TOLERANCE_SECONDS = 0.1  # headers of mp3 and m4a round, and so do tables of spans


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
        Any file that libsndfile reads (wav, flac, ogg, opus, mp3, aiff, ...) or, with the extra
        `m4a`, FFmpeg (m4a, wma, webm, ...), whatever its name ends in, mono or not.
    sample_rate_hz : int
        Sample rate of the result; resampled with soxr's high quality where it differs.
    start_seconds, end_seconds : float
        The span to read; to the end of the file when `end_seconds` is None or up to 0.1 s after
        that end. Memory is the span's, and time where the format can seek and states its length.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
        The waveform, nominally in -1 to 1.

    Raises
    ------
    InputError
        When the file can't be decoded, the span is not within the recording or holds no samples,
        or more than 0.1 s less is decoded than the header promises. The message names the file.

    Notes
    -----
    Of a file that was cut off, spans that end before the cut can be read.
    """
    with open_recording(path) as recording:
        native_rate_hz = recording.sample_rate_hz
        span = _span(path, recording, start_seconds, end_seconds)
        if span[1] == recording.n_samples and is_cut_off(path):
            raise InputError(
                f"{path}: the file is cut off: its sound ends at {span[1] / native_rate_hz:.2f} s, but "
                f"its end is missing. Get it again, or name a span that ends before."
            )
        waveform = _decoded(path, recording, *span)
    if native_rate_hz != sample_rate_hz:
        waveform = librosa.resample(
            waveform, orig_sr=native_rate_hz, target_sr=sample_rate_hz, res_type="soxr_hq"
        )
    return waveform


def recording_seconds(path: Path) -> float:
    """Length of a recording by its header, without decoding.

    Parameters
    ----------
    path : Path
        As for `read_waveform`.

    Returns
    -------
    float
        Seconds. Where the header does not tell (mp3 without Xing header, raw aac) the frames are
        counted.

    Raises
    ------
    InputError
        When the file can't be opened as audio or holds no samples; the message names the file.
    """
    with open_recording(path) as recording:
        return recording.n_samples / recording.sample_rate_hz


def _span(
    path: Path, recording: Recording, start_seconds: float, end_seconds: float | None
) -> tuple[int, int]:
    """First sample of a span and the one after its last."""
    total, rate_hz = recording.n_samples, recording.sample_rate_hz
    extent = f"but the recording goes from 0 to {total / rate_hz:.2f} s."
    start = round(start_seconds * rate_hz)
    if not 0 <= start < total:
        raise InputError(f"{path}: the clip starts at {start_seconds} s, {extent}")
    if end_seconds is None:
        return start, total
    if end_seconds > total / rate_hz + TOLERANCE_SECONDS:
        raise InputError(f"{path}: the clip ends at {end_seconds} s, {extent}")
    stop = min(round(end_seconds * rate_hz), total)
    if stop <= start:
        raise InputError(f"{path}: there are no samples from {start_seconds} s to {end_seconds} s.")
    return start, stop


def _decoded(path: Path, recording: Recording, start: int, stop: int) -> np.ndarray:
    waveform, reason = recording.read(start, stop)
    rate_hz = recording.sample_rate_hz
    first, promised, decoded = start / rate_hz, (stop - start) / rate_hz, len(waveform) / rate_hz
    if decoded == 0 or promised - decoded > TOLERANCE_SECONDS:
        raise InputError(
            f"{path}: the audio can't be decoded whole: from {first:.2f} s on, the file promises "
            f"{promised:.2f} s but only {decoded:.2f} s could be decoded{reason}; the file is cut off "
            f"or damaged."
        )
    return waveform
