"""Audio to the competition's layout, to the letter, resumable, with failures on record."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from threadpoolctl import threadpool_limits

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import FeatureSettings, fused_features
from music_emotion.datasets import extract
from music_emotion.datasets.clip_table import Windows, read_clips
from music_emotion.datasets.extract import extract_clips
from music_emotion.datasets.parallel import Workers
from music_emotion.datasets.resume import Outcome
from music_emotion.files import InputError, read_json, write_json

RATE_HZ = 22050
HERE = Workers(n_jobs=1)


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """A folder of three clips of 3 s with clicks, and one file that is no audio."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for clip_id in (4, 17, 230):
        samples = 0.05 * rng.standard_normal(3 * RATE_HZ)
        samples[:: RATE_HZ // 2] = 0.9
        soundfile.write(folder / f"{clip_id}.wav", samples, RATE_HZ)
    (folder / "broken.wav").write_bytes(b"not audio")
    return folder


def features_of(path: Path, *span: float) -> tuple[np.ndarray, np.ndarray]:
    """What a worker makes of a clip; sums over two threads are rounded differently."""
    with threadpool_limits(1):
        return fused_features(read_waveform(path, RATE_HZ, *span), FeatureSettings())


def clips_of(audio: Path, folder: Path, text: str) -> pd.DataFrame:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "clips.csv").write_text(text.replace("AUDIO", str(audio)))
    return read_clips(folder / "clips.csv")


THREE = "id,path,{}\n230,AUDIO/230.wav,{}\n4,AUDIO/4.wav,{}\n17,AUDIO/17.wav,{}\n"
RATED = THREE.format("valence,energy", "0.25,0.5", "1,0", "0.3,0.875")


@pytest.fixture(scope="module")
def extracted(audio, tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    """The three clips as an emotion training set, and the record."""
    root = tmp_path_factory.mktemp("root")
    clips = clips_of(audio, tmp_path_factory.mktemp("table"), RATED)
    return root, extract_clips(clips, root, "emotion", "train", beats=True, workers=HERE).record


def files_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("[!.]*") if path.is_file()}


def test_exactly_the_competitions_layout_is_written(extracted):
    root, _ = extracted
    expected = set()
    for folder in ("multitask_dataset", "multitask_dataset_beat"):
        expected |= {f"{folder}/train/{clip_id}.fused.full.npy" for clip_id in (4, 17, 230)}
        expected |= {f"{folder}/{name}" for name in ("train_labels.txt", "settings.json", "ids-train.csv")}
    expected.add("multitask_dataset/extract-train.csv")
    assert files_below(root) == expected


def test_arrays_are_those_of_the_waveform(extracted, audio):
    root, _ = extracted
    full, beat = features_of(audio / "17.wav")
    np.testing.assert_array_equal(np.load(root / "multitask_dataset/train/17.fused.full.npy"), full)
    np.testing.assert_array_equal(np.load(root / "multitask_dataset_beat/train/17.fused.full.npy"), beat)


@pytest.mark.parametrize("folder", ["multitask_dataset", "multitask_dataset_beat"])
def test_target_tables_are_spelt_as_the_competitions(extracted, folder):
    root, _ = extracted
    text = (root / folder / "train_labels.txt").read_text()
    assert text == "Id,valence,energy\n230,0.25,0.5\n4,1.0,0.0\n17,0.3,0.875\n"


def test_settings_and_the_record_say_how_and_how_long(extracted, audio):
    root, record = extracted
    settings = read_json(root / "multitask_dataset" / "settings.json")
    assert settings == {
        **{"sample_rate_hz": 22050, "n_fft": 2048, "hop_length": 512},
        **{"window_seconds": None, "hop_seconds": None},
    }
    assert record["id"].tolist() == [230, 4, 17]
    paths = [audio / name for name in ("230.wav", "4.wav", "17.wav")]
    assert record["path"].tolist() == [str(path) for path in paths]
    assert record["bytes"].tolist() == [path.stat().st_size for path in paths]
    assert (record["reason"] == "").all()
    assert (record["seconds"] > 0).all()
    written = pd.read_csv(root / "multitask_dataset" / "extract-train.csv", keep_default_na=False)
    assert written["id"].tolist() == [230, 4, 17]
    assert written["seconds"].tolist() == record["seconds"].tolist()


