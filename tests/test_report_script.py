"""Commands that read text files alone, on runs that were really trained; and the page of the repository."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mistakes import SMALL

from music_emotion.files import read_json

ROOT = Path(__file__).parents[1]
FRESH = """
import json, sys
from music_emotion.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["music-emotion", *arguments]
    try:
        main()
    except SystemExit as left:
        assert not left.code
print("loaded:", *sorted({"torch", "accelerate", "matplotlib"} & sys.modules.keys()))
"""


def test_submit_compare_and_report_need_no_data_stores_weights_or_torch(
    competition, tmp_path, monkeypatch, run_script
):
    (tmp_path / "data").symlink_to(competition)
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(SMALL)
    assert run_script("train.py", "small.toml", "--folds.n", "2")[0] == 0
    assert run_script("ensemble.py", "runs/small", "--name", "both")[0] == 0
    Path("data").unlink()
    shutil.rmtree("stores")
    for path in Path("runs").rglob("*.safetensors"):
        path.unlink()
    report = ("report", "--headline", "valence", "energy", "--default", "small")
    commands = [
        ("submit", "runs/both", "--day", "2026-01-02"),
        ("compare", "runs/small", "runs/both"),
        report,
    ]
    fresh = [sys.executable, "-c", FRESH, json.dumps(commands)]  # this process has imported torch
    done = subprocess.run(fresh, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nloaded:\n"), done.stdout
    assert "small minus both, out of fold, n=40" in done.stdout
    assert "RESULTS.md: 2 runs, 1 submissions; 0 without numbers." in done.stdout
    page = Path("RESULTS.md").read_text(encoding="utf-8")
    assert page.startswith("<!-- music-emotion report --default small --headline valence energy -->\n")
    assert "## `data`: valence, energy and danceability, 40 clips" in page
    for name in ("small", "both"):
        mean = read_json(Path(f"runs/{name}/scores.json"))["pooled"]["mean"]
        assert f"| {mean['value']:z.3f} [{mean['low']:z.3f}, {mean['high']:z.3f}] " in page
    (costs,) = [line for line in page.split("## Cost")[1].splitlines() if line.startswith("| `small`")]
    cost = read_json(Path("runs/small/seed0/fold0/cost.json"))
    assert f"| {cost['parameters']:,} " in costs
    seconds = sum(pd.read_csv(path)["seconds"].sum() for path in Path("runs/small").rglob("metrics.csv"))
    assert float(costs.split("|")[3]) == pytest.approx(seconds / 60, rel=0.06)
    assert "`both-2026-01-02.csv`" in page.split("## Submissions")[1]


def test_without_runs_there_is_a_sentence_and_no_page(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    for sentence in ("The folder of runs runs does not exist. Give another --runs.", "runs holds no runs."):
        status, _, err = run_script("report.py")
        assert (status, err.startswith(f"error: {sentence}")) == (2, True)
        Path("runs").mkdir(exist_ok=True)
    assert not Path("RESULTS.md").exists()


def test_the_page_of_the_repository_is_made_from_its_files(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(ROOT / "research")
    page = Path("RESULTS.md").read_text(encoding="utf-8")
    first = page.splitlines()[0].removeprefix("<!-- ").removesuffix(" -->")
    program, command, *arguments = shlex.split(first)
    assert (program, command) == ("music-emotion", "report")
    status, _, err = run_script("report.py", "--out", str(tmp_path / "RESULTS.md"), *arguments)
    assert status == 0, err
    made = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert made == page, f"research/RESULTS.md is not what its files say; run there: {first}"
