"""DEAM, emoMusic and PMEmo as people have them on disk, with the traps of their tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audio_files import noise, written
from command_line import call

from music_emotion.audio.decode import read_waveform
from music_emotion.datasets.clip_table import read_clips
from music_emotion.datasets.public_sets import write_dataset
from music_emotion.files import InputError

SCALED = {value: (value - 1) / 8 for value in (3.0, 3.1, 3.5, 4.4, 5.3)}


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def recordings(folder: Path, ids) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for each in ids:
        written(folder / f"{each}.mp3", noise(0.2))


def read(out: Path) -> pd.DataFrame:
    return pd.read_csv(out).set_index("id")


# Songs of which only the two labels matter, enough for correlations: id, arousal, valence.
OTHERS = [
    (first + k, *labels)
    for first in (100, 1100)
    for k, labels in enumerate(np.round(np.random.default_rng(first).uniform(1, 9, (12, 2)), 1))
]


def deam(root: Path, is_padded: bool = True, blank: str = " ", is_exchanged: bool = True) -> Path:
    """DEAM's official archives in one folder, with valence and arousal of the first 1000 songs exchanged."""
    songs = [(2, 3.1, 3.0), (5, 4.4, 5.3), (1000, 4.4, 3.0), (1001, 3.1, 3.0), *OTHERS]
    rows = {k: (a, v) if k <= 1000 and is_exchanged else (v, a) for k, a, v in sorted(songs)}
    row = "{:>7d},{:>12} ,{:>12},{:>12} ,{:>12}" if is_padded else "{},{},{},{},{}"
    lines = [row.format(k, v, 0.94, a, 0.63) for k, (v, a) in rows.items()]
    songs_of_2015 = ["2001,3.2,0.9,4,1,2,1,4.6,0.8,5,1,3,1", "2031,3.0,0.9,4,1,2,1,5.3,0.8,5,1,3,1"]
    labels = root / "annotations" / f"annotations{blank}averaged{blank}per{blank}song"
    static = labels / "song_level" / "static_annotations_averaged_songs_1_2000.csv"
    text(static, "\n".join(["song_id, valence_mean, valence_std, arousal_mean, arousal_std", *lines, ""]))
    parts = [
        f"{t}_mean, {t}_std, {t}_{{}}max_mean, {t}_max_std, {t}_min_mean, {t}_min_std" for t in ("v", "a")
    ]
    header = (
        ", ".join(["song_id", *parts]).format(" ", "").replace("v_", "valence_").replace("a_", "arousal_")
    )
    text(
        static.with_name("static_annotations_averaged_songs_2000_2058.csv"),
        "\n".join([header, *songs_of_2015]),
    )
    over_time = labels / f"dynamic{blank}(per{blank}second{blank}annotations)"
    for column, name in ((1, "arousal"), (2, "valence")):
        cells = [f"{song[0]},{(song[column] - 5) / 4},{(song[column] - 5) / 4:.4f}," for song in songs]
        cells.append("2001,-2.775558e-18,-0.5,0.5")
        names = "song_id,sample_15000ms,sample_15500ms,sample_16000ms"
        text(over_time / f"{name}.csv", "\n".join([names, *cells]))
    text(root / "annotations" / "annotations per each rater" / "dynamic" / "arousal" / "2.csv", "WorkerId\n")
    metadata = root / "metadata"
    text(
        metadata / "metadata_2013.csv",
        "song_id,file_name,Artist,Song title,start of the segment (min.sec),"
        "end of the segment (min.sec),Genre\n"
        '2,"\t2.mp3","Mr. & Mrs. Smith\t","\tTonight  A Lonely Century\t","\t0.48\t","\t1.33\t","\tBlues\t"\n'
        '5,"\t5.mp3","Aaron Dunn-Sonatina No. 1","\tA, B\t","\t0.48\t","\t1.33\t","\tBlues\t"\n'
        '1000,"\t1000.mp3","\taaron  dunn\t","\tC\t","\t0.48\t","\t1.33\t","\tBlues\t"\n',
    )
    text(
        metadata / "metadata_2014.csv",
        "Id,Artist,Album,Track,Genre,segment start,segment end,last.fm labels\n"
        '1001,Mr. & Mrs. Smith,From "Holly, with Love,Blues-Rock,10,55,blues,rock,calm,slow,old\n',
    )
    text(
        metadata / "metadata_2015.csv",
        "id,Filename,title,artist,album,genre,\n2001,a.mp3,b,Someone,c,d,\n2031,7,e,No, Really,f,g,h,i,j\n",
    )
    recordings(root / "MEMD_audio", {*rows, 2001, 2031} - {2, 1001, 111})  # 111 is missing
    written(root / "MEMD_audio" / "2.mp3", noise(0.2, 44100).reshape(-1, 1).repeat(2, axis=1), 44100)
    written(root / "MEMD_audio" / "1001.mp3", noise(0.2, 16000), 16000)
    return root


