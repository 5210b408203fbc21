"""Studies: the rows of a grid, their runs, and the table."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock

from music_emotion.commands.training import read_genres, study
from music_emotion.files import InputError, read_json
from music_emotion.models.build import ModelCard, build_network
from music_emotion.studies import shared_rows
from music_emotion.studies import study as study_module
from music_emotion.studies.study import read_study, run_study
from music_emotion.training import folds
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment
from music_emotion.training.optimisation import make_optimizer

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STUDIES = sorted((EXPERIMENTS / "studies").glob("*.toml"))
RIDGE = EXPERIMENTS / "ridge.toml"
SCRIPT = Path(__file__).parents[2] / "scripts" / "study.py"
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
DIVERGING = """base = "emotion.toml"
[fixed]
"optim.clip_norm" = false
[[grid]]
"optim.learning_rate" = [1e30, 1e-3]
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
        flags = {"data.root": str(competition), "data.stores": str(tmp_path / "stores")}
        return run_study(read_study(path, flags), tmp_path / "runs", make_accelerator())

    return run_file


def test_there_are_studies():
    assert len(STUDIES) >= 14


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_builds_its_rows_and_is_named_after_its_file(path):
    study = read_study(path)
    assert study.name == path.stem
    if study.search is None:
        assert len(study.rows) >= 4
        assert all(row.experiment.name == row.name for row in study.rows)
        assert len({row.name for row in study.rows}) == len(study.rows)
    else:
        assert len(study.space.distributions()) >= 2
        assert study.search.trials >= 20


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_network_of_a_study_can_be_built_and_every_optimiser_is_known(path):
    rows = {"mel": 128, "chroma": 12, "fused": 140}
    for row in read_study(path).rows:
        mean = (0.0,) * rows[row.experiment.data.rows]
        outputs, zero, one = ("valence", "energy"), (0.0, 0.0), (1.0, 1.0)
        network = build_network(ModelCard(row.experiment, outputs, mean, tuple(1.0 for _ in mean), zero, one))
        make_optimizer(network, row.experiment.optim)
        frames = torch.zeros(2, len(mean), row.experiment.excerpt.frames)
        assert network(frames, torch.full((2,), row.experiment.excerpt.frames)).shape == (2, 2)


@pytest.mark.parametrize("batch_size", [2, 128])
def test_the_smallest_and_largest_batches_can_be_trained(small, tmp_path, batch_size):
    experiment = small(
        train={"batch_size": batch_size, "epochs": 1},
        folds={"split": "holdout"},
        excerpt={"per_clip": 1},
    )
    accelerator = make_accelerator()
    run_experiment(experiment, accelerator, tmp_path / "run")
    assert read_json(tmp_path / "run" / "scores.json")["repeats"][0]["n_train"] % 2 == 1


def test_a_grid_gives_all_combinations_of_each_of_its_tables(write):
    text = """base = "emotion.toml"
[[grid]]
"model.widths" = [[4, 8], [8]]
"model.padded" = [true, false]
[[grid]]
"optim.learning_rate" = [1e-3]
"""
    rows = read_study(write(text)).rows
    assert [row.name for row in rows] == ["4x8-padded", "4x8-not-padded", "8-padded", "8-not-padded", "0.001"]
    assert rows[3].experiment.model.widths == (8,)
    assert rows[3].experiment.model.padded is False
    assert rows[3].experiment.train.epochs == 2  # of the experiment that is varied
    assert rows[4].experiment.optim.learning_rate == 1e-3


def test_a_table_has_scores_deviation_and_time_and_is_not_made_twice(write, run, tmp_path, monkeypatch):
    path = write('base = "emotion.toml"\n[[grid]]\n"model.activation" = [false, "relu"]\n', "[0, 1]")
    table = run(path)
    assert table["row"].tolist() == ["not-activation", "relu"]
    for line in table.to_dict("records"):
        scores = read_json(tmp_path / "runs" / "small" / line["row"] / "scores.json")
        assert line["score"] == scores["pooled"]["mean"]["value"]
        assert line["valence"] == scores["pooled"]["valence"]["value"]
        seeds = [scores["per_seed"][seed]["mean"] for seed in ("0", "1")]
        assert line["deviation"] == pytest.approx(np.std(seeds, ddof=1))
        assert line["minutes"] > 0
    saved = pd.read_csv(tmp_path / "runs" / "small" / "table.csv", keep_default_na=False)
    assert saved["row"].tolist() == ["not-activation", "relu"]
    monkeypatch.setattr(folds, "train_fold", lambda *_: pytest.fail("trained again"))
    for name in ("not-activation", "relu"):
        assert len(list((tmp_path / "runs" / "small" / name).glob("seed*/fold*/test.csv"))) == 4
    monkeypatch.undo()
    pd.testing.assert_frame_equal(run(path), table)


