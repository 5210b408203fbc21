"""Every command of the README and the docs runs, on small experiments of the same names."""

import contextlib
import io
import re
import shlex
import tomllib
from inspect import signature
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import timm
import torch
from accelerate.commands import launch
from public_folders import fma, soundtracks
from safetensors.torch import save_file

from music_emotion.bench import training
from music_emotion.cli import COMMANDS, main
from music_emotion.config import ModelSection, build_experiment
from music_emotion.experiment_files import experiment_toml, lay_over, read_differences, to_toml
from music_emotion.files import read_json
from music_emotion.models.card import read_card
from music_emotion.models.conv import ConvNet

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
}
COMMAND = re.compile(
    r"music-emotion ((?:dataset|train|pretrain|extract|statistics|blend|pack|submit|compare|report|study|show"
    r"|score|predict|export|kaggle|demo|bench|ear|embed) [^`\n|#]*|report|demo|ear|app\b)"
)
ORDER = ("README.md", "experiments.md", "audio.md", "datasets.md", "predict.md", "results.md")
# Named in a sentence, in need of a cluster, or run by tests of public sets, the app, Kaggle and benchmarks.
NOT_HERE = re.compile(
    r"dataset --list|app|demo|predict demo|kaggle|extract --beats|.* --scheduler"
    r"|bench (extract|coverage|predict)"
)
DEIT = "deit_tiny_patch16_224"
SHORTER = {
    "--window 8 --hop 1": "--window 1",
    "--train.epochs 120": "--train.epochs 3",
    "extract clips.csv --out data": "extract clips.csv --out own --jobs 1",
    "soundtracks/clips.csv --out data/soundtracks": "soundtracks/clips.csv --out data/soundtracks --jobs 1",
    "genres.csv --out data/fma": "genres.csv --out data/fma --jobs 1",
    "echonest.csv --out data/fma": "echonest.csv --out data/fma --jobs 1",
    "predict song.mp3": "predict song.mp3 --jobs 1",
    "predict Music": "predict Music --jobs 1",
    "bench devices": "bench devices --epochs 1",
}
SMALL_AXES = {
    "seeds": [0],
    "train.epochs": 1,
    "train.frozen_epochs": [0, 1],
    "excerpt.frames": [32],
    "model.widths": [[4, 4, 4]],
}


def commands(text: str) -> list[str]:
    return [found.strip() for found in COMMAND.findall(text)]


def fewest_frames(model: ModelSection) -> int:
    """Fewest frames that the experiment's ConvNet needs."""
    with torch.device("meta"):
        settings = model.model_dump(include=set(signature(ConvNet).parameters))
        return ConvNet(140, 4096, **settings).fewest_frames


def small_experiment(name: str) -> str:
    """A built-in experiment with narrow layers, short excerpts and an epoch or two."""
    differences = read_differences(name)
    own = build_experiment(differences, name)
    model, frozen_epochs = own.model, min(own.train.frozen_epochs, 1)
    frames = 1 if model.kind == "mlp" else max(min(own.excerpt.frames or 43, 43), fewest_frames(model))
    changes = {
        "seeds": [0, 1] if own.has_repeats else [0],
        "excerpt": {"frames": frames, "test": 1},
        "folds": {"n": 2},
        "model": {"widths": [8] * len(model.widths), "lstm_width": 4},
        "train": {
            "epochs": 1 + frozen_epochs,
            "frozen_epochs": frozen_epochs,
            "valid_every": 1,
            "batch_size": 16,
        },
    }
    return experiment_toml(build_experiment(lay_over(differences, changes), name))