@pytest.mark.parametrize(("is_padded", "blank"), [(True, " "), (False, "-")])
def test_deam(tmp_path, capsys, is_padded, blank):
    folder, out = deam(tmp_path / "sets" / "DEAM", is_padded, blank), tmp_path / "clips.csv"
    recordings(tmp_path / "sets" / "DEAM" / "A" / "chorus", [2])  # of another set
    emomusic(tmp_path / "sets" / "emoMusic", OTHERS[:12])
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


INFO = (
    '"song_id","file_name","Artist","Song title","start of the segment (min.sec)",'
    '"end of the segment (min.sec)","Genre","Mediaeval 2013 set"\n'
    '2,"\t2.mp3","The New Mystikal Troubadours\t","\tTonight  A Lonely Century\t","\t0.2\t","\t1.05\t",'
    '"\tBlues\t","development"\n'
    '3,"\t3.mp3","\tAaron Dunn-Sonatina No. 1 in C Major\t","\tx\t","\t1\t","\t1.45\t",'
    '"\tRock\t","development"\n'
    '7,"7.mp3","Kevin MacLeod","y","2.1","2.55","Folk","evaluation"\n'
    '10,"10.mp3","Mötörhead!","z","0","0.45","Folk","development"\n'
)


def emomusic(root: Path, songs, is_renamed: bool = False) -> Path:
    """The tables of annotations.tar.gz; songs are id, arousal, valence."""
    if is_renamed:
        rows = [f"{k},{v},0.6,{a},0.9" for k, a, v in songs]
        header = "song_id,valence_mean,valence_std,arousal_mean,arousal_std"
    else:
        rows = [f"{k},{a},0.9,{v},0.6" for k, a, v in songs]
        header = "song_id,mean_arousal,std_arousal,mean_valence,std_valence"
    text(root / "static_annotations.csv", "\n".join([header, *rows, ""]))
    text(root / "songs_info.csv", INFO)
    for name, value in (("arousal", 0.2), ("valence", -0.4)):
        rows = [f"{song[0]},{value},{value / 2}" for song in songs]
        header = "song_id,sample_15000ms,sample_15500ms"
        text(root / f"{name}_cont_average.csv", "\n".join([header, *rows, ""]))
        text(root / f"{name}_cont_std.csv", header + "\n")
    return root


EMOMUSIC = [(2, 3.1, 3.0), (3, 3.5, 5.3), (7, 4.4, 3.0), (10, 5.3, 4.4)]


