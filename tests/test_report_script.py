"""Commands that read text files alone, on runs that were really trained; and the page of the repository."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.files import read_json

ROOT = Path(__file__).parents[1]
SMALL = """
name = "small"
[excerpt]
frames = 32
test = 2
[model]
widths = [8, 16]
[train]
epochs = 2
batch_size = 8
[folds]
n = 2
"""
RIDGE = 'name = "ridge"\n[folds]\nn = 2\n[classical]\nkind = "ridge"\n'
FRESH = """
import atexit, sys
from music_emotion.cli import main
atexit.register(lambda: print("loaded:", *sorted({"torch", "accelerate", "matplotlib"} & sys.modules.keys())))
main()
"""


@pytest.fixture
def _trained(competition, tmp_path, monkeypatch, run_script):
    """A folder with runs and a blend, from which data, stores and weights have gone."""
    (tmp_path / "data").symlink_to(competition)
    monkeypatch.chdir(tmp_path)
    for name, settings in (("small", SMALL), ("ridge", RIDGE)):
        Path(f"{name}.toml").write_text(settings)
        assert run_script("train.py", f"{name}.toml")[0] == 0
    assert run_script("ensemble.py", "runs/small", "runs/ridge", "--name", "both")[0] == 0
    Path("data").unlink()
    shutil.rmtree("stores")
    for path in Path("runs").rglob("*.safetensors"):
        path.unlink()


def run_fresh(*arguments: str) -> str:
    """Run the command in a process of its own, which must not import torch."""
    done = subprocess.run([sys.executable, "-c", FRESH, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("loaded:\n"), done.stdout
    return done.stdout


@pytest.mark.usefixtures("_trained")
def test_submit_compare_and_report_need_no_data_stores_weights_or_torch():
    run_fresh("submit", "runs/both", "--day", "2026-01-02")
    assert "small less ridge, out of fold, n=40" in run_fresh("compare", "runs/small", "runs/ridge")
    report = ("report", "--headline", "valence", "energy", "--default", "small")
    assert "RESULTS.md: 3 runs, 1 submissions; 0 without numbers." in run_fresh(*report)
    page = Path("RESULTS.md").read_text(encoding="utf-8")
    assert page.startswith("<!-- music-emotion report --default small --headline valence energy -->\n")
    assert "## `data`: valence, energy and danceability, 40 clips" in page
    for name in ("small", "ridge", "both"):
        mean = read_json(Path(f"runs/{name}/scores.json"))["pooled"]["mean"]
        assert f"| {mean['value']:z.3f} [{mean['low']:z.3f}, {mean['high']:z.3f}] " in page
    costs = {line.split("`")[1]: line for line in page.split("## Cost")[1].splitlines() if "| `" in line}
    cost = read_json(Path("runs/small/seed0/fold0/cost.json"))
    assert f"| {cost['parameters']:,} " in costs["small"]
    seconds = sum(pd.read_csv(path)["seconds"].sum() for path in Path("runs/small").rglob("metrics.csv"))
    assert float(costs["small"].split("|")[3]) == pytest.approx(seconds / 60, rel=0.06)
    assert "`both-2026-01-02.csv`" in page.split("## Submissions")[1]
    run_fresh(*report)
    assert Path("RESULTS.md").read_text(encoding="utf-8") == page


def test_without_runs_there_is_a_sentence_and_no_page(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    status, _, err = run_script("report.py")
    assert status == 2
    assert err == "error: The folder of runs runs does not exist. Give another --runs.\n"
    assert not Path("RESULTS.md").exists()


def tracked(*folders: str) -> list[str]:
    """Files of the repository; where it is no git clone, all of them."""
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-z", *folders]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
        return [str(path.relative_to(ROOT)) for path in paths]
    return [name for name in done.stdout.split("\0") if (ROOT / name).is_file()]


def test_the_page_of_the_repository_is_made_from_its_files(tmp_path, monkeypatch, run_script):
    for name in tracked("research", "submissions"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    page = (ROOT / "research" / "RESULTS.md").read_text(encoding="utf-8")
    first = page.splitlines()[0].removeprefix("<!-- ").removesuffix(" -->")
    program, command, *arguments = shlex.split(first)
    assert (program, command) == ("music-emotion", "report")
    monkeypatch.chdir(tmp_path / "research")
    status, _, err = run_script("report.py", *arguments)
    assert status == 0, err
    made = Path("RESULTS.md").read_text(encoding="utf-8")
    assert made == page, f"research/RESULTS.md is not what its files say; run there: {first}"
