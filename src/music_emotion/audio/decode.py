"""Decode audio files, or spans of them, to a mono waveform at a given sample rate.

A header may describe less than its file holds, for example when files were joined. Therefore FFmpeg (through
PyAV) first counts the packets of a file, without decoding them. libsndfile decodes the file if it finds the
same length; otherwise FFmpeg does. If a span can't be decoded completely, an `InputError` gives the reason.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from music_emotion.files import InputError

TOLERANCE_SECONDS = 0.1  # mp3 and m4a headers and tables of spans round lengths
_BLOCK_SECONDS = 30
_MP3_LEAD_SECONDS = 0.2
# FFmpeg seeks exactly in these formats (in webm, to a millisecond). Other formats are decoded from the start,
# because seeking in wma and ac3 is up to 0.1 s off.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "aac")
_LONGEST_OGG_PAGE = 65307  # bytes
_MOST_PADDING = 4  # packets at the ends of an mp3
_CANCELLED = 0.01  # power of the mean of opposite channels, relative to their own power
_SLACK_BYTES = 4096  # some encoders count one chunk too many; 0.02 s of CD audio
_UNKNOWN_SIZE = 0x7FFF0000  # the header of a wav written to a pipe states about 2 or 4 GB


class _RefusedError(Exception):
    """A decoder can't open a file or can't continue; the message is the reason."""


class _Recording(NamedTuple):
    """An opened audio file.

    `blocks(start, stop)` yields the samples from `start` up to `stop` as float32 [shape=(n, n_channels)]. It
    stops early at the end of the file, and raises `_RefusedError` where the decoder fails. `n_samples` may be
    too large by `slack_seconds`.
    """

    sample_rate_hz: int
    n_samples: int
    slack_seconds: float
    blocks: Callable[[int, int], Iterator[np.ndarray]]


class _Survey(NamedTuple):
    """What FFmpeg finds in a file without decoding it.

    Attributes
    ----------
    seconds : float
        Sum of the durations of the packets.
    slack_seconds : float
        Largest difference between `seconds` and the length of the sound.
    stated_seconds : float or None
        Length in the header, if it has one.
    fault : str
        Why there is more sound in the file than in its packets; empty if there is not.
    """

    seconds: float
    slack_seconds: float
    stated_seconds: float | None
    fault: str


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
        The mean of the channels, nominally in -1 to 1. The first channel, if the channels cancel out: if
        the mean has less than a hundredth of their power.

    Raises
    ------
    InputError
        When the file can't be decoded, the span is empty or outside the recording, or the sample rate
        changes. When header, packets and decoded sound disagree by more than 0.1 s and the padding of the
        encoder. The message names the file.

    Notes
    -----
    A truncated file can be read by an `end_seconds` before the point where it is cut off.
    """
    with _opened(path) as recording:
        start, stop = _span(path, recording, start_seconds, end_seconds)
        if stop == recording.n_samples and (fault := _fault_at_end(path, recording)):
            raise InputError(f"{path}: {fault} Replace the file, or give a span that ends earlier.")
        waveform, cancels_out = _decoded(path, recording, start, stop, sample_rate_hz)
    if cancels_out:
        with _opened(path) as recording:
            waveform, _ = _decoded(path, recording, start, stop, sample_rate_hz, channel=0)
    return waveform


