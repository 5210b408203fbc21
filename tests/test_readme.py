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
experiment = "experiments/multitask.toml"
[[grid]]
"model.activation" = ["none", "relu"]
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
    runnable = {path.name for path in (ROOT / "scripts").glob("*.py")} - {"command_line.py"}
    assert shown == runnable


def test_the_commands_of_the_readme_run_in_its_order(run, capsys):
    """Each on what those before it left; what starts from audio or goes to Kaggle is tested elsewhere."""
    elsewhere = ("scripts/demo.py", "scripts/extract.py", "scripts/bench.py", "scripts/summarise.py audio")
    elsewhere = (*elsewhere, "scripts/push.py")
    commands = [c for c in COMMANDS if not c.startswith(elsewhere)]
    assert len(commands) >= 10
    for command in commands:
        assert run(smaller(command)) == 0, f"{command}: {capsys.readouterr().err}"


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
