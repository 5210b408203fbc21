"""`music-emotion predict` as a user calls it: what it writes, what it refuses, and what it says."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from matplotlib.image import imread

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import FeatureSettings, full_features
from music_emotion.config import build_experiment
from music_emotion.datasets.synthesis import draw_music, synthesise
from music_emotion.files import read_json
from music_emotion.listen.predict import predict_array
from music_emotion.models.network import ModelCard, build_network, load_model, save_model

EMOTION = ["--emotion", "fold0.safetensors", "fold1.safetensors"]
GENRE = ["--genre", "genre.safetensors"]
GENRES = ("Folk", "Jazz", "Rock")


COARSE = FeatureSettings(hop_length=1102)


def save(
    path: Path,
    task: str,
    outputs: tuple[str, ...],
    seed: int,
    features: FeatureSettings = FeatureSettings(),  # noqa: B008 (frozen)
    kind: str = "conv",
    **data: str,
) -> None:
    differences = {
        "task": task,
        "data": data,
        "excerpt": {"frames": 1 if kind == "mlp" else 64, "test": 2},
        "model": {"kind": kind, "widths": (4,)},
    }
    torch.manual_seed(seed)
    scales = ((-40.0,) * 128, (18.0,) * 128, (0.5,) * len(outputs), (0.2,) * len(outputs))
    card = ModelCard(build_experiment(differences, "test"), outputs, *scales, features=features)
    network = build_network(card)
    save_model(path, network, network.state_dict())


def music(seconds: float, rate_hz: int = 22050) -> np.ndarray:
    rng = np.random.default_rng(0)
    return synthesise(draw_music("Rock", rng), seconds, rate_hz, rng)


@pytest.fixture(autouse=True)
def _own_state():
    """A process has one state of Accelerate, which other tests may have set otherwise."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Models and music, which tests must not change."""
    folder = tmp_path_factory.mktemp("made")
    for seed in (0, 1):
        save(folder / f"fold{seed}.safetensors", "emotion", ("valence", "energy"), seed)
    save(folder / "genre.safetensors", "genre", GENRES, 2)
    save(folder / "more.safetensors", "genre", (*GENRES, "Ska"), 3)
    save(folder / "beat.safetensors", "emotion", ("valence",), 4, rate="beat")
    save(folder / "coarse.safetensors", "emotion", ("valence",), 5, COARSE)
    for name, value in (("statistics", "means-{split}.csv"), ("windows", "windows/{split}")):
        save(folder / f"{name}.safetensors", "genre", GENRES, 6, kind="mlp", **{name: value})
    stereo = np.stack([music(12, 44100), 0.3 * music(12, 44100)], axis=1)
    soundfile.write(folder / "song.mp3", stereo, 44100)
    for name, seconds in (("one", 1), ("two", 3)):
        (folder / name).mkdir()
        soundfile.write(folder / name / "song.wav", music(seconds), 22050)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "broken.wav").write_bytes((folder / "two" / "song.wav").read_bytes()[:40])
    soundfile.write(folder / "damaged" / "short.wav", music(0.05), 22050)
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch) -> Path:
    """A folder of one's own with models and music, which the script is called in."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(place, run_script):  # noqa: ARG001 (its folder)
    """Call the script in this process; returns status, output and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        return run_script("predict.py", *arguments)

    return run


def test_a_file_gives_a_table_a_card_and_a_picture(call):
    status, out, _ = call("song.mp3", *EMOTION, *GENRE)
    assert status == 0
    assert out.startswith("predictions/song.csv: 12.0 s in 2 windows, ")
    table = pd.read_csv("predictions/song.csv")
    genres = [f"genre_{name}" for name in GENRES]
    assert table.columns.tolist() == ["start_seconds", "end_seconds", "valence", "energy", *genres]
    assert table["start_seconds"].tolist() == [0, 2]
    assert table["end_seconds"].tolist() == [10, 12]
    assert np.isfinite(table.to_numpy()).all()
    assert table[genres].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    assert imread("predictions/song.png").std() > 0.1
    assert {path.name for path in Path("predictions").iterdir()} == {"song.csv", "song.json", "song.png"}


def test_the_card_says_what_was_made_how_and_from_what(call, made):
    call("song.mp3", *EMOTION, *GENRE, "--window", "4", "--hop", "4", "--no-picture")
    card = read_json(Path("predictions/song.json"))
    assert card["file"] == str(made.resolve() / "song.mp3")
    assert card["seconds"] == pytest.approx(12, abs=0.1)
    assert list(card["targets"]) == ["valence", "energy"]
    assert list(card["genres"]) == list(GENRES)
    assert card["genre"] == max(GENRES, key=lambda name: card["genres"][name])
    assert sum(card["genres"].values()) == pytest.approx(1, abs=1e-4)
    assert card["bytes"] == (made / "song.mp3").stat().st_size
    stems = {task: [Path(model["file"]).stem for model in models] for task, models in card["models"].items()}
    assert stems == {"emotion": ["fold0", "fold1"], "genre": ["genre"]}
    assert card["models"]["genre"][0]["mtime_ns"] == (made / "genre.safetensors").stat().st_mtime_ns
    assert card["settings"] == {"window_seconds": 4.0, "hop_seconds": 4.0}
    assert card["features"] == {"sample_rate_hz": 22050, "n_fft": 2048, "hop_length": 512}
    if not torch.cuda.is_available():
        assert card["precision"] == "no"


