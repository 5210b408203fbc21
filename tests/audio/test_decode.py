"""Decoding: any format, name and span; damaged and truncated files; the memory of a span and of a file."""

import errno
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from audio_files import RATE_HZ, encoded, noise, written
from matplotlib import image

from music_emotion.audio import decode, ffmpeg
from music_emotion.audio.decode import read_waveform, recording_seconds
from music_emotion.files import InputError

ENDINGS = ("wav", "flac", "aiff", "ogg", "mp3", "m4a")


@pytest.mark.parametrize("native_rate_hz", [8000, 22050, 48000])
def test_channels_are_averaged_and_other_sample_rates_resampled_as_librosa_does(
    tmp_path, monkeypatch, native_rate_hz
):
    monkeypatch.setattr(decode, "_BLOCK_SECONDS", 1)  # without borders between blocks
    tone = np.sin(2 * np.pi * 440 * np.arange(3 * native_rate_hz) / native_rate_hz)
    stereo = np.stack([0.5 * tone, 0.3 * noise(3, native_rate_hz) - 0.1 * tone], axis=1)
    path = written(tmp_path / "a.wav", stereo, native_rate_hz, "FLOAT")
    waveform, span = read_waveform(path), read_waveform(path, RATE_HZ, 1.0, 2.0)
    expected, _ = librosa.load(path, sr=RATE_HZ)
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, expected, atol=1e-6)
    assert np.abs(np.fft.rfft(waveform)).argmax() == 3 * 440
    assert len(span) == RATE_HZ
    np.testing.assert_allclose(span[1000:-1000], waveform[RATE_HZ + 1000 : 2 * RATE_HZ - 1000], atol=1e-3)


@pytest.mark.parametrize("ending", [*ENDINGS, "opus", "mp4", "aac", "wma", "webm"])
def test_a_span_is_the_same_part_of_the_whole(tmp_path, monkeypatch, ending):
    """Also of an mp3, whose first frame after a seek comes out damaged without those before it."""
    rate_hz = {"opus": 24000, "webm": 48000}.get(ending, RATE_HZ)
    by_ffmpeg = ending in ("m4a", "mp4", "aac", "wma", "webm")
    samples = np.outer(noise(4, rate_hz), np.float32([1, 0.5] if by_ffmpeg else [1]))
    path, codec = tmp_path / f"a.{ending}", {"mp4": "alac", "aac": "aac", "wma": "wmav2"}.get(ending)
    path = encoded(path, codec, samples) if codec else written(path, samples)
    whole = read_waveform(path, rate_hz)
    assert [recording_seconds(path), len(whole) / rate_hz] == pytest.approx([4, 4], abs=0.1)
    assert np.std(whole) == pytest.approx(np.std(samples.mean(axis=1)), rel=0.25)
    if ending in ("wav", "flac", "aiff", "mp4"):
        np.testing.assert_allclose(whole, samples.mean(axis=1), atol=1e-4)
    for start, length in ((0, 0.1), (0.2, 0.1), (1.1, 0.5), (1.9, 0.5), (3.4, 0.5)):
        span, first = read_waveform(path, rate_hz, start, start + length), round(start * rate_hz)
        assert len(span) == pytest.approx(length * rate_hz, abs=1)
        shifts = range(-24, 25) if ending == "webm" and start > 1 else (0,)  # it has whole milliseconds
        errors = [np.abs(span - whole[first + shift :][: len(span)]).max() for shift in shifts]
        assert min(errors) < (1e-3 if by_ffmpeg else 1e-5)
    monkeypatch.setattr(decode, "_BLOCK_SECONDS", 1)
    for end in (None, recording_seconds(path) + 0.09):
        rest = read_waveform(path, rate_hz, 0.5, end)
        np.testing.assert_allclose(rest, whole[round(0.5 * rate_hz) :], atol=1e-5)


@pytest.mark.parametrize("content", ENDINGS)
def test_the_content_counts_and_not_the_name(tmp_path, content):
    path = written(tmp_path / f"right.{content}", noise(0.5))
    expected = read_waveform(path)
    assert len(expected) == pytest.approx(11025, abs=1100)
    names = ["a.raw", "a.RAW", "a.mp3", "a.wav", "a.flac", "a.m4a", "a.vox", "a", "音 & 'ü'.wav", "%03d.wav"]
    if sys.platform == "linux":  # elsewhere, names are Unicode
        names.append(os.fsdecode(b"caf\xe9.wav"))
    for name in names:
        path = path.rename(tmp_path / name)
        np.testing.assert_array_equal(read_waveform(path), expected)


