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

EMOTION = ["--model", "fold0.safetensors", "fold1.safetensors"]
GENRE = ["--model", "genre.safetensors"]
GENRES = ("Folk", "Jazz", "Rock")
LINES = Path("predictions/timelines")
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
    (folder / "void").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "broken.wav").write_bytes((folder / "two" / "song.wav").read_bytes()[:40])
    soundfile.write(folder / "damaged" / "short.wav", music(0.05), 22050)
    return folder


@pytest.fixture
def call(made, tmp_path, monkeypatch, run_script):
    """Predict with time lines in a folder with models and music; returns status, output and errors."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_script("predict.py", *arguments, "--timeline", "--jobs", "1")


def of_array(audio: str, model: str, features: FeatureSettings) -> dict[str, float]:
    return predict_array(load_model(Path(model)), full_features(read_waveform(Path(audio)), features))


def test_a_file_gives_a_table_a_picture_and_a_card_of_what_was_made_how_and_from_what(call, made):
    status, out, _ = call("song.mp3", *EMOTION, *GENRE, "--window", "6")
    assert status == 0
    assert "\npredictions/timelines/song.csv: 8.0 s in 2 windows, " in out
    table, card = pd.read_csv(LINES / "song.csv"), read_json(LINES / "song.json")
    genres = [f"genre_{name}" for name in GENRES]
    assert table.columns.tolist() == ["start_seconds", "end_seconds", "valence", "energy", *genres]
    assert table[["start_seconds", "end_seconds"]].to_numpy().tolist() == [[0, 6], [2, 8]]
    assert table[genres].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    assert {path.name for path in LINES.iterdir()} == {"song.csv", "song.json", "song.png"}
    told = read_json(Path("predictions/predictions.json"))
    assert card["model"] == told["model"]
    assert card["model"]["name"] == "fold0.safetensors + fold1.safetensors + genre.safetensors"
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
    assert {name: told["songs"][0][name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_audio_becomes_features_as_it_did_for_the_clips_of_the_model(call):
    call("two/song.wav", "--model", "coarse.safetensors", "--no-picture")
    card = read_json(LINES / "song.json")
    expected = of_array("two/song.wav", "coarse.safetensors", COARSE)
    assert card["targets"] == pytest.approx(expected, abs=2e-6)
    assert card["features"]["hop_length"] == 1102


def test_the_same_command_goes_on_and_finished_does_nothing_again(call, monkeypatch):
    asked = ("--model", "fold0.safetensors", "--no-picture")
    call("one", *asked)
    _, out, _ = call("one", "two", *asked)
    assert f"{LINES}/song.csv is there already.\n{LINES}/two-song.csv: 3.0 s" in out
    for needless in ("model.read_song", "songs.EmotionModel"):
        monkeypatch.setattr(f"music_emotion.listen.{needless}", None)
    status, out, _ = call("one", "two", *asked)
    assert status == 0
    assert out.endswith(f"{LINES}/song.csv is there already.\n{LINES}/two-song.csv is there already.\n")


def test_what_is_not_the_same_or_was_interrupted_is_predicted_again(call, monkeypatch):
    shutil.copy("one/song.wav", "own.wav")  # copies, which may be touched
    shutil.copy("fold0.safetensors", "own.safetensors")
    table = LINES / "own.csv"

    def is_predicted(*more: str, picture: bool = False) -> bool:
        asked = ("own.wav", "--model", "own.safetensors", *more, *([] if picture else ["--no-picture"]))
        return f"{table}: 1.0 s in" in call(*asked)[1]

    assert is_predicted()
    assert not is_predicted()
    os.utime("own.safetensors", ns=(1, 1))
    assert not is_predicted()
    os.utime("own.wav", ns=(1, 1))
    assert is_predicted()
    shutil.copy("fold1.safetensors", "own.safetensors")
    assert is_predicted()
    assert is_predicted("--window", "0.5", picture=True)
    assert (LINES / "own.png").exists()
    assert not is_predicted("--window", "0.5")
    table.unlink()
    assert is_predicted("--window", "0.5")
    assert not (LINES / "own.png").exists()  # it may have been of other models
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.listen.songs.write_json", Mock(side_effect=KeyboardInterrupt))
        status, _, errors = call("own.wav", "--model", "own.safetensors", "--no-picture")
        assert status == 130
        assert "interrupted: what was finished is kept" in errors.splitlines()[-1]
    assert is_predicted("--window", "0.5")


def test_one_kind_of_model_is_enough(call):
    for models, n_columns in ((GENRE, 5), (EMOTION, 4)):
        assert call("one", *models, "--no-picture")[0] == 0
        assert pd.read_csv(LINES / "song.csv").shape == (1, n_columns)
        card = read_json(LINES / "song.json")
        assert (card["targets"] == {}, card["genres"] == {}) == (models is GENRE, models is EMOTION)
        assert (card["genre"] is None) == (models is EMOTION)


def test_equal_names_stay_apart_in_one_run_and_over_several(call, made):
    for _ in range(2):
        assert call("song.mp3", "one", "two/song.wav", *EMOTION, "--no-picture")[0] == 0
        cards = {path.name: read_json(path)["file"] for path in sorted(LINES.glob("*.json"))}
        assert cards == {
            "one-song.json": str(made.resolve() / "one" / "song.wav"),
            "song.json": str(made.resolve() / "song.mp3"),
            "two-song.json": str(made.resolve() / "two" / "song.wav"),
        }
    lone = {"song.json", "song.csv"}
    for folder, written in (("one", lone), ("two", lone | {"two-song.json", "two-song.csv"})):
        call(folder, *EMOTION, "--no-picture", "--out", "other")
        assert {path.name for path in Path("other/timelines").iterdir()} == written


def test_a_long_name_is_shortened_and_the_card_keeps_it(call, made, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    names = [f"{'ф' * 124}{number}.wav" for number in (1, 2)]  # 253 bytes, as long as a name can be
    for name in names:
        shutil.copy(made / "one" / "song.wav", name)
    for said in ("s in", "is there already"):
        status, out, errors = call(*names, *EMOTION, "--no-picture", "--out=~/predictions")
        assert status == 0, errors
        assert out.count(said) == 2
    cards = sorted(Path(read_json(path)["file"]).name for path in LINES.glob("*.json"))
    assert cards == names


def test_a_folder_is_searched_whole_and_a_file_named_twice_is_predicted_once(call):
    Path("mixed/below").mkdir(parents=True)
    for name in ("mixed/a.wav", "mixed/below/b.wav"):
        Path(name).symlink_to(Path("one/song.wav").resolve())
    Path("mixed/notes.txt").write_text("no audio")
    _, out, _ = call("mixed", "one/song.wav", "two/../one/song.wav", *EMOTION, "--no-picture")
    assert out.count(".csv: ") == 1  # all are one file
    assert "timelines/a.csv" in out


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
    assert "/none.mp3 does not exist. Correct its path." in last
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("error", "time", "n_traces"),
    [(MemoryError(), 1, 0), (ZeroDivisionError("by zero"), 1, 1), (ZeroDivisionError("by zero"), 2, 1)],
)
def test_a_song_with_an_error_of_any_kind_leaves_the_others(call, monkeypatch, error, time, n_traces):
    """The first time it is read for the table, the second time for its time line."""
    reads = []

    def read_but_one(path: Path, *rest: object) -> Song:
        reads.extend([path] if path.parent.name == "one" else [])
        if path.parent.name == "one" and len(reads) == time:
            raise error
        return read_song(path, *rest)

    monkeypatch.setattr("music_emotion.listen.model.read_song", read_but_one)
    status, out, errors = call("one", "two", *EMOTION, "--no-picture")
    assert (status, out.count(".csv: 3.0 s in"), errors.count("Traceback")) == (2, 1, n_traces)
    kind = type(error).__name__
    assert f"error: 1 of 2 could not be predicted:\n{Path.cwd()}/one/song.wav failed ({kind}" in errors


def test_a_picture_that_can_not_be_drawn_costs_no_numbers_and_is_not_tried_again(call, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("music_emotion.plots.save_figure", Mock(side_effect=ValueError("no\nfont")))
        status, out, errors = call("one", *EMOTION)
        assert (status, out.count(".csv: 1.0 s in")) == (0, 1)
        assert errors.splitlines()[-1] == (
            f"warning: the picture {LINES}/song.png failed (ValueError: no font). Its numbers are written."
        )
        assert {path.name for path in LINES.iterdir()} == {"song.csv", "song.json"}
    assert call("one", *EMOTION)[1].endswith(f"{LINES}/song.csv is there already.\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (EMOTION, "There is nothing to predict. Name audio files, or folders of audio."),
        (["void", *EMOTION], "1 of 1 could not be predicted:\nvoid holds no audio."),
        (["one", "--model", "two"], "two holds no model (seed*/fold*/model.safetensors). Name the folder"),
        (["one", "--model", "beat.safetensors"], "with data.rate 'beat', which can't be made of audio"),
        (["one", "--model", "table.safetensors"], "trained with data.statistics 'means-{split}.csv', which"),
        (["one", "--model", "windows.safetensors"], "trained with data.windows 'windows/{split}', which"),
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
