"""Decode audio files, or spans of them, to a mono waveform at a given sample rate.

libsndfile is tried first, then FFmpeg (through PyAV). If a span can't be decoded completely, an `InputError`
gives the reason.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from music_emotion.files import InputError

TOLERANCE_SECONDS = 0.1  # mp3 and m4a headers and tables of spans round lengths
_BLOCK_SECONDS = 60
_MP3_LEAD_SECONDS = 0.2
# FFmpeg seeks exactly in these formats (in webm, to a millisecond). Other formats are decoded from the start,
# because seeking in wma and ac3 is up to 0.1 s off.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aac")
_LONGEST_OGG_PAGE = 65307  # bytes
_SLACK_BYTES = 4096  # some encoders count one chunk too many; 0.02 s of CD audio
_UNKNOWN_SIZE = 0x7FFF0000  # the header of a wav written to a pipe states about 2 or 4 GB


class _RefusedError(Exception):
    """A decoder can't open a file or can't continue; the message is the reason."""


class _Recording(NamedTuple):
    """An opened audio file.

    `blocks(start, stop)` yields the samples from `start` up to `stop` as mono float32. It stops early at the
    end of the file, and raises `_RefusedError` where the decoder fails.
    """

    sample_rate_hz: int
    n_samples: int
    blocks: Callable[[int, int], Iterator[np.ndarray]]


def read_waveform(
    path: Path, sample_rate_hz: int = 22050, start_seconds: float = 0.0, end_seconds: float | None = None
) -> np.ndarray:
    """Read a span of an audio file as mono.

    The file is decoded and resampled in blocks of a minute, so it takes little more memory than the result.

    Parameters
    ----------
    path : Path
        Any file that libsndfile reads (wav, flac, ogg, opus, mp3, aiff, ...) or FFmpeg (m4a, wma, webm, ...).
        The format is detected from the content, not from the name.
    sample_rate_hz : int
        Sample rate of the result. Audio at another rate is resampled with soxr in high quality, like
        librosa's `soxr_hq`.
    start_seconds, end_seconds : float
        The span to read. None reads to the end of the file. An end up to 0.1 s past the end of the file is
        accepted.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
        The mean of the channels, nominally in -1 to 1.

    Raises
    ------
    InputError
        When the file can't be decoded, or the span is empty or outside the recording. When more than 0.1 s is
        missing compared with the length in the header. The message names the file.

    Notes
    -----
    A truncated file can be read by an `end_seconds` before the point where it is cut off.
    """
    with _opened(path) as recording:
        start, stop = _span(path, recording, start_seconds, end_seconds)
        if stop == recording.n_samples and _is_cut_off(path):
            raise InputError(
                f"{path}: the file is cut off: its sound ends at {stop / recording.sample_rate_hz:.2f} s. "
                f"Get the whole file, or give a span that ends earlier."
            )
        return _decoded(path, recording, start, stop, sample_rate_hz)


def recording_seconds(path: Path) -> float:
    """Read the length of a recording from its header, without decoding.

    If the header states no length (mp3 without Xing header, raw aac), the packets are counted.

    Parameters
    ----------
    path : Path
        As for `read_waveform`.

    Returns
    -------
    float
        Length in seconds.

    Raises
    ------
    InputError
        When the file can't be opened as audio or holds no samples. The message names the file.
    """
    with _opened(path) as recording:
        return recording.n_samples / recording.sample_rate_hz


def _span(
    path: Path, recording: _Recording, start_seconds: float, end_seconds: float | None
) -> tuple[int, int]:
    """Convert a span to the indices of its first sample and of the sample after its last."""
    total, rate_hz = recording.n_samples, recording.sample_rate_hz
    extent = f"but the recording lasts from 0 to {total / rate_hz:.2f} s."
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


def _decoded(path: Path, recording: _Recording, start: int, stop: int, sample_rate_hz: int) -> np.ndarray:
    """Decode and resample block by block. The result equals resampling the whole span at once."""
    rate_hz, n_decoded, n_written, reason = recording.sample_rate_hz, 0, 0, ""
    ratio = sample_rate_hz / rate_hz
    waveform = np.zeros(math.ceil((stop - start) * ratio), np.float32)
    resampler = soxr.ResampleStream(rate_hz, sample_rate_hz, 1) if ratio != 1 else None

    def write(block: np.ndarray, last: bool = False) -> int:
        resampled = resampler.resample_chunk(block, last=last) if resampler else block
        place = waveform[n_written : n_written + len(resampled)]
        place[:] = resampled[: len(place)]
        return len(place)

    try:
        for block in recording.blocks(start, stop):
            n_decoded += len(block)
            n_written += write(block)
    except _RefusedError as error:
        reason = f" ({error})"
    promised, decoded = (stop - start) / rate_hz, n_decoded / rate_hz
    if n_decoded == 0 or promised - decoded > TOLERANCE_SECONDS:
        raise InputError(
            f"{path}: the file is cut off or damaged: from {start / rate_hz:.2f} s on, it promises "
            f"{promised:.2f} s, but only {decoded:.2f} s can be decoded{reason}."
        )
    write(np.empty(0, np.float32), last=True)
    return waveform[: math.ceil(n_decoded * ratio)]


def _is_cut_off(path: Path) -> bool:
    """Whether a wav, aiff or Ogg file is truncated. libsndfile reports truncation only in other formats.

    The header of a wav or aiff file states its size. The last page of an Ogg stream carries a flag (RFC 3533,
    section 6).
    """
    with path.open("rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        if head[:4] in (b"RIFF", b"FORM"):
            promised = int.from_bytes(head[4:8], "little" if head[:4] == b"RIFF" else "big")
            return 0 < promised < _UNKNOWN_SIZE and size < 8 + promised - _SLACK_BYTES
        if head[:4] == b"OggS":
            file.seek(max(0, size - _LONGEST_OGG_PAGE))
            tail = file.read()
            flags_at = tail.rfind(b"OggS") + 5
            return flags_at < 5 or flags_at >= len(tail) or not tail[flags_at] & 4
    return False


@contextmanager
def _opened(path: Path) -> Iterator[_Recording]:
    """Open an audio file for reading."""
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except OSError as error:
        raise InputError(f"{path}: the file can't be read ({error.strerror}).") from None
    if is_empty:
        raise InputError(f"{path}: the file is empty.")
    try:
        with ExitStack() as stack:
            recording = _open_with_either(path, stack)
            if recording.n_samples <= 0:
                raise InputError(f"{path}: the recording has no samples.")
            yield recording
    except InputError:
        raise
    except (OSError, ValueError, MemoryError, ArithmeticError) as error:
        # damaged headers cause these errors: lengths beyond the memory, names that are not text
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: the audio can't be decoded ({reason}); the file is damaged.") from None


def _open_with_either(path: Path, stack: ExitStack) -> _Recording:
    """Open a file with libsndfile or, if that fails, with FFmpeg. The stack closes the file."""
    refusals = []
    for open_with in (_open_with_libsndfile, _open_with_ffmpeg):
        try:
            return open_with(path, stack)
        except _RefusedError as refusal:
            refusals.append(str(refusal))
    raise InputError(f"{path}: the audio can't be decoded ({'; '.join(refusals)}).")


def _nameless(path: Path, stack: ExitStack) -> Any:
    """Open a file by its descriptor, because decoders guess the format from the name of a path."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    return stack.enter_context(open(descriptor, "rb"))


