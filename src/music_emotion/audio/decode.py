"""Decode audio files, or spans of them, to a mono waveform at a given sample rate.

A header may describe less than its file holds, for example when files were joined. Therefore FFmpeg (through
PyAV) first counts the packets of a file, without decoding them. libsndfile decodes the file if it finds the
same length; otherwise FFmpeg does. If a span can't be decoded completely, an `InputError` gives the reason.
"""

import math
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import soxr

from music_emotion.audio.ffmpeg import (
    TOLERANCE_SECONDS,
    Recording,
    RefusedError,
    open_nameless,
    open_with_ffmpeg,
    survey,
)
from music_emotion.audio.settings import N_FFT, FeatureSettings
from music_emotion.files import InputError, regular_file

_BLOCK_SECONDS = 30
_MP3_LEAD_SECONDS = 0.2
_LONGEST_OGG_PAGE = 65307  # bytes
_CANCELLED = 0.01  # power of the mean of opposite channels, relative to their own power
_MOST_CANCELLED = 0.1  # share of the power in steps where channels cancel out
_SILENCE = 2.0**-16  # half a step of 16-bit audio; quieter mel power is below librosa's floor
_LOUDEST = 1e6  # full scale is 1, but some float files hold unscaled 16-bit values
_STEP = 1024  # samples
_SLACK_BYTES = 4096  # some encoders count one chunk too many; 0.02 s of CD audio
_UNKNOWN_SIZE = 0x7FFF0000  # the header of a wav written to a pipe states about 2 or 4 GB