def times(root: Path) -> dict[str, int]:
    return {path.parent.parent.name + path.name: path.stat().st_mtime_ns for path in root.rglob("*.npy")}


@pytest.fixture
def again(audio, tmp_path):
    """A copy of the audio, its extraction, and a way to run it again."""
    folder = shutil.copytree(audio, tmp_path / "audio")
    root = tmp_path / "root"

    def run(text: str = RATED, **settings) -> Outcome:
        clips = clips_of(folder, tmp_path, text)
        return extract_clips(clips, root, "emotion", "train", workers=HERE, **settings)

    run(beats=True)
    return folder, root, run


def test_a_second_run_extracts_nothing(again):
    _, root, run = again
    before = times(root)
    done = run()
    assert (done.n_done, done.n_kept, done.n_failed) == (0, 3, 0)
    assert times(root) == before
    assert (done.record["seconds"] > 0).all()  # of the first run


def test_only_a_clip_whose_audio_changed_is_extracted_again(again):
    folder, root, run = again
    before = times(root)
    samples, _ = soundfile.read(folder / "17.wav")
    soundfile.write(folder / "17.wav", samples[::-1], RATE_HZ)
    done = run()
    assert (done.n_done, done.n_kept) == (1, 2)
    changed = {name for name, time in times(root).items() if before[name] != time}
    assert changed == {f"{name}17.fused.full.npy" for name in ("multitask_dataset", "multitask_dataset_beat")}
    full, _ = features_of(folder / "17.wav")
    np.testing.assert_array_equal(np.load(root / "multitask_dataset/train/17.fused.full.npy"), full)


def test_renumbered_clips_do_not_keep_each_others_arrays(again):
    folder, root, run = again
    for name in ("4.wav", "17.wav"):  # equal in all but their names, as unpacked archives leave them
        os.utime(folder / name, ns=(0, 0))
    assert run().n_done == 2
    swapped = RATED.replace("4,AUDIO/4.wav", "17,AUDIO/4.wav").replace("17,AUDIO/17.wav", "4,AUDIO/17.wav")
    assert run(swapped).n_done == 2
    full, _ = features_of(folder / "4.wav")
    np.testing.assert_array_equal(np.load(root / "multitask_dataset/train/17.fused.full.npy"), full)


def test_equal_names_in_folders_of_classes_are_told_apart(audio, tmp_path):
    """Archives leave files of equal sizes and times, and a removed class shifts the numbers."""
    for name, original in (("jazz", "4.wav"), ("rock", "17.wav")):
        (tmp_path / "music" / name).mkdir(parents=True)
        shutil.copyfile(audio / original, tmp_path / "music" / name / "001.wav")
        os.utime(tmp_path / "music" / name / "001.wav", ns=(0, 0))
    root = tmp_path / "root"
    assert extract_clips(read_clips(tmp_path / "music"), root, "genre", "train", workers=HERE).n_done == 2
    (tmp_path / "music" / "rock").rename(tmp_path / "music" / "blues")
    assert extract_clips(read_clips(tmp_path / "music"), root, "genre", "train", workers=HERE).n_done == 2
    full, _ = features_of(audio / "17.wav")
    np.testing.assert_array_equal(np.load(root / "fma_genre_spectrograms/train/1.fused.full.npy"), full)


