"""Decoding: any format, name and span; damaged and truncated files; the memory of a span and of a file."""

import errno
import os
import sys
import tracemalloc
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
from matplotlib import image

from music_emotion.audio import decode
from music_emotion.audio.decode import read_waveform, recording_seconds
from music_emotion.files import InputError

RATE_HZ = 22050
NOISE = np.random.default_rng(0).normal(0, 0.1, (6 * RATE_HZ, 1)).astype(np.float32)


def tone(seconds: float, rate_hz: int, pitch_hz: float = 440.0) -> np.ndarray:
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * pitch_hz * times)).astype(np.float32)


def written(
    path: Path, samples: np.ndarray = NOISE, rate_hz: int = RATE_HZ, subtype: str | None = None
) -> Path:
    if path.suffix == ".opus":
        soundfile.write(path, samples, 24000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def encoded(path: Path, codec: str, samples: np.ndarray, rate_hz: int = RATE_HZ, **options: str) -> Path:
    """Samples [shape=(n_channels, n)] through FFmpeg, the first 2 s hardly audible."""
    samples = samples.copy()
    samples[:, : 2 * rate_hz] *= 0.001
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    codec_options = {name: options.pop(name) for name in ("global_quality", "flags") if name in options}
    with av.open(str(path), "w", format={".aac": "adts"}.get(path.suffix), options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout, options=codec_options)
        stream.bit_rate = 128000
        context = stream.codec_context
        context.open()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        resampler = av.AudioResampler(context.format.name, layout, rate_hz, context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return path


def stereo_tone(seconds: float, rate_hz: int) -> np.ndarray:
    """Half as loud on the right."""
    return np.stack([tone(seconds, rate_hz), tone(seconds, rate_hz) / 2])


def mono_noise(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (1, round(seconds * rate_hz))).astype(np.float32)


@pytest.mark.parametrize(
    ("ending", "error"), [("wav", 1e-4), ("flac", 1e-4), ("ogg", 0.05), ("mp3", 0.05), ("aiff", 1e-4)]
)
def test_formats_decode_to_the_same_waveform(tmp_path, ending, error):
    samples = tone(1.0, RATE_HZ)
    waveform = read_waveform(written(tmp_path / f"a.{ending}", samples, RATE_HZ))
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    middle = slice(RATE_HZ // 4, RATE_HZ // 2)
    if ending == "mp3":  # its decoder may shift the sound, so compare the level alone
        assert np.std(waveform[middle]) == pytest.approx(np.std(samples[middle]), rel=error)
    else:
        assert len(waveform) == RATE_HZ
        np.testing.assert_allclose(waveform[middle], samples[middle], atol=error)


def test_channels_are_averaged(tmp_path):
    left, right = tone(0.2, RATE_HZ), -0.5 * tone(0.2, RATE_HZ)
    path = written(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE_HZ, "FLOAT")
    np.testing.assert_allclose(read_waveform(path), 0.25 * left, atol=1e-6)


@pytest.mark.parametrize("native_rate_hz", [8000, 44100, 48000])
def test_other_sample_rates_are_resampled_as_librosa_does(tmp_path, native_rate_hz):
    samples = tone(1.0, native_rate_hz)
    path = written(tmp_path / "a.wav", samples, native_rate_hz, "FLOAT")
    waveform = read_waveform(path)
    expected, _ = librosa.load(path, sr=RATE_HZ)
    assert len(waveform) == RATE_HZ
    np.testing.assert_allclose(waveform, expected, atol=1e-6)
    spectrum = np.abs(np.fft.rfft(waveform))  # one second, so bins are in Hz
    assert spectrum.argmax() == 440


@pytest.mark.parametrize(
    ("start_seconds", "end_seconds", "expected"),
    [
        (0.0, None, slice(0, 22050)),
        (0.5, None, slice(11025, 22050)),
        (0.0, 0.1, slice(0, 2205)),
        (0.2, 0.3, slice(4410, 6615)),
        (0.9, 1.09, slice(19845, 22050)),
    ],
)
def test_a_span_is_read_to_the_sample(tmp_path, start_seconds, end_seconds, expected):
    samples = np.linspace(-0.9, 0.9, RATE_HZ).astype(np.float32)
    path = written(tmp_path / "a.wav", samples, RATE_HZ, "FLOAT")
    waveform = read_waveform(path, RATE_HZ, start_seconds, end_seconds)
    np.testing.assert_array_equal(waveform, samples[expected])


def test_a_span_is_counted_in_seconds_of_the_file_whatever_its_rate(tmp_path):
    samples = np.concatenate([np.zeros(44100), np.ones(44100) * 0.5])
    path = written(tmp_path / "a.wav", samples, 44100)
    waveform = read_waveform(path, RATE_HZ, 1.0)
    assert len(waveform) == RATE_HZ
    np.testing.assert_allclose(waveform[1000:-1000], 0.5, atol=1e-3)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
def test_a_span_is_the_same_part_of_the_whole(tmp_path, ending):
    """Also of an mp3, whose first frame after a seek comes out damaged without those before it."""
    rate_hz = 24000 if ending == "opus" else RATE_HZ
    path = written(tmp_path / f"a.{ending}", NOISE, rate_hz)
    whole = read_waveform(path, rate_hz)
    for start in range(rate_hz, 4 * rate_hz, rate_hz // 3):
        span = read_waveform(path, rate_hz, start / rate_hz, start / rate_hz + 0.5)
        np.testing.assert_allclose(span, whole[start : start + len(span)], atol=1e-5)
        assert len(span) == rate_hz // 2


FFMPEG_ONLY = [("m4a", "aac"), ("mp4", "alac"), ("aac", "aac"), ("wma", "wmav2"), ("webm", "libopus")]


@pytest.mark.parametrize(("ending", "codec"), FFMPEG_ONLY)
def test_what_libsndfile_refuses_is_decoded_by_ffmpeg(tmp_path, ending, codec):
    rate_hz = 48000 if codec == "libopus" else RATE_HZ
    path = encoded(tmp_path / f"a.{ending}", codec, stereo_tone(5, rate_hz), rate_hz)
    whole = read_waveform(path, rate_hz)
    assert whole.dtype == np.float32
    assert len(whole) / rate_hz == pytest.approx(5.0, abs=0.1)
    assert len(whole) / rate_hz == pytest.approx(recording_seconds(path), abs=0.1)
    middle = whole[3 * rate_hz : 4 * rate_hz]
    assert np.abs(np.fft.rfft(middle)).argmax() == 440
    assert np.std(middle) == pytest.approx(0.75 * 0.5 / np.sqrt(2), rel=0.05)
    assert np.std(whole[: rate_hz // 2]) < 0.1 * np.std(middle)
    for start_seconds in (0.5, 1.9, 3.7):
        span = read_waveform(path, rate_hz, start_seconds, start_seconds + 0.5)
        assert len(span) == rate_hz // 2
        first = round(start_seconds * rate_hz)
        shifts = range(-24, 25) if ending == "webm" else (0,)  # webm has times in whole milliseconds
        errors = [np.abs(span - whole[first + shift :][: len(span)]).max() for shift in shifts]
        assert min(errors) < 1e-3


@pytest.mark.parametrize("name", ["raw", "RAW", "mp3", "wav", "flac", "ogg", "m4a", "au", "vox", "txt", ""])
@pytest.mark.parametrize("content", ["wav", "flac", "ogg", "mp3", "aiff", "m4a"])
def test_the_content_counts_and_not_the_name(tmp_path, content, name):
    path = tmp_path / f"right.{content}"
    path = (
        encoded(path, "aac", mono_noise(0.5)) if content == "m4a" else written(path, NOISE[:11025], RATE_HZ)
    )
    expected = read_waveform(path)
    assert len(expected) == pytest.approx(11025, abs=1100)
    wrong = path.rename(tmp_path / f"wrong.{name}")
    np.testing.assert_array_equal(read_waveform(wrong), expected)


@pytest.mark.parametrize("name", ["Ünïcödé 音楽.wav", "with space & 'quotes'.wav", "%03d.wav"])
def test_any_name_is_read(tmp_path, name):
    assert len(read_waveform(written(tmp_path / name, NOISE, RATE_HZ))) == len(NOISE)
    path = encoded(tmp_path / "a.m4a", "aac", mono_noise(1)).rename(tmp_path / name)
    assert recording_seconds(path) == pytest.approx(1.0, abs=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are Unicode")
def test_a_name_that_is_not_utf8_is_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    written(tmp_path / "a.wav", NOISE, RATE_HZ).rename(path)
    assert len(read_waveform(path)) == len(NOISE)


@pytest.mark.parametrize(
    ("start_seconds", "end_seconds", "sentence"),
    [
        (1.0, None, r"short\.wav: the clip starts at 1\.0 s, but the recording goes from 0 to 1\.00 s"),
        (7.5, 8.0, r"short\.wav: the clip starts at 7\.5 s, but the recording goes from 0 to 1\.00 s"),
        (0.0, 5.0, r"short\.wav: the clip ends at 5\.0 s, but the recording goes from 0 to 1\.00 s"),
        (0.9, 1.11, r"short\.wav: the clip ends at 1\.11 s, but the recording goes from 0 to 1\.00 s"),
        (0.5, 0.5, r"short\.wav: there are no samples from 0\.5 s to 0\.5 s"),
        (0.5, 0.2, r"short\.wav: there are no samples from 0\.5 s to 0\.2 s"),
        (-1.0, None, r"short\.wav: the clip starts at -1\.0 s"),
    ],
)
def test_a_span_without_sound_gets_a_sentence(tmp_path, start_seconds, end_seconds, sentence):
    path = written(tmp_path / "short.wav", tone(1.0, RATE_HZ), RATE_HZ)
    with pytest.raises(InputError, match=sentence):
        read_waveform(path, RATE_HZ, start_seconds, end_seconds)


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
    path = encoded(
        tmp_path / "a.mp3", "libmp3lame", mono_noise(8, rate_hz), rate_hz, write_xing="0", **options
    )
    assert recording_seconds(path) == pytest.approx(8.0, abs=0.15)
    assert len(read_waveform(path, rate_hz)) / rate_hz == pytest.approx(recording_seconds(path), abs=0.05)
    cover = np.random.default_rng(0).bytes(200_000)
    path.write_bytes(b"ID3\x04\0\0\0\x0c\x1a\x40" + cover[: (12 << 14) + (26 << 7) + 64] + path.read_bytes())
    path.write_bytes(path.read_bytes() + b"APETAGEX" + cover)
    assert len(read_waveform(path, rate_hz)) / rate_hz == pytest.approx(8.0, abs=0.2)


@pytest.mark.parametrize("write_xing", ["1", "0"])
def test_an_mp3_whose_stated_length_agrees_is_decoded_by_libsndfile(tmp_path, monkeypatch, write_xing):
    path = encoded(tmp_path / "a.mp3", "libmp3lame", mono_noise(8), write_xing=write_xing)
    expected = soundfile.read(path, dtype="float32")[0]
    monkeypatch.setattr(decode, "_ffmpeg_blocks", None)
    if write_xing == "1":
        monkeypatch.setitem(sys.modules, "av", None)  # not even imported
    np.testing.assert_array_equal(read_waveform(path), expected[: len(read_waveform(path))])
    assert len(read_waveform(path)) / len(expected) == pytest.approx(1, abs=0.01)


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
    cut(encoded(path, codec, mono_noise(6, rate_hz), rate_hz, **options) if codec else written(path), 0.6)
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
    path = cut(encoded(tmp_path / "a.m4a", "aac", mono_noise(4)))
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
    monkeypatch.setattr(decode, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"a\.wav: the file can't be read \(Permission denied\)"):
        read_waveform(path)


@pytest.mark.parametrize("ending", ["wav", "aiff", "flac", "ogg", "mp3", "m4a"])
def test_damage_never_gives_more_than_a_sentence(tmp_path, ending):
    path = encoded(tmp_path / "a.m4a", "aac", mono_noise(1)) if ending == "m4a" else tmp_path / f"a.{ending}"
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


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "m4a"])
@pytest.mark.parametrize("rate_hz", [22050, 16000])
def test_blocks_leave_no_borders(tmp_path, monkeypatch, ending, rate_hz):
    path = tmp_path / f"a.{ending}"
    path = encoded(path, "aac", mono_noise(6)) if ending == "m4a" else written(path)
    whole = read_waveform(path, rate_hz)
    monkeypatch.setattr(decode, "_BLOCK_SECONDS", 1)
    np.testing.assert_allclose(read_waveform(path, rate_hz), whole, atol=1e-6)


@pytest.mark.parametrize(("ending", "minutes"), [("flac", 4), ("wav", 3)])
def test_a_file_takes_little_more_memory_than_its_waveform(tmp_path, ending, minutes):
    block = np.zeros((44100, 2), np.float32)
    block[::7] = 0.25
    with soundfile.SoundFile(tmp_path / f"long.{ending}", "w", 44100, 2) as file:
        for _ in range(60 * minutes):
            file.write(block)

    def peak_bytes(*span: float) -> tuple[np.ndarray, int]:
        tracemalloc.start()
        waveform = read_waveform(tmp_path / f"long.{ending}", *span)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return waveform, peak

    waveform, peak = peak_bytes(44100, 60.0, 61.0)
    np.testing.assert_allclose(waveform, block.mean(axis=1), atol=1e-4)
    assert block.nbytes < peak < 4 * block.nbytes
    waveform, peak = peak_bytes(11025)
    assert len(waveform) == 60 * minutes * 11025
    assert peak < waveform.nbytes + 2.5 * 60 * block.nbytes
