"""`music-emotion predict` as a user calls it: what it writes, what it refuses, and what it says."""

import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from small_networks import small_network

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import full_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets.synthesis import draw_music, synthesise
from music_emotion.files import read_json
from music_emotion.listen.predict import Song, predict_array, read_song
from music_emotion.models.network import load_model, save_model

EMOTION = ["--timeline", "--jobs", "1", "--model", "fold0.safetensors", "fold1.safetensors"]
GENRE = ["--model", "genre.safetensors"]
GENRES = ("Folk", "Jazz", "Rock")
COARSE = FeatureSettings(hop_length=1102)

pytestmark = pytest.mark.usefixtures("own_accelerate")


def music(seconds: float, rate_hz: int = 22050) -> np.ndarray:
    rng = np.random.default_rng(0)
    return synthesise(draw_music("Rock", rng), seconds, rate_hz, rng)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Models and music, which tests must not change."""
    folder = tmp_path_factory.mktemp("made")
    networks = {
        "fold0": small_network(),
        "fold1": small_network(seed=1),
        "genre": small_network(GENRES),
        "more": small_network((*GENRES, "Ska")),
        "beat": small_network(data={"rate": "beat"}),
        "coarse": small_network(hop=COARSE.hop_length),
        "table": small_network(GENRES, frames=1, kind="mlp", data={"statistics": "means-{split}.csv"}),
        "windows": small_network(GENRES, frames=1, kind="mlp", data={"windows": "windows/{split}"}),
    }
    for name, network in networks.items():
        save_model(folder / f"{name}.safetensors", network, network.state_dict())
    stereo = np.stack([music(8, 44100), 0.3 * music(8, 44100)], axis=1)
    soundfile.write(folder / "song.mp3", stereo, 44100)
    for name, seconds in (("one", 1), ("two", 3)):
        (folder / name).mkdir()
        soundfile.write(folder / name / "song.wav", music(seconds), 22050)
    (folder / "damaged").mkdir()
    (folder / "damaged" / "broken.wav").write_bytes((folder / "two" / "song.wav").read_bytes()[:40])
    soundfile.write(folder / "damaged" / "short.wav", music(0.05), 22050)
    return folder


@pytest.fixture
def call(made, tmp_path, monkeypatch, run_script):
    """Call the script in a folder with models and music; returns status, output and errors."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_script("predict.py", *arguments)


def of_array(audio: str, model: str, features: FeatureSettings) -> dict[str, float]:
    return predict_array(load_model(Path(model)), full_features(read_waveform(Path(audio)), features))


def test_a_file_gives_a_table_a_picture_and_a_card_of_what_was_made_how_and_from_what(call, made):
    status, out, _ = call("song.mp3", *EMOTION, *GENRE, "--window", "6")
    assert status == 0
    assert out.startswith("predictions/song.csv: 8.0 s in 2 windows, ")
    table, card = pd.read_csv("predictions/song.csv"), read_json(Path("predictions/song.json"))
    genres = [f"genre_{name}" for name in GENRES]
    assert table.columns.tolist() == ["start_seconds", "end_seconds", "valence", "energy", *genres]
    assert table[["start_seconds", "end_seconds"]].to_numpy().tolist() == [[0, 6], [2, 8]]
    assert table[genres].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    assert {path.name for path in Path("predictions").iterdir()} == {"song.csv", "song.json", "song.png"}
    stamps = {task: [Path(model["file"]).stem for model in models] for task, models in card["models"].items()}
    assert stamps == {"emotion": ["fold0", "fold1"], "genre": ["genre"]}
    assert card["models"]["genre"][0]["mtime_ns"] == (made / "genre.safetensors").stat().st_mtime_ns
    assert card["file"] == str(made.resolve() / "song.mp3")
    assert card["bytes"] == (made / "song.mp3").stat().st_size
    assert card["seconds"] == pytest.approx(8, abs=0.1)
    assert card["settings"] == {"window_seconds": 6.0, "hop_seconds": 2.0}
    assert card["features"] == {"sample_rate_hz": 22050, "n_fft": 2048, "hop_length": 512}
    assert card["genre"] == max(GENRES, key=lambda name: card["genres"][name])
    assert card["precision"] == "no" or torch.cuda.is_available()
    of_models = [of_array("song.mp3", f"fold{seed}.safetensors", FeatureSettings()) for seed in (0, 1)]
    expected = {name: np.mean([of[name] for of in of_models]) for name in ("valence", "energy")}
    assert card["targets"] == pytest.approx(expected, abs=2e-6)


