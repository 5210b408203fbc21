"""Every command of the README and the docs runs, the long ones in a smaller size."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from music_emotion.cli import _COMMANDS, _GROUPS, main
from music_emotion.files import read_json

ROOT = Path(__file__).parents[1]
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
}
COMMAND = re.compile(
    r"music-emotion ((?:train|pretrain|extract|statistics|blend|submit|compare|report|study|show|predict"
    r"|kaggle|demo|bench) [^`\n|#]*|report|demo)"
)
SMALLER = {
    "extract": "--jobs 1",
    "pretrain": "--model.widths 4 8 --excerpt.frames 32 --train.epochs 1 --train.batch-size 8",
    "train": "--model.widths 4 8 --excerpt.frames 32 --train.epochs 2 --train.batch-size 8 --folds.n 2",
}
# What keeps its own shape: the public baselines, and the checks that need the whole recipe.
OWN_SHAPE = {
    "train public-cnn": "--train.epochs 1 --folds.n 2 --excerpt.frames 250",
    "train timm": "--train.epochs 1 --folds.n 2 --excerpt.frames 64",
    "--overfit-batch": "--model.widths 4 8 --excerpt.frames 32",
    "train transfer": "--model.widths 4 8 --excerpt.frames 32 --train.epochs 3 --folds.n 2",
}


def commands(text: str) -> list[str]:
    return list(dict.fromkeys(found.strip() for found in COMMAND.findall(text)))


STUDY = """
name = "tiny"
base = "multitask"
[[grid]]
"model.activation" = [false, "relu"]
"model.widths" = [[4, 8]]
"excerpt.frames" = [32]
"folds.n" = [2]
"train.epochs" = [1]
"train.batch_size" = [8]
"""


def smaller(command: str) -> list[str]:
    if command.startswith("study"):
        return shlex.split(command.replace("activations", "tiny.toml"))
    for mark, flags in OWN_SHAPE.items():
        if mark in command:
            return shlex.split(f"{command} {flags}")
    return shlex.split(f"{command} {SMALLER.get(command.split()[0], '')}")


EXPERIMENTS, FAMILY_PAGE = PAGES["experiments.md"].split("## The systems this one grew from")
FAMILY = [command for command in commands(FAMILY_PAGE) if not command.startswith("extract --")]
# The same networks and splits on clips and windows of less than a second, for a pass or two.
FAMILY_SMALLER = {
    "extract ": "--jobs 1",
    "statistics audio": "--jobs 1",
    "train cut-clips ": "--seeds 0 1 --model.widths 4 8 --excerpt.frames 43 --train.epochs 2",
    "cut-clips-unpadded": "--seeds 0 --model.widths 4 4 8 --excerpt.frames 43 --train.epochs 2",
    "cut-clips-transfer": "--seeds 0 --model.widths 4 8 --excerpt.frames 43 --train.epochs 2",
    "one-second-mlp": "--train.epochs 3",
    "one-second-cnn ": "--train.epochs 2",
    "one-second-cnn-bare": "--train.epochs 1 --model.head-widths 4",
}
FEWER_ROWS = {
    '["mel", "chroma", "fused"]': '["fused"]',
    '["mel", "fused"]': '["mel"]',
    "[false, true]": "[true]",
    '["valence"], ["energy"], ["danceability"]': '["energy"]',
    "[0, 12]": "[0, 1]",
    "[128]": "[16]",
    "[64]": "[8]",
    "[[32, 64, 128]]": "[[4, 4, 8]]",
    "trials = 30": "trials = 2",
    "epochs = 12\nvalid_every = 12": "epochs = 1",
    "epochs = 20\nvalid_every = 20": "epochs = 1",
    "[16, 32, 64, 128]": "[4, 4]",
    "lstm_width = 64": "lstm_width = 4",
    "n = 3": "n = 2",
}


def family_smaller(command: str) -> list[str]:
    command = re.sub(r"study ([\w-]+)", r"study few/studies/\1.toml", command)
    command = command.replace("--window 8 --hop 1", "--window 1")
    for mark, flags in FAMILY_SMALLER.items():
        if mark in command and not command.startswith("bench"):
            command = f"{command} {flags}"
    return shlex.split(command.replace("devices", "devices --epochs 1"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, competition):
    """A working folder as the docs assume it: data and a table of clips."""
    place = tmp_path_factory.mktemp("docs")
    data = place / "data"
    data.mkdir()
    for child in competition.iterdir():
        (data / child.name).symlink_to(child)
    (place / "tiny.toml").write_text(STUDY)
    rows = "".join(f"{n},0,0,0\n" for n in range(1007, 999, -1))
    (data / "sample_submission.csv").write_text("Id,valence,energy,danceability\n" + rows)
    return place


@pytest.fixture
def run(folder, monkeypatch):
    def call(command: list[str]) -> int:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["music-emotion"])
        try:
            main(*command)
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    return call


def test_the_docs_show_every_command():
    shown = {command.split()[0] for page in PAGES.values() for command in commands(page)}
    assert shown == {*_COMMANDS, *_GROUPS}


def test_the_experiment_commands_run_in_their_order(run, capsys):
    """Each on what those before it left, in smaller sizes."""
    pretraining = [command for command in commands(EXPERIMENTS) if command.startswith("pretrain")]
    others = [command for command in commands(EXPERIMENTS) if command not in pretraining]
    others.append("statistics arrays data --out array-statistics.csv")
    others += [command for command in commands(PAGES["predict.md"]) if command.startswith("show")]
    assert len(others) >= 20
    for command in [*pretraining, *others]:
        assert run(smaller(command)) == 0, f"{command}: {capsys.readouterr().err}"


def test_the_comparison_of_the_docs_is_what_the_tracked_runs_give(run, capsys):
    shown = re.search(
        r"music-emotion (compare research/[^\n]*)\n```\n\n```text\n(.*?)```", PAGES["results.md"], re.S
    )
    assert shown is not None
    command = [str(ROOT / word) if word.startswith("research/") else word for word in shlex.split(shown[1])]
    assert run(command) == 0
    assert capsys.readouterr().out == shown[2]


def test_the_commands_that_start_from_audio_run(run, folder, capsys):
    rng = np.random.default_rng(0)
    for number in (1, 2):
        soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, 3 * 22050), 22050)
    clips = pd.DataFrame({"path": ["1.wav", "2.wav"], "label": ["Rock", "Folk"]})
    clips.to_csv(folder / "clips.csv", index=False)
    command = commands(PAGES["audio.md"])[0]
    assert run(smaller(command.replace("--out data", "--out own"))) == 0, capsys.readouterr().err
    array = np.load(folder / "own" / "fma_genre_spectrograms" / "train" / "1.fused.full.npy")
    assert array.shape == (140, 130)
    command = next(
        command for command in commands(PAGES["audio.md"]) if command.startswith("statistics audio")
    )
    assert run([*smaller(command), "--jobs", "1"]) == 0, capsys.readouterr().err
    assert pd.read_csv(folder / "statistics.csv")["id"].tolist() == [1, 2]


def test_the_commands_of_the_family_run_in_their_order(run, folder, capsys):
    """From recordings of two classes to every network, estimator, vote and study."""
    rng = np.random.default_rng(0)
    for number in range(12):
        noise = rng.normal(0, 0.1, 3 * 22050)
        sound = np.cumsum(noise) / 30 if number % 2 else noise
        soundfile.write(folder / f"recording{number}.wav", sound.clip(-1, 1), 22050)
        place = folder / "folder" / ("noisy" if number % 2 else "clear")
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number}.wav", sound[:22050].clip(-1, 1), 22050)
    recordings = {"path": [f"recording{n}.wav" for n in range(12)], "label": ["bright", "dark"] * 6}
    pd.DataFrame(recordings).to_csv(folder / "clips.csv", index=False)
    for split, n in (("train", 40), ("val", 12), ("test", 12)):
        place = folder / "given" / split / "mfccs"
        place.mkdir(parents=True)
        np.save(place / "X.npy", rng.normal(size=(n, 26)))
        np.save(place / "labels.npy", np.array(["blues", "rock"])[np.arange(n) % 2])
    for path in [*(ROOT / "experiments").glob("*.toml"), *(ROOT / "experiments/studies").glob("*.toml")]:
        text = path.read_text(encoding="utf-8")
        for many, few in FEWER_ROWS.items():
            text = text.replace(many, few)
        copy = folder / "few" / path.relative_to(ROOT / "experiments")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    assert len(FAMILY) >= 18
    for command in FAMILY:
        assert run(family_smaller(command)) == 0, f"{command}: {capsys.readouterr().err}"
    assert read_json(folder / "runs/vote/scores.json")["repeated"]["test"]["accuracy"]["value"] > 0.9
    rows = pd.read_csv(folder / "runs/representations-transfer/table.csv")
    assert rows["train.frozen_epochs"].tolist().count(0) == len(rows) / 2
    for row in pd.read_csv(folder / "runs/representations/table.csv")["row"]:
        names = {path.name for path in (folder / "runs/representations" / row).iterdir()}
        assert {"report.txt", "confusion.csv", "confusion.png"} <= names


def test_an_audio_file_is_predicted_with_the_models_of_the_readme(run, folder, capsys):
    command = commands(PAGES["predict.md"])[0]
    models = re.findall(r"runs/\S+", command)
    if not all((folder / model).exists() for model in models):  # as in a run of this test alone
        for training in ("pretrain pretrain --data.root data", "train multitask --data.root data"):
            assert run(smaller(training)) == 0, capsys.readouterr().err
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * 44100, 2))
    soundfile.write(folder / "song.mp3", noise, 44100, format="mp3")
    assert run(shlex.split(command)) == 0, capsys.readouterr().err
    table = pd.read_csv(folder / "predictions" / "song.csv")
    assert {"start_seconds", "valence", "energy", "danceability", "genre_Blues"} <= set(table)
    assert (folder / "predictions" / "song.png").stat().st_size > 10_000


def test_the_library_lines_of_the_readme_run(folder, competition, monkeypatch):
    monkeypatch.chdir(folder)
    code = re.search(r"```python\n(.*?)```", PAGES["predict.md"], re.S)
    assert code is not None
    array = competition / "multitask_dataset/train/1004.fused.full.npy"
    program = ast.parse(code[1].replace("1004.fused.full.npy", array.as_posix()))
    call = program.body.pop()
    assert isinstance(call, ast.Expr)
    names: dict = {"Path": Path, "np": np}
    exec(compile(program, "predict.md", "exec"), names)
    prediction = eval(compile(ast.Expression(call.value), "predict.md", "eval"), names)
    assert list(prediction) == ["valence", "energy", "danceability"]
    assert all(np.isfinite(value) for value in prediction.values())


@pytest.mark.parametrize("start", [[str(ROOT / "scripts/train.py")], ["-m", "music_emotion", "train"]])
def test_accelerate_launches_a_training(folder, start):
    name = f"launched-{len(start)}"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", "no", "--cpu", *start]
    done = subprocess.run(
        [*launch, *smaller("train single-valence --data.root data")[1:], "--name", name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert f"{name} (out-of-fold):" in done.stdout
    environment = read_json(folder / "runs" / name / "environment.json")
    assert environment["precision"] == "no"  # the launcher's, where the CPU alone may choose bf16


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
