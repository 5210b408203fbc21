"""Damaged files, files that hide their length, files that are no audio; and the memory of a span."""

import errno
import os
import sys
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from matplotlib import image

from music_emotion.audio import decoders
from music_emotion.audio.waveform import read_waveform, recording_seconds
from music_emotion.files import InputError

RATE_HZ = 22050
NOISE = np.random.default_rng(0).normal(0, 0.1, (6 * RATE_HZ, 1)).astype(np.float32)


def written(path: Path, samples: np.ndarray = NOISE) -> Path:
    opus = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, samples, 24000 if opus else RATE_HZ, **opus)
    return path


def encoded(path: Path, codec: str, seconds: float, rate_hz: int = RATE_HZ, **options: str) -> Path:
    """Noise that is quiet for 2 s, through FFmpeg."""
    samples = np.random.default_rng(0).normal(0, 0.1, (1, round(seconds * rate_hz))).astype(np.float32)
    samples[:, : 2 * rate_hz] *= 0.001
    codec_options = {name: options.pop(name) for name in ("global_quality", "flags") if name in options}
    with av.open(str(path), "w", format={".aac": "adts"}.get(path.suffix), options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="mono", options=codec_options)
        stream.bit_rate = 128000
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        context = stream.codec_context
        resampler = av.AudioResampler(context.format.name, "mono", rate_hz, context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return path


def without_length(path: Path) -> Path:
    """A flac as it is written into a pipe, without its number of samples."""
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])
    path.write_bytes(content)
    return path


def cut(path: Path, share: float = 0.5) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    return path


@pytest.mark.parametrize("rate_hz", [16000, 44100])
@pytest.mark.parametrize("options", [{}, {"global_quality": "500", "flags": "+qscale"}])
def test_an_mp3_without_its_length_is_read_whole(tmp_path, rate_hz, options):
    """libsndfile guesses its length from the first frame, at a variable bit rate far off."""
    path = encoded(tmp_path / "a.mp3", "libmp3lame", 8.0, rate_hz, write_xing="0", **options)
    assert recording_seconds(path) == pytest.approx(8.0, abs=0.15)
    assert len(read_waveform(path, rate_hz)) / rate_hz == pytest.approx(recording_seconds(path), abs=0.05)
    cover = np.random.default_rng(0).bytes(200_000)
    path.write_bytes(b"ID3\x04\0\0\0\x0c\x1a\x40" + cover[: (12 << 14) + (26 << 7) + 64] + path.read_bytes())
    path.write_bytes(path.read_bytes() + b"APETAGEX" + cover)
    assert len(read_waveform(path, rate_hz)) / rate_hz == pytest.approx(8.0, abs=0.2)


def test_an_mp3_that_libsndfile_would_cut_short_needs_ffmpeg(tmp_path, monkeypatch):
    options = {"write_xing": "0", "global_quality": "500", "flags": "+qscale"}
    path = encoded(tmp_path / "a.mp3", "libmp3lame", 8.0, **options)
    assert soundfile.info(path).duration < 6.0
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"mp3 has no header that says how long it is.*music-emotion\[m4a\]"):
        read_waveform(path)


def test_a_flac_without_its_length_is_read_whole(tmp_path):
    path = without_length(written(tmp_path / "a.flac"))
    assert recording_seconds(path) == 6.0
    np.testing.assert_allclose(read_waveform(path, RATE_HZ, 4.0), NOISE[4 * RATE_HZ :, 0], atol=1e-4)


@pytest.mark.parametrize("ending", ["wav", "aiff", "ogg", "opus"])
def test_what_libsndfile_takes_for_a_shorter_recording_is_refused(tmp_path, ending):
    path = written(tmp_path / f"a.{ending}")
    assert len(read_waveform(path)) / RATE_HZ == pytest.approx(recording_seconds(path), abs=0.01)
    cut(path)
    end = rf"{recording_seconds(path):.2f}"
    with pytest.raises(InputError, match=rf"a\.{ending}: the file is cut off: its sound ends at {end} s"):
        read_waveform(path)
    assert len(read_waveform(path, RATE_HZ, 0.5, 1.5)) == RATE_HZ


def test_a_wav_whose_size_was_not_known_when_it_was_begun_is_whole(tmp_path):
    path = written(tmp_path / "a.wav")
    for size in (b"\xff\xff\xff\xff", b"\0\0\0\0", (path.stat().st_size).to_bytes(4, "little")):
        content = path.read_bytes()
        path.write_bytes(content[:4] + size + content[8:])
        assert len(read_waveform(path)) == 6 * RATE_HZ


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [("flac", "", {}), ("mp3", "", {}), ("m4a", "aac", {"movflags": "faststart"}), ("webm", "libopus", {})],
)
def test_a_recording_cut_off_is_refused_but_not_a_span_before_the_cut(tmp_path, ending, codec, options):
    rate_hz = 48000 if codec == "libopus" else RATE_HZ
    path = tmp_path / f"a.{ending}"
    cut(encoded(path, codec, 6.0, rate_hz, **options) if codec else written(path), 0.6)
    promise = r"from 0\.00 s on, the file promises [56]\.\d+ s but only [2-4]\.\d+ s could be decoded"
    with pytest.raises(InputError, match=rf"a\.{ending}: .*{promise}.*; the file is cut off or damaged"):
        read_waveform(path)
    with pytest.raises(InputError, match=r"from 5\.00 s on, the file promises 0\.50 s but only 0\.00 s"):
        read_waveform(path, RATE_HZ, 5.0, 5.5)
    assert len(read_waveform(path, RATE_HZ, 1.0, 1.5)) == RATE_HZ // 2


