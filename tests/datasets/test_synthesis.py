"""Synthesised music: what it sounds like, what it is rated, and which files it becomes."""

from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile

from music_emotion.datasets import duplicates, synthesis
from music_emotion.datasets.clip_table import read_clips, task_of
from music_emotion.datasets.synthesis import GENRES, Music, draw_music, draw_targets, synthesise, write_demo

RATE_HZ = 22050
SIZES = (12, 3, 5, 5)
TARGETS = ["valence", "energy", "danceability"]
PLAIN = Music(0, False, 110.0, 0.5, 0.5, 0.5, 0.5, regularity=0.8, loudness=0.5)


def mean_targets(music: Music, n_listeners: int = 400) -> dict[str, float]:
    rng = np.random.default_rng(0)
    return dict(pd.DataFrame([draw_targets(music, rng) for _ in range(n_listeners)]).mean())


def test_audio_is_finite_and_within_full_scale():
    rng = np.random.default_rng(1)
    names = ("brightness", "density", "drums", "bass", "regularity", "loudness")
    extremes = [replace(PLAIN, **dict.fromkeys(names, level)) for level in (0.0, 1.0)]
    for music in [*extremes, *(draw_music(genre, rng) for genre in GENRES * 4)]:
        waveform = synthesise(music, 2.0, RATE_HZ, rng)
        assert waveform.dtype == np.float32
        assert waveform.shape == (2 * RATE_HZ,)
        assert np.isfinite(waveform).all()
        assert 0.1 < np.abs(waveform).max() <= 1
        assert waveform.std() > 0.01


@pytest.mark.parametrize("tempo_bpm", [84.0, 112.0, 140.0])
def test_beat_tracker_finds_the_tempo_up_to_an_octave(tempo_bpm):
    drummed = replace(PLAIN, tempo_bpm=tempo_bpm, drums=1.0, regularity=1.0, density=0.2)
    waveform = synthesise(drummed, 8.0, RATE_HZ, np.random.default_rng(0))
    found = np.atleast_1d(librosa.beat.beat_track(y=waveform, sr=RATE_HZ)[0])[0]
    octaves = np.log2(found / tempo_bpm)
    assert abs(octaves - round(octaves)) < 0.06


def test_targets_follow_from_the_parameters():
    before = mean_targets(replace(PLAIN, minor=True))
    for target, raised in (
        *(("valence", {"minor": False}), ("valence", {"brightness": 0.9}), ("energy", {"density": 0.9})),
        *(("energy", {"drums": 0.9}), ("energy", {"loudness": 0.9}), ("danceability", {"regularity": 1.0})),
        ("danceability", {"bass": 0.9}),
    ):
        music = replace(PLAIN, **{"minor": True, **raised})
        assert mean_targets(music)[target] > before[target] + 0.03, raised


def test_targets_are_in_range_and_spread_and_danceability_is_highest_at_a_middle_tempo():
    rng = np.random.default_rng(2)
    table = pd.DataFrame([draw_targets(draw_music(genre, rng), rng) for genre in GENRES * 60])
    assert list(table) == TARGETS
    assert table.to_numpy().min() >= 0
    assert table.to_numpy().max() <= 1
    assert (table.std() > 0.1).all()
    tempi = [mean_targets(replace(PLAIN, tempo_bpm=tempo))["danceability"] for tempo in (75, 115, 165)]
    assert tempi[1] > max(tempi[0], tempi[2]) + 0.1


@pytest.fixture
def demo(tmp_path) -> Path:
    write_demo(tmp_path, SIZES, 0.5, seed=3)
    return tmp_path


def test_files_and_tables_are_what_the_extraction_reads(demo):
    emotion, genre = read_clips(demo / "emotion_train.csv"), read_clips(demo / "genre_test.csv")
    assert list(emotion.columns) == ["id", "path", *TARGETS]
    assert (task_of(emotion), task_of(genre)) == ("emotion", "genre")
    assert set(genre["label"]) == set(GENRES)
    assert list(read_clips(demo / "emotion_test.csv").columns) == ["id", "path"]
    assert pd.read_csv(demo / "emotion_test_truth.csv")["id"].tolist() == [13, 14, 15]
    audio = soundfile.info(emotion["path"][0])
    assert (audio.format, audio.subtype, audio.samplerate, audio.frames) == ("FLAC", "PCM_16", 22050, 11025)
    assert len(list(demo.rglob("*.flac"))) == sum(SIZES)


def test_rerun_keeps_the_audio_and_another_seed_or_shuffled_labels_differ(demo):
    tables = sorted(demo.glob("*.csv"))
    texts = [path.read_text() for path in tables]
    plain = pd.read_csv(demo / "emotion_train.csv")
    lost, *kept = sorted(demo.rglob("*.flac"))
    first, before = lost.read_bytes(), [path.stat().st_mtime_ns for path in kept]
    lost.unlink()
    write_demo(demo, SIZES, 0.5, seed=4, shuffle_labels=False)
    other = read_clips(demo / "emotion_train.csv")["path"][0]
    assert Path(other).read_bytes() != (demo / plain["path"][0]).read_bytes()
    write_demo(demo, SIZES, 0.5, seed=3, shuffle_labels=True)
    shuffled = pd.read_csv(demo / "emotion_train.csv")
    write_demo(demo, SIZES, 0.5, seed=3, shuffle_labels=True)
    assert shuffled.equals(pd.read_csv(demo / "emotion_train.csv"))
    assert plain[["id", "path"]].equals(shuffled[["id", "path"]])
    assert not plain[TARGETS].equals(shuffled[TARGETS])
    rows, shuffled_rows = (sorted(map(tuple, table[TARGETS].to_numpy())) for table in (plain, shuffled))
    assert rows == shuffled_rows
    write_demo(demo, SIZES, 0.5, seed=3)
    assert [path.read_text() for path in tables] == texts
    assert lost.read_bytes() == first
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_no_two_genre_clips_of_the_default_demo_pass_for_one_recording(tmp_path, monkeypatch):
    """Takes some seconds, since chance matches need all 160 clips; at 8 kHz, which the fingerprint keeps."""
    monkeypatch.setattr(synthesis, "SAMPLE_RATE_HZ", 8000)
    monkeypatch.setattr(duplicates, "_ALIKE", 0.55)  # a margin to the 0.7 of training
    write_demo(tmp_path, (0, 0, 120, 40), 10.0, seed=0)
    prints = []
    for path in sorted(tmp_path.rglob("*.flac")):
        waveform, rate_hz = soundfile.read(path)
        mel = librosa.feature.melspectrogram(y=waveform, sr=rate_hz, n_fft=743, hop_length=186, n_mels=96)
        prints.append(duplicates.fingerprint(librosa.power_to_db(mel).T, 24))
    assert len(prints) == 160
    assert sum(map(len, duplicates.near_duplicates(np.stack(prints)))) == 0
