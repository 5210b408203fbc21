"""Audio to the competition's layout, to the letter, resumable, with failures on record."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from command_line import call
from threadpoolctl import threadpool_limits

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import fused_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets import extract
from music_emotion.datasets.clip_table import Windows, read_clips
from music_emotion.datasets.extract import extract_clips
from music_emotion.datasets.layout import read_scales
from music_emotion.datasets.parallel import Outcome, Workers
from music_emotion.files import InputError, read_json, write_json

RATE_HZ = 22050
HERE = Workers(n_jobs=1)
SETS = ("multitask_dataset", "multitask_dataset_beat")
THREE = "id,path,{}\n230,AUDIO/230.wav,{}\n4,AUDIO/4.wav,{}\n17,AUDIO/17.wav,{}\n"
RATED = THREE.format("valence,energy", "0.25,0.5", "1,0", "0.3,0.875")


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


def files_below(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("[!.]*") if path.is_file()}


def test_exactly_the_competitions_layout_is_written(audio, tmp_path):
    root = tmp_path / "root"
    clips = clips_of(audio, tmp_path, RATED)
    record = extract_clips(clips, root, "emotion", "train", beats=True, workers=HERE).record
    expected = {"multitask_dataset/extract-train.csv"}
    for folder in SETS:
        own = [f"train/{clip_id}.fused.full.npy" for clip_id in (4, 17, 230)]
        expected |= {f"{folder}/{n}" for n in (*own, "train_labels.txt", "settings.json", "ids-train.csv")}
        text = (root / folder / "train_labels.txt").read_text()
        assert text == "Id,valence,energy\n230,0.25,0.5\n4,1.0,0.0\n17,0.3,0.875\n"
        settings = {"sample_rate_hz": 22050, "n_fft": 2048, "hop_length": 512, "window_seconds": None}
        assert read_json(root / folder / "settings.json") == settings | {"hop_seconds": None}
    assert files_below(root) == expected
    with threadpool_limits(1):  # as workers have it: sums over two threads are rounded differently
        arrays = fused_features(read_waveform(audio / "17.wav", RATE_HZ), FeatureSettings())
    for folder, array in zip(SETS, arrays, strict=True):
        np.testing.assert_array_equal(np.load(root / folder / "train/17.fused.full.npy"), array)
    assert (record["seconds"] > 0).all()
    written = pd.read_csv(root / "multitask_dataset" / "extract-train.csv", keep_default_na=False)
    paths = [audio / name for name in ("230.wav", "4.wav", "17.wav")]
    assert written["path"].tolist() == [str(path) for path in paths]
    assert written["bytes"].tolist() == [path.stat().st_size for path in paths]
    assert written["seconds"].tolist() == record["seconds"].tolist()


def test_what_is_known_of_a_public_set_stays_with_its_arrays(audio, tmp_path):
    clips_of(audio, tmp_path, RATED)
    known = {"name": "deam", "scales": {"valence": [1, 9]}}
    write_json(tmp_path / "dataset.json", known)
    (tmp_path / "others.csv").write_bytes((tmp_path / "clips.csv").read_bytes())
    for table, scales in (("clips.csv", {"valence": (1, 9)}), ("others.csv", {})):
        root = tmp_path / table.removesuffix(".csv")
        assert call("extract.py", tmp_path / table, "--out", root, "--jobs", "1") == 0
        assert read_scales(root / "multitask_dataset") == scales
    assert read_json(tmp_path / "clips" / "multitask_dataset" / "dataset.json") == known


def test_the_working_folder_is_extracted_and_what_failed_is_named(audio, tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(audio)
    flags = ("--out", str(tmp_path), "--jobs", "1", "--task", "emotion", "--max-failed", "0.3")
    status, said, _ = run_script("extract.py", ".", *flags)
    assert status == 0
    assert f"3 done, 0 already there, 1 failed.\n  clip 4: {audio}/broken.wav: the audio can't be" in said


def features_of(waveform: np.ndarray, _: FeatureSettings | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Features that tell clips apart, and take no time."""
    full = np.full((140, 2), np.abs(waveform).sum(), np.float32)
    return full, -full


@pytest.fixture
def _fast(monkeypatch):
    monkeypatch.setattr(extract, "fused_features", features_of)
    monkeypatch.setattr(extract, "full_features", lambda *given: features_of(*given)[0])
    monkeypatch.setattr(extract, "compile_ahead", lambda *_: None)


def check_arrays(folder: Path, clip_id: int, path: Path, *span: float, sets=SETS) -> None:
    """The arrays of a clip are those of the audio at a path."""
    for name, array in zip(sets, features_of(read_waveform(path, RATE_HZ, *span)), strict=False):
        np.testing.assert_array_equal(np.load(folder / name / f"train/{clip_id}.fused.full.npy"), array)


def times(root: Path) -> dict[str, int]:
    return {path.parent.parent.name + path.name: path.stat().st_mtime_ns for path in root.rglob("*.npy")}


