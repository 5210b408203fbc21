"""The picture of a timeline, and the overview of the sound that it is drawn from."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import _pylab_helpers
from matplotlib.image import imread

from music_emotion import plots
from music_emotion.audio.features import beat_frames, mel_power
from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.spectrum import short_time_spectrum
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.listen.predict import Sliding, Song, Timeline
from music_emotion.listen.songs import Overview, overview_of

SETTINGS, BOTH = FeatureSettings(), ("valence", "energy")


def overview_of_mel(decibels: np.ndarray) -> Overview:
    return overview_of(Song(len(decibels) * 512 / 22050, decibels, SETTINGS))


def noise(n_frames: int) -> np.ndarray:
    return np.random.default_rng(0).normal(-30, 10, (n_frames, 128)).astype(np.float32)


def test_beats_are_those_of_the_percussive_part():
    music = Music(0, False, 100.0, 0.6, 0.6, 0.7, 0.5, 0.9, 0.6)
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


@pytest.mark.parametrize(
    ("n_frames", "n_genres", "targets"),
    [(44, 24, BOTH), (1077, 24, BOTH), (30000, 24, BOTH), (1077, 0, BOTH[:1]), (1077, 3, ())],
)
def test_the_picture_holds_genres_targets_and_sound(tmp_path, monkeypatch, n_frames, n_genres, targets):
    figures, save = [], plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda path, each: figures.append(each) or save(path, each))
    rng, seconds = np.random.default_rng(0), n_frames * 512 / 22050
    spans = pd.DataFrame(Sliding().windows(seconds), columns=["start_seconds", "end_seconds"])
    shares = rng.dirichlet(np.ones(n_genres), len(spans)) if n_genres else np.empty((len(spans), 0))
    genres = pd.DataFrame(shares).add_prefix("_genre$ ")
    values = pd.DataFrame(rng.random((len(spans), len(targets))), columns=list(targets))
    if len(spans) > 1:
        genres.iloc[-1:] = values.iloc[-1:] = np.nan  # silence
    path, overview = tmp_path / "picture.png", overview_of_mel(noise(n_frames))
    plots.draw_timeline(
        path, "a $name_ 曲\udce9\a", Timeline(seconds, spans, values, genres, {}, {}, np.zeros(0)), overview
    )
    *panels, sound = figures[0].axes
    assert len(panels) == bool(n_genres) + bool(targets)
    assert panels[0].get_title() == r"a $name_ 曲\udce9\x07"
    for line, name in zip(panels[-1].get_lines(), targets, strict=True):
        np.testing.assert_array_equal(line.get_ydata()[1:-1], values[name])
        assert line.get_xdata()[[0, -1]].tolist() == [0, seconds]
    if n_genres:
        named = [text.get_text().strip() for text in panels[0].get_legend().get_texts()]
        shown = [name for name, of_genre in genres.items() if of_genre.max() >= 0.1]
        assert named == (["others"] if len(shown) < n_genres else []) + shown[::-1]
    assert sound.get_xlim() == (0, seconds)
    height, width = imread(path).shape[:2]
    assert 1000 <= width <= 3000
    assert 500 <= height <= 1500
    assert not _pylab_helpers.Gcf.figs
