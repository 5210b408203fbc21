"""The picture of a timeline, and the overview of the sound that it is drawn from."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import _pylab_helpers
from matplotlib.image import imread

from music_emotion.audio.features import FeatureSettings, beat_frames, mel_power
from music_emotion.audio.spectrum import short_time_spectrum
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.listen.predict import Sliding, Song, Timeline
from music_emotion.listen.songs import Overview, overview_of
from music_emotion.plots import draw_timeline

SETTINGS = FeatureSettings()


def overview_of_mel(decibels: np.ndarray) -> Overview:
    return overview_of(Song(len(decibels) * 512 / 22050, decibels, SETTINGS))


def noise(n_frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-30, 10, (n_frames, 128)).astype(np.float32)


def timeline_of(seconds: float, n_genres: int = 0, targets: tuple[str, ...] = ()) -> Timeline:
    times = Sliding().windows(seconds)
    rng = np.random.default_rng(0)
    shares = pd.DataFrame(
        rng.dirichlet(np.ones(n_genres), len(times)) if n_genres else np.empty((len(times), 0)),
        columns=[f"genre {number}" for number in range(n_genres)],
    )
    values = pd.DataFrame(rng.random((len(times), len(targets))), columns=list(targets))
    spans = pd.DataFrame(times, columns=["start_seconds", "end_seconds"])
    return Timeline(seconds, spans, values, shares, {}, {})


def test_beats_are_those_of_the_percussive_part():
    music = Music(0, 1, False, 100.0, 0.6, 0.6, 0.7, 0.5, 0.9, 0.6)
    waveform = synthesise(music, 30, 22050, np.random.default_rng(3))
    spectrum = short_time_spectrum(waveform)
    decibels = 10 * np.log10(np.maximum(mel_power(np.abs(spectrum), SETTINGS), 1e-10)).T
    beats = overview_of_mel(decibels).beats
    expected = beat_frames(waveform, SETTINGS) * 512 / 22050
    near = [np.abs(beats - beat).min() < 0.07 for beat in expected]
    assert len(expected) > 40
    assert np.mean(near) > 0.9
    assert abs(len(beats) - len(expected)) <= 3


def test_an_hour_is_reduced_and_has_no_beats():
    overview = overview_of_mel(np.tile(noise(5000), (31, 1)))
    assert overview.spectrogram.shape == (128, 1500)
    assert overview.spectrogram.max() == 0
    assert not len(overview.beats)


@pytest.mark.parametrize(("seconds", "n_frames"), [(1, 44), (25, 1077), (700, 30000)])
def test_the_picture_is_a_png_of_sensible_size(tmp_path, seconds, n_frames):
    timeline = timeline_of(seconds, 24, ("valence", "energy"))
    draw_timeline(tmp_path / "picture.png", "a $name_ 曲", timeline, overview_of_mel(noise(n_frames)))
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    picture = imread(tmp_path / "picture.png")
    height, width = picture.shape[:2]
    assert 1000 <= width <= 3000
    assert 500 <= height <= 1500
    assert picture.std() > 0.1
    assert not _pylab_helpers.Gcf.figs


def test_what_no_network_gives_has_no_panel_and_gaps_are_left(tmp_path):
    overview, heights = overview_of_mel(noise(1077)), []
    for n_genres, targets in [(3, ("valence",)), (0, ("valence",)), (3, ())]:
        timeline = timeline_of(25, n_genres, targets)
        timeline.targets.iloc[-3:] = timeline.genres.iloc[-3:] = np.nan  # silence
        draw_timeline(tmp_path / "picture.png", "song", timeline, overview)
        heights.append(len(imread(tmp_path / "picture.png")))
    assert heights[0] > heights[1] > heights[2]
