"""Read audio files with FFmpeg, through PyAV: count their packets, and decode them.

PyAV is imported where it is used, because the import is slow.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TOLERANCE_SECONDS = 0.1  # mp3 and m4a headers and tables of spans round lengths
_MOST_PADDING = 4  # packets at the ends of an mp3 or Vorbis stream
# FFmpeg seeks exactly in these formats (in webm, to a millisecond). Other formats are decoded from the start,
# because seeking in wma and ac3 is up to 0.1 s off.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aac")
_LONGEST_TAIL = 1 << 24  # bytes between the last packet of a file and another file joined to it


class RefusedError(Exception):
    """A decoder can't open a file or can't continue; the message is the reason."""


class Recording(NamedTuple):
    """An opened audio file.

    `blocks(start, stop)` yields the samples from `start` up to `stop` as float32 [shape=(n, n_channels)]. It
    stops early at the end of the file, and raises `RefusedError` where the decoder fails. `n_samples` may be
    too large by `slack_seconds`.
    """

    sample_rate_hz: int
    n_samples: int
    slack_seconds: float
    blocks: Callable[[int, int], Iterator[np.ndarray]]


class Survey(NamedTuple):
    """What FFmpeg finds in a file without decoding it.

    Attributes
    ----------
    seconds : float
        Sum of the durations of the packets.
    slack_seconds : float
        Largest accepted difference between two lengths of the sound.
    stated_seconds : float or None
        Length in the header, if it has one.
    fault : str
        Why the packets are not the whole sound of the file; empty if they are.
    """

    seconds: float
    slack_seconds: float
    stated_seconds: float | None
    fault: str


def open_nameless(path: Path, stack: ExitStack) -> int:
    """Open a file by its descriptor, because decoders guess the format from the name of a path."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    stack.callback(os.close, descriptor)
    return descriptor


def survey(path: Path) -> Survey | None:
    """Count the packets of a file, and look for sound behind them.

    Parameters
    ----------
    path : Path
        Any file.

    Returns
    -------
    Survey or None
        None if FFmpeg can't open the file.
    """
    status = path.stat()
    return _survey(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)  # windows of one recording are read one after another
def _survey(path: Path, size: int, _mtime_ns: int) -> Survey | None:
    with ExitStack() as stack:
        try:
            with _refusals():
                container, stream = _audio_stream(path, stack)
        except RefusedError:
            return None
        codec, name = stream.codec.name, container.format.name
        is_mpeg, is_pcm = codec.startswith(("mp2", "mp3")), codec.startswith(("pcm", "adpcm"))
        n_packets = total = duration = used = 0
        last, longest_step, fault = 0, 2 / stream.time_base, ""
        try:
            with _refusals():
                for packet in container.demux():
                    used = max(used, (packet.pos or 0) + packet.size)
                    # tags after the audio of an mp3 are also packets, but don't begin with a sync byte
                    is_tag = is_mpeg and packet.size and memoryview(packet)[0] != 0xFF
                    if packet.pts is None or packet.stream_index != stream.index or is_tag:
                        continue
                    step = packet.pts - last
                    if n_packets and step < 0 and name == "matroska,webm":  # the second may differ in kind
                        fault = "another recording is joined to it."
                    # time stamps start anew where files are joined; durations of Vorbis are not exact
                    total += (step if 0 <= step < longest_step else duration) if n_packets else 0
                    n_packets, last, duration = n_packets + 1, packet.pts, packet.duration or 0
                    if duration >= 1 << 31:  # without a sign, where FFmpeg cuts off more than a packet
                        duration -= 1 << 32
        except RefusedError as error:
            fault = f"no decoder can read it to its end ({error})."
        seconds = float((total + duration) * stream.time_base)
        stated = _stated_seconds(container, stream, is_pcm)
        is_padded = is_mpeg or codec == "vorbis"
    slack = TOLERANCE_SECONDS + (_MOST_PADDING * seconds / n_packets if is_padded and n_packets else 0)
    if used and not fault and (size / used - 1) * seconds > slack and _goes_on(path, used):
        fault = (
            f"its header states {seconds:.2f} s, but its size allows {seconds * size / used:.2f} s. Files "
            f"were joined, or the header is wrong."
        )
    return Survey(seconds, slack, stated, fault)


