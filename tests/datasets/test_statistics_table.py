"""Tables of statistics: the same numbers however they are made, resumable, with names and units."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.families import statistic_families
from music_emotion.audio.features import FeatureSettings, full_features
from music_emotion.audio.statistics import audio_statistics, fused_statistics
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.extract import extract_clips
from music_emotion.datasets.layout import split_files
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.statistics_table import (
    array_families,
    array_statistics,
    families_of,
    summarise_clips,
)
from music_emotion.datasets.store import open_store
from music_emotion.files import InputError

SETTINGS = FeatureSettings()
HERE = Workers(n_jobs=1)


@pytest.fixture
def clips(tmp_path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * number * rng.standard_normal(3 * 22050), 22050)
    (tmp_path / "clips.csv").write_text("id,path,valence\n12,1.wav,0\n11,2.wav,1\n13,3.wav,0.5\n")
    return read_clips(tmp_path / "clips.csv")


def test_a_row_is_what_array_and_audio_give(clips, tmp_path):
    outcome = summarise_clips(clips, tmp_path / "s.csv", SETTINGS, workers=HERE)
    assert (outcome.n_done, outcome.n_kept, outcome.n_failed) == (3, 0, 0)
    table = pd.read_csv(tmp_path / "s.csv", index_col="id", keep_default_na=False)
    assert table.index.tolist() == [12, 11, 13]
    waveform = read_waveform(tmp_path / "2.wav")
    with threadpool_limits(1):  # as workers have it: sums depend on the number of threads
        fused = full_features(waveform, SETTINGS)
        expected = {**fused_statistics(fused, 512 / 22050), **audio_statistics(waveform, fused, SETTINGS)}
    assert len(expected) > 100
    for name, value in expected.items():
        assert table.loc[11, name] == pytest.approx(value, rel=1e-5), name


def test_a_second_run_reads_only_what_changed(clips, tmp_path):
    summarise_clips(clips, tmp_path / "s.csv", SETTINGS, workers=HERE)
    before = (tmp_path / "s.csv").read_text()
    again = summarise_clips(clips, tmp_path / "s.csv", SETTINGS, workers=HERE)
    assert (again.n_done, again.n_kept) == (0, 3)
    assert (tmp_path / "s.csv").read_text() == before
    soundfile.write(tmp_path / "3.wav", np.random.default_rng(1).standard_normal(3 * 22050) / 9, 22050)
    assert summarise_clips(clips, tmp_path / "s.csv", SETTINGS, workers=HERE).n_done == 1
    assert (tmp_path / "s.csv").read_text() != before


def test_a_clip_that_fails_has_a_reason_and_no_numbers(clips, tmp_path):
    (tmp_path / "2.wav").write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"(?s)1 of 3 clips failed.*2\.wav.*s\.csv"):
        summarise_clips(clips, tmp_path / "s.csv", SETTINGS, workers=HERE)
    table = pd.read_csv(tmp_path / "s.csv", index_col="id")
    assert "2.wav" in table.loc[11, "reason"]
    assert np.isnan(table.loc[11, "level_mean_db"])
    assert np.isfinite(table.loc[[12, 13], "level_mean_db"]).all()


def test_arrays_give_the_same_numbers_as_audio_up_to_half_precision(clips, tmp_path):
    extract_clips(clips, tmp_path / "data", "emotion", "train", SETTINGS, workers=HERE)
    store = open_store(split_files(tmp_path / "data" / "multitask_dataset", "train"), tmp_path / "stores")
    of_arrays = array_statistics(store, np.array([11, 13]), SETTINGS)
    assert of_arrays.index.tolist() == [11, 13]
    summarise_clips(clips, tmp_path / "s.csv", SETTINGS, workers=HERE)
    of_audio = pd.read_csv(tmp_path / "s.csv", index_col="id").loc[[11, 13], list(of_arrays.columns)]
    level_names = [name for name in of_arrays if name.endswith("_db")]
    assert len(level_names) > 20
    np.testing.assert_allclose(of_arrays[level_names], of_audio[level_names], atol=0.05)


@pytest.mark.parametrize("settings", [SETTINGS, FeatureSettings(sample_rate_hz=44100, hop_length=2048)])
def test_families_of_arrays_are_in_columns_of_their_names(clips, tmp_path, settings):
    extract_clips(clips, tmp_path / "data", "emotion", "train", settings, workers=HERE)
    store = open_store(split_files(tmp_path / "data" / "multitask_dataset", "train"), tmp_path / "stores")
    table = array_families(store, np.array([13, 11]), settings)
    assert table.index.tolist() == [13, 11]
    assert table.index.name == "Id"
    start, length = store.index.loc[11]
    fused = store.frames[start : start + length].astype(np.float32).T
    expected = statistic_families(fused, settings.hop_length / settings.sample_rate_hz)
    families = np.array(families_of(table))
    assert list(dict.fromkeys(families)) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(table.loc[11, families == name], values)
        assert table.columns[families == name].tolist() == [f"{name}.{n}" for n in range(len(values))]
    assert not np.array_equal(table.loc[11], table.loc[13])


def test_columns_of_foreign_tables_are_one_family():
    assert families_of(pd.DataFrame(columns=[0, 1, 2])) == ("", "", "")
    assert families_of(pd.DataFrame(columns=["mfcc0_mean_db", "F0.rise", "x"])) == ("", "", "")
    assert families_of(pd.DataFrame(columns=["peaks.31", "attack.2"])) == ("peaks", "attack")
