"""Decoding: any format, any name, any span, and sentences for what can't be read."""

import os
import sys
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile

from music_emotion.audio.waveform import read_waveform, recording_seconds
from music_emotion.files import InputError

RATE_HZ = 22050


def tone(seconds: float, rate_hz: int, pitch_hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(
        np.float32
    )


def written(path: Path, samples: np.ndarray, rate_hz: int, subtype: str | None = None) -> Path:
    format_ = "OGG" if path.suffix == ".opus" else None
    soundfile.write(path, samples, rate_hz, subtype="OPUS" if format_ else subtype, format=format_)
    return path


def encoded(path: Path, codec: str, seconds: float, rate_hz: int = RATE_HZ, **options: str) -> Path:
    """A stereo tone, half as loud on the right, through FFmpeg; it gets louder at 2 s."""
    samples = tone(seconds, rate_hz) * np.where(np.arange(round(seconds * rate_hz)) < 2 * rate_hz, 0.05, 1)
    samples = np.stack([samples, samples / 2]).astype(np.float32)
    codec_options = {name: options.pop(name) for name in ("global_quality", "flags") if name in options}
    with av.open(str(path), "w", format={".aac": "adts"}.get(path.suffix), options=options) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout="stereo", options=codec_options)
        stream.bit_rate = 128000
        stream.codec_context.open()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate = rate_hz
        context = stream.codec_context
        resampler = av.AudioResampler(context.format.name, "stereo", rate_hz, context.frame_size or None)
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return path


NOISE = np.random.default_rng(0).normal(0, 0.1, (6 * RATE_HZ, 1)).astype(np.float32)


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


def test_the_asked_sample_rate_is_given(tmp_path):
    path = written(tmp_path / "a.wav", tone(1.0, 44100), 44100)
    assert len(read_waveform(path, 16000)) == 16000


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
    path = encoded(tmp_path / f"a.{ending}", codec, 5.0, rate_hz)
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


def test_without_a_decoder_the_remedy_is_named(tmp_path, monkeypatch):
    path = encoded(tmp_path / "a.m4a", "aac", 1.0)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        InputError, match=r"a\.m4a: .* can't be decoded \(libsndfile: .*pip install 'music-emotion\[m4a\]'"
    ):
        read_waveform(path)


@pytest.mark.parametrize("name", ["raw", "RAW", "mp3", "wav", "flac", "ogg", "m4a", "au", "vox", "txt", ""])
@pytest.mark.parametrize("content", ["wav", "flac", "ogg", "mp3", "aiff", "m4a"])
def test_the_content_counts_and_not_the_name(tmp_path, content, name):
    path = tmp_path / f"right.{content}"
    path = encoded(path, "aac", 0.5) if content == "m4a" else written(path, NOISE[:11025], RATE_HZ)
    expected = read_waveform(path)
    assert len(expected) == pytest.approx(11025, abs=1100)
    wrong = path.rename(tmp_path / f"wrong.{name}")
    np.testing.assert_array_equal(read_waveform(wrong), expected)


@pytest.mark.parametrize("name", ["Ünïcödé 音楽.wav", "with space & 'quotes'.wav", "%03d.wav"])
def test_any_name_is_read(tmp_path, name):
    assert len(read_waveform(written(tmp_path / name, NOISE, RATE_HZ))) == len(NOISE)
    path = encoded(tmp_path / "a.m4a", "aac", 1.0).rename(tmp_path / name)
    assert recording_seconds(path) == pytest.approx(1.0, abs=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are Unicode")
def test_a_name_that_is_not_utf8_is_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    written(tmp_path / "a.wav", NOISE, RATE_HZ).rename(path)
    assert len(read_waveform(path)) == len(NOISE)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3", "aiff"])
def test_the_length_is_known_without_decoding(tmp_path, ending):
    path = written(tmp_path / f"a.{ending}", NOISE, 24000)
    assert recording_seconds(path) == pytest.approx(len(NOISE) / 24000, abs=0.01)


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