def test_genres_have_a_report_and_a_confusion_matrix_for_every_row(write, run, tmp_path):
    grid = '"data.rows" = ["mel", "chroma"]\n"model.kind" = ["conv", "lstm"]\n'
    table = run(write(f'base = "genres.toml"\n[[grid]]\n{grid}'))
    assert table["row"].tolist() == ["mel-conv", "mel-lstm", "chroma-conv", "chroma-lstm"]
    assert (table["score"] == table["macro_f1"]).all()
    for name in table["row"]:
        files = {path.name for path in (tmp_path / "runs" / "small" / name).iterdir()}
        assert {"report.txt", "confusion.csv", "confusion.png"} <= files


def test_each_row_can_start_from_a_trunk_of_its_own_kind(write, run, tmp_path):
    text = """base = "emotion.toml"
pretrain = "genres.toml"
[[grid]]
"data.rows" = ["mel", "fused"]
"train.frozen_epochs" = [1, 2]
"""
    run(write(text))
    folder = tmp_path / "runs" / "small"
    for name in ("mel-1", "mel-2", "fused-1", "fused-2"):
        trunk, kind = read_json(folder / name / "seed0" / "fold0" / "trunk.json"), name.partition("-")[0]
        assert Path(trunk["file"]).parts[-4:] == (f"{kind}-genres", "seed0", "fold0", "model.safetensors")
        assert trunk["new"] == ["head.1.weight", "head.1.bias"]
    assert len(list(folder.glob("*-genres"))) == 2  # of which two rows start each


def test_a_trunk_that_another_process_trains_is_waited_for(write, run, tmp_path, monkeypatch):
    grid = '[[grid]]\n"train.frozen_epochs" = [1]\n'
    path = write(f'base = "emotion.toml"\npretrain = "genres.toml"\n{grid}')
    held = tmp_path / "runs" / "small" / "genres"
    held.mkdir(parents=True)
    other = FileLock(held / "trunk.lock").acquire()
    waited = []

    def die(_: float) -> None:
        waited.append(sorted(path.name for path in held.iterdir()))
        other.lock.release()

    monkeypatch.setattr(shared_rows, "time", SimpleNamespace(sleep=die))
    assert len(run(path)) == 1
    assert waited == [["trunk.lock"]]


def test_two_trunks_of_one_name_are_refused(write):
    grids = '[[grid]]\n"train.epochs" = [2]\n"model.widths" = [[8]]\n[[grid]]\n"excerpt.frames" = [8]\n'
    with pytest.raises(InputError, match="different trunks of the one name 8-genres"):
        read_study(write(f'base = "emotion.toml"\npretrain = "genres.toml"\n{grids}'))


def test_a_row_that_diverges_is_noted_and_the_others_are_trained(write, run, tmp_path, monkeypatch):
    path, folder = write(DIVERGING), tmp_path / "runs" / "small"
    table = run(path)
    assert table["row"].tolist() == ["1e+30", "0.001"]
    assert table["score"].isna().tolist() == [True, False]
    assert table.columns[-1] == "problem"
    assert table["problem"][0] == f"{folder / '1e+30' / 'seed0' / 'fold0'}: the loss is nan in epoch 1."
    assert table["problem"][1] == ""
    assert table["n"].tolist() == [0, 40]
    assert len(pd.read_csv(folder / "table.csv")) == 2
    monkeypatch.setattr(folds, "train_fold", lambda *_: True)  # as of the finished row
    monkeypatch.setattr(shared_rows, "note_problem", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run(path), table)


def test_a_row_whose_trunk_diverges_is_noted_too(write, run, tmp_path):
    text = 'base = "emotion.toml"\npretrain = "wild.toml"\n[[grid]]\n"train.epochs" = [1, 2]\n'
    wild = "[optim]\nlearning_rate = 1e30\nclip_norm = false\n"
    (tmp_path / "wild.toml").write_text(f'task = "genre"\n{SMALL}{wild}')
    table = run(write(text))
    assert (
        table["problem"].str.contains("genres/seed0/fold0: the loss is nan in epoch 1").tolist() == [True] * 2
    )


def test_two_processes_that_diverge_go_on_together(write, competition, tmp_path):
    with socket.socket() as free:  # a port that nothing else on this machine listens to
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    places = {"--data.root": competition, "--data.stores": tmp_path / "stores", "--runs": tmp_path / "runs"}
    flags = [str(word) for place in places.items() for word in place]
    command = [sys.executable, *launcher, str(SCRIPT), str(write(DIVERGING)), *flags]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1e+30: ") == 2  # when it happened, and below the table; the main process alone
    assert "the loss is nan in epoch 1." in done.stdout
    assert pd.read_csv(tmp_path / "runs" / "small" / "table.csv")["score"].isna().tolist() == [True, False]


