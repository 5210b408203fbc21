"""Open a recording with the first decoder that knows its content, whatever its name says."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soundfile

from music_emotion.audio.mp3 import count_mp3_samples
from music_emotion.files import InputError

_MP3_LEAD_SECONDS = 0.2
# FFmpeg's formats in which a seek lands where it says, in webm to its milliseconds; wma and ac3 were
# up to 0.1 s off, so they are decoded from their start.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aac")


class _RefusedError(Exception):
    """A decoder's reason, on its way to a sentence that names the file."""


@dataclass(frozen=True)
class Recording:
    """An opened audio file.

    Attributes
    ----------
    sample_rate_hz : int
    n_samples : int
        By the header; counted where the header does not tell.
    read : callable
        ``read(start, stop)`` gives the samples from `start` to before `stop` as mono float32, fewer
        where decoding ends before, and the reason if there is one.
    """

    sample_rate_hz: int
    n_samples: int
    read: Callable[[int, int], tuple[np.ndarray, str]]


@contextmanager
def open_recording(path: Path) -> Iterator[Recording]:
    """Open an audio file with libsndfile, or with FFmpeg where the extra `m4a` is installed.

    Parameters
    ----------
    path : Path
        The name does not matter, its content does.

    Yields
    ------
    Recording

    Raises
    ------
    InputError
        When there is no such file, it can't be read, no decoder knows it, or it has no samples.
    """
    _check_readable(path)
    try:
        with ExitStack() as stack:
            try:
                recording = _open_with_libsndfile(path, stack)
            except _RefusedError as error:
                recording = _open_with_ffmpeg(path, stack, str(error))
            if recording.n_samples <= 0:
                raise InputError(f"{path}: the recording has no samples.")
            yield recording
    except InputError:
        raise
    except (OSError, ValueError, MemoryError, ArithmeticError, librosa.ParameterError) as error:
        # what damaged headers make of decoders: lengths beyond any memory, names that are no text
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: the audio can't be decoded ({reason}); the file is damaged.") from None


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder, not an audio file.")
    try:
        with open(path, "rb") as file:
            if not file.read(1):
                raise InputError(f"{path}: the file is empty.")
    except FileNotFoundError:
        raise InputError(f"{path}: the file does not exist.") from None
    except OSError as error:
        raise InputError(f"{path}: the file can't be read ({error.strerror}).") from None