@pytest.mark.parametrize("is_renamed", [False, True])
def test_emomusic(tmp_path, is_renamed):
    folder, out = emomusic(tmp_path / "emo", EMOMUSIC, is_renamed), tmp_path / "clips.csv"
    recordings(folder / "clips_45seconds", [2, 3, 7, 10])
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
    folder, out = emomusic(tmp_path / "emo", EMOMUSIC), tmp_path / "clips.csv"
    (folder / "songs").mkdir()
    for song in (2, 3, 7):
        written(folder / "songs" / f"{song}.flac", np.zeros(51 * 8000, np.float32), 8000)
    written(folder / "songs" / "10.flac", noise(0.2))
    write_dataset("emomusic", folder, out)
    clips = read(out)
    assert clips["start_seconds"].tolist() == pytest.approx([20, 60, 130, np.nan], nan_ok=True)
    assert clips["end_seconds"].tolist() == pytest.approx([65, 105, 175, np.nan], nan_ok=True)
    assert "3 recordings are longer than clips" in capsys.readouterr().out


def pmemo(root: Path, form: str) -> Path:
    """Id 11 has no label, since its clip is too short; 644 and 645 are one song."""
    labels = {1: (0.4, 0.575), 4: (0.2625, 0.2875), 644: (0.74, 0.76), 645: (0.60, 0.61)}
    if form == "2018":
        for column, letter in enumerate("AV"):
            rows = [f"{k},{values[column]},0.15" for k, values in labels.items()]
            text(root / f"{letter}_static.csv", "\n".join([f"musicId,mean_{letter},std_{letter}", *rows, ""]))
    elif form == "2019":
        rows = [f"{k},{a},{v}" for k, (a, v) in labels.items()]
        header = "musicId,Arousal(mean),Valence(mean)"
        text(root / "annotations" / "static_annotations.csv", "\n".join([header, *rows, ""]))
        text(root / "annotations" / "static_annotations_std.csv", "musicId,Arousal(std),Valence(std)\n")
        header = "musicId,frameTime,Arousal(mean),Valence(mean)"
        rows = ["1,15.5,0.4376625,0.5599749999999999", "1,16.0,0.5,0.56", "11,15.5,0.5,0.5", "4,15.5,1.5,0.5"]
        text(root / "annotations" / "dynamic_annotations.csv", "\n".join([header, *rows, ""]))
    else:
        rows = [
            f"{k},{1 + 8 * v},0.160078105936,{1 + 8 * a},0.1561249499599999" for k, (a, v) in labels.items()
        ]
        header = "song_id,valence_mean,valence_std,arousal_mean,arousal_std"
        text(root / "static_annotations.csv", "\n".join([header, *rows, ""]))
    text(
        root / "metadata.csv",
        "musicId,fileName,title,artist,album,duration,chorus_start_time,chorus_end_time\n"
        '1,1.mp3,Good Drank,2 Chainz,"Def Jam Presents: Direct Deposit, Vol. 2",32.1,02:35,03:05\n'
        '4,4.mp3,"Say ""No""",Drake,,40.0,00:10,00:50\n11,11.mp3,Short,drake,x,15.08,00:10,00:25\n'
        "644,644.mp3,One “Song”,Adele,x,30,00:10,00:40\n645,645.mp3,One “Song”,Adele,x,30,00:10,00:40\n",
    )
    recordings(root / ("Chorus" if form == "2018" else "chorus"), [1, 4, 11, 644, 645])
    return root


@pytest.mark.parametrize("form", ["2018", "2019", "Music2Emotion"])
def test_pmemo(tmp_path, capsys, form):
    folder, out = pmemo(tmp_path / "PMEmo", form), tmp_path / "clips.csv"
    text(tmp_path / "clips-curves.csv", "of another set")
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
    folder = pmemo(tmp_path / "PMEmo", "2019")
    with pytest.raises(InputError, match="a table of emoMusic is not as its reader expects"):
        write_dataset("emomusic", folder, tmp_path / "clips.csv")
    table = text(
        folder / "annotations" / "static_annotations.csv", "musicId,Arousal(mean),Valence(mean)\n1,4,0.5\n"
    )
    with pytest.raises(InputError, match="1 values of arousal are not 0 to 1, of the clips 1"):
        write_dataset("pmemo", folder, tmp_path / "clips.csv")
    table.unlink()
    with pytest.raises(InputError, match="holds no static_annotations"):
        write_dataset("pmemo", folder, tmp_path / "clips.csv")
