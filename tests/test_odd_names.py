"""Classes and targets whose names are formulas, numbers, missing values or other scripts, in every stage."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.files import read_json, read_predictions
from music_emotion.plots import read_confusion

CLASSES = ["1", "Cash $$", "NA", "歌"]
TARGETS = ["worth $_$", "NA", 'a,"b"']
SMALL = """
name = "{name}"
task = "{task}"
excerpt.frames = 32
model.widths = [8, 16]
train.epochs = 1
folds.n = 2
"""


@pytest.fixture
def folder(competition, tmp_path, monkeypatch):
    """A competition with such names in a folder of its own, and a small experiment of each task."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(competition, "data", copy_function=lambda path, to: Path(to).symlink_to(path))
    labels = Path("data/multitask_dataset/train_labels.txt")
    table = pd.read_csv(labels, sep=None, engine="python").set_axis(["Id", *TARGETS], axis=1)
    labels.unlink()
    table.to_csv(labels, index=False)
    raw = sorted(pd.read_csv("data/fma_genre_spectrograms/train_labels.txt", sep="\t")["Genre"].unique())
    genres = "".join(f"{old!r} = {new!r}\n" for old, new in zip(raw, CLASSES, strict=True))
    Path("genre.toml").write_text(SMALL.format(name="genre", task="genre") + f"[data.genres]\n{genres}")
    Path("small.toml").write_text(SMALL.format(name="small", task="emotion"))


@pytest.mark.usefixtures("folder")
def test_names_are_text_in_every_table_picture_and_page(run_script):
    for command in (
        "train.py genre.toml --name one",
        "train.py genre.toml --name other --seeds 1",
        "compare.py runs/one runs/other",
        "show.py confusion runs/one",
        "train.py small.toml",
        "ensemble.py runs/small --name blend",
        "submit.py runs/blend",
        "report.py --out page.md",
    ):
        status, _, errors = run_script(*command.split())
        assert status == 0, (command, errors)
        assert "warning" not in errors
    assert read_predictions(Path("runs/one/oof.csv")).columns.tolist() == CLASSES
    assert read_confusion(Path("runs/one/confusion.csv")).columns.tolist() == CLASSES
    assert list(read_json(Path("runs/small/scores.json"))["pooled"])[: len(TARGETS)] == TARGETS
    (submission,) = Path("submissions").glob("*.csv")
    assert pd.read_csv(submission).columns.tolist()[1:] == TARGETS
    assert {path.name for path in Path().rglob("*.png")} >= {"confusion.png", "oof.png", "confusion-one.png"}