def _open_with_libsndfile(path: Path, stack: ExitStack) -> Recording:
    try:
        sound = _soundfile(path, stack)
    except (soundfile.SoundFileError, OSError) as error:
        raise _refusal(error) from None
    if sound.format == "RAW":  # libsndfile takes anything named .au, .snd, .gsm or .vox for speech
        raise _RefusedError("libsndfile: Format not recognised")
    # the first frame of an mp3 after a seek may need those before it: mpg123 gives noise for it
    lead = round(_MP3_LEAD_SECONDS * sound.samplerate) if sound.format == "MP3" else 0

    def read(start: int, stop: int) -> tuple[np.ndarray, str]:
        skipped = min(lead, start)
        try:
            sound.seek(start - skipped)
            # in one piece, since soundfile seeks after every read, with the same effect on mp3
            channels = sound.read(stop - start + skipped, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            return _readable_part(path, start), f" ({_refusal(error)})"
        return channels[skipped:].mean(axis=1), ""

    return Recording(sound.samplerate, _n_samples(path, sound), read)


def _soundfile(path: Path, stack: ExitStack) -> soundfile.SoundFile:
    # soundfile can't encode a name that is not UTF-8, and takes .raw for samples without a header
    source = _nameless(path, stack) if path.suffix.lower() == ".raw" else os.fsencode(path)
    return stack.enter_context(soundfile.SoundFile(source))


def _readable_part(path: Path, start: int) -> np.ndarray:
    """What comes before the place where decoding fails, to a twentieth of a second."""
    parts = [np.zeros(0, np.float32)]
    for per_second in (1, 20):  # a failure spoils the open file, so finer steps need another
        with ExitStack() as stack, suppress(soundfile.SoundFileError):
            sound = _soundfile(path, stack)
            sound.seek(start + sum(len(part) for part in parts))
            while len(part := sound.read(sound.samplerate // per_second, dtype="float32", always_2d=True)):
                parts.append(part.mean(axis=1))
    return np.concatenate(parts)


def _refusal(error: Exception) -> _RefusedError:
    reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").strip(" .")
    if "does not exist" in reason:  # its decoder of mp3 says so of anything it does not know
        reason = "Format not recognised"
    return _RefusedError(f"libsndfile: {reason}")


def _n_samples(path: Path, sound: soundfile.SoundFile) -> int:
    """How much libsndfile can read, which is a guess for an mp3 without a Xing header."""
    n_samples: int = sound.frames
    if sound.subtype == "MPEG_LAYER_III":
        counted = count_mp3_samples(path, sound.samplerate)
        if counted is not None and counted > 1.01 * n_samples:
            raise _RefusedError("libsndfile: The mp3 has no header that says how long it is")
        n_samples = n_samples if counted is None else min(counted, n_samples)
    if n_samples == np.iinfo(np.int64).max:
        raise _RefusedError("libsndfile: The flac's header does not say how long it is")
    return n_samples


def _open_with_ffmpeg(path: Path, stack: ExitStack, refusal: str) -> Recording:
    """Open with PyAV, which brings FFmpeg along and is imported only here and below."""
    try:
        import av
    except ImportError:
        raise InputError(
            f"{path}: the audio can't be decoded ({refusal}). For m4a, aac, wma and webm, "
            f"`pip install 'music-emotion[m4a]'` adds a decoder."
        ) from None
    try:
        container = stack.enter_context(av.open(_nameless(path, stack)))
        stream = next(iter(container.streams.audio), None)
        if stream is None or stream.codec_context is None or not stream.codec_context.sample_rate:
            raise _RefusedError("There is no sound in it")
        seconds = _ffmpeg_seconds(container, stream) or _count_ffmpeg_seconds(path, stack)
    except (av.FFmpegError, _RefusedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: the audio can't be decoded ({refusal}; FFmpeg: {reason}).") from None
    rate_hz = stream.codec_context.sample_rate

    def read(start: int, stop: int) -> tuple[np.ndarray, str]:
        parts, reason = [np.zeros(0, np.float32)], ""
        missing = stop - start
        try:
            for mono in _ffmpeg_samples(container, stream, start):
                parts.append(mono[:missing])
                missing -= len(parts[-1])
                if missing == 0:
                    break
        except (av.FFmpegError, ValueError) as error:  # a change of rate on the way is a ValueError
            reason = f" (FFmpeg: {getattr(error, 'strerror', None) or error})"
        return np.concatenate(parts), reason

    return Recording(rate_hz, round(seconds * rate_hz), read)


def _nameless(path: Path, stack: ExitStack) -> Any:
    """A file that no decoder can judge by its name."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    return stack.enter_context(open(descriptor, "rb"))


def _ffmpeg_seconds(container: Any, stream: Any) -> Fraction | None:
    """The length a header states."""
    import av

    if container.format.flags & av.format.Flags.generic_index.value:  # no header: FFmpeg would guess
        return None
    if stream.duration is not None:
        return stream.duration * stream.time_base
    return container.duration and Fraction(container.duration, av.time_base)


def _count_ffmpeg_seconds(path: Path, stack: ExitStack) -> Fraction:
    """The length by the packets, which are read but not decoded."""
    import av

    container = stack.enter_context(av.open(_nameless(path, stack)))
    stream = container.streams.audio[0]
    packets = (packet for packet in container.demux(stream) if packet.pts is not None)
    end = max((packet.pts + (packet.duration or 0) for packet in packets), default=0)
    return (end - (stream.start_time or 0)) * stream.time_base


def _ffmpeg_samples(container: Any, stream: Any, start: int) -> Iterator[np.ndarray]:
    import av

    rate_hz = stream.codec_context.sample_rate
    resampler = av.AudioResampler(format="fltp", rate=rate_hz)
    position = origin = 0
    seeks = start > rate_hz and container.format.name in _SEEKABLE
    if seeks:  # a second early, for codecs whose frames build on those before
        first = next(container.decode(stream), None)
        origin = (first.pts if first else 0) or 0
        container.seek(origin + int((start / rate_hz - 1) / stream.time_base), stream=stream)
    for frame in container.decode(stream):
        if seeks:
            position = round(((frame.pts or 0) - origin) * stream.time_base * rate_hz)
            seeks = False
            if position > start:
                raise ValueError("The file's index is wrong")
        for converted in resampler.resample(frame):
            mono = converted.to_ndarray().mean(axis=0)
            yield mono[max(start - position, 0) :]
            position += len(mono)
