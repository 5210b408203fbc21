"""Frames of blocks are those of the whole file, which is never held whole."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import FeatureSettings, full_features
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError
from music_emotion.listen import feature_blocks as module
from music_emotion.listen.feature_blocks import FeatureBlocks, feature_blocks

SETTINGS = FeatureSettings()
MUSIC = Music(0, 1, False, 120.0, 0.6, 0.6, 0.7, 0.5, 0.9, 0.6)
SECONDS = 12.5


def write(path: Path, rate_hz: int, seconds: float = SECONDS) -> Path:
    mono = synthesise(MUSIC, seconds, rate_hz, np.random.default_rng(3))
    soundfile.write(path, np.stack([mono, 0.5 * mono], axis=1), rate_hz)
    return path


def referred(frames: np.ndarray) -> np.ndarray:
    """Mel rows as a clip's array has them: below its maximum, and not more than 80 dB."""
    return np.maximum(frames[:, :128] - frames[:, :128].max(), -80).T


@pytest.mark.parametrize("form", ["22050.wav", "44100.wav", "48000.flac", "32000.mp3"])
def test_frames_of_blocks_are_those_that_the_extraction_of_the_whole_file_gives(tmp_path, form):
    path = write(tmp_path / form, int(form.split(".")[0]))
    blocks = feature_blocks(path, 3.7, SETTINGS, with_chroma=True)
    assert blocks.seconds == pytest.approx(SECONDS, abs=0.1)
    parts = list(blocks)
    assert len(blocks) == len(parts) == 4
    frames = np.concatenate(parts)
    array = full_features(read_waveform(path), SETTINGS)
    assert frames.dtype == np.float32
    assert frames.shape == array.T.shape == (blocks.n_frames, 140)
    np.testing.assert_allclose(referred(frames), array[:128], atol=2e-3)  # dB
    np.testing.assert_allclose(frames[:, 128:].T, array[128:], atol=2e-3)


def test_frames_are_librosa_s(tmp_path):
    path = write(tmp_path / "a.wav", 22050)
    frames = np.concatenate(list(feature_blocks(path, 3.7, SETTINGS, with_chroma=True)))
    waveform, rate_hz = librosa.load(path)
    mel = librosa.feature.melspectrogram(y=waveform, sr=rate_hz)
    np.testing.assert_allclose(referred(frames), librosa.power_to_db(mel, ref=np.max), atol=2e-3)
    chroma = librosa.feature.chroma_cqt(y=waveform, sr=rate_hz)
    np.testing.assert_allclose(frames[:, 128:].T, chroma, atol=2e-3)


@pytest.mark.parametrize("settings", [FeatureSettings(16000, 1024, 160), FeatureSettings(44100, 4096, 1024)])
def test_other_settings_have_no_borders_either(tmp_path, settings):
    path = write(tmp_path / "a.wav", 44100, 6.0)
    frames = np.concatenate(list(feature_blocks(path, 1.3, settings, with_chroma=True)))
    array = full_features(read_waveform(path, settings.sample_rate_hz), settings)
    np.testing.assert_allclose(referred(frames), array[:128], atol=5e-3)
    np.testing.assert_allclose(frames[:, 128:].T, array[128:], atol=5e-3)


def test_chroma_is_computed_only_where_it_is_asked_for(tmp_path, monkeypatch):
    path = write(tmp_path / "a.wav", 22050, 2.0)
    monkeypatch.setattr(module, "chroma", None)
    frames = np.concatenate(list(feature_blocks(path, 60, SETTINGS, with_chroma=False)))
    assert not frames[:, 128:].any()
    with pytest.raises(TypeError):
        list(feature_blocks(path, 60, SETTINGS, with_chroma=True))


def test_no_more_than_a_block_and_its_margins_is_decoded_at_a_time(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.wav", np.random.default_rng(0).normal(0, 0.1, 300 * 22050), 22050)
    decoded = []

    def reading(*span) -> np.ndarray:
        waveform = read_waveform(*span)
        decoded.append(len(waveform) / 22050)
        return waveform

    monkeypatch.setattr(module, "read_waveform", reading)
    shapes = {block.shape for block in feature_blocks(tmp_path / "long.wav", 20, SETTINGS, False)}
    assert max(n for n, _ in shapes) == round(20 * 22050 / 512)
    assert 15 <= len(decoded) <= 16
    assert max(decoded) < 25
    assert sum(decoded) < 300 + 16 * 4


def test_what_can_not_be_decoded_gets_a_sentence(tmp_path):
    write(tmp_path / "short.wav", 22050, 0.05)
    with pytest.raises(
        InputError, match=r"short\.wav: the recording has 1102 samples at 22050 Hz; at least 2048"
    ):
        feature_blocks(tmp_path / "short.wav", 60, SETTINGS, False)
    broken = np.zeros(30000, np.float32)
    broken[20000] = np.nan
    soundfile.write(tmp_path / "nan.wav", broken, 22050, subtype="FLOAT")
    with pytest.raises(InputError, match=r"nan\.wav: the audio holds values that are not finite"):
        list(feature_blocks(tmp_path / "nan.wav", 60, SETTINGS, False))
    with pytest.raises(InputError, match=r"none\.wav: the file does not exist"):
        feature_blocks(tmp_path / "none.wav", 60, SETTINGS, False)


def test_a_file_that_ends_before_its_header_says_so_is_filled_up(tmp_path):
    path = write(tmp_path / "a.wav", 22050, 2.0)
    n_frames = FeatureBlocks(path, 2.09, 1000, SETTINGS).n_frames
    assert [len(block) for block in FeatureBlocks(path, 2.09, 1000, SETTINGS)] == [n_frames]