def test_audio_becomes_features_as_it_did_for_the_clips_of_the_model(call):
    call("two/song.wav", "--emotion", "coarse.safetensors", "--no-picture")
    card = read_json(Path("predictions/song.json"))
    expected = of_array("two/song.wav", "coarse.safetensors", COARSE)
    assert card["targets"] == pytest.approx(expected, abs=2e-6)
    assert card["features"]["hop_length"] == 1102


def test_the_same_command_goes_on_and_finished_does_nothing_again(call, monkeypatch):
    asked = ("--emotion", "fold0.safetensors", "--no-picture")
    call("one", *asked)
    _, out, _ = call("one", "two", *asked)
    assert out.startswith("predictions/song.csv is there already.\npredictions/two-song.csv: 3.0 s")
    monkeypatch.setattr("music_emotion.listen.songs.load_model", None)  # not even that is needed
    status, out, _ = call("one", "two", *asked)
    said = "predictions/song.csv is there already.\npredictions/two-song.csv is there already.\n"
    assert (status, out) == (0, said)


def test_what_is_not_the_same_or_was_interrupted_is_predicted_again(call, monkeypatch):
    shutil.copy("one/song.wav", "own.wav")  # copies, which may be touched
    shutil.copy("fold0.safetensors", "own.safetensors")
    table = Path("predictions/own.csv")

    def is_predicted(*more: str, picture: bool = False) -> bool:
        asked = ("own.wav", "--emotion", "own.safetensors", *more, *([] if picture else ["--no-picture"]))
        return f"{table}: 1.0 s in" in call(*asked)[1]

    assert is_predicted()
    assert not is_predicted()
    for changed in ("own.wav", "own.safetensors"):
        os.utime(changed, ns=(1, 1))
        assert is_predicted()
    assert is_predicted("--window", "0.5", picture=True)
    assert Path("predictions/own.png").exists()
    assert not is_predicted("--window", "0.5")
    table.unlink()
    assert is_predicted("--window", "0.5")
    assert not Path("predictions/own.png").exists()  # it may have been of other models
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.listen.songs.write_json", Mock(side_effect=KeyboardInterrupt))
        status, _, errors = call("own.wav", "--emotion", "own.safetensors", "--no-picture")
        assert status == 130
        assert "interrupted: what was finished is kept" in errors.splitlines()[-1]
    assert is_predicted("--window", "0.5")


def test_one_kind_of_model_is_enough(call):
    for models, n_columns in ((GENRE, 5), (EMOTION, 4)):
        assert call("one", *models, "--no-picture")[0] == 0
        assert pd.read_csv("predictions/song.csv").shape == (1, n_columns)
        card = read_json(Path("predictions/song.json"))
        assert (card["targets"] == {}, card["genres"] == {}) == (models is GENRE, models is EMOTION)
        assert (card["genre"] is None) == (models is EMOTION)


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
    for folder, written in (("one", lone), ("two", lone | {"two-song.json", "two-song.csv"})):
        call(folder, *EMOTION, "--no-picture", "--out", "other")
        assert {path.name for path in Path("other").iterdir()} == written