def test_a_table_never_shrinks(write, run, monkeypatch):
    path = write(f'base = "{RIDGE}"\n[[grid]]\n"classical.alpha" = [1, 10, 100]\n')
    lengths = []
    monkeypatch.setattr(study_module, "write_table", lambda _, table: lengths.append(len(table)))
    run(path)
    assert lengths == [1, 2, 3, 3]
    lengths.clear()
    run(path)  # a second process, which has seen no row yet
    assert lengths == [3, 3, 3, 3]


def test_a_row_of_other_settings_is_no_line_and_is_refused_with_a_remedy(write, run, tmp_path):
    text = f'base = "{RIDGE}"\n[[grid]]\n"classical.alpha" = [1, 10]\n'
    run(write(text))
    shutil.rmtree(tmp_path / "runs" / "small" / "1")
    with pytest.raises(
        InputError, match=r"10 holds another experiment: data\.rows differ\. Give --runs another"
    ):
        run(write(f'{text}[fixed]\n"data.rows" = "chroma"\n'))
    assert pd.read_csv(tmp_path / "runs" / "small" / "table.csv")["row"].tolist() == [1]


def test_a_row_that_another_process_trains_comes_last(write, run, tmp_path, monkeypatch):
    path = write(f'base = "{RIDGE}"\n[[grid]]\n"classical.alpha" = [1, 10]\n')
    held = tmp_path / "runs" / "small" / "1"
    held.mkdir(parents=True)
    other = FileLock(held / "row.lock").acquire()
    waited = []

    def die(_: float) -> None:
        waited.append(sorted(path.parent.name for path in held.parent.glob("*/scores.json")))
        other.lock.release()

    monkeypatch.setattr(shared_rows, "time", SimpleNamespace(sleep=die))
    table = run(path)
    assert waited == [["10"]]
    assert table["row"].tolist() == ["1", "10"]


def test_flags_and_what_is_fixed_are_in_every_row_and_flags_count_more(write):
    text = """base = "emotion.toml"
pretrain = "genres.toml"
[fixed]
"train.epochs" = 3
"data.stores" = "there"
"folds.groups" = "groups.csv"
[[grid]]
"model.activation" = [false, "relu"]
"""
    flags = {"data.genres": {}, "data.stores": "here"}
    for row in read_study(write(text), flags).rows:
        assert row.experiment.train.epochs == 3
        assert row.experiment.folds.groups == "groups.csv"
        assert row.experiment.data.stores == row.pretrain.data.stores == "here"
        assert row.pretrain.data.genres == {}
        assert row.pretrain.train.epochs == 2
        assert row.pretrain.folds.groups is None  # whose clips are others
    with pytest.raises(InputError, match=r"model.activation is varied, and also set for all rows"):
        read_study(write(text), {"model.activation": "gelu"})


def test_the_script_prints_the_table_and_the_best_experiment(write, competition, tmp_path, capsys):
    space = '[search]\ntrials = 2\n[search.space]\n"classical.alpha" = [1, 10]\n'
    places = {"root": str(competition), "stores": str(tmp_path / "stores"), "runs": tmp_path / "runs"}
    study(write(f'base = "{RIDGE}"\n{space}'), genres="{}", **places)
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "runs" / "small" / "table.csv")
    assert len(table) == 2
    assert all(str(name) in printed for name in table["row"])
    assert (tmp_path / "runs" / "small" / "best.toml").read_text() in printed
    assert "those of one repeat validate another, so it is a little too good" in printed
    assert "chose nothing" not in printed


@pytest.mark.parametrize("text", ["{", "[]", "Rock"])
def test_genres_are_json(text):
    assert read_genres('{"Psych-Rock": "Rock"}') == {"Psych-Rock": "Rock"}
    assert read_genres(None) is None
    with pytest.raises(InputError, match=r"--data\.genres is"):
        read_genres(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('base = "emotion.toml"\n[[grid]]\n"model.knid" = ["conv"]', "unknown key 'model.knid'"),
        ('base = "emotion.toml"\n[[grid]]\n"model.kind" = ["cnov"]', "did you mean 'conv'"),
        (
            'base = "emotion.toml"\n[[grid]]\n"model.kind" = ["conv", "conv"]',
            "2 rows, of which twice: conv",
        ),
        ('base = "emotion.toml"\ngrid = []', "gives 0 rows"),
        ('base = "missing.toml"\n[[grid]]\n"model.kind" = ["conv"]', "missing.toml does not exist"),
        ("experiment = 3", "experiment is 3"),
        ('base = "emotion.toml"', r"either \[\[grid\]\] or \[search\], but this has neither"),
        (
            'base = "emotion.toml"\ngrid = []\nsearch = {trials = 1, space = {"seeds" = [[0], [1]]}}',
            "but this has both",
        ),
        ('base = "emotion.toml"\nsearch = {trials = 0, space = {"seeds" = [[0]]}}', "trials is 0"),
        ("base = ", "is not valid TOML"),
    ],
)
def test_a_wrong_study_gets_a_sentence_before_any_work(write, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_study(write(text))