def test_beats_are_extracted_only_where_asked_and_then_kept_up(audio, tmp_path):
    clips, root = clips_of(audio, tmp_path, RATED), tmp_path / "root"
    extract_clips(clips, root, "emotion", "train", workers=HERE)
    assert [path.name for path in root.glob("[!.]*")] == ["multitask_dataset"]
    full, beat = features_of(audio / "17.wav")
    np.testing.assert_array_equal(np.load(root / "multitask_dataset/train/17.fused.full.npy"), full)
    assert extract_clips(clips, root, "emotion", "train", beats=True, workers=HERE).n_done == 3
    np.testing.assert_array_equal(np.load(root / "multitask_dataset_beat/train/17.fused.full.npy"), beat)
    (root / "multitask_dataset_beat/train/17.fused.full.npy").unlink()
    assert extract_clips(clips, root, "emotion", "train", workers=HERE).n_done == 1
    np.testing.assert_array_equal(np.load(root / "multitask_dataset_beat/train/17.fused.full.npy"), beat)


def test_sets_of_earlier_versions_without_windows_go_on(again):
    _, root, run = again
    settings = root / "multitask_dataset" / "settings.json"
    write_json(settings, read_json(settings) | {"window_seconds": 0.0, "hop_seconds": 0.0})
    assert run().n_kept == 3


def test_a_clip_that_fails_now_loses_its_old_arrays_and_is_tried_again(again):
    folder, root, run = again
    whole = (folder / "4.wav").read_bytes()
    (folder / "4.wav").write_bytes(b"RIFF")
    done = run(max_failed=0.5)
    assert (done.n_done, done.n_kept, done.n_failed) == (0, 2, 1)
    assert not list(root.rglob("4.fused.full.npy"))
    assert "\n4," not in (root / "multitask_dataset/train_labels.txt").read_text()
    (folder / "4.wav").write_bytes(whole)
    done = run()
    assert (done.n_done, done.n_kept, done.n_failed) == (1, 2, 0)


def test_a_run_that_is_refused_takes_nothing_away(again):
    folder, root, run = again
    before = times(root)
    labels = (root / "multitask_dataset" / "train_labels.txt").read_text()
    for name in ("4.wav", "17.wav"):
        (folder / name).write_bytes(b"RIFF")
    with pytest.raises(InputError, match=r"2 of 3 clips failed"):
        run()
    assert times(root) == before
    assert (root / "multitask_dataset" / "train_labels.txt").read_text() == labels


def test_what_the_table_no_longer_tells_is_not_kept(again):
    _, root, run = again
    run("id,path,group,valence\n230,AUDIO/230.wav,a,1\n4,AUDIO/4.wav,a,0\n17,AUDIO/17.wav,b,0\n")
    groups = root / "multitask_dataset_beat" / "groups-train.csv"
    assert groups.read_text() == "Id,group\n230,a\n4,a\n17,b\n"
    run("id,path\n230,AUDIO/230.wav\n4,AUDIO/4.wav\n17,AUDIO/17.wav\n")
    assert not groups.exists()
    assert not (root / "multitask_dataset" / "train_labels.txt").exists()


def test_windows_are_clips_of_their_own_and_a_set_has_one_kind(again, audio, tmp_path):
    _, _, run = again
    with pytest.raises(InputError, match=r"made with \{'window_seconds': None\}, but .*: 1\.0\}.*--out"):
        run(windows=Windows(1.0))
    clips, root = clips_of(audio, tmp_path, RATED), tmp_path / "windows"
    done = extract_clips(clips, root, "emotion", "train", None, Windows(1.0, 0.5), workers=HERE)
    assert done.n_done == 15
    third = np.load(root / "multitask_dataset/train/3.fused.full.npy")
    expected, _ = features_of(audio / "230.wav", 1.0, 2.0)
    np.testing.assert_array_equal(third, expected)
    groups = pd.read_csv(root / "multitask_dataset" / "groups-train.csv")
    assert groups["group"].tolist() == [230] * 5 + [4] * 5 + [17] * 5
    origin = pd.read_csv(root / "multitask_dataset" / "ids-train.csv")
    assert origin.columns.tolist() == ["id", "path", "start_seconds", "end_seconds", "clip"]


