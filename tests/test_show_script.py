"""`music-emotion show` as a user calls it: pictures, where they are, and sentences for mistakes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from matplotlib.image import imread

from music_emotion.files import write_json
from music_emotion.models.network import ModelCard, build_network, save_model

GENRE = """
name = "mine"
task = "genre"
[data.genres]
Blues = "Old"
Folk = "Old"
"Psych-Rock" = "New"
Soundtrack = false
"""


@pytest.fixture
def show(competition, tmp_path, monkeypatch, run_script):
    """Call the script in an empty folder that has `data`; returns status, output and errors."""
    (tmp_path / "data").symlink_to(competition)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        return run_script("show.py", *arguments)

    return call


@pytest.fixture
def run_folder(tmp_path, small):
    """A run `runs/<name>`: one fold's random network and two epochs of metrics."""

    def make(name: str, task: str = "emotion") -> Path:
        experiment = small(name=name, task=task)
        fold = tmp_path / "runs" / name / "seed0" / "fold0"
        card = ModelCard(experiment, ("x", "y"), (-40.0,) * 128, (20.0,) * 128, (0.0,) * 2, (1.0,) * 2)
        network = build_network(card)
        save_model(fold / "model.safetensors", network, network.state_dict())
        metrics = {"epoch": [1, 2], "train_loss": [1.0, 0.5], "learning_rate": [0.1, 0.1]}
        pd.DataFrame({**metrics, "valid_loss": [None, 0.7], "score": [None, 0.3]}).to_csv(
            fold / "metrics.csv", index=False
        )
        write_json(fold.parents[1] / "experiment.json", {"task": task})
        return fold.parents[1]

    return make


def test_features_of_several_clips(show):
    status, out, _ = show("features", "1001", "1002", "--data.root", "data")
    assert status == 0
    assert [line.split(": ")[-1] for line in out.splitlines()] == [
        "pictures/features-emotion-train-1001.png",
        "pictures/features-emotion-train-1002.png",
    ]
    one, other = (imread(line.split(": ")[-1]) for line in out.splitlines())
    assert not np.array_equal(one, other)
    assert show("features", "5003", "--task", "genre", "--split", "test", "--out", "p")[0] == 0
    assert Path("p/features-genre-test-5003.png").exists()


def test_features_of_audio(show):
    soundfile.write("song.wav", np.random.default_rng(0).normal(0, 0.1, 22050), 22050)
    status, out, _ = show("features", "song.wav", "--hop-length", "256")
    assert status == 0
    assert out == "song.wav: pictures/features-song.png\n"


def test_classes_of_an_experiment_and_its_flags(show):
    Path("genre.toml").write_text(GENRE)
    status, out, _ = show("classes", "genre.toml", "--data.root", "data")
    assert (status, out) == (0, "classes: pictures/classes-mine.png\n")
    assert show("classes", "genre.toml", "--name", "other")[1] == "classes: pictures/classes-other.png\n"


def test_curves_of_runs(show, run_folder):
    run_folder("slow"), run_folder("fast")
    status, out, _ = show("curves", "runs/slow", "runs/fast/")
    assert (status, out) == (0, "learning curves: pictures/curves-slow-fast.png\n")


def test_activations_of_a_clip(show, run_folder):
    model = str(run_folder("slow") / "seed0/fold0/model.safetensors")
    status, out, _ = show("activations", model, "1004")  # from where the network was trained
    picture = "pictures/activations-slow-seed0-fold0-emotion-train-1004.png"
    assert (status, out) == (0, f"activations: {picture}\n")
    assert imread(picture).std() > 0
    status, _, errors = show("activations", model, "1004", "--data.root", "nowhere")
    assert status == 2
    assert "The data root nowhere is not a folder" in errors


def test_confusion_of_genre_runs(show, run_folder):
    for name in ("one", "two"):
        place = run_folder(name, "genre")
        score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 4}
        write_json(place / "scores.json", {"pooled": {"accuracy": score, "macro_f1": score}})
        (place / "confusion.csv").write_text("truth,Folk,Rock\nFolk,1,1\nRock,0,2\n")
    status, out, _ = show("confusion", "runs/one", "runs/two")
    assert (status, out) == (0, "confusion matrices: pictures/confusion-one-two.png\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("features", "999"), "has no clip 999. Ids near it: 1000, 1001, 1002, 1003, 1004."),
        (("features", "1039", "--split", "test"), "It is in the other split: --split train."),
        (("features", "gone.mp3"), "The audio file gone.mp3 does not exist"),
        (("features", "1001", "--data.root", "nowhere"), "The data root nowhere is not a folder"),
        (("features", "emotion.toml"), "emotion.toml"),
        (("classes", "emotion.toml"), "emotion.toml has the task 'emotion'; classes need 'genre'"),
        (("classes", "gone.toml"), "The experiment gone.toml does not exist"),
        (("curves", "runs/sloow"), "There is no run runs/sloow; did you mean 'slow'?"),
        (("curves", "runs/empty"), "runs/empty has no metrics"),
        (("activations", "gone.safetensors", "1001"), "The model file gone.safetensors does not exist"),
        (("activations", "emotion.toml", "1001"), "emotion.toml is not a whole safetensors file"),
        (("confusion", "runs/slow"), "has the task 'emotion'; a confusion matrix needs a run of genres"),
        (("confusion", "runs/empty"), "experiment.json does not exist"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(show, run_folder, arguments, sentence):
    run_folder("slow")
    Path("runs/empty").mkdir()
    Path("emotion.toml").write_text('name = "mine"\n')
    status, _, errors = show(*arguments)
    assert status == 2
    assert sentence in errors
    assert not Path("pictures").exists()


def test_a_missing_argument_is_a_wrong_flag(show):
    status, _, errors = show("features")
    assert status == 1
    assert "See --help." in errors