def test_a_clip_gets_what_other_scripts_say_of_its_array(call):
    call("song.mp3", "--emotion", "fold0.safetensors", "--no-picture")
    array = full_features(read_waveform(Path("song.mp3")), FeatureSettings())
    expected = predict_array(load_model(Path("fold0.safetensors")), array)
    assert read_json(Path("predictions/song.json"))["targets"] == pytest.approx(expected, abs=2e-6)


def test_audio_becomes_features_as_it_did_for_the_clips_of_the_model(call):
    call("two/song.wav", "--emotion", "coarse.safetensors", "--no-picture")
    array = full_features(read_waveform(Path("two/song.wav")), COARSE)
    expected = predict_array(load_model(Path("coarse.safetensors")), array)
    card = read_json(Path("predictions/song.json"))
    assert card["targets"] == pytest.approx(expected, abs=2e-6)
    assert card["features"]["hop_length"] == 1102


def test_the_same_command_goes_on_and_finished_does_nothing_again(call, monkeypatch):
    asked = ("--emotion", "fold0.safetensors", "--no-picture")
    call("one", *asked)
    written = Path("predictions/song.json").stat().st_mtime_ns
    _, out, _ = call("one", "two", *asked)
    assert out.startswith("predictions/song.csv is there already.\npredictions/two-song.csv: 3.0 s")
    monkeypatch.setattr("music_emotion.listen.songs.load_model", None)  # not even that is needed
    status, out, _ = call("one", "two", *asked)
    assert status == 0
    assert out == "predictions/song.csv is there already.\npredictions/two-song.csv is there already.\n"
    assert Path("predictions/song.json").stat().st_mtime_ns == written


def test_what_is_not_the_same_is_predicted_again(call):
    for name in ("song.wav", "model.safetensors"):  # copies, which may be touched
        shutil.copy({"song.wav": "one/song.wav"}.get(name, "fold0.safetensors"), f"own-{name}")
    asked = ["own-song.wav", "--emotion", "own-model.safetensors"]
    table = Path("predictions/own-song.csv")

    def is_predicted(*more: str, picture: bool = False) -> bool:
        _, out, _ = call(*asked, *more, *([] if picture else ["--no-picture"]))
        return f"{table}: 1.0 s in" in out

    assert is_predicted()
    assert not is_predicted()
    for changed in ("own-song.wav", "own-model.safetensors"):
        os.utime(changed, ns=(1, 1))
        assert is_predicted()
    assert is_predicted("--window", "0.5")
    assert is_predicted("--window", "0.5", picture=True)
    assert not is_predicted("--window", "0.5")
    table.unlink()
    assert is_predicted("--window", "0.5")


def test_half_written_results_of_another_recipe_are_not_taken_for_finished(call, monkeypatch):
    asked = ("one", "--emotion", "fold0.safetensors", "--no-picture")
    call(*asked)
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.listen.results.write_json", raise_interrupt)
        assert call(*asked, "--window", "0.5")[0] == 130
    assert "predictions/song.csv: 1.0 s" in call(*asked)[1]


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_one_kind_of_model_is_enough_and_pictures_can_be_left_out(call):
    assert call("song.mp3", *GENRE, "--out", "genres")[0] == 0
    assert read_json(Path("genres/song.json"))["targets"] == {}
    assert pd.read_csv("genres/song.csv").shape == (2, 5)
    assert call("song.mp3", *EMOTION, "--out", "genres", "--no-picture")[0] == 0
    card = read_json(Path("genres/song.json"))
    assert card["genre"] is None
    assert card["genres"] == {}
    assert not Path("genres/song.png").exists()  # the earlier one would be of other models


def test_equal_names_stay_apart_in_one_run_and_over_several(call, made):
    for _ in range(2):
        assert call("song.mp3", "one", "two/song.wav", *EMOTION, "--no-picture")[0] == 0
        cards = {path.name: read_json(path)["file"] for path in sorted(Path("predictions").glob("*.json"))}
        assert cards == {
            "one-song.json": str(made.resolve() / "one" / "song.wav"),
            "song.json": str(made.resolve() / "song.mp3"),
            "two-song.json": str(made.resolve() / "two" / "song.wav"),
        }
    lone = {"song.json", "song.csv"}
    call("one", *EMOTION, "--no-picture", "--out", "other")
    assert {path.name for path in Path("other").iterdir()} == lone
    call("two", *EMOTION, "--no-picture", "--out", "other")
    assert {path.name for path in Path("other").iterdir()} == lone | {"two-song.json", "two-song.csv"}