@pytest.mark.parametrize(
    ("start_seconds", "end_seconds", "sentence"),
    [
        (1.0, None, r"the clip starts at 1\.0 s, but the recording lasts from 0 to 1\.00 s"),
        (-1.0, None, r"the clip starts at -1\.0 s"),
        (0.9, 1.11, r"the clip ends at 1\.11 s, but the recording lasts from 0 to 1\.00 s"),
        (0.5, 0.2, r"there are no samples from 0\.5 s to 0\.2 s"),
    ],
)
def test_a_span_without_sound_gets_a_sentence(tmp_path, start_seconds, end_seconds, sentence):
    path = written(tmp_path / "short.wav", noise(1))
    with pytest.raises(InputError, match=rf"short\.wav: {sentence}"):
        read_waveform(path, RATE_HZ, start_seconds, end_seconds)


def without_length(path: Path) -> Path:
    """A flac as it is written into a pipe, without its number of samples."""
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(content)
    return path


def cut(path: Path, n_bytes: int) -> Path:
    path.write_bytes(path.read_bytes()[:n_bytes])
    return path


@pytest.mark.parametrize("rate_hz", [16000, 44100])
@pytest.mark.parametrize("options", [{}, {"global_quality": "500", "flags": "+qscale"}])
def test_an_mp3_without_its_length_is_read_whole(tmp_path, rate_hz, options):
    """libsndfile guesses its length from the first frame, at a variable bit rate far off."""
    path = encoded(tmp_path / "a.mp3", "libmp3lame", noise(8, rate_hz), rate_hz, write_xing="0", **options)
    assert recording_seconds(path) == pytest.approx(8.0, abs=0.15)
    assert len(read_waveform(path, rate_hz)) / rate_hz == pytest.approx(recording_seconds(path), abs=0.05)
    cover = np.random.default_rng(0).bytes(200_000)
    path.write_bytes(b"ID3\x04\0\0\0\x0c\x1a\x40" + cover[: (12 << 14) + (26 << 7) + 64] + path.read_bytes())
    path.write_bytes(path.read_bytes() + b"APETAGEX" + cover)
    assert len(read_waveform(path, rate_hz)) / rate_hz == pytest.approx(8.0, abs=0.2)


@pytest.mark.parametrize("write_xing", ["1", "0"])
def test_an_mp3_whose_stated_length_agrees_is_decoded_by_libsndfile(tmp_path, monkeypatch, write_xing):
    path = encoded(tmp_path / "a.mp3", "libmp3lame", noise(8), write_xing=write_xing)
    expected = soundfile.read(path, dtype="float32")[0]
    monkeypatch.setattr(ffmpeg, "_blocks", None)
    waveform = read_waveform(path)
    np.testing.assert_array_equal(waveform, expected[: len(waveform)])
    assert len(waveform) / len(expected) == pytest.approx(1, abs=0.01)


def test_lengths_that_are_unknown_when_a_file_is_begun_are_no_fault(tmp_path):
    path = written(tmp_path / "a.wav", noise(1))
    content = path.read_bytes()
    for size in (b"\xff\xff\xff\xff", b"\0\0\0\0", len(content).to_bytes(4, "little")):
        path.write_bytes(content[:4] + size + content[8:])
        assert len(read_waveform(path)) == RATE_HZ