def _open_with_libsndfile(path: Path, stack: ExitStack) -> _Recording:
    try:
        sound = stack.enter_context(soundfile.SoundFile(_nameless(path, stack)))
    except soundfile.SoundFileError as error:
        raise _refusal(error) from None
    n_samples = sound.frames
    if sound.subtype == "MPEG_LAYER_III" and not _states_its_length(path):
        # libsndfile extrapolates from the first frame: 1 % off, or far more at a variable bit rate
        counted = round(_packet_seconds(path) * sound.samplerate)
        if counted > 1.01 * n_samples:
            raise _RefusedError("libsndfile: The mp3 has no header that says how long it is")
        n_samples = min(counted, n_samples)
    if n_samples == np.iinfo(np.int64).max:
        raise _RefusedError("libsndfile: The flac's header does not say how long it is")
    return _Recording(sound.samplerate, n_samples, partial(_libsndfile_blocks, path, sound))


def _states_its_length(path: Path) -> bool:
    """Whether an mp3 has a Xing or VBRI header after its ID3 tags."""
    with path.open("rb") as file:
        at = 0
        while (head := file.read(10))[:3] == b"ID3":  # four bytes of seven bits hold the size of the tag
            at += 10 + int("".join(f"{byte:07b}" for byte in head[6:]), 2)
            file.seek(at)
        first_frames = file.read(4096)
    return any(name in first_frames for name in (b"Xing", b"Info", b"VBRI"))


