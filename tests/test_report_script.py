"""scripts/report.py on runs that were really trained, and the page that the repository shows."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.files import read_json

ROOT = Path(__file__).parents[1]
SMALL = """
name = "{name}"
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


@pytest.fixture
def trained(competition, tmp_path, monkeypatch, run_script):
    """A folder with runs, a blend and a submission, from which data, stores and weights have gone."""
    (tmp_path / "data").symlink_to(competition)
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL.format(name="small"))
    Path("ridge.toml").write_text(RIDGE)
    assert run_script("train.py", "small.toml")[0] == 0
    assert run_script("train.py", "ridge.toml")[0] == 0
    assert run_script("ensemble.py", "runs/small", "runs/ridge", "--name", "both")[0] == 0
    assert run_script("submit.py", "runs/both", "--day", "2026-01-02")[0] == 0
    Path("data").unlink()
    shutil.rmtree("stores")
    for path in Path("runs").rglob("*.safetensors"):
        path.unlink()
    return run_script


def test_a_page_needs_no_data_stores_or_weights(trained):
    arguments = ("--headline", "valence", "energy", "--default", "small")
    status, out, err = trained("report.py", *arguments)
    assert status == 0, err
    assert "RESULTS.md: 3 runs, 1 submissions; 0 without numbers." in out
    page = Path("RESULTS.md").read_text(encoding="utf-8")
    assert page.startswith("<!-- music-emotion report --default small --headline valence energy -->\n")
    assert "## `data`: valence, energy and danceability, 40 clips" in page
    for name in ("small", "ridge", "both"):
        mean = read_json(Path(f"runs/{name}/scores.json"))["pooled"]["mean"]
        shown = [f"{mean[end]:.3f}".replace("0.", ".") for end in ("value", "low", "high")]
        assert f"| {shown[0]} [{shown[1]}, {shown[2]}] |" in page
    costs = {line.split("`")[1]: line for line in page.split("## Cost")[1].splitlines() if "| `" in line}
    cost = read_json(Path("runs/small/seed0/fold0/cost.json"))
    assert f"| {cost['parameters']:,} |" in costs["small"]
    seconds = sum(pd.read_csv(path)["seconds"].sum() for path in Path("runs/small").rglob("metrics.csv"))
    assert float(costs["small"].split(" | ")[1]) == pytest.approx(seconds / 60, rel=0.06)
    assert "`both-2026-01-02.csv`" in page.split("## Submissions")[1]
    before = Path("RESULTS.md").read_bytes()
    assert trained("report.py", *arguments)[0] == 0
    assert Path("RESULTS.md").read_bytes() == before


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
    for name in tracked("runs", "submissions", "experiments"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    page = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    first = page.splitlines()[0].removeprefix("<!-- ").removesuffix(" -->")
    program, script, *arguments = shlex.split(first)
    assert (program, script) == ("music-emotion", "report")
    monkeypatch.chdir(tmp_path)
    status, _, err = run_script("report.py", *arguments)
    assert status == 0, err
    made = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert made == page, f"RESULTS.md is not what its files say; run: {first}"
