"""Every command of the README runs, the long ones in a smaller size."""

import ast
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from music_emotion.files import read_json

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"(?:python|accelerate launch|nproc_per_node 2) (scripts/\w+\.py[^`\n]*)", README)
SMALLER = {
    "extract.py": "--jobs 1",
    "pretrain.py": "--model.widths 4 8 --excerpt.frames 32 --train.epochs 1 --train.batch-size 8",
    "train.py": "--model.widths 4 8 --excerpt.frames 32 --train.epochs 2 --train.batch-size 8 --folds.n 2",
}
# What keeps its own shape: the public baselines, and the checks that need the whole recipe.
OWN_SHAPE = {
    "public-cnn.toml": "--train.epochs 1 --folds.n 2 --excerpt.frames 250",
    "timm.toml": "--train.epochs 1 --folds.n 2 --excerpt.frames 64",
    "--overfit-batch": "--model.widths 4 8 --excerpt.frames 32",
    "transfer.toml": "--model.widths 4 8 --excerpt.frames 32 --train.epochs 3 --folds.n 2",
}


STUDY = """
name = "tiny"
base = "experiments/multitask.toml"
[[grid]]
"model.activation" = [false, "relu"]
"model.widths" = [[4, 8]]
"excerpt.frames" = [32]
"folds.n" = [2]
"train.epochs" = [1]
"train.batch_size" = [8]
"""


def smaller(command: str) -> list[str]:
    if command.startswith("scripts/study.py"):
        return shlex.split(command.replace("experiments/studies/activations.toml", "tiny.toml"))
    for mark, flags in OWN_SHAPE.items():
        if mark in command and command.startswith("scripts/train.py"):
            return shlex.split(f"{command} {flags}")
    return shlex.split(f"{command} {SMALLER.get(Path(shlex.split(command)[0]).name, '')}")