def recording_seconds(path: Path) -> float:
    """Find the length of a recording from its header and packets, without decoding.

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


def _decoded(
    path: Path, recording: _Recording, start: int, stop: int, sample_rate_hz: int, channel: int | None = None
) -> tuple[np.ndarray, bool]:
    """Decode and resample block by block. The result equals resampling the whole span at once.

    Returns the waveform, and whether its channels cancel out.
    """
    rate_hz, n_decoded, n_written, reason = recording.sample_rate_hz, 0, 0, ""
    power_of_mean = power = 0.0
    ratio = sample_rate_hz / rate_hz
    waveform = np.zeros(math.ceil((stop - start) * ratio), np.float32)
    resampler = soxr.ResampleStream(rate_hz, sample_rate_hz, 1) if ratio != 1 else None

    def write(block: np.ndarray, last: bool = False) -> int:
        resampled = resampler.resample_chunk(block, last=last) if resampler else block
        place = waveform[n_written : n_written + len(resampled)]
        place[:] = resampled[: len(place)]
        return len(place)

    # beyond the end of the recording, nothing should follow
    further = rate_hz if stop == recording.n_samples else 0
    try:
        for channels in recording.blocks(start, stop + further):
            mono = channels.mean(axis=1) if channel is None else channels[:, channel]
            power_of_mean += np.vdot(mono, mono)
            power += np.vdot(channels, channels) / channels.shape[1]
            n_written += write(mono[: max(stop - start - n_decoded, 0)])
            n_decoded += len(mono)
    except _RefusedError as error:
        reason = f" ({error})"
    promised, decoded = (stop - start) / rate_hz, n_decoded / rate_hz
    is_short = n_decoded == 0 or promised - decoded > recording.slack_seconds
    if is_short or decoded - promised > TOLERANCE_SECONDS:
        fault = "is cut off or damaged" if is_short else "holds more than its header and packets tell"
        raise InputError(
            f"{path}: the file {fault}: from {start / rate_hz:.2f} s on, it promises {promised:.2f} s, but "
            f"{'only ' * is_short}{decoded:.2f} s can be decoded{reason}."
        )
    write(np.empty(0, np.float32), last=True)
    return waveform[: math.ceil(n_decoded * ratio)], power_of_mean < _CANCELLED * power


def _fault_at_end(path: Path, recording: _Recording) -> str:
    """Describe why a file has not all of its sound, or more than its header tells; empty if it has all.

    The header of a wav file states the file's size. The last page of an Ogg stream carries a flag (RFC 3533,
    section 6).
    """
    seconds, survey = recording.n_samples / recording.sample_rate_hz, _survey_of(path)
    with path.open("rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        is_cut_off = False
        if head[:4] == b"RIFF":
            promised = int.from_bytes(head[4:8], "little")
            is_cut_off = 0 < promised < _UNKNOWN_SIZE and size < 8 + promised - _SLACK_BYTES
        elif head[:4] == b"OggS":
            file.seek(max(0, size - _LONGEST_OGG_PAGE))
            tail = file.read()
            flags_at = tail.rfind(b"OggS") + 5
            is_cut_off = flags_at < 5 or flags_at >= len(tail) or not tail[flags_at] & 4
    if is_cut_off:
        return f"the file is cut off: its sound ends at {seconds:.2f} s."
    if survey and (survey.stated_seconds or 0) > seconds + survey.slack_seconds:
        stated = survey.stated_seconds
        return (
            f"the file is cut off: its header states {stated:.2f} s, but its sound ends at {seconds:.2f} s."
        )
    return survey.fault if survey else ""


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
    if n_samples == np.iinfo(np.int64).max:
        raise _RefusedError("libsndfile: The flac's header does not say how long it is")
    if survey := _survey_of(path):
        found, seconds = survey.seconds, n_samples / sound.samplerate
        if found > seconds + survey.slack_seconds:
            raise _RefusedError(
                f"libsndfile: It finds {seconds:.2f} s, but there are {found:.2f} s of packets"
            )
        if sound.subtype == "MPEG_LAYER_III" and not _states_its_length(path):
            # libsndfile extrapolates from the first frame
            n_samples = min(round(found * sound.samplerate), n_samples)
    blocks = partial(_libsndfile_blocks, path, sound)
    return _Recording(sound.samplerate, n_samples, TOLERANCE_SECONDS, blocks)


def _states_its_length(path: Path) -> bool:
    """Whether an mp3 has a Xing or VBRI header with its number of frames."""
    with path.open("rb") as file:
        at = 0
        while (head := file.read(10))[:3] == b"ID3":  # four bytes of seven bits hold the size of the tag
            at += 10 + int("".join(f"{byte:07b}" for byte in head[6:]), 2)
            file.seek(at)
        first_frames = file.read(4096)
    found = re.search(
        rb"(?:Xing|Info)...[\1\3\5\7\x09\x0b\x0d\x0f](.{4})|VBRI.{10}(.{4})", first_frames, re.DOTALL
    )
    return found is not None and any(found[1] or found[2])


def _libsndfile_blocks(path: Path, sound: soundfile.SoundFile, start: int, stop: int) -> Iterator[np.ndarray]:
    # soundfile seeks after every read, and an mp3 frame may need the frames before it
    lead = round(_MP3_LEAD_SECONDS * sound.samplerate) if sound.format == "MP3" else 0
    size = _BLOCK_SECONDS * sound.samplerate
    for first in range(start, stop, size):
        skipped, wanted = min(lead, first), min(size, stop - first)
        try:
            sound.seek(first - skipped)
            block = sound.read(skipped + wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            yield from _readable_blocks(path, first)
            raise _refusal(error) from None
        yield block[skipped:]
        if len(block) < skipped + wanted:
            return


def _readable_blocks(path: Path, start: int) -> Iterator[np.ndarray]:
    """Decode up to the point of failure, in steps of a twentieth of a second."""
    with ExitStack() as stack, suppress(soundfile.SoundFileError):
        # open the file again, because a failed read leaves it unusable
        sound = stack.enter_context(soundfile.SoundFile(_nameless(path, stack)))
        sound.seek(start)
        while len(block := sound.read(sound.samplerate // 20, dtype="float32", always_2d=True)):
            yield block


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
    rate_hz, blocks = stream.codec_context.sample_rate, partial(_ffmpeg_blocks, container, stream)
    survey = _survey_of(path)
    assert survey is not None  # since the file can be opened
    stated = survey.stated_seconds
    if stated and survey.seconds < stated + survey.slack_seconds:
        return _Recording(rate_hz, round(stated * rate_hz), TOLERANCE_SECONDS, blocks)
    return _Recording(rate_hz, round(survey.seconds * rate_hz), survey.slack_seconds, blocks)


def _audio_stream(path: Path, stack: ExitStack) -> tuple[Any, Any]:
    import av

    container = stack.enter_context(av.open(_nameless(path, stack)))
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context is None or not stream.codec_context.sample_rate:
        raise _RefusedError("FFmpeg: There is no sound in it")
    return container, stream


def _stated_seconds(container: Any, stream: Any) -> float | None:
    """Read the length from the header; None if it states none."""
    import av

    if container.format.flags & av.format.Flags.generic_index.value:  # without a header, FFmpeg guesses
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return container.duration and container.duration / av.time_base


def _survey_of(path: Path) -> _Survey | None:
    """Survey a file; None if FFmpeg can't open it."""
    status = path.stat()
    return _survey(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)  # windows of one recording are read one after another
