"""Pictures of clips and classes show the numbers they were given."""

from dataclasses import replace
from itertools import pairwise

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib.image import imread

from music_emotion.audio.features import FeatureSettings
from music_emotion.commands.clip_arrays import read_clip_arrays
from music_emotion.commands.show import picture_path
from music_emotion.config import Experiment
from music_emotion.datasets.labels import map_genres
from music_emotion.files import InputError
from music_emotion.plots import classes_figure, features_figure, save_figure

COURSE = FeatureSettings()


def drawn(panel) -> np.ndarray:
    """The one array that a panel shows."""
    (shown,) = [*panel.images, *panel.collections]
    return np.asarray(shown.get_array())


@pytest.fixture(scope="module")
def song(tmp_path_factory):
    """Eight seconds of noise bursts, two a second."""
    rng, clicks = np.random.default_rng(0), np.zeros(8 * 22050)
    for start in range(0, len(clicks) - 2000, 11025):
        clicks[start : start + 2000] = rng.normal(0, 0.3, 2000)
    path = tmp_path_factory.mktemp("audio") / "song.wav"
    soundfile.write(path, clicks, 22050)
    return path


def test_a_clip_is_drawn_at_both_rates_mel_above_chroma(competition):
    clip = read_clip_arrays("1003", competition, "emotion", "train", COURSE)
    figure = features_figure(clip)
    panels, bars = figure.axes[:4], figure.axes[4:]
    for panel, folder, rows in zip(
        panels,
        ["multitask_dataset", "multitask_dataset_beat"] * 2,
        [slice(0, 128), slice(0, 128), slice(128, 140), slice(128, 140)],
        strict=True,
    ):
        array = np.load(competition / folder / "train" / "1003.fused.full.npy")
        np.testing.assert_array_equal(drawn(panel), array[rows].astype(np.float16))
    n_frames = clip.full.shape[1]
    assert panels[0].get_title() == f"full rate: {n_frames} frames of 23.2 ms"
    assert panels[0].get_xlim() == pytest.approx((0, n_frames * 512 / 22050))
    assert [panel.get_xlabel() for panel in panels[2:]] == ["time (s)", "span between beats"]
    assert [bar.get_ylabel() for bar in bars] == ["dB below the loudest", "chroma (0 to 1)"]
    label = (competition / "multitask_dataset/train_labels.txt").read_text().splitlines()[4].split(",")
    assert label[0] == "1003"
    assert f"valence {float(label[1]):.2f}, energy {float(label[2]):.2f}" in figure.get_suptitle()


def test_mel_rows_stand_at_their_own_frequencies(competition):
    panel = features_figure(read_clip_arrays("1003", competition, "emotion", "train", COURSE)).axes[0]
    edges_hz = panel.collections[0].get_coordinates()[:, 0, 1]
    centres_hz = librosa.mel_frequencies(130, fmax=11025)[1:-1]
    assert (edges_hz[:-1] < centres_hz).all()
    assert (centres_hz < edges_hz[1:]).all()
    assert panel.get_ylabel() == "Hz"


def test_audio_has_both_columns_over_seconds(song):
    clip = read_clip_arrays(str(song), song.parent, "emotion", "train", COURSE)
    edges = clip.span_edges_seconds
    assert edges is not None
    assert len(edges) == clip.beat_synchronous.shape[1] + 1
    assert edges[-1] == pytest.approx(clip.full.shape[1] * 512 / 22050)
    assert np.median(np.diff(edges)) == pytest.approx(0.5, abs=0.05)
    figure = features_figure(clip)
    assert [panel.get_xlabel() for panel in figure.axes[2:4]] == ["time (s)", "time (s)"]
    spans = figure.axes[1].collections[0]
    np.testing.assert_allclose(spans.get_coordinates()[0, :, 0], edges)
    np.testing.assert_array_equal(drawn(figure.axes[1]), clip.beat_synchronous[:128])


def test_the_spans_of_audio_are_those_its_medians_are_over(song):
    clip = read_clip_arrays(str(song), song.parent, "emotion", "train", COURSE)
    borders = np.rint(clip.span_edges_seconds * 22050 / 512).astype(int)
    medians = [np.median(clip.full[128:, a:b], axis=1) for a, b in pairwise(borders)]
    np.testing.assert_allclose(clip.beat_synchronous[128:], np.transpose(medians), atol=1e-6)