def small_study(path: Path) -> str:
    """A built-in study with a few of its rows."""
    study = tomllib.loads(path.read_text(encoding="utf-8"))
    if "search" in study:
        study["search"]["trials"] = 2
    study["fixed"] = {key: SMALL_AXES.get(key, value) for key, value in study.get("fixed", {}).items()}
    if "grid" in study:
        study["grid"] = [
            {key: SMALL_AXES.get(key, values[-1:]) for key, values in table.items()}
            for table in study["grid"][-3:]
        ]
    return "\n".join(f"{key} = {to_toml(value)}" for key, value in study.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, competition):
    """A working folder as the docs assume it, where a small experiment has the name of each built-in one."""
    place = tmp_path_factory.mktemp("docs")
    (place / "research").symlink_to(ROOT / "research")
    (place / "data").mkdir()
    for child in competition.iterdir():
        (place / "data" / child.name).symlink_to(child)
    rows = "".join(f"{n},0,0,0\n" for n in range(1007, 999, -1))
    (place / "data" / "sample_submission.csv").write_text("Id,valence,energy,danceability\n" + rows)
    for path in (ROOT / "experiments").rglob("*.toml"):
        text = small_study(path) if path.parent.name == "studies" else small_experiment(path.stem)
        (place / path.stem).write_text(text, encoding="utf-8")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        embeddings = {"id": range(1000, 1040), "msd-mean:0": rng.normal(size=40)}
        for name in (f"ear-{split}.csv", f"ear-emotion-{split}.csv"):
            pd.DataFrame(embeddings).to_csv(place / name, index=False)
        spans = pd.DataFrame(embeddings).assign(start_seconds=0.0, end_seconds=1.0)
        spans.assign(id=1000 * spans["id"]).to_csv(place / f"ear-spans-emotion-{split}.csv", index=False)
    save_file(timm.create_model(DEIT).state_dict(), place / f"{DEIT}.safetensors")
    for number in range(12):
        sound = rng.normal(0, 0.1, 3 * 22050)
        if number % 2:
            sound = np.cumsum(sound) / 30
        soundfile.write(place / f"recording{number}.wav", sound.clip(-1, 1), 22050)
        of_class = place / "folder" / ("dark" if number % 2 else "bright")
        of_class.mkdir(parents=True, exist_ok=True)
        soundfile.write(of_class / f"{number}.wav", sound[:22050].clip(-1, 1), 22050)
    clips = {"path": [f"recording{n}.wav" for n in range(12)], "label": ["bright", "dark"] * 6}
    pd.DataFrame(clips).to_csv(place / "clips.csv", index=False)
    (place / "Music").symlink_to("folder")
    soundtracks(place / "Soundtracks")
    fma(place / "FMA")
    soundfile.write(place / "song.mp3", rng.normal(0, 0.1, (4 * 44100, 2)), 44100, format="mp3")
    for split, n in (("train", 40), ("val", 12), ("test", 12)):
        windows = place / "given" / split / "mfccs"
        windows.mkdir(parents=True)
        np.save(windows / "X.npy", rng.normal(size=(n, 26)))
        np.save(windows / "labels.npy", np.array(["blues", "rock"])[np.arange(n) % 2])
    return place


@pytest.fixture(scope="module")
def said(folder, own_accelerate):  # noqa: ARG001
    """What each command of the docs printed, each on the files of those before it."""
    printed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["music-emotion"])
        patch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # a process can't go from predictions to bfloat16
        patch.setattr(training, "run_train", lambda file, flags, _: main("train", str(file), *flags))
        for command in [each for name in ORDER for each in commands(PAGES[name])]:
            if command in printed or NOT_HERE.match(command):
                continue
            shorter = command
            for long, short in SHORTER.items():
                shorter = shorter.replace(long, short)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                main(*shlex.split(shorter))
            printed[command] = out.getvalue()
    return printed


def test_the_docs_show_every_command():
    shown = {command.split()[0] for page in PAGES.values() for command in commands(page)}
    assert shown == {words.split()[0] for words in COMMANDS}