def test_settings_of_a_run_that_made_nothing_bind_nobody(audio, tmp_path):
    clips = clips_of(audio, tmp_path, RATED)
    nobody = Workers(scheduler="nonsense")
    with pytest.raises(InputError, match="nonsense"):
        extract_clips(
            clips, tmp_path / "root", "emotion", "train", FeatureSettings(hop_length=256), workers=nobody
        )
    assert extract_clips(clips, tmp_path / "root", "emotion", "train", workers=HERE).n_done == 3


def test_arrays_of_other_clips_are_not_mixed_in(again):
    """Such as those of the training clips, when the table is that of the test clips."""
    _, root, run = again
    before = times(root)
    with pytest.raises(InputError, match=r"train holds arrays .* not in the table: 4, 230 \(2 in all"):
        run("id,path,valence\n17,AUDIO/17.wav,0.5\n")
    assert times(root) == before


def test_arrays_that_others_made_are_not_written_over(audio, tmp_path):
    """Such as the competition's own, when its root is given as --out."""
    theirs = tmp_path / "multitask_dataset" / "train" / "4.fused.full.npy"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"train holds arrays, but settings\.json does not lie in .*--out"):
        extract_clips(clips_of(audio, tmp_path, RATED), tmp_path, "emotion", "train", workers=HERE)
    assert theirs.read_bytes() == b"theirs"
    assert files_below(tmp_path) == {"clips.csv", "multitask_dataset/train/4.fused.full.npy"}


def test_what_a_killed_writer_left_is_removed(again):
    _, root, run = again
    left = root / "multitask_dataset/train/.writing-abc-4.fused.full.npy"
    left.write_bytes(b"half")
    run()
    assert not left.exists()


def test_other_settings_are_refused_before_any_work(extracted, audio, tmp_path):
    root, _ = extracted
    clips = clips_of(audio, tmp_path, RATED)
    before = files_below(root)
    with pytest.raises(
        InputError,
        match=r"settings\.json says .*'hop_length': 512.*'hop_length': 256",
    ):
        extract_clips(clips, root, "emotion", "train", FeatureSettings(hop_length=256), workers=HERE)
    with pytest.raises(InputError, match="Give another --out"):
        extract_clips(clips, root, "emotion", "test", FeatureSettings(hop_length=256), workers=HERE)
    assert files_below(root) == before


@pytest.fixture
def fast(monkeypatch):
    """Features of nothing, so that only what is written around them takes time."""
    empty = np.zeros((140, 2), np.float32)
    monkeypatch.setattr(extract, "fused_features", lambda *_: (empty, empty))
    monkeypatch.setattr(extract, "full_features", lambda *_: empty)
    monkeypatch.setattr(extract, "compile_ahead", lambda *_: None)


GENRE_SETS = ["fma_genre_spectrograms", "fma_genre_spectrograms_beat"]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("split", "full", "beat"),
    [
        ("train", "{}.fused.full.npy.gz", "{}.beatsync.fused.npy.gz"),
        ("test", "{}.full.fused.npy.gz", "{}.beatsync.fused.npy.gz"),
    ],
)
def test_genre_tables_are_spelt_as_the_competitions_for_both_rates(audio, tmp_path, split, full, beat):
    root = tmp_path / "root"
    clips = clips_of(audio, tmp_path, THREE.format("Genre", "Blues", "Hip-Hop", "Jazz"))
    extract_clips(clips, root, "genre", split, beats=True, workers=HERE)
    for name, spelling in zip(GENRE_SETS, (full, beat), strict=True):
        rows = [(230, "Blues"), (4, "Hip-Hop"), (17, "Jazz")]
        expected = "Id\tGenre\n" + "".join(f"{spelling.format(i)}\t{genre}\n" for i, genre in rows)
        assert (root / name / f"{split}_labels.txt").read_text() == expected