def counts(done: Outcome) -> tuple[int, int, int]:
    return done.n_done, done.n_kept, done.n_failed


@pytest.fixture
def again(_fast, audio, tmp_path):
    """A copy of the audio, its extraction, and a way to run it again."""
    folder = shutil.copytree(audio, tmp_path / "audio")
    root = tmp_path / "root"

    def run(text: str = RATED, **settings) -> Outcome:
        clips = clips_of(folder, tmp_path, text)
        return extract_clips(clips, root, "emotion", "train", workers=HERE, **settings)

    run(beats=True)
    return folder, root, run


def test_only_a_clip_whose_audio_changed_is_extracted_again(again):
    folder, root, run = again
    left = root / "multitask_dataset/train/.writing-abc-4.fused.full.npy"
    left.write_bytes(b"half")
    settings = root / "multitask_dataset" / "settings.json"  # as earlier versions wrote it
    write_json(settings, read_json(settings) | {"window_seconds": 0.0, "hop_seconds": 0.0})
    before = times(root)
    assert counts(run()) == (0, 3, 0)
    assert not left.exists()
    samples, _ = soundfile.read(folder / "17.wav")
    soundfile.write(folder / "17.wav", samples[::-1] / 2, RATE_HZ)
    assert counts(run()) == (1, 2, 0)
    changed = {name for name, time in times(root).items() if before.get(name) != time}
    assert changed == {f"{name}17.fused.full.npy" for name in SETS}
    check_arrays(root, 17, folder / "17.wav")


@pytest.mark.usefixtures("_fast")
def test_beats_are_extracted_only_where_asked_and_then_kept_up(audio, tmp_path):
    clips, root = clips_of(audio, tmp_path, RATED), tmp_path / "root"
    extract_clips(clips, root, "emotion", "train", workers=HERE)
    assert [path.name for path in root.glob("[!.]*")] == ["multitask_dataset"]
    check_arrays(root, 17, audio / "17.wav", sets=SETS[:1])
    assert extract_clips(clips, root, "emotion", "train", beats=True, workers=HERE).n_done == 3
    (root / "multitask_dataset_beat/train/17.fused.full.npy").unlink()
    assert extract_clips(clips, root, "emotion", "train", workers=HERE).n_done == 1
    check_arrays(root, 17, audio / "17.wav")


def test_a_clip_that_fails_now_loses_its_old_arrays_and_a_refused_run_takes_nothing_away(again):
    folder, root, run = again
    (folder / "4.wav").write_bytes(b"RIFF")
    before, labels = times(root), root / "multitask_dataset/train_labels.txt"
    with pytest.raises(InputError, match=r"1 of 3 clips failed"):
        run()
    assert times(root) == before
    assert "\n4," in labels.read_text()
    assert counts(run(max_failed=0.5)) == (0, 2, 1)
    assert not list(root.rglob("4.fused.full.npy"))
    assert "\n4," not in labels.read_text()


def test_what_the_table_no_longer_tells_is_not_kept(again):
    _, root, run = again
    run(THREE.format("group,valence", "a,1", "a,0", "b,0"))
    groups = root / "multitask_dataset_beat" / "groups-train.csv"
    assert groups.read_text() == "Id,group\n230,a\n4,a\n17,b\n"
    run("id,path\n230,AUDIO/230.wav\n4,AUDIO/4.wav\n17,AUDIO/17.wav\n")
    assert not groups.exists()
    assert not (root / "multitask_dataset" / "train_labels.txt").exists()


@pytest.mark.usefixtures("_fast")
def test_windows_are_clips_of_their_own(audio, tmp_path):
    clips, root = clips_of(audio, tmp_path, RATED), tmp_path / "windows"
    windows = Windows(1.0, 0.5)
    assert extract_clips(clips, root, "emotion", "train", None, windows, workers=HERE).n_done == 15
    check_arrays(root, 3, audio / "230.wav", 1.0, 2.0, sets=SETS[:1])
    groups = pd.read_csv(root / "multitask_dataset" / "groups-train.csv")
    assert groups["group"].tolist() == [230] * 5 + [4] * 5 + [17] * 5
    origin = pd.read_csv(root / "multitask_dataset" / "ids-train.csv")
    assert origin.columns.tolist() == ["id", "path", "start_seconds", "end_seconds", "clip"]


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("cells", [("valence", "0.5", "1", "0"), ("label", "Jazz", "Jazz", "Folk")])
def test_a_table_with_splits_is_extracted_in_one_call(audio, tmp_path, cells, run_script):
    """Windows keep the split of their clip; another split can't be given beside the column."""
    text = THREE.format(
        f"split,{cells[0]}",
        *(f"{s},{c}" for s, c in zip(("train", "validation", "test"), cells[1:], strict=True)),
    )
    table, root = tmp_path / "clips.csv", tmp_path / "root"
    table.write_text(text.replace("AUDIO", str(audio)))
    call = ["extract.py", str(table), "--out", str(root), "--jobs", "1", "--window", "1", "--beats"]
    status, _, errors = run_script(*call, "--split", "test")
    assert (status, "has a column 'split'. Remove it, or leave out --split test" in errors) == (2, True)
    assert not root.exists()
    status, out, _ = run_script(*call)
    assert (status, "9 clips: 9 done" in out) == (0, True)
    for folder in root.glob("[!.]*"):
        counts = {name: len(list((folder / name).glob("*.npy"))) for name in ("train", "test")}
        assert counts == {"train": 6, "test": 3}
        splits = pd.read_csv(folder / "splits.csv")
        assert splits["Id"].tolist() == list(range(1, 10))
        assert splits["split"].tolist() == ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
        labels = (folder / "test_labels.txt").read_text().splitlines()
        assert len(labels) == 4
        assert labels[1].endswith(cells[3].replace("0", "0.0"))
        groups = pd.read_csv(folder / "groups-test.csv")
        assert groups["Id"].tolist() == [7, 8, 9]
    assert "9 clips: 0 done, 9 already there" in run_script(*call)[1]
    table.write_text(table.read_text().replace(",test,", ",train,"))
    status, _, errors = run_script(*call)
    assert (status, "test holds arrays of 3 clips that are not in the table" in errors) == (2, True)


