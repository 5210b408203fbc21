"""Audio to the competition's layout, to the letter, resumable, with failures on record."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from music_emotion.data.clip_set import load_clip_set
from music_emotion.data.clips import read_clips
from music_emotion.data.extract import extract_clips
from music_emotion.errors import InputError
from music_emotion.files import read_json
from music_emotion.sections import DataSection
from music_emotion.sound.beats import fused_features
from music_emotion.sound.spectrogram import FeatureSettings
from music_emotion.sound.waveform import read_waveform

RATE_HZ = 22050


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
    return root, extract_clips(clips, root, "emotion", "train", n_jobs=1)


def files_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_exactly_the_competitions_layout_is_written(extracted):
    root, _ = extracted
    expected = set()
    for folder in ("multitask_dataset", "multitask_dataset_beat"):
        expected |= {f"{folder}/train/{clip_id}.fused.full.npy" for clip_id in (4, 17, 230)}
        expected |= {
            f"{folder}/{name}"
            for name in ("train_labels.txt", "settings.json", "ids-train.csv", "extract-train.csv")
        }
    assert files_below(root) == expected


def test_arrays_are_those_of_the_waveform(extracted, audio):
    root, _ = extracted
    full, beat = fused_features(read_waveform(audio / "17.wav"), FeatureSettings())
    np.testing.assert_array_equal(np.load(root / "multitask_dataset/train/17.fused.full.npy"), full)
    np.testing.assert_array_equal(np.load(root / "multitask_dataset_beat/train/17.fused.full.npy"), beat)


@pytest.mark.parametrize("folder", ["multitask_dataset", "multitask_dataset_beat"])
def test_target_tables_are_spelt_as_the_competitions(extracted, folder):
    root, _ = extracted
    text = (root / folder / "train_labels.txt").read_text()
    assert text == "Id,valence,energy\n230,0.25,0.5\n4,1.0,0.0\n17,0.3,0.875\n"


def test_settings_and_the_record_say_how_and_how_long(extracted):
    root, record = extracted
    settings = read_json(root / "multitask_dataset" / "settings.json")
    assert settings == {"sample_rate_hz": 22050, "n_fft": 2048, "hop_length": 512}
    assert record["id"].tolist() == [230, 4, 17]
    assert (record["reason"] == "").all()
    assert (record["seconds"] > 0).all()
    written = pd.read_csv(root / "multitask_dataset" / "extract-train.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, record, check_dtype=False)


@pytest.mark.parametrize("rate", ["full", "beat"])
def test_what_is_extracted_is_read_as_a_clip_set(extracted, tmp_path, rate):
    data = DataSection(root=str(extracted[0]), stores=str(tmp_path), rate=rate)
    clips = load_clip_set(data, "emotion", "train")
    assert clips.ids.tolist() == [4, 17, 230]
    np.testing.assert_allclose(clips.values, [[1, 0], [0.3, 0.875], [0.25, 0.5]])
    if rate == "full":
        assert clips.store.index["length"].tolist() == [1 + 3 * RATE_HZ // 512] * 3


def test_a_second_run_extracts_nothing(extracted, audio, tmp_path):
    root, _ = extracted
    arrays = sorted(root.rglob("*.npy"))
    before = [path.stat().st_mtime_ns for path in arrays]
    record = extract_clips(clips_of(audio, tmp_path, RATED), root, "emotion", "train", n_jobs=1)
    assert record["seconds"].tolist() == [0, 0, 0]
    assert [path.stat().st_mtime_ns for path in arrays] == before


def test_other_settings_are_refused_before_any_work(extracted, audio, tmp_path):
    root, _ = extracted
    clips = clips_of(audio, tmp_path, RATED)
    before = files_below(root)
    with pytest.raises(InputError, match=r"settings\.json says .*'hop_length': 512.*'hop_length': 256"):
        extract_clips(clips, root, "emotion", "train", FeatureSettings(hop_length=256), n_jobs=1)
    with pytest.raises(InputError, match="Give another output folder"):
        extract_clips(clips, root, "emotion", "test", FeatureSettings(hop_length=256), n_jobs=1)
    assert files_below(root) == before


def reuse_arrays(root: Path, names: list[str], split: str, ids: tuple[int, ...]) -> None:
    """Put arrays in place, so that only what is written around them takes time."""
    for name in names:
        (root / name / split).mkdir(parents=True)
        for clip_id in ids:
            np.save(root / name / split / f"{clip_id}.fused.full.npy", np.zeros((140, 2), np.float32))


GENRE_SETS = ["fma_genre_spectrograms", "fma_genre_spectrograms_beat"]


@pytest.mark.parametrize(
    ("split", "full", "beat"),
    [
        ("train", "{}.fused.full.npy.gz", "{}.beatsync.fused.npy.gz"),
        ("test", "{}.full.fused.npy.gz", "{}.beatsync.fused.npy.gz"),
    ],
)
def test_genre_tables_are_spelt_as_the_competitions_for_both_rates(audio, tmp_path, split, full, beat):
    root = tmp_path / "root"
    reuse_arrays(root, GENRE_SETS, split, (4, 17, 230))
    clips = clips_of(audio, tmp_path, THREE.format("Genre", "Blues", "Hip-Hop", "Jazz"))
    extract_clips(clips, root, "genre", split, n_jobs=1)
    for name, spelling in zip(GENRE_SETS, (full, beat), strict=True):
        rows = [(230, "Blues"), (4, "Hip-Hop"), (17, "Jazz")]
        expected = "Id\tGenre\n" + "".join(f"{spelling.format(i)}\t{genre}\n" for i, genre in rows)
        assert (root / name / f"{split}_labels.txt").read_text() == expected


def test_clips_without_labels_get_no_label_file(audio, tmp_path):
    root = tmp_path / "root"
    reuse_arrays(root, ["multitask_dataset", "multitask_dataset_beat"], "test", (4,))
    extract_clips(clips_of(audio, tmp_path, "id,path\n4,AUDIO/4.wav\n"), root, "emotion", "test", n_jobs=1)
    assert not (root / "multitask_dataset" / "test_labels.txt").exists()


def test_a_corrupt_clip_is_recorded_and_left_out_of_the_labels(audio, tmp_path):
    root = tmp_path / "root"
    reuse_arrays(root, GENRE_SETS, "train", (4,))
    text = "id,path,label\n4,AUDIO/4.wav,Blues\n9,AUDIO/broken.wav,Jazz\n"
    record = extract_clips(clips_of(audio, tmp_path, text), root, "genre", "train", n_jobs=1, max_failed=0.5)
    assert record.set_index("id")["reason"].loc[4] == ""
    assert "broken.wav: the audio can't be decoded" in record.set_index("id")["reason"].loc[9]
    for name in GENRE_SETS:
        written = pd.read_csv(root / name / "extract-train.csv", index_col="id", keep_default_na=False)
        assert "broken.wav: the audio can't be decoded" in written["reason"].loc[9]
        assert (root / name / "train_labels.txt").read_text().count("\n") == 2
        assert not (root / name / "train" / "9.fused.full.npy").exists()


def test_a_run_with_too_many_failures_fails_after_recording_them(audio, tmp_path):
    root = tmp_path / "root"
    reuse_arrays(root, GENRE_SETS, "train", (4,))
    text = "id,path,label\n4,AUDIO/4.wav,Blues\n9,AUDIO/broken.wav,Jazz\n"
    with pytest.raises(
        InputError, match=r"1 of 2 clips failed, .*0\.49 allowed: .*broken\.wav.*extract-train\.csv"
    ):
        extract_clips(clips_of(audio, tmp_path, text), root, "genre", "train", n_jobs=1, max_failed=0.49)
    assert "broken.wav" in (root / GENRE_SETS[0] / "extract-train.csv").read_text()


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(RATE_HZ), "the clip is silent"),
        (np.full(2047, 0.1), "the clip has 2047 samples at 22050 Hz; at least 2048 are needed"),
        (np.array([0.1, np.nan] * RATE_HZ), "holds values that are not finite numbers"),
    ],
)
def test_clips_without_usable_sound_are_recorded(tmp_path, samples, reason):
    soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
    clips = clips_of(tmp_path, tmp_path, "path\na.wav\n")
    record = extract_clips(clips, tmp_path / "root", "genre", "train", n_jobs=1, max_failed=1.0)
    assert reason in record["reason"].item()


@pytest.mark.filterwarnings("ignore:n_fft=:UserWarning")
def test_a_span_is_extracted_however_short(audio, tmp_path):
    text = f"path,start_seconds,end_seconds\nAUDIO/4.wav,1.0,{1 + 2048 / RATE_HZ}\nAUDIO/4.wav,2.5,\n"
    record = extract_clips(clips_of(audio, tmp_path, text), tmp_path / "root", "emotion", "test", n_jobs=1)
    assert (record["reason"] == "").all()
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
    assert "6 extracted" in done.stdout
    assert any((tmp_path / "numba").rglob("*.nbc"))
