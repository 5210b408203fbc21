"""Tables of statistics: the same numbers however they are made, resumable, with names and units."""

import numpy as np
import pandas as pd
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.families import statistic_families
from music_emotion.audio.features import full_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.audio.statistics import audio_statistics, fused_statistics
from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.extract import extract_clips, summarise_clips
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.statistics_table import Statistics, array_statistics, families_of
from music_emotion.files import InputError

SETTINGS = FeatureSettings(sample_rate_hz=16000, hop_length=1024)
HERE = Workers(n_jobs=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three clips of 2 s, their table of statistics s.csv, and their arrays in data."""
    folder = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        soundfile.write(folder / f"{number}.wav", 0.1 * number * rng.standard_normal(2 * 22050), 22050)
    (folder / "clips.csv").write_text("id,path,valence\n12,1.wav,0\n11,2.wav,1\n13,3.wav,0.5\n")
    clips = read_clips(folder / "clips.csv")
    summarise_clips(clips, folder / "s.csv", SETTINGS, workers=HERE)
    extract_clips(clips, folder / "data", "emotion", "train", SETTINGS, workers=HERE)
    return folder


@pytest.fixture
def clip_set(folder, tmp_path):
    return load_clip_set(DataSection(root=str(folder / "data"), stores=str(tmp_path)), "emotion", "train")


def test_a_row_is_what_array_and_audio_give(folder, clip_set):
    table = pd.read_csv(folder / "s.csv", index_col="id", keep_default_na=False)
    assert table.index.tolist() == [12, 11, 13]
    waveform = read_waveform(folder / "2.wav", 16000)
    with threadpool_limits(1):  # as workers have it: sums depend on the number of threads
        fused = full_features(waveform, SETTINGS)
        of_array = fused_statistics(fused, 1024 / 16000, sample_rate_hz=16000)
        expected = {**of_array, **audio_statistics(waveform, fused, SETTINGS)}
    assert len(expected) > 100
    for name, value in expected.items():
        assert table.loc[11, name] == pytest.approx(value, rel=1e-5), name
    # arrays give the same up to their half precision
    of_arrays = array_statistics(clip_set.store, np.array([11, 13]), SETTINGS)
    assert of_arrays.index.tolist() == [11, 13]
    level_names = [name for name in of_arrays if name.endswith("_db")]
    assert len(level_names) > 20
    np.testing.assert_allclose(of_arrays[level_names], table.loc[[11, 13], level_names], atol=0.05)


def test_a_second_run_reads_only_what_changed_and_a_clip_that_fails_has_no_numbers(folder, tmp_path):
    clips, audio, path = read_clips(folder / "clips.csv"), folder / "2.wav", tmp_path / "s.csv"
    whole = audio.read_bytes()
    audio.write_bytes(b"no audio")
    with pytest.raises(InputError, match=r"(?s)1 of 3 clips failed.*2\.wav.*s\.csv"):
        summarise_clips(clips, path, SETTINGS, workers=HERE)
    table = pd.read_csv(path, index_col="id")
    assert "2.wav" in table.loc[11, "reason"]
    assert np.isfinite(table["level_mean_db"]).tolist() == [True, False, True]
    audio.write_bytes(whole)
    outcome = summarise_clips(clips, path, SETTINGS, workers=HERE)
    assert (outcome.n_done, outcome.n_kept, outcome.n_failed) == (1, 2, 0)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "s.csv").iloc[:, 7:], pd.read_csv(path).iloc[:, 7:])


def test_families_of_arrays_are_in_columns_of_their_names(folder, clip_set):
    statistics = Statistics(DataSection(root=str(folder / "data")), "emotion")
    table = statistics.of(clip_set.select(np.array([2, 0])))
    assert table.index.tolist() == [13, 11]
    assert table.index.name == "Id"
    fused = clip_set.store.frames_of(11).astype(np.float32).T
    expected = statistic_families(fused, 1024 / 16000)
    families = np.array(families_of(table))
    assert list(dict.fromkeys(families)) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(table.loc[11, families == name], values)
        assert table.columns[families == name].tolist() == [f"{name}:{n}" for n in range(len(values))]
    assert not np.array_equal(table.loc[11], table.loc[13])


def test_columns_of_foreign_tables_are_one_family():
    assert families_of(pd.DataFrame(columns=[0, 1, 2])) == ("", "", "")
    assert families_of(pd.DataFrame(columns=["mfcc0_mean_db", "F0.rise", "x"])) == ("", "", "")
    assert families_of(pd.DataFrame(columns=["peaks:31", "a:b:2"])) == ("peaks", "a:b")