def test_a_file_named_twice_is_predicted_once(call):
    _, out, _ = call("one", "one/song.wav", "two/../one/song.wav", *EMOTION, "--no-picture")
    assert out.count("song.csv") == 1


def test_a_folder_is_searched_whole_whatever_lies_beside_the_audio(call):
    Path("mixed/below").mkdir(parents=True)
    for name in ("mixed/a.wav", "mixed/below/b.wav"):
        Path(name).symlink_to(Path("one/song.wav").resolve())
    Path("mixed/notes.txt").write_text("no audio")
    _, out, _ = call("mixed", *EMOTION, "--no-picture")
    assert out.count(".csv: ") == 1  # both are links to one file
    assert "predictions/a.csv" in out


def test_what_can_not_be_predicted_is_listed_and_the_others_are_done(call):
    Path("empty").mkdir()
    status, out, errors = call("damaged", "empty", "none.mp3", "one", *EMOTION, "--no-picture")
    assert status == 2
    assert out.count(".csv: ") == 1
    last = errors[errors.index("error: ") :]
    assert last.startswith("error: 4 of 5 could not be predicted, the others are:\n")
    assert "empty holds no audio" in last
    assert "damaged/broken.wav: " in last
    assert "damaged/short.wav: the recording has 1102 samples" in last
    assert "none.mp3: the file does not exist." in last
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*EMOTION], "There is nothing to predict. Name audio files, or folders of audio."),
        (["song.mp3"], "No model is given. Name model.safetensors of runs with --emotion, --genre or both."),
        (
            ["song.mp3", "--emotion", "genre.safetensors"],
            "genre.safetensors is a model of the task genre. Give it as --genre.",
        ),
        (
            ["song.mp3", "--genre", "fold0.safetensors"],
            "fold0.safetensors is a model of the task emotion. Give it as --emotion.",
        ),
        (["song.mp3", "--emotion", "none.safetensors"], "The model file none.safetensors does not exist."),
        (["song.mp3", "--emotion", "song.mp3"], "song.mp3 is not a whole safetensors file"),
        (["song.mp3", "--emotion", "beat.safetensors"], "beat.safetensors reads beat-synchronous arrays"),
        (
            ["song.mp3", "--genre", "statistics.safetensors"],
            "statistics.safetensors was trained on data.statistics 'means-{split}.csv', which can't be made",
        ),
        (
            ["song.mp3", "--genre", "windows.safetensors"],
            "windows.safetensors was trained on data.windows 'windows/{split}', which can't be made",
        ),
        (
            ["song.mp3", *EMOTION[:2], "coarse.safetensors"],
            "fold0.safetensors at 22050 Hz with n_fft 2048 and hop_length 512; "
            "coarse.safetensors at 22050 Hz with n_fft 2048 and hop_length 1102. Give one kind.",
        ),
        (
            ["song.mp3", "--genre", "genre.safetensors", "more.safetensors"],
            "genre.safetensors knows Folk, Jazz, Rock; more.safetensors knows Folk, Jazz, Rock, Ska.",
        ),
        (["song.mp3", *EMOTION, "--window", "0"], "--window is 0 s; give a number of seconds from 0.1 up."),
        (["song.mp3", *EMOTION, "--hop", "-2"], "--hop is -2 s; give a number of seconds from 0.1 up."),
    ],
)
def test_misuse_gets_a_sentence_and_writes_nothing(call, arguments, sentence):
    status, _, errors = call(*arguments)
    assert status == 2
    assert sentence in errors
    assert "Traceback" not in errors
    assert not Path("predictions").exists()


def test_a_file_where_the_folder_should_be_gets_a_sentence(call):
    Path("taken").write_text("")
    status, _, errors = call("song.mp3", *EMOTION, "--out", "taken")
    assert status == 2
    assert "taken" in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups")
@pytest.mark.usefixtures("place")
def test_ctrl_c_leaves_a_sentence():
    soundfile.write("longer.wav", np.tile(music(15), 20), 22050)  # work for some seconds
    command = [sys.executable, "-m", "music_emotion", "predict", "longer.wav", *EMOTION, "--hop", "0.1"]
    # a job in the background ignores Ctrl-C, and so would what it starts
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed
    )
    errors = ""
    while "longer.wav: " not in errors and process.poll() is None:  # its progress
        errors += process.stderr.read(1)
    assert process.poll() is None, errors + process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    errors += process.communicate(timeout=60)[1]
    assert process.returncode == 130, errors
    assert "interrupted: what was finished is kept" in errors.splitlines()[-1]
    assert "Traceback" not in errors