def test_a_long_name_is_shortened_and_the_card_keeps_it(call, made, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    names = [f"{'ф' * 124}{number}.wav" for number in (1, 2)]  # 253 bytes, as long as a name can be
    for name in names:
        shutil.copy(made / "one" / "song.wav", name)
    for said in ("s in", "is there already"):
        status, out, errors = call(*names, *EMOTION, "--no-picture", "--out=~/predictions")
        assert status == 0, errors
        assert out.count(said) == 2
    cards = sorted(Path(read_json(path)["file"]).name for path in Path("predictions").glob("*.json"))
    assert cards == names


def test_a_folder_is_searched_whole_and_a_file_named_twice_is_predicted_once(call):
    Path("mixed/below").mkdir(parents=True)
    for name in ("mixed/a.wav", "mixed/below/b.wav"):
        Path(name).symlink_to(Path("one/song.wav").resolve())
    Path("mixed/notes.txt").write_text("no audio")
    _, out, _ = call("mixed", "one/song.wav", "two/../one/song.wav", *EMOTION, "--no-picture")
    assert out.count(".csv: ") == 1  # all are one file
    assert "predictions/a.csv" in out


def test_what_can_not_be_predicted_is_listed_and_the_others_are_done(call):
    Path("empty").mkdir()
    status, out, errors = call("damaged", "empty", "none.mp3", "one", *EMOTION, "--no-picture")
    assert status == 2
    assert out.count(".csv: ") == 1
    last = errors[errors.index("error: ") :]
    assert last.startswith("error: 4 of 5 could not be predicted:\n")
    assert "empty holds no audio" in last
    assert "damaged/broken.wav: " in last
    assert "damaged/short.wav: the clip from 0 s on has 1102 samples" in last
    assert "The audio file none.mp3 does not exist. Correct its path." in last
    assert "Traceback" not in errors


@pytest.mark.parametrize(("error", "n_traces"), [(MemoryError(), 0), (ZeroDivisionError("by zero"), 1)])
def test_a_song_with_an_error_of_any_kind_leaves_the_others(call, monkeypatch, error, n_traces):
    def read_but_one(path: Path, *rest: object) -> Song:
        if path.parent.name == "one":
            raise error
        return read_song(path, *rest)

    monkeypatch.setattr("music_emotion.listen.songs.read_song", read_but_one)
    status, out, errors = call("one", "two", *EMOTION, "--no-picture")
    assert (status, out.count(".csv: 3.0 s in"), errors.count("Traceback")) == (2, 1, n_traces)
    kind = type(error).__name__
    assert f"error: 1 of 2 could not be predicted:\none/song.wav failed ({kind}" in errors


def test_a_picture_that_can_not_be_drawn_costs_no_numbers_and_is_not_tried_again(call, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.plots.save_figure", Mock(side_effect=ValueError("no\nfont")))
        status, out, errors = call("one", *EMOTION)
        assert (status, out.count(".csv: 1.0 s in")) == (0, 1)
        assert errors.splitlines()[-1] == (
            "warning: the picture predictions/song.png failed (ValueError: no font). Its numbers are written."
        )
        assert {path.name for path in Path("predictions").iterdir()} == {"song.csv", "song.json"}
    assert call("one", *EMOTION)[:2] == (0, "predictions/song.csv is there already.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (EMOTION, "There is nothing to predict. Name audio files, or folders of audio."),
        (["one", "--emotion", GENRE[1]], "is a model of the task genre. Give it as --genre."),
        (["one", "--emotion", "beat.safetensors"], "with data.rate 'beat', which can't be made of audio"),
        (["one", "--genre", "table.safetensors"], "trained with data.statistics 'means-{split}.csv', which"),
        (["one", "--genre", "windows.safetensors"], "trained with data.windows 'windows/{split}', which"),
        (["one", *EMOTION, "coarse.safetensors"], "hop_length=512); coarse.safetensors has Feature"),
        (["one", *GENRE, "more.safetensors"], "Jazz, Rock; more.safetensors knows Folk, Jazz, Rock, Ska."),
        (["one", *EMOTION, "--window", "0"], "--window is 0 s; give a number of seconds from 0.1 up."),
        (["one", *EMOTION, "--window", "inf"], "--window is inf s; give a number of seconds"),
        (["one", *EMOTION, "--hop", "-2"], "--hop is -2 s; give a number of seconds from 0.1 up."),
    ],
)
def test_misuse_gets_a_sentence_and_writes_nothing(call, arguments, sentence):
    status, _, errors = call(*arguments)
    assert status == 2
    assert sentence in errors
    assert "Traceback" not in errors
    assert not Path("predictions").exists()