FAMILY = re.findall(r"scripts/\w+\.py[^`\n]*", README.split("## The family")[1].split("\n## ")[0])
# The same networks and splits on clips and windows of less than a second, for a pass or two.
FAMILY_SMALLER = {
    "extract.py": "--jobs 1",
    "summarise.py": "--jobs 1",
    "cut-clips.toml": "--seeds 0 1 --model.widths 4 8 --excerpt.frames 43 --train.epochs 2",
    "cut-clips-unpadded.toml": "--seeds 0 --model.widths 4 4 8 --excerpt.frames 43 --train.epochs 2",
    "cut-clips-transfer.toml": "--seeds 0 --model.widths 4 8 --excerpt.frames 43 --train.epochs 2",
    "one-second-mlp.toml": "--train.epochs 3",
    "one-second-cnn.toml": "--train.epochs 2",
    "one-second-cnn-bare.toml": "--train.epochs 1 --model.head-widths 4",
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
    command = command.replace("--window 8 --hop 1", "--window 1").replace(
        "experiments/studies", "few/studies"
    )
    for mark, flags in FAMILY_SMALLER.items():
        if mark in command and "bench.py" not in command:
            command = f"{command} {flags}"
    return shlex.split(command.replace("devices", "devices --epochs 1"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, competition):
    """A working folder as the README assumes it: experiments, scripts, data, a table of clips."""
    place = tmp_path_factory.mktemp("readme")
    (place / "experiments").symlink_to(ROOT / "experiments")
    (place / "scripts").symlink_to(ROOT / "scripts")
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
    def script(command: list[str]) -> int:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", command)
        try:
            runpy.run_path(str(ROOT / command[0]), run_name="__main__")
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    return script


def test_the_readme_shows_every_script():
    shown = {Path(command.split()[0]).name for command in COMMANDS}
    runnable = {path.name for path in (ROOT / "scripts").glob("*.py")}
    assert shown == runnable


def test_the_commands_of_the_readme_run_in_its_order(run, capsys):
    """Each on what those before it left; what starts from audio or goes to Kaggle is tested elsewhere."""
    elsewhere = ("scripts/demo.py", "scripts/extract.py", "scripts/bench.py", "scripts/summarise.py audio")
    elsewhere = (
        *elsewhere,
        "scripts/push.py",
        "scripts/predict.py",
        "scripts/compare.py research/runs/bench-",
    )
    commands = [c for c in COMMANDS if not c.startswith(elsewhere) and c not in FAMILY]
    assert len(commands) >= 10
    for command in commands:
        assert run(smaller(command)) == 0, f"{command}: {capsys.readouterr().err}"


def test_the_comparison_of_the_readme_is_what_the_tracked_runs_give(monkeypatch, run_script):
    shown = re.search(
        r"python scripts/(compare\.py research/runs/bench-[^\n]*)\n```\n\n```text\n(.*?)```", README, re.S
    )
    assert shown is not None
    monkeypatch.chdir(ROOT)
    assert run_script(*shlex.split(shown[1])) == (0, shown[2], "")


def test_the_commands_that_start_from_audio_run(run, folder, capsys):
    rng = np.random.default_rng(0)
    for number in (1, 2):
        soundfile.write(folder / f"{number}.wav", rng.normal(0, 0.1, 3 * 22050), 22050)
    clips = pd.DataFrame({"path": ["1.wav", "2.wav"], "label": ["Rock", "Folk"]})
    clips.to_csv(folder / "clips.csv", index=False)
    command = next(command for command in COMMANDS if command.startswith("scripts/extract.py"))
    assert run(smaller(command.replace("--out data", "--out own"))) == 0, capsys.readouterr().err
    array = np.load(folder / "own" / "fma_genre_spectrograms" / "train" / "1.fused.full.npy")
    assert array.shape == (140, 130)
    command = next(command for command in COMMANDS if command.startswith("scripts/summarise.py audio"))
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
    command = next(command for command in COMMANDS if command.startswith("scripts/predict.py"))
    models = re.findall(r"runs/\S+", command)
    if not all((folder / model).exists() for model in models):  # as in a run of this test alone
        for mark in ("scripts/pretrain.py", "experiments/multitask.toml --data.root data"):
            training = next(command for command in COMMANDS if mark in command)
            assert run(smaller(training)) == 0, capsys.readouterr().err
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * 44100, 2))
    soundfile.write(folder / "song.mp3", noise, 44100, format="mp3")
    assert run(shlex.split(command)) == 0, capsys.readouterr().err
    table = pd.read_csv(folder / "predictions" / "song.csv")
    assert {"start_seconds", "valence", "energy", "danceability", "genre_Blues"} <= set(table)
    assert (folder / "predictions" / "song.png").stat().st_size > 10_000


def test_the_library_lines_of_the_readme_run(folder, competition, monkeypatch):
    monkeypatch.chdir(folder)
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code is not None
    array = competition / "multitask_dataset/train/1004.fused.full.npy"
    program = ast.parse(code[1].replace("1004.fused.full.npy", array.as_posix()))
    call = program.body.pop()
    assert isinstance(call, ast.Expr)
    names: dict = {"Path": Path, "np": np}
    exec(compile(program, "README.md", "exec"), names)
    prediction = eval(compile(ast.Expression(call.value), "README.md", "eval"), names)
    assert list(prediction) == ["valence", "energy", "danceability"]
    assert all(np.isfinite(value) for value in prediction.values())


def test_accelerate_launches_a_training(folder):
    command = next(command for command in COMMANDS if "single-valence" in command)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", "no", "--cpu"]
    done = subprocess.run(
        [*launch, *smaller(command), "--name", "launched"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "launched (out-of-fold):" in done.stdout
    environment = read_json(folder / "runs" / "launched" / "environment.json")
    assert environment["precision"] == "no"  # the launcher's, where the CPU alone may choose bf16


def test_every_path_the_readme_names_exists():
    rooms = {path.name for path in (ROOT / "src/music_emotion").iterdir() if (path / "__init__.py").exists()}
    assert len(rooms) >= 5
    assert rooms <= set(re.findall(r"\| `(\w+)/` \|", README))
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