def test_a_title_is_shown_as_it_is(competition):
    clip = read_clip_arrays("1003", competition, "emotion", "train", COURSE)
    figure = features_figure(replace(clip, title="A$AP \\frac $.mp3"))
    figure.draw_without_rendering()  # would raise if it were read as a formula
    assert figure.get_suptitle() == "A$AP \\frac $.mp3"


def test_a_genre_clip_is_called_by_its_genre(competition):
    clip = read_clip_arrays("5001", competition, "genre", "test", COURSE)
    assert clip.title == "clip 5001 of fma_genre_spectrograms/test: Folk"
    assert clip.name == "genre-test-5001"


@pytest.mark.parametrize(
    ("clip", "split", "sentence"),
    [
        ("999", "train", r"has no clip 999\. Ids near it: 1000, 1001, 1002, 1003, 1004\."),
        ("1020", "test", r"It is in the other split: --split train\."),
        ("song.mp3", "train", "The audio file song.mp3 does not exist"),
        ("1003.fused.full.npy", "train", "is an array, not audio. Give its id"),
        ("pyproject.toml", "train", "pyproject.toml"),
    ],
)
def test_what_can_not_be_drawn_is_said(competition, clip, split, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]")
    with pytest.raises(InputError, match=sentence):
        read_clip_arrays(clip, competition, "emotion", split, COURSE)


@pytest.fixture
def genres():
    train = ["Rock"] * 5 + ["Psych-Rock"] * 3 + ["Folk"] * 4 + ["Soundtrack"] * 2
    return {
        "train": pd.Series(train, dtype=object),
        "test": pd.Series(["Rock", "Soundtrack", "Folk"], dtype=object),
    }


def classes_of(name, genres, mapping):
    classes = {split: map_genres(raw, mapping, split) for split, raw in genres.items()}
    mapped = {genre: mapping.get(genre, genre) for raw in genres.values() for genre in raw}
    mapped = {genre: target for genre, target in mapped.items() if target is not None}
    return classes_figure(name, genres, classes, mapped)


def test_genres_are_counted_before_and_after_the_mapping(genres):
    before, after = classes_of("pretrain", genres, Experiment().data.genres).axes
    assert [text.get_text() for text in before.get_yticklabels()] == [
        "Rock",
        "Folk",
        "Psych-Rock → Rock",
        "Soundtrack (left out)",
    ]
    train, test = ([bar.get_width() for bar in bars] for bars in before.containers)
    assert train == [5, 4, 3, 2]
    assert test == [1, 1, 0, 1]
    assert [bar.get_x() for bar in before.containers[1]] == train
    assert [text.get_text() for text in after.get_yticklabels()] == ["Rock", "Folk"]
    assert [[bar.get_width() for bar in bars] for bars in after.containers] == [[8, 4], [1, 1]]
    assert before.get_title() == "before: 4 raw genres, 17 clips"
    assert after.get_title() == "after: 2 classes, 14 clips (3 left out)"


def test_genres_left_out_are_marked(genres):
    before, after = classes_of("pretrain", genres, Experiment().data.genres).axes
    assert [bar.get_hatch() for bar in before.containers[0]] == [None, None, None, "///"]
    assert {bar.get_hatch() for bars in after.containers for bar in bars} == {None}
    assert [text.get_text() for text in after.get_legend().get_texts()] == [
        "train split",
        "test split",
        "left out",
    ]


def test_an_empty_mapping_keeps_every_genre(genres):
    before, after = classes_of("raw", genres, {}).axes
    names = [[text.get_text() for text in panel.get_yticklabels()] for panel in (before, after)]
    assert names[0] == names[1] == ["Rock", "Folk", "Psych-Rock", "Soundtrack"]


def test_a_picture_is_written_whole_and_named_by_what_it_shows(genres, tmp_path):
    path = picture_path(tmp_path / "new", "curves", ["a", "b", "c", "d", "e"])
    assert path.name == "curves-a-b-c-and-2-more.png"
    assert save_figure(path, classes_of("raw", genres, {})) == path
    assert imread(path).std() > 0
    assert list(path.parent.iterdir()) == [path]
