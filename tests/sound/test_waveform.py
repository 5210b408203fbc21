"""Decoding: any format, any channels, any span, and sentences for what can't be read."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from music_emotion.errors import InputError
from music_emotion.sound.waveform import read_waveform

RATE_HZ = 22050


def tone(seconds: float, rate_hz: int, pitch_hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(
        np.float32
    )


def written(path: Path, samples: np.ndarray, rate_hz: int, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


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
        (0.9, 5.0, slice(19845, 22050)),
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


@pytest.mark.parametrize(
    ("start_seconds", "end_seconds", "sentence"),
    [
        (1.0, None, r"short\.wav: the clip starts at 1\.0 s, but the recording goes from 0 to 1\.00 s"),
        (7.5, 8.0, r"short\.wav: the clip starts at 7\.5 s, but the recording goes from 0 to 1\.00 s"),
        (0.5, 0.5, r"short\.wav: there are no samples from 0\.5 s to 0\.5 s"),
        (0.5, 0.2, r"short\.wav: there are no samples from 0\.5 s to 0\.2 s"),
        (-1.0, None, r"short\.wav: the clip starts at -1\.0 s"),
    ],
)
def test_a_span_without_sound_gets_a_sentence(tmp_path, start_seconds, end_seconds, sentence):
    path = written(tmp_path / "short.wav", tone(1.0, RATE_HZ), RATE_HZ)
    with pytest.raises(InputError, match=sentence):
        read_waveform(path, RATE_HZ, start_seconds, end_seconds)


@pytest.mark.parametrize("content", [b"", b"this is not audio", b"RIFF\x00\x00\x00\x00WAVEfmt "])
def test_a_file_that_is_not_audio_gets_a_sentence(tmp_path, content):
    (tmp_path / "broken.mp3").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.mp3: the audio can't be decoded"):
        read_waveform(tmp_path / "broken.mp3")


def test_a_recording_without_samples_gets_a_sentence(tmp_path):
    path = written(tmp_path / "empty.wav", np.zeros(0, np.float32), RATE_HZ)
    with pytest.raises(InputError, match=r"empty\.wav: .* the recording goes from 0 to 0\.00 s"):
        read_waveform(path)


def test_a_missing_file_gets_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"none\.wav: the audio can't be decoded"):
        read_waveform(tmp_path / "none.wav")