def _stated_seconds(container: Any, stream: Any, is_pcm: bool) -> float | None:
    """Read the length from the header; None if it states none."""
    import av

    if container.format.flags & av.format.Flags.generic_index.value and not is_pcm:
        return None  # without a header, FFmpeg guesses
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if len(container.streams) > 1 or container.duration is None:  # a film may be longer than its sound
        return None
    return container.duration / av.time_base


def _goes_on(path: Path, used: int) -> bool:
    """Whether sound follows the last packet: another file of the same kind, or samples instead of a chunk."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(used)
        tail = file.read(_LONGEST_TAIL)
    magic = head[4:] if head[4:] == b"ftyp" else head[:4]
    is_wave = magic in {b"RIFF", b"RF64", b"riff", b"FORM"}
    return magic in tail or (is_wave and not re.match(rb"\0?(ID3|TAG|[ -~]{4})", tail))


def open_with_ffmpeg(path: Path, stack: ExitStack) -> Recording:
    """Open a file; the stack closes it.

    Raises
    ------
    RefusedError
        When FFmpeg can't open it, or finds no sound in it.
    """
    with _refusals():
        container, stream = _audio_stream(path, stack)
    rate_hz, blocks = stream.codec_context.sample_rate, partial(_blocks, container, stream)
    found = survey(path)
    assert found is not None  # since the file can be opened
    if (stated := found.stated_seconds) and found.seconds <= stated + found.slack_seconds:
        return Recording(rate_hz, round(stated * rate_hz), TOLERANCE_SECONDS, blocks)
    return Recording(rate_hz, round(found.seconds * rate_hz), found.slack_seconds, blocks)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn PyAV's errors into `RefusedError`."""
    import av

    try:
        yield
    except (av.FFmpegError, ValueError) as error:
        raise RefusedError(f"FFmpeg: {getattr(error, 'strerror', None) or error}") from None


def _audio_stream(path: Path, stack: ExitStack) -> tuple[Any, Any]:
    import av

    options = {"fd": str(open_nameless(path, stack))}
    with path.open("rb") as file:
        if file.read(4) == b"RIFF":  # FFmpeg looks for DTS in it, for longer than the rest takes
            options["probesize"] = "32768"
    container = stack.enter_context(av.open("fd:", options=options))
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context is None or not stream.codec_context.sample_rate:
        raise RefusedError("FFmpeg: There is no sound in it")
    return container, stream


def _blocks(container: Any, stream: Any, start: int, stop: int) -> Iterator[np.ndarray]:
    import av

    rate_hz, layout, resampler = stream.codec_context.sample_rate, "", None
    position = origin = 0
    seeks = start > rate_hz and container.format.name in _SEEKABLE
    with _refusals():
        if seeks:  # to one second earlier, because frames of some codecs depend on earlier frames
            first = next(container.decode(stream), None)
            origin = (first.pts if first else 0) or 0
            container.seek(origin + int((start / rate_hz - 1) / stream.time_base), stream=stream)
        for packet in container.demux(stream):
            frames = []
            with suppress(av.error.InvalidDataError):  # where files are joined; lengths are compared later
                frames = packet.decode()
            for frame in frames:
                if seeks:
                    position = round(((frame.pts or 0) - origin) * stream.time_base * rate_hz)
                    seeks = False
                    if position > start:
                        raise ValueError("The file's index is wrong")
                if frame.sample_rate != rate_hz:
                    raise ValueError(f"The sample rate changes from {rate_hz} to {frame.sample_rate} Hz")
                if frame.layout.name != layout or resampler is None:  # the number of channels may change
                    layout = frame.layout.name
                    resampler = av.AudioResampler("fltp", layout, rate_hz)
                for converted in resampler.resample(frame):
                    block = converted.to_ndarray().T
                    yield block[max(start - position, 0) : max(stop - position, 0)]
                    position += len(block)
            if position >= stop:
                return