def test_vorbis_with_changing_block_sizes_is_whole(tmp_path):
    clicks = 0.01 * noise(8)
    clicks[:: RATE_HZ // 5] = 0.9  # at every click, FFmpeg states a duration that is 6 ms too short
    assert len(read_waveform(written(tmp_path / "a.ogg", clicks))) == len(clicks)


@pytest.mark.parametrize("ending", [*ENDINGS, "opus", "webm"])
def test_a_recording_cut_off_is_refused_but_not_a_span_before_the_cut(tmp_path, ending):
    if ending == "m4a":  # with its index before the sound
        path = encoded(tmp_path / "a.m4a", "aac", noise(6), movflags="faststart")
    else:
        path = written(tmp_path / f"a.{ending}", noise(6))
    cut(path, 6 * path.stat().st_size // 10)
    end, is_shorter = recording_seconds(path), ending in ("wav", "aiff", "ogg", "opus")  # for libsndfile
    lengths = rf".*(ends at|holds) {end:.2f} s" if is_shorter else rf"its header states {end:.2f} s, but"
    with pytest.raises(InputError, match=rf"a\.{ending}: the file is cut off: {lengths}"):
        read_waveform(path)
    assert len(read_waveform(path, RATE_HZ, 0.5, 1.5)) == RATE_HZ
    if not is_shorter:
        sentence = rf"from {end - 0.6:.2f} s on, it promises 0\.50 s, but only 0\.00 s"
        with pytest.raises(InputError, match=sentence):
            read_waveform(path, RATE_HZ, end - 0.6, end - 0.1)


def test_refusals_name_the_reasons_of_the_decoders(tmp_path):
    path = written(tmp_path / "a.flac", noise(6))
    cut(path, -10)
    with pytest.raises(
        InputError, match=r"6\.00 s, but only 5\.[89]\d s .*\(libsndfile: flac .* lost sync\)"
    ):
        read_waveform(path)
    assert len(read_waveform(path, RATE_HZ, 0.0, 5.5)) == 5.5 * RATE_HZ  # only the last frame is missing
    path = written(tmp_path / "a.m4a", noise(4))
    cut(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"can't be decoded \(libsndfile: Format .*; FFmpeg: Invalid data"):
        read_waveform(path)
    image.imsave(tmp_path / "a.png", np.zeros((8, 8)))
    with pytest.raises(InputError, match=r"a\.png: .*FFmpeg: There is no sound in it"):
        read_waveform(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_waveform, recording_seconds])
def test_what_holds_no_sound_or_can_not_be_read_gets_a_sentence(tmp_path, monkeypatch, read):
    def refused(name: str, sentence: str) -> None:
        with pytest.raises(InputError, match=rf"{name}: {sentence}"):
            read(tmp_path / name)

    for ending in ("wav", "ogg", "aiff"):
        written(tmp_path / f"header.{ending}", noise(0))
        refused(f"header.{ending}", "the (recording has no samples|audio can't be)")
    cut(without_length(written(tmp_path / "header.flac", noise(1))), 42)
    refused("header.flac", "the audio can't be")
    for content in (b"this is not audio\n" * 3000, b"no", b"RIFF\0\0\0\0WAVEfmt ", bytes(9999)):
        for ending in ("mp3", "wav", "flac", "ogg", "m4a", "raw", "au", "snd", "vox", "gsm", "txt"):
            (tmp_path / f"broken.{ending}").write_bytes(content)
            refused(f"broken.{ending}", r"the audio can't be decoded \(libsndfile: ")
    (tmp_path / "folder.wav").mkdir()
    for name, reason in (("none", r"does not exist\. Correct its path"), ("folder", "is a folder")):
        with pytest.raises(InputError, match=rf"{name}\.wav {reason}\."):
            read(tmp_path / f"{name}.wav")
    (tmp_path / "empty.mp3").touch()
    refused("empty.mp3", "the file is empty")

    def refuse(*_: object) -> None:  # as the system does, unless the tests run as root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(decode, "open_nameless", refuse)
    refused("broken.mp3", r"the file can't be read \(Permission denied\)")


@pytest.mark.parametrize("ending", ENDINGS)
def test_damage_never_gives_more_than_a_sentence(tmp_path, ending):
    path = written(tmp_path / f"a.{ending}", noise(1))
    whole = path.read_bytes()
    rng, refusals = np.random.default_rng(0), []
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(len(whole) // 4, len(whole))])
        for place in rng.integers(0, min(len(damaged), 400), 6):  # mostly in the headers
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_waveform(path)
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert all(path.name in refusal for refusal in refusals)


def test_channels_that_cancel_out_in_a_part_are_read_as_one(tmp_path):
    left = noise(4)
    signs = np.repeat([1, -1], len(left) // 2)
    path = written(tmp_path / "a.wav", np.stack([left, left * signs], axis=1))
    np.testing.assert_allclose(read_waveform(path), left, atol=1e-4)
    path = written(tmp_path / "b.wav", np.stack([left, left[::-1]], axis=1))
    np.testing.assert_allclose(read_waveform(path), (left + left[::-1]) / 2, atol=1e-4)


@pytest.mark.needs("ffmpeg")
@pytest.mark.parametrize("codec", ["libopus", "libvorbis"])
def test_a_webm_of_the_ffmpeg_program_is_whole(tmp_path, codec):
    """Its time stamps begin below 0, and some of its packets have no duration."""
    wav = written(tmp_path / "a.wav", noise(12, 48000), 48000)
    path = tmp_path / "a.webm"
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, "-c:a", codec, path], check=True)
    assert [len(read_waveform(path)) / RATE_HZ, recording_seconds(path)] == pytest.approx([12, 12], abs=0.02)


def test_a_file_takes_little_more_memory_than_its_waveform(tmp_path):
    block = np.zeros((44100, 2), np.float32)
    block[::7] = 0.25
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 44100, 2) as file:
        for _ in range(200):
            file.write(block)

    def peak_bytes(*span: float) -> tuple[np.ndarray, int]:
        tracemalloc.start()
        waveform = read_waveform(tmp_path / "long.flac", *span)
        return waveform, (tracemalloc.get_traced_memory()[1], tracemalloc.stop())[0]

    waveform, peak = peak_bytes(44100, 60.0, 61.0)
    np.testing.assert_allclose(waveform, block.mean(axis=1), atol=1e-4)
    assert block.nbytes < peak < 4 * block.nbytes
    waveform, peak = peak_bytes(11025)
    assert len(waveform) == 200 * 11025
    assert peak < waveform.nbytes + 2.5 * 60 * block.nbytes