@pytest.mark.usefixtures("fast")
def test_a_corrupt_clip_is_recorded_and_left_out_of_the_labels(audio, tmp_path):
    root = tmp_path / "root"
    text = "id,path,label\n4,AUDIO/4.wav,Blues\n9,AUDIO/broken.wav,Jazz\n"
    clips = clips_of(audio, tmp_path, text)
    done = extract_clips(clips, root, "genre", "train", beats=True, workers=HERE, max_failed=0.5)
    record = done.record
    assert record.set_index("id")["reason"].loc[4] == ""
    assert "broken.wav: the audio can't be decoded" in record.set_index("id")["reason"].loc[9]
    written = pd.read_csv(root / GENRE_SETS[0] / "extract-train.csv", index_col="id", keep_default_na=False)
    assert written["reason"].loc[9] == record["reason"].iloc[1]
    for name in GENRE_SETS:
        assert (root / name / "train_labels.txt").read_text().count("\n") == 2
        assert not (root / name / "train" / "9.fused.full.npy").exists()


@pytest.mark.usefixtures("fast")
def test_a_run_with_too_many_failures_fails_after_recording_them(audio, tmp_path):
    root = tmp_path / "root"
    text = "id,path,label\n4,AUDIO/4.wav,Blues\n9,AUDIO/broken.wav,Jazz\n"
    with pytest.raises(
        InputError,
        match=r"(?s)1 of 2 clips failed, .*0\.49 allowed:.*clip 9: .*broken\.wav.*extract-train\.csv",
    ):
        extract_clips(clips_of(audio, tmp_path, text), root, "genre", "train", workers=HERE, max_failed=0.49)
    assert "broken.wav" in (root / GENRE_SETS[0] / "extract-train.csv").read_text()


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(RATE_HZ), "the clip from 0 s on is silent"),
        (np.full(2047, 0.1), "the clip from 0 s on has 2047 samples at 22050 Hz; at least 2048 are needed"),
        (
            np.array([0.1, np.nan] * RATE_HZ),
            "the clip from 0 s on holds values that are not finite, or far beyond full scale",
        ),
        (
            np.full(RATE_HZ, 1e20),
            "the clip from 0 s on holds values that are not finite, or far beyond full scale",
        ),
        (np.full(RATE_HZ, 1e-7), "the clip from 0 s on is silent"),
    ],
)
def test_clips_without_usable_sound_are_recorded(tmp_path, samples, reason):
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
    clips = clips_of(tmp_path, tmp_path, "path\na.wav\n")
    done = extract_clips(clips, tmp_path / "root", "genre", "train", workers=HERE, max_failed=1.0)
    assert reason in done.record["reason"].item()


def test_a_span_is_extracted_however_short(audio, tmp_path):
    text = f"path,start_seconds,end_seconds\nAUDIO/4.wav,1.0,{1 + 2048 / RATE_HZ}\nAUDIO/4.wav,2.5,\n"
    done = extract_clips(clips_of(audio, tmp_path, text), tmp_path / "root", "emotion", "test", workers=HERE)
    assert done.n_done == 2
    arrays = [np.load(tmp_path / f"root/multitask_dataset/test/{n}.fused.full.npy") for n in (1, 2)]
    assert [array.shape for array in arrays] == [(140, 5), (140, 1 + 11025 // 512)]
    assert all(np.isfinite(array).all() for array in arrays)


def test_several_processes_extract_where_nothing_is_compiled_yet(tmp_path):
    """Compiling in all of them at once crashed them, in a fresh environment."""
    rng = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, 3 * 22050), 22050)
    table = pd.DataFrame({"id": range(6), "path": [f"{n}.wav" for n in range(6)], "label": "Rock"})
    table.to_csv(tmp_path / "clips.csv", index=False)
    script = Path(__file__).parents[2] / "scripts" / "extract.py"
    command = [sys.executable, str(script), "clips.csv", "--out", "out", "--jobs", "3"]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "6 done" in done.stdout
    assert any((tmp_path / "numba").rglob("*.nbc"))
