"""Cutting clips into windows: how many, where, and what they keep of their clip."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from music_emotion.audio.decode import read_waveform
from music_emotion.datasets.clips import read_clips, target_columns, task_of
from music_emotion.datasets.windows import Windows, cut_windows
from music_emotion.files import InputError

RATE_HZ = 8000


def recording(path: Path, seconds: float) -> str:
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE_HZ)), RATE_HZ)
    return str(path)


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "starts"),
    [
        (12.0, 5.0, 5.0, [0, 5]),
        (12.0, 5.0, 2.5, [0, 2.5, 5]),
        (10.0, 5.0, 5.0, [0, 5]),
        (9.9, 5.0, 5.0, [0]),
        (5.0, 5.0, 1.0, [0]),
        (4.95, 5.0, 5.0, [0]),
        (3.0, 0.5, 2.0, [0, 2]),
        (0.6, 0.3, 0.1, [0, 0.1, 0.2, 0.3]),
    ],
)
def test_windows_fill_a_recording_and_the_rest_is_dropped(tmp_path, seconds, window, hop, starts):
    clips = pd.DataFrame({"id": [7], "path": [recording(tmp_path / "a.wav", seconds)]})
    windows = cut_windows(clips, Windows(window, hop))
    assert windows["start_seconds"].tolist() == starts
    np.testing.assert_allclose(windows["end_seconds"] - windows["start_seconds"], window)
    for start, end in zip(windows["start_seconds"], windows["end_seconds"], strict=True):
        samples = len(read_waveform(tmp_path / "a.wav", RATE_HZ, start, end))
        assert abs(samples - window * RATE_HZ) <= 0.1 * RATE_HZ


def test_windows_stay_within_the_span_of_their_clip(tmp_path):
    path = recording(tmp_path / "a.wav", 20)
    clips = pd.DataFrame(
        {"id": [7, 3], "path": path, "start_seconds": [np.nan, 13.0], "end_seconds": [5.0, np.nan]}
    )
    windows = cut_windows(clips, Windows(2.0, 2.0))
    assert windows["start_seconds"].tolist() == [0, 2, 13, 15, 17]
    assert windows["id"].tolist() == [1, 2, 3, 4, 5]
    assert windows["clip"].tolist() == [7, 7, 3, 3, 3]


@pytest.mark.parametrize(("column", "cell"), [("label", "Rock"), ("valence", "0.5")])
def test_windows_keep_what_is_known_of_their_clip(tmp_path, column, cell):
    recording(tmp_path / "a.wav", 4), recording(tmp_path / "b.wav", 2)
    (tmp_path / "clips.csv").write_text(f"id,path,{column}\n9,a.wav,{cell}\n4,b.wav,{cell}\n")
    clips = read_clips(tmp_path / "clips.csv")
    windows = cut_windows(clips, Windows(2.0, 2.0))
    assert list(windows.columns[:5]) == ["id", "path", "start_seconds", "end_seconds", "clip"]
    assert set(windows.columns[5:]) == {column, "group"}
    assert windows[column].tolist() == [clips[column][0]] * 3
    assert windows["group"].tolist() == [9, 9, 4]
    assert task_of(windows) == task_of(clips)
    assert target_columns(windows) == target_columns(clips)


def test_groups_of_the_table_and_of_its_recordings_stay(tmp_path):
    recording(tmp_path / "a.wav", 4), recording(tmp_path / "b.wav", 2)
    header, rows = "path,start_seconds,end_seconds", ["a.wav,0,2", "a.wav,2,4", "b.wav,,"]
    (tmp_path / "clips.csv").write_text("\n".join([header, *rows]))
    assert cut_windows(read_clips(tmp_path / "clips.csv"), Windows(1, 1))["group"].tolist() == [
        1,
        1,
        1,
        1,
        2,
        2,
    ]
    (tmp_path / "clips.csv").write_text("\n".join([f"{header},group", *(f"{row},x" for row in rows)]))
    assert cut_windows(read_clips(tmp_path / "clips.csv"), Windows(1, 1))["group"].tolist() == ["x"] * 6


@pytest.mark.parametrize("content", [None, b"this is not audio", b""])
def test_a_recording_without_a_window_keeps_a_row_that_fails_with_a_reason(tmp_path, content):
    path = Path(recording(tmp_path / "a.wav", 3))
    if content is not None:
        path.write_bytes(content)
    windows = cut_windows(
        pd.DataFrame({"id": [7], "path": [str(path)], "start_seconds": [1.0]}), Windows(5.0, 5.0)
    )
    assert windows[["start_seconds", "end_seconds", "clip"]].to_numpy().tolist() == [[1.0, 6.0, 7]]
    with pytest.raises(InputError, match=r"a\.wav: the (clip ends at 6\.0 s|audio can't|file is empty)"):
        read_waveform(path, RATE_HZ, 1.0, 6.0)


def test_a_span_without_a_window_is_refused(tmp_path):
    """A window would go on into the rest of the recording."""
    path = recording(tmp_path / "a.wav", 20)
    clips = pd.DataFrame({"id": [7, 3], "path": path, "start_seconds": [0, 9], "end_seconds": [8, 12]})
    with pytest.raises(InputError, match=r"1 clips are shorter than a window of 5 s: 3 \(3 s\)"):
        cut_windows(clips, Windows(5.0, 5.0))


@pytest.mark.parametrize(
    ("window", "hop", "sentence"),
    [
        (0.0, 1.0, "--hop is given without --window"),
        (-1.0, 1.0, r"--window is -1\.0 s"),
        (float("nan"), 1.0, r"--window is nan s"),
        (1.0, -2.0, r"--hop is -2\.0 s; it must be a positive number"),
        (1.0, float("inf"), r"--hop is inf s"),
    ],
)
def test_lengths_must_be_positive(window, hop, sentence):
    with pytest.raises(InputError, match=sentence):
        Windows(window, hop)


def test_many_windows_are_cut_in_no_time():
    n = 100_000
    clips = pd.DataFrame({"id": range(n), "path": "a.wav", "start_seconds": 0.0, "end_seconds": 30.0})
    windows = cut_windows(clips, Windows(10.0, 10.0))
    assert windows["clip"].tolist() == [clip for clip in range(n) for _ in range(3)]