def _libsndfile_blocks(path: Path, sound: soundfile.SoundFile, start: int, stop: int) -> Iterator[np.ndarray]:
    # soundfile seeks after every read, and an mp3 frame may need the frames before it
    lead = round(_MP3_LEAD_SECONDS * sound.samplerate) if sound.format == "MP3" else 0
    size = _BLOCK_SECONDS * sound.samplerate
    for first in range(start, stop, size):
        skipped, wanted = min(lead, first), min(size, stop - first)
        try:
            sound.seek(first - skipped)
            mono = sound.read(skipped + wanted, dtype="float32", always_2d=True).mean(axis=1)
        except soundfile.SoundFileError as error:
            yield from _readable_blocks(path, first)
            raise _refusal(error) from None
        yield mono[skipped:]
        if len(mono) < skipped + wanted:
            return


def _readable_blocks(path: Path, start: int) -> Iterator[np.ndarray]:
    """Decode up to the point of failure, in steps of a twentieth of a second."""
    with ExitStack() as stack, suppress(soundfile.SoundFileError):
        # open the file again, because a failed read leaves it unusable
        sound = stack.enter_context(soundfile.SoundFile(_nameless(path, stack)))
        sound.seek(start)
        while len(channels := sound.read(sound.samplerate // 20, dtype="float32", always_2d=True)):
            yield channels.mean(axis=1)


def _refusal(error: Exception) -> _RefusedError:
    reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").strip(" .")
    if "does not exist" in reason:  # libsndfile's mp3 decoder says this of any unknown format
        reason = "Format not recognised"
    return _RefusedError(f"libsndfile: {reason}")


@contextmanager
def _ffmpeg_refusals() -> Iterator[None]:
    """Turn PyAV's errors, and its ValueError when the sample rate changes in a file, into `_RefusedError`."""
    import av  # slow, so imported only for files that libsndfile refuses

    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise _RefusedError(f"FFmpeg: {getattr(error, 'strerror', None) or error}") from None


def _open_with_ffmpeg(path: Path, stack: ExitStack) -> _Recording:
    with _ffmpeg_refusals():
        container, stream = _audio_stream(path, stack)
        rate_hz = stream.codec_context.sample_rate
        n_samples = round((_stated_seconds(container, stream) or _packet_seconds(path)) * rate_hz)
    return _Recording(rate_hz, n_samples, partial(_ffmpeg_blocks, container, stream))


def _audio_stream(path: Path, stack: ExitStack) -> tuple[Any, Any]:
    import av

    container = stack.enter_context(av.open(_nameless(path, stack)))
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context is None or not stream.codec_context.sample_rate:
        raise _RefusedError("FFmpeg: There is no sound in it")
    return container, stream


def _stated_seconds(container: Any, stream: Any) -> Fraction | None:
    """Read the length from the header; None if it states none."""
    import av

    if container.format.flags & av.format.Flags.generic_index.value:  # without a header, FFmpeg guesses
        return None
    if stream.duration is not None:
        return stream.duration * stream.time_base
    return container.duration and Fraction(container.duration, av.time_base)


def _packet_seconds(path: Path) -> Fraction:
    """Compute the length from the packets, without decoding them."""
    with ExitStack() as stack, _ffmpeg_refusals():
        container, stream = _audio_stream(path, stack)
        # tags after the audio of an mp3 are also packets, but don't begin with a frame's sync word
        begins = b"\xff" if stream.codec.name.startswith("mp3") else b""
        packets = (p for p in container.demux(stream) if p.pts is not None and bytes(p).startswith(begins))
        end = max((packet.pts + (packet.duration or 0) for packet in packets), default=0)
        return (end - (stream.start_time or 0)) * stream.time_base


def _ffmpeg_blocks(container: Any, stream: Any, start: int, stop: int) -> Iterator[np.ndarray]:
    import av

    rate_hz = stream.codec_context.sample_rate
    resampler = av.AudioResampler(format="fltp", rate=rate_hz)
    position = origin = 0
    seeks = start > rate_hz and container.format.name in _SEEKABLE
    with _ffmpeg_refusals():
        if seeks:  # to one second earlier, because frames of some codecs depend on earlier frames
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
                yield mono[max(start - position, 0) : max(stop - position, 0)]
                position += len(mono)
                if position >= stop:
                    return
