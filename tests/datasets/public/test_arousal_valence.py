"""DEAM, emoMusic and PMEmo as people have them on disk, with the traps of their tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audio_files import noise, written
from command_line import call
from public_folders import EMOMUSIC, OTHERS, deam, emomusic, pmemo, put, sounds

from music_emotion.audio.decode import read_waveform
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.public_sets import write_dataset
from music_emotion.files import InputError

SCALED = {value: (value - 1) / 8 for value in (3.0, 3.1, 3.5, 4.4, 5.3)}


def read(out: Path) -> pd.DataFrame:
    return pd.read_csv(out).set_index("id")


@pytest.mark.parametrize(("is_padded", "blank"), [(True, " "), (False, "-")])
def test_deam(tmp_path, capsys, is_padded, blank):
    folder, out = deam(tmp_path / "sets" / "DEAM", is_padded, blank), tmp_path / "clips.csv"
    sounds(folder, ["A/chorus/2.mp3"])  # of another set
    emomusic(tmp_path / "sets" / "emoMusic", OTHERS[:12], audio=None)
    assert call("dataset.py", "deam", folder, "--out", out) == 0
    clips, printed = read(out), capsys.readouterr().out
    assert len(clips) == 29
    assert "split" not in clips
    assert clips["path"][2] == f"{folder.resolve() / 'MEMD_audio' / '2.mp3'}"
    for song, arousal, valence in (2, 3.1, 3.0), (5, 4.4, 5.3), (1000, 4.4, 3.0), (1001, 3.1, 3.0), OTHERS[0]:
        assert clips.loc[song, ["arousal", "valence"]].tolist() == pytest.approx(
            [(arousal - 1) / 8, (valence - 1) / 8]
        )
    assert clips.loc[2001, ["arousal", "valence"]].tolist() == pytest.approx([3.6 / 8, 2.2 / 8])
    assert clips["group"][[2, 5, 1000, 1001, 2031, 100]].tolist() == [
        *("mr. & mrs. smith", "aaron dunn", "aaron dunn", "mr. & mrs. smith", "no", "clip 100")
    ]
    curves = pd.read_csv(tmp_path / "clips-curves.csv")
    assert curves[curves["id"] == 2001].to_numpy() == pytest.approx(
        np.array([[2001, 15, 0.5, 0.5], [2001, 15.5, 0.25, 0.25], [2001, 16, 0.75, 0.75]])
    )
    assert curves[curves["id"] == 5]["arousal"].tolist() == pytest.approx([3.4 / 8] * 2)
    assert "1 of 30 clips have no audio file and are left out: MEMD_audio/111." in printed
    assert "of the 15 songs up to id 1000 were exchanged: corrected" in printed
    # the labels over time and emoMusic's agree with the correction
    assert printed.count("valence with arousal 1.000") == 2
    assert "labels against the means over time (n = 14): r of arousal with arousal 0.998" in printed
    assert "warning" not in printed
    notes = json.loads((tmp_path / "dataset.json").read_text())["notes"]
    assert any("emoMusic's (" in note and "n = 12" in note for note in notes)
    paths = read_clips(out).set_index("id")["path"]
    assert all(read_waveform(Path(paths[song])).size > 2000 for song in (2, 1001))  # stereo; mono in 16 kHz


def test_deam_as_published_and_by_year(tmp_path, capsys):
    folder, out = deam(tmp_path / "DEAM"), tmp_path / "clips.csv"
    write_dataset("deam", folder, out, "by-year", as_published=True)
    clips = read(out)
    assert clips.loc[5, ["arousal", "valence"]].tolist() == pytest.approx([SCALED[5.3], SCALED[4.4]])
    assert clips.loc[1001, ["arousal", "valence"]].tolist() == pytest.approx([SCALED[3.1], SCALED[3.0]])
    assert clips["split"].value_counts().to_dict() == {"train": 14, "test": 15}
    assert "kept as published" in capsys.readouterr().out


def test_deam_that_is_right_already_is_told(tmp_path, capsys):
    """A copy without the fault, and without its second table and most of its metadata."""
    folder = deam(tmp_path / "DEAM", is_exchanged=False)
    for name in ("static_annotations*2058", "metadata_2013", "metadata_2014", "metadata_2015"):
        next(folder.rglob(f"{name}.csv")).unlink()
    write_dataset("deam", folder, tmp_path / "clips.csv")
    printed = capsys.readouterr().out
    assert printed.count("warning: That contradicts the correction") == 1
    assert "2000_2058.csv is missing" in printed
    assert "metadata_2013.csv is missing" in printed
    assert read(tmp_path / "clips.csv")["group"][[2, 1001]].tolist() == ["clip 2", "clip 1001"]


@pytest.mark.parametrize("is_renamed", [False, True])
def test_emomusic(tmp_path, is_renamed):
    folder, out = emomusic(tmp_path / "emo", EMOMUSIC, is_renamed), tmp_path / "clips.csv"
    write_dataset("emomusic", folder, out)
    clips = read(out)
    assert clips["arousal"].tolist() == pytest.approx([SCALED[a] for _, a, _ in EMOMUSIC])
    assert clips["valence"].tolist() == pytest.approx([SCALED[v] for _, _, v in EMOMUSIC])
    # the last digits of the SHA-1 of "the new mystikal troubadours", "aaron dunnsonatina no in c major" and
    # "mtrhead" are 9, 6 and 0 as decimal numbers
    assert clips["split"].tolist() == ["validation", "train", "test", "train"]
    assert clips["group"].tolist() == [
        *("new mystikal troubadours", "aaron dunn", "kevin macleod", "mötörhead!")
    ]
    assert "start_seconds" not in clips
    curves = pd.read_csv(tmp_path / "clips-curves.csv")
    assert curves.head(2).to_numpy() == pytest.approx(np.array([[2, 15, 0.6, 0.3], [2, 15.5, 0.55, 0.4]]))
    assert len(curves) == 8
    write_dataset("emomusic", folder, out, "unsplit")
    assert "split" not in read(out)


def test_emomusic_in_full_songs(tmp_path, capsys):
    folder, out = emomusic(tmp_path / "emo", EMOMUSIC, audio=None), tmp_path / "clips.csv"
    (folder / "songs").mkdir()
    for song in (2, 3, 7):
        written(folder / "songs" / f"{song}.flac", np.zeros(51 * 8000, np.float32), 8000)
    written(folder / "songs" / "10.flac", noise(0.2))
    write_dataset("emomusic", folder, out)
    clips = read(out)
    assert clips["start_seconds"].tolist() == pytest.approx([20, 60, 130, np.nan], nan_ok=True)
    assert clips["end_seconds"].tolist() == pytest.approx([65, 105, 175, np.nan], nan_ok=True)
    assert "3 recordings are longer than clips" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["2018", "2019", "Music2Emotion"])
def test_pmemo(tmp_path, capsys, form):
    folder, out = pmemo(tmp_path / "PMEmo", form, more=()), tmp_path / "clips.csv"
    put(tmp_path / "clips-curves.csv", "of another set")
    write_dataset("pmemo", folder, out)
    clips, printed = read(out), capsys.readouterr().out
    assert clips["arousal"].to_dict() == pytest.approx({1: 0.4, 4: 0.2625, 644: 0.74, 645: 0.60})
    assert clips["valence"].to_dict() == pytest.approx({1: 0.575, 4: 0.2875, 644: 0.76, 645: 0.61})
    assert clips["group"].tolist() == ["2 chainz", "drake", "adele", "adele"]
    assert "1 clips have no label and are left out: 11." in printed
    assert "1 songs were annotated under two ids" in printed
    assert "644/645" in printed
    if form != "2019":
        assert not (tmp_path / "clips-curves.csv").exists()
    else:
        assert pd.read_csv(tmp_path / "clips-curves.csv").to_numpy() == pytest.approx(
            np.array([[1, 15, 0.4376625, 0.559975], [1, 15.5, 0.5, 0.56]])
        )
        assert "1 labels over time are empty or outside their scale" in printed


def test_a_table_of_another_form_is_named(tmp_path):
    folder = pmemo(tmp_path / "PMEmo", "2019", more=())
    with pytest.raises(InputError, match="a table of emoMusic is not as its reader expects"):
        write_dataset("emomusic", folder, tmp_path / "clips.csv")
    table = put(
        folder / "annotations" / "static_annotations.csv", "musicId,Arousal(mean),Valence(mean)\n1,4,0.5\n"
    )
    with pytest.raises(InputError, match="1 values of arousal are not 0 to 1, of the clips 1"):
        write_dataset("pmemo", folder, tmp_path / "clips.csv")
    table.unlink()
    with pytest.raises(InputError, match="holds no static_annotations"):
        write_dataset("pmemo", folder, tmp_path / "clips.csv")
