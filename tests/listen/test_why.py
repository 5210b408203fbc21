"""Occlusion finds the seconds and bands that make a prediction."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.signal
import soundfile
from audio_files import RATE_HZ, noise
from matplotlib.image import imread
from small_networks import small_network, small_run

from music_emotion import EmotionModel, plots
from music_emotion.audio.settings import FeatureSettings
from music_emotion.files import InputError
from music_emotion.listen.predict import Song, predict_song
from music_emotion.listen.torch_ensemble import torch_ensembles
from music_emotion.listen.why import explain

pytestmark = pytest.mark.usefixtures("own_accelerate")
# rows of the map of 6 seconds by 16 bands, for seconds and for bands; of whole seconds; of whole bands
RANGES = slice(96), slice(96), slice(96, 102), slice(102, None)
SECONDS, PART_SECONDS = 5.9, 2.0  # one excerpt, which is quick


def with_drums(seed: int) -> tuple[np.ndarray, float, tuple[int, int]]:
    """A quiet chord throughout, and two seconds of loud drums; their start, and their band in Hz."""
    rng, seconds = np.random.default_rng(seed), np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    low = int(rng.choice([200, 300, 500, 800]))
    band = low, min(10_000, low * int(rng.choice([10, 14])))
    root, start = rng.uniform(110, 260), rng.uniform(0.5, 3.4)
    chord = np.zeros(len(seconds))
    for ratio in (1, 2 ** rng.choice([3 / 12, 4 / 12]), 2 ** (7 / 12), 2):
        for harmonic in range(1, 9):
            tone = np.sin(2 * np.pi * (root * ratio * harmonic * seconds + rng.random()))
            chord += tone / harmonic**1.5 * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(0.1, 0.3) * seconds))
    hits = 0.05 + np.exp(-12 * ((seconds - start) % (1 / rng.choice([4, 6, 8]))))
    hits[(seconds < start) | (seconds >= start + PART_SECONDS)] = 0
    filters = scipy.signal.butter(8, band, "bandpass", fs=RATE_HZ, output="sos")
    drums = scipy.signal.sosfiltfilt(filters, rng.normal(size=len(seconds))) * hits
    floor = rng.normal(0, 0.0004, len(seconds))
    return 0.02 * chord / chord.std() + floor + 0.12 * drums / drums.std(), start, band


def test_the_part_that_makes_the_energy_gets_the_effect(tmp_path):
    model, shares = EmotionModel.from_pretrained(), []
    for seed in range(10):
        samples, start, (low, high) = with_drums(seed)
        soundfile.write(tmp_path / "song.wav", samples, RATE_HZ)
        song = model.listen(tmp_path / "song.wav", None)[0]
        table = explain(song, model.ensembles)
        parts = [(table["end_seconds"] > start) & (table["start_seconds"] < start + PART_SECONDS)]
        parts.append((table["high_hz"] > low) & (table["low_hz"] < high))
        for effect in (table["energy"].clip(lower=0), table["energy"].abs()):
            for rows, part in zip(RANGES, [*parts, *parts], strict=True):
                shares.append(effect[rows][part[rows]].sum() / effect[rows].sum())
    shares = np.reshape(shares, (10, 8))
    hidden_whole = shares[:, [3, 7]]  # bands, hidden throughout the song
    assert np.delete(shares, [3, 7], axis=1).min() >= 0.8, shares.round(2)
    assert hidden_whole.min() >= 0.7, shares.round(2)
    assert (hidden_whole >= 0.8).mean() >= 0.8, shares.round(2)


def test_an_effect_is_the_change_of_the_prediction_of_the_whole_song():
    networks = [small_network(), small_network(rows="fused")]
    rows = np.random.default_rng(0).uniform(-60, -20, (3000, 140)).astype(np.float32)  # in three clips
    rows[::100, 0] = rows[250:300, 24:32] = 0  # the maximum of every clip is in a row that stays
    song = Song(3000 * 512 / 22050, rows, FeatureSettings())
    table = explain(
        song, torch_ensembles([*networks, small_network(rows="chroma"), small_network(("Folk", "Jazz"))])
    )
    assert len(table) == 60 * 16 + 60 + 16
    assert table["end_seconds"].max() == pytest.approx(song.seconds, abs=1e-3)
    hidden = [(16 * 5 + 3, slice(250, 300), slice(24, 32)), (60 * 17 + 5, slice(3000), slice(40, 48))]
    for row, frames, bands in hidden:
        without = replace(song, rows=rows.copy())
        without.rows[frames, bands] = np.minimum(rows[frames, bands], np.median(rows[:, bands], axis=0))
        before, after = (
            predict_song(each, torch_ensembles(networks), None).whole_targets for each in (song, without)
        )
        expected = {name: before[name] - after[name] for name in before}
        assert table.loc[row, ["valence", "energy"]].to_dict() == pytest.approx(expected, rel=0.02, abs=3e-7)
        assert max(map(abs, expected.values())) > 3e-6


def test_the_command_writes_a_table_and_a_picture_of_it(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    soundfile.write("song.wav", noise(3), RATE_HZ)
    small_run(tmp_path / "run", small_network())
    drawn, save = [], plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda path, each: drawn.append(each) or save(path, each))
    status, out, errors = run_script("show.py", "why", "song.wav", "--model", "run")
    assert (status, out) == (0, "song.wav: pictures/why-song.png and pictures/why-song.csv\n"), errors
    table = pd.read_csv("pictures/why-song.csv")
    assert list(table) == ["start_seconds", "end_seconds", "low_hz", "high_hz", "valence", "energy"]
    images = [image for panel in drawn[0].axes for image in panel.images]
    cells = table["energy"][:48].to_numpy()
    np.testing.assert_allclose(images[2].get_array(), cells.reshape(3, 16).T)
    np.testing.assert_allclose(images[2].get_clim(), [-abs(cells).max(), abs(cells).max()])
    assert imread("pictures/why-song.png").std() > 0


def test_models_without_targets_or_mel_rows_are_refused():
    song = Song(1.0, np.zeros((44, 140), np.float32), FeatureSettings())
    with pytest.raises(InputError, match="No model predicts targets from mel rows"):
        explain(song, torch_ensembles([small_network(("Folk", "Jazz")), small_network(rows="chroma")]))