def _survey(path: Path, size: int, _mtime_ns: int) -> _Survey | None:
    with ExitStack() as stack:
        try:
            with _ffmpeg_refusals():
                container, stream = _audio_stream(path, stack)
        except _RefusedError:
            return None
        # tags after the audio of an mp3 are also packets, but don't begin with a frame's sync word
        begins = b"\xff" if stream.codec.name.startswith("mp3") else b""
        durations, end, used, fault = [], 0, 0, ""
        try:
            with _ffmpeg_refusals():
                for packet in container.demux(stream):
                    if packet.pts is not None and bytes(packet).startswith(begins):
                        duration = packet.duration or 0
                        # in 32 bits without a sign, where FFmpeg cuts more off than a packet holds
                        durations.append(duration if duration < 1 << 31 else duration - (1 << 32))
                        end = max(end, packet.pts + durations[-1])
                        used = max(used, (packet.pos or 0) + packet.size)
        except _RefusedError as error:
            fault = f"no decoder can read it to its end ({error})."
        # timestamps start anew where files are joined
        total = sum(durations) if all(durations) else end - (stream.start_time or 0)
        seconds = float(total * stream.time_base)
        padding = _MOST_PADDING * seconds / max(len(durations), 1)
        stated = _stated_seconds(container, stream)
        is_pcm = stream.codec.name.startswith("pcm")
    slack = TOLERANCE_SECONDS + (padding if begins else 0)
    if used and not fault and (size - used) / used * seconds > slack and _goes_on(path, used, is_pcm):
        fault = (
            f"its header states {seconds:.2f} s, but its size allows {seconds * size / used:.2f} s. "
            f"Files were joined, or the header is wrong."
        )
    return _Survey(seconds, slack, stated, fault)


def _goes_on(path: Path, used: int, is_pcm: bool) -> bool:
    """Whether sound follows the last packet: another file of the same kind, or samples instead of a chunk."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(used)
        tail = file.read()
    magic = head[4:] if head[4:] == b"ftyp" else head[:4]
    return magic in tail or (is_pcm and not re.match(rb"\0?(ID3|TAG|[ -~]{4})", tail))


def _ffmpeg_blocks(container: Any, stream: Any, start: int, stop: int) -> Iterator[np.ndarray]:
    import av

    rate_hz, layout = stream.codec_context.sample_rate, ""
    position = origin = 0
    seeks = start > rate_hz and container.format.name in _SEEKABLE
    with _ffmpeg_refusals():
        if seeks:  # to one second earlier, because frames of some codecs depend on earlier frames
            first = next(container.decode(stream), None)
            origin = (first.pts if first else 0) or 0
            container.seek(origin + int((start / rate_hz - 1) / stream.time_base), stream=stream)
        for packet in container.demux(stream):
            frames = []
            with suppress(av.InvalidDataError):  # where files are joined; the length is compared at the end
                frames = packet.decode()
            for frame in frames:
                if seeks:
                    position = round(((frame.pts or 0) - origin) * stream.time_base * rate_hz)
                    seeks = False
                    if position > start:
                        raise ValueError("The file's index is wrong")
                if frame.sample_rate != rate_hz:
                    raise ValueError(f"The sample rate changes from {rate_hz} to {frame.sample_rate} Hz")
                if frame.layout.name != layout:  # the number of channels may change
                    layout = frame.layout.name
                    resampler = av.AudioResampler("fltp", layout, rate_hz)
                for converted in resampler.resample(frame):
                    block = converted.to_ndarray().T
                    yield block[max(start - position, 0) : max(stop - position, 0)]
                    position += len(block)
                if position >= stop:
                    return