def test_a_flac_that_lacks_its_last_bytes_lacks_its_last_frames(tmp_path):
    path = written(tmp_path / "a.flac")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"6\.00 s but only 5\.[89]\d s .*\(libsndfile: flac .* lost sync\)"):
        read_waveform(path)
    assert len(read_waveform(path, RATE_HZ, 0.0, 5.5)) == 5.5 * RATE_HZ


def test_an_m4a_without_its_index_gets_the_reasons_of_both_decoders(tmp_path):
    path = cut(encoded(tmp_path / "a.m4a", "aac", 4.0))
    with pytest.raises(InputError, match=r"can't be decoded \(libsndfile: Format .*; FFmpeg: Invalid data"):
        read_waveform(path)


@pytest.mark.parametrize("ending", ["wav", "ogg", "aiff", "flac"])
def test_a_header_alone_gets_a_sentence(tmp_path, ending):
    path = written(tmp_path / f"a.{ending}", NOISE[: 100 if ending == "flac" else 0])
    if ending == "flac":  # libsndfile writes none without samples
        path.write_bytes(without_length(path).read_bytes()[:42])
    for read in (read_waveform, recording_seconds):
        with pytest.raises(InputError, match=rf"a\.{ending}: the (recording has no samples|audio can't be)"):
            read(path)


@pytest.mark.parametrize(
    "name", ["mp3", "wav", "flac", "ogg", "m4a", "raw", "au", "snd", "vox", "gsm", "txt"]
)
@pytest.mark.parametrize(
    "content", [b"this is not audio\n" * 3000, b"no", b"RIFF\0\0\0\0WAVEfmt ", bytes(9999)]
)
def test_what_is_no_audio_is_refused_whatever_its_name(tmp_path, name, content):
    (tmp_path / f"broken.{name}").write_bytes(content)
    for read in (read_waveform, recording_seconds):
        with pytest.raises(InputError, match=rf"broken\.{name}: the audio can't be decoded \(libsndfile: "):
            read(tmp_path / f"broken.{name}")


def test_a_picture_holds_no_sound(tmp_path):
    image.imsave(tmp_path / "a.png", np.zeros((8, 8)))
    (tmp_path / "a.png").rename(tmp_path / "a.mp3")
    with pytest.raises(InputError, match=r"a\.mp3: .*FFmpeg: There is no sound in it"):
        read_waveform(tmp_path / "a.mp3")


@pytest.mark.parametrize("read", [read_waveform, recording_seconds])
def test_what_is_no_readable_file_gets_a_sentence(tmp_path, read):
    with pytest.raises(InputError, match=r"none\.wav: the file does not exist"):
        read(tmp_path / "none.wav")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(InputError, match=r"folder\.wav is a folder, not an audio file"):
        read(tmp_path / "folder.wav")
    (tmp_path / "empty.mp3").touch()
    with pytest.raises(InputError, match=r"empty\.mp3: the file is empty"):
        read(tmp_path / "empty.mp3")


def test_a_file_that_may_not_be_read_gets_a_sentence(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:  # as the system does, unless the tests run as root
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = written(tmp_path / "a.wav")
    monkeypatch.setattr(decoders, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"a\.wav: the file can't be read \(Permission denied\)"):
        read_waveform(path)


@pytest.mark.parametrize("ending", ["wav", "aiff", "flac", "ogg", "mp3", "m4a"])
def test_damage_never_gives_more_than_a_sentence(tmp_path, ending):
    path = encoded(tmp_path / "a.m4a", "aac", 1.0) if ending == "m4a" else tmp_path / f"a.{ending}"
    whole = (path if ending == "m4a" else written(path, NOISE[:RATE_HZ])).read_bytes()
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


@pytest.mark.parametrize(("ending", "minutes"), [("flac", 10), ("wav", 2)])
def test_a_span_takes_no_more_memory_than_it_needs(tmp_path, ending, minutes):
    block = np.zeros((44100, 2), np.float32)
    block[::7] = 0.25
    with soundfile.SoundFile(tmp_path / f"long.{ending}", "w", 44100, 2) as file:
        for _ in range(60 * minutes):
            file.write(block)
    whole_bytes = 60 * minutes * block.nbytes
    tracemalloc.start()
    waveform = read_waveform(tmp_path / f"long.{ending}", 44100, 60.0, 61.0)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(waveform, block.mean(axis=1), atol=1e-4)
    assert block.nbytes < peak_bytes < 4 * block.nbytes < whole_bytes / 20