@pytest.mark.usefixtures("_fast")
def test_settings_of_a_run_that_made_nothing_bind_nobody(audio, tmp_path):
    clips, nowhere = clips_of(audio, tmp_path, RATED), Workers(scheduler="nonsense")
    with pytest.raises(InputError, match="nonsense"):
        extract_clips(clips, tmp_path, "emotion", "train", FeatureSettings(hop_length=256), workers=nowhere)
    assert extract_clips(clips, tmp_path, "emotion", "train", workers=HERE).n_done == 3


def test_a_set_of_other_clips_or_settings_is_refused_before_any_work(again, audio, tmp_path):
    """Such as that of the training clips, when the table is that of the test clips."""
    _, root, run = again
    before, clips = files_below(root), clips_of(audio, tmp_path, RATED)
    with pytest.raises(InputError, match=r"train holds arrays of 2 clips .* in the table: 4, 230\. Check"):
        run("id,path,valence\n17,AUDIO/17.wav,0.5\n")
    with pytest.raises(InputError, match=r"says \{'window_seconds': None\}, but .*: 1\.0\}.*--out"):
        run(windows=Windows(1.0))
    for split in ("train", "test"):
        with pytest.raises(InputError, match=r"settings\.json says \{'hop_length': 512\}.*'hop_length': 256"):
            extract_clips(clips, root, "emotion", split, FeatureSettings(hop_length=256), workers=HERE)
    assert files_below(root) == before


def test_arrays_that_others_made_are_not_written_over(audio, tmp_path):
    """Such as the competition's own, when its root is given as --out."""
    theirs = tmp_path / "multitask_dataset" / "train" / "4.fused.full.npy"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"train holds arrays, but .* has no settings\.json.*--out"):
        extract_clips(clips_of(audio, tmp_path, RATED), tmp_path, "emotion", "train", workers=HERE)
    assert theirs.read_bytes() == b"theirs"
    assert files_below(tmp_path) == {"clips.csv", "multitask_dataset/train/4.fused.full.npy"}


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize(("split", "full"), [("train", "fused.full"), ("test", "full.fused")])
def test_genre_tables_are_spelt_as_the_competitions_and_lack_clips_that_failed(audio, tmp_path, split, full):
    text = THREE.format("Genre", "Blues", "Hip-Hop", "Jazz") + "9,AUDIO/broken.wav,Jazz\n"
    clips = clips_of(audio, tmp_path, text)
    done = extract_clips(clips, tmp_path, "genre", split, beats=True, workers=HERE, max_failed=0.5)
    assert "broken.wav: the audio can't be decoded" in done.record["reason"].iloc[3]
    for name, spelling in (("", full), ("_beat", "beatsync.fused")):
        rows = [(230, "Blues"), (4, "Hip-Hop"), (17, "Jazz")]
        expected = "Id\tGenre\n" + "".join(f"{n}.{spelling}.npy.gz\t{genre}\n" for n, genre in rows)
        assert (tmp_path / f"fma_genre_spectrograms{name}" / f"{split}_labels.txt").read_text() == expected


def test_a_clip_without_usable_sound_is_refused(tmp_path):
    far = "holds values that are not finite, or far beyond full scale"
    for samples, reason in (
        (np.full(RATE_HZ, 1e-7), "is silent"),
        (np.full(2047, 0.1), "has 2047 samples at 22050 Hz; at least 2048 are needed"),
        (np.array([0.1, np.nan] * RATE_HZ), far),
        (np.full(RATE_HZ, 1e20), far),
    ):
        soundfile.write(tmp_path / "a.wav", samples, RATE_HZ, subtype="FLOAT")
        with pytest.raises(InputError, match=rf"a\.wav: the clip from 0 s on {reason}"):
            extract.read_clip(tmp_path / "a.wav", FeatureSettings())