def read_waveform(
    path: Path, sample_rate_hz: int = 22050, start_seconds: float = 0.0, end_seconds: float | None = None
) -> np.ndarray:
    """Read a span of an audio file as mono.

    The file is decoded and resampled in blocks, so it takes little more memory than the result.

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
        the mean has less than a hundredth of their power, over parts that hold a tenth of all power.

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


def read_clip(
    path: Path, settings: FeatureSettings, start_seconds: float = 0.0, end_seconds: float | None = None
) -> np.ndarray:
    """Read the waveform of a clip, and check that it can be analysed.

    Parameters
    ----------
    path : Path
        Audio file.
    settings : FeatureSettings
    start_seconds, end_seconds : float
        The span to read. None reads to the end of the recording.

    Returns
    -------
    np.ndarray [shape=(n_samples,)], float32
        Mono, at ``settings.sample_rate_hz``.

    Raises
    ------
    InputError
        When the clip can't be decoded, is shorter than an analysis window, is silent, or has values that are
        not finite.
    """
    waveform = read_waveform(path, settings.sample_rate_hz, start_seconds, end_seconds)
    clip, shortest = f"{path}: the clip from {start_seconds:g} s on", max(settings.n_fft, N_FFT)
    if len(waveform) < shortest:
        found = f"{len(waveform)} samples at {settings.sample_rate_hz} Hz"
        raise InputError(f"{clip} has {found}; at least {shortest} are needed.")
    loudest = np.abs(waveform).max()
    if not loudest < _LOUDEST:
        raise InputError(f"{clip} holds values that are not finite, or far beyond full scale.")
    if loudest < _SILENCE:
        raise InputError(f"{clip} is silent.")
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
    path: Path, recording: Recording, start_seconds: float, end_seconds: float | None
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
    path: Path, recording: Recording, start: int, stop: int, sample_rate_hz: int, channel: int | None = None
) -> tuple[np.ndarray, bool]:
    """Decode and resample block by block. The result equals resampling the whole span at once.

    Returns the waveform, and whether its channels cancel out.
    """
    rate_hz, n_decoded, n_written, reason = recording.sample_rate_hz, 0, 0, ""
    power = cancelled = 0.0
    ratio = sample_rate_hz / rate_hz
    # beyond the end of the recording, there may be as much as its length is uncertain by
    further = round(recording.slack_seconds * rate_hz) if stop == recording.n_samples else 0
    kept = stop - start + (further if recording.slack_seconds > TOLERANCE_SECONDS else 0)
    waveform = np.zeros(math.ceil(kept * ratio), np.float32)
    resampler = soxr.ResampleStream(rate_hz, sample_rate_hz, 1) if ratio != 1 else None

    def write(block: np.ndarray, last: bool = False) -> int:
        resampled = resampler.resample_chunk(block, last=last) if resampler else block
        place = waveform[n_written : n_written + len(resampled)]
        place[:] = resampled[: len(place)]
        return len(place)

    try:
        for channels in recording.blocks(start, stop + 2 * further):
            n_channels = channels.shape[1]
            shares = np.full(n_channels, 1 / n_channels, np.float32)  # np.mean is slow over so short an axis
            mono = channels @ shares if channel is None else channels[:, channel]
            if n_channels > 1 and channel is None:
                steps = np.arange(0, len(mono), _STEP)
                of_channels = np.add.reduceat(channels**2 @ shares, steps)
                cancelled += of_channels[np.add.reduceat(mono**2, steps) < _CANCELLED * of_channels].sum()
                power += of_channels.sum()
            n_written += write(mono[: max(kept - n_decoded, 0)])
            n_decoded += len(mono)
    except RefusedError as error:
        reason = f" ({error})"
    promised, decoded = (stop - start) / rate_hz, n_decoded / rate_hz
    is_short = n_decoded == 0 or promised - decoded > recording.slack_seconds
    if is_short or decoded - promised > recording.slack_seconds:
        fault = "is cut off or damaged" if is_short else "holds more than its header and packets state"
        raise InputError(
            f"{path}: the file {fault}: from {start / rate_hz:.2f} s on, it promises {promised:.2f} s, but "
            f"{'only ' * is_short}{decoded:.2f} s can be decoded{reason}."
        )
    write(np.empty(0, np.float32), last=True)
    return waveform[: math.ceil(n_decoded * ratio)], cancelled > _MOST_CANCELLED * power


def _fault_at_end(path: Path, recording: Recording) -> str:
    """Explain why the decoded sound is not the whole sound of a file; empty if it is.

    The header of a wav file states the file's size, and that of a caf file the size of its sound. The last
    page of an Ogg stream carries a flag (RFC 3533, section 6).
    """
    seconds, found = recording.n_samples / recording.sample_rate_hz, survey(path)
    with path.open("rb") as file:
        head = file.read(1 << 16)
        size = file.seek(0, os.SEEK_END)
        is_cut_off = False
        if head[:4] == b"RIFF":
            promised = int.from_bytes(head[4:8], "little")
            is_cut_off = 0 < promised < _UNKNOWN_SIZE and size < 8 + promised - _SLACK_BYTES
        elif head[:4] == b"caff":
            promised = int.from_bytes(head.partition(b"data")[2][:8], "big", signed=True)
            is_cut_off = size < promised
        elif head[:4] == b"OggS":
            file.seek(max(0, size - _LONGEST_OGG_PAGE))
            tail = file.read()
            flags_at = tail.rfind(b"OggS") + 5
            is_cut_off = flags_at < 5 or flags_at >= len(tail) or not tail[flags_at] & 4
    if is_cut_off:
        return f"the file is cut off: its sound ends at {seconds:.2f} s."
    if found is None:
        return ""
    stated, slack = max(seconds, found.stated_seconds or 0), found.slack_seconds
    if stated > found.seconds + slack:
        return f"the file is cut off: its header states {stated:.2f} s, but it holds {found.seconds:.2f} s."
    if found.seconds > seconds + slack:
        return f"its header states {seconds:.2f} s, but it holds {found.seconds:.2f} s."
    return found.fault


@contextmanager
def _opened(path: Path) -> Iterator[Recording]:
    """Open an audio file for reading."""
    try:
        if not regular_file(path, "The audio file", "Correct its path.").stat().st_size:
            raise InputError(f"{path}: the file is empty.")
        with ExitStack() as stack:
            recording = _open_with_either(path, stack)
            if recording.n_samples <= 0:
                raise InputError(f"{path}: the recording has no samples.")
            yield recording
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: the file can't be read ({error.strerror or error}).") from None
    except (ValueError, MemoryError, ArithmeticError) as error:
        # damaged headers cause these errors: lengths beyond the memory, names that are not text
        reason = f"{type(error).__name__}: {error}"
        cause = "damaged, or too long for the memory" if isinstance(error, MemoryError) else "damaged"
        raise InputError(f"{path}: the audio can't be decoded ({reason}); the file is {cause}.") from None


def _open_with_either(path: Path, stack: ExitStack) -> Recording:
    """Open a file with libsndfile or, if that fails, with FFmpeg. The stack closes the file."""
    refusals = []
    for open_with in (_open_with_libsndfile, open_with_ffmpeg):
        try:
            return open_with(path, stack)
        except RefusedError as refusal:
            refusals.append(str(refusal))
    raise InputError(f"{path}: the audio can't be decoded ({'; '.join(refusals)}).")


def _open_with_libsndfile(path: Path, stack: ExitStack) -> Recording:
    try:
        descriptor = open_nameless(path, stack)
        sound = stack.enter_context(soundfile.SoundFile(descriptor, closefd=False))
    except soundfile.SoundFileError as error:
        raise _refusal(error) from None
    with path.open("rb") as file:
        if file.read(3) == b"ID3" and sound.format != "MP3":
            raise RefusedError("libsndfile: A tag stands before the header")
    if sound.subtype.startswith("ALAC"):  # libsndfile repeats a block where a file is damaged
        raise RefusedError("libsndfile: ALAC is left to FFmpeg")
    n_samples = sound.frames
    if n_samples == np.iinfo(np.int64).max:
        raise RefusedError("libsndfile: The flac's header does not say how long it is")
    if found := survey(path):
        seconds = n_samples / sound.samplerate
        # FFmpeg takes whatever follows the sound of an au file for sound
        if found.seconds > seconds + found.slack_seconds and (sound.format != "AU" or not n_samples):
            raise RefusedError(f"libsndfile: It finds {seconds:.2f} s of {found.seconds:.2f} s")
        if sound.subtype.startswith("MPEG_LAYER") and not _states_its_length(path):
            # libsndfile extrapolates from the first frame
            if seconds > found.seconds + found.slack_seconds:
                raise RefusedError(f"libsndfile: It expects {seconds:.2f} s of {found.seconds:.2f} s")
            n_samples = min(round(found.seconds * sound.samplerate), n_samples)
    return Recording(sound.samplerate, n_samples, TOLERANCE_SECONDS, partial(_blocks, path, sound))


def _states_its_length(path: Path) -> bool:
    """Whether an mp3 has a Xing header with its number of frames."""
    with path.open("rb") as file:
        at = 0
        while (head := file.read(10))[:3] == b"ID3":  # four bytes of seven bits hold the size of the tag
            at += 10 + int("".join(f"{byte:07b}" for byte in head[6:]), 2)
            file.seek(at)
        first_frames = file.read(4096)
    found = re.search(rb"(?:Xing|Info)...[\1\3\5\7\x09\x0b\x0d\x0f](.{4})", first_frames, re.DOTALL)
    return found is not None and any(found[1])


def _blocks(path: Path, sound: soundfile.SoundFile, start: int, stop: int) -> Iterator[np.ndarray]:
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
        sound = stack.enter_context(soundfile.SoundFile(open_nameless(path, stack), closefd=False))
        sound.seek(start)
        while len(block := sound.read(sound.samplerate // 20, dtype="float32", always_2d=True)):
            yield block


def _refusal(error: Exception) -> RefusedError:
    reason = getattr(error, "error_string", str(error)).removeprefix("Error : ").strip(" .")
    if "does not exist" in reason:  # libsndfile's mp3 decoder says this of any unknown format
        reason = "Format not recognised"
    return RefusedError(f"libsndfile: {reason}")
