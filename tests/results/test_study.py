"""Studies: the rows of a grid, their runs, and the table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command_line import make_accelerator
from music_emotion.errors import InputError
from music_emotion.files import read_json
from music_emotion.results.study import read_study, run_study
from music_emotion.training import cross_validation

STUDIES = sorted((Path(__file__).parents[2] / "experiments" / "studies").glob("*.toml"))
SMALL = """
[excerpt]
frames = 32
test = 2
[folds]
n = 2
[model]
widths = [4, 8]
[train]
epochs = 2
batch_size = 8
"""


@pytest.fixture
def write(tmp_path):
    """Write a study on small experiments, `emotion` and `genres`."""

    def write_study(text: str, seeds: str = "[0]") -> Path:
        (tmp_path / "emotion.toml").write_text(f"seeds = {seeds}\n{SMALL}")
        (tmp_path / "genres.toml").write_text(f'task = "genre"\nseeds = {seeds}\n{SMALL}')
        path = tmp_path / "study.toml"
        path.write_text(f'name = "small"\n{text}')
        return path

    return write_study


@pytest.fixture
def run(competition, tmp_path):
    """Run a study on the small competition."""

    def run_file(path: Path) -> pd.DataFrame:
        common = {"data.root": str(competition), "data.stores": str(tmp_path / "stores")}
        return run_study(*read_study(path), tmp_path / "runs", make_accelerator(), common)

    return run_file


def test_there_are_studies():
    assert len(STUDIES) >= 3


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_builds_its_rows_and_is_named_after_its_file(path):
    study, rows = read_study(path)
    assert study.name == path.stem
    assert len(rows) >= 4
    assert all(row.experiment.name == row.name for row in rows)


def test_a_grid_gives_all_combinations_of_each_of_its_tables(write):
    text = """experiment = "emotion.toml"
[[grid]]
"model.widths" = [[4, 8], [8]]
"model.padded" = [true, false]
[[grid]]
"optim.learning_rate" = [1e-3]
"""
    _, rows = read_study(write(text))
    assert [row.name for row in rows] == ["4x8-padded", "4x8-not-padded", "8-padded", "8-not-padded", "0.001"]
    assert rows[3].experiment.model.widths == (8,)
    assert rows[3].experiment.model.padded is False
    assert rows[3].experiment.train.epochs == 2  # of the experiment that is varied
    assert rows[4].experiment.optim.learning_rate == 1e-3


def test_a_table_has_scores_deviation_and_time_and_is_not_made_twice(write, run, tmp_path, monkeypatch):
    path = write('experiment = "emotion.toml"\n[[grid]]\n"model.activation" = ["none", "relu"]\n', "[0, 1]")
    table = run(path)
    assert table["row"].tolist() == table["model.activation"].tolist() == ["none", "relu"]
    for line in table.to_dict("records"):
        scores = read_json(tmp_path / "runs" / "small" / line["row"] / "scores.json")
        assert line["score"] == scores["pooled"]["mean"]["value"]
        assert line["valence"] == scores["pooled"]["valence"]["value"]
        seeds = [scores["per_seed"][seed]["mean"] for seed in ("0", "1")]
        assert line["deviation"] == pytest.approx(np.std(seeds, ddof=1))
        assert line["minutes"] > 0
    saved = pd.read_csv(tmp_path / "runs" / "small" / "table.csv", keep_default_na=False)
    assert saved["row"].tolist() == ["none", "relu"]
    monkeypatch.setattr(cross_validation, "train_network", lambda *_: pytest.fail("trained again"))
    for name in ("none", "relu"):
        assert len(list((tmp_path / "runs" / "small" / name).glob("seed*/fold*/test.csv"))) == 4
    monkeypatch.undo()
    pd.testing.assert_frame_equal(run(path), table)


def test_genres_have_a_report_and_a_confusion_matrix_for_every_row(write, run, tmp_path):
    grid = '"data.rows" = ["mel", "chroma"]\n"model.kind" = ["conv", "lstm"]\n'
    table = run(write(f'experiment = "genres.toml"\n[[grid]]\n{grid}'))
    assert table["row"].tolist() == ["mel-conv", "mel-lstm", "chroma-conv", "chroma-lstm"]
    assert (table["score"] == table["macro_f1"]).all()
    for name in table["row"]:
        files = {path.name for path in (tmp_path / "runs" / "small" / name).iterdir()}
        assert {"report.txt", "confusion.csv", "confusion.png"} <= files


def test_each_row_can_start_from_a_trunk_of_its_own_kind(write, run, tmp_path):
    text = """experiment = "emotion.toml"
pretrain = "genres.toml"
[[grid]]
"data.rows" = ["mel", "fused"]
"train.frozen_epochs" = [1, 2]
"""
    run(write(text))
    for name in ("mel-1", "fused-2"):
        trunk = read_json(tmp_path / "runs" / "small" / name / "seed0" / "fold0" / "trunk.json")
        assert Path(trunk["file"]).parts[-4:] == (f"{name}-genres", "seed0", "fold0", "model.safetensors")
        assert trunk["new"] == ["head.1.weight", "head.1.bias"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('experiment = "emotion.toml"\n[[grid]]\n"model.knid" = ["conv"]', "unknown key 'model.knid'"),
        ('experiment = "emotion.toml"\n[[grid]]\n"model.kind" = ["cnov"]', "did you mean 'conv'"),
        (
            'experiment = "emotion.toml"\n[[grid]]\n"model.kind" = ["conv", "conv"]',
            "2 rows, of which twice: conv",
        ),
        ('experiment = "emotion.toml"\ngrid = []', "gives 0 rows"),
        ('experiment = "missing.toml"\n[[grid]]\n"model.kind" = ["conv"]', "missing.toml does not exist"),
        ("experiment = 3", "experiment is 3"),
        ("experiment = ", "is not valid TOML"),
    ],
)
def test_a_wrong_study_gets_a_sentence_before_any_work(write, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_study(write(text))