def test_the_commands_run_in_their_order(said, folder):
    assert len(said) == 81
    assert pd.read_csv(folder / "runs/soundtracks/oof.csv").columns[1:].tolist() == [
        "valence",
        "energy",
        "tension",
    ]
    across = pd.read_csv(folder / "across.csv").query("measure == 'spearman'")
    assert across.groupby("model")["target"].apply(list).to_dict() == {
        "package": ["valence", "energy"],
        "soundtracks": ["valence", "energy", "tension"],
    }
    array = np.load(folder / "own/fma_genre_spectrograms/train/1.fused.full.npy")
    assert array.shape == (140, 130)
    assert pd.read_csv(folder / "statistics.csv")["id"].tolist() == list(range(1, 13))
    assert read_json(folder / "runs/vote/scores.json")["repeated"]["test"]["accuracy"]["value"] > 0.9
    rows = pd.read_csv(folder / "runs/representations-transfer/table.csv")
    assert rows["train.frozen_epochs"].tolist().count(0) == len(rows) / 2
    for row in pd.read_csv(folder / "runs/representations/table.csv")["row"]:
        names = {path.name for path in (folder / "runs/representations" / row).iterdir()}
        assert {"report.txt", "confusion.csv", "confusion.png"} <= names
    deit = read_card(folder / "runs/deit/seed0/fold0/model.safetensors").experiment
    assert (deit.model.backbone, deit.model.weights) == (DEIT, f"{DEIT}.safetensors")
    table = pd.read_csv(folder / "predictions/predictions.csv")
    assert {"title", "valence", "energy_low", "danceability_percentile"} <= set(table)
    table = pd.read_csv(folder / "predictions/timelines/song.csv")
    assert {"start_seconds", "valence", "energy", "danceability", "genre_Blues"} <= set(table)
    assert (folder / "predictions/timelines/song.png").stat().st_size > 10_000


def test_the_comparison_of_the_docs_is_what_the_tracked_runs_give(said):
    compared = r"music-emotion (compare research/[^\n]*)\n```\n\n```text\n(.*?)```"
    shown = re.search(compared, PAGES["results.md"], re.S)
    assert shown is not None
    assert said[shown[1]] == shown[2]


@pytest.mark.usefixtures("said")
def test_the_library_lines_of_the_docs_run(folder, competition, monkeypatch):
    monkeypatch.chdir(folder)
    of_songs, code = re.findall(r"```python\n(.*?)```", PAGES["predict.md"], re.S)
    names: dict = {}
    exec(of_songs, names)
    assert names["model"].columns[:4] == ["valence", "energy", "danceability", "valence_low"]
    array = competition / "multitask_dataset/train/1004.fused.full.npy"
    code = code.replace("1004.fused.full.npy", array.as_posix())
    exec(code.replace("\npredict_array(", "\nprediction = predict_array("), names)
    assert list(names["prediction"]) == ["valence", "energy", "danceability"]
    assert all(map(np.isfinite, names["prediction"].values()))


def test_accelerate_launches_a_training(folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    ways = {
        "script": [
            str(ROOT / "scripts/train.py"),
            "single-valence",
            "--data.root",
            "data",
            "--name",
            "launched",
        ],
        "module": ["-m", "music_emotion", "--version"],
    }
    said = {}
    for way, command in ways.items():
        flags = ["--mixed_precision", "no", "--cpu", *command]
        launch.launch_command(launch.launch_command_parser().parse_args(flags))
        said[way] = capfd.readouterr().out
    assert "launched (out-of-fold):" in said["script"]
    environment = read_json(folder / "runs/launched/environment.json")
    assert environment["precision"] == "no"  # the launcher's, where the CPU alone may choose bf16
    assert re.match(r"\d+\.\d+\.\d+\n", said["module"])


def test_every_link_of_the_docs_exists():
    for name, page in PAGES.items():
        for link in re.findall(r"\]\((?!http)([^)]+)\)", page):
            assert ((ROOT if name == "README.md" else ROOT / "docs") / link).exists(), (name, link)


def test_the_design_page_names_every_room():
    package = ROOT / "src/music_emotion"
    rooms = {path.name for path in package.iterdir() if (path / "__init__.py").exists()}
    files = {path.name for path in package.glob("*.py")} - {"__init__.py", "__main__.py"}
    named = set(re.findall(r"`([\w.]+)/?`", PAGES["design.md"]))
    assert rooms | files <= named
