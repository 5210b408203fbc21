"""Searches: what they propose, what they learn from, and processes that share them or are killed."""

import json
import multiprocessing
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pandas as pd
import pytest
from filelock import FileLock

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.experiment_files import experiment_toml, read_differences
from music_emotion.files import InputError, read_json, write_json
from music_emotion.studies import search, shared_rows
from music_emotion.studies.study import read_study, run_study
from music_emotion.studies.study_row import Row, word
from music_emotion.training.accelerator import make_accelerator

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RIDGE = '[folds]\nsplit = "holdout"\n[classical]\nkind = "ridge"\n'
NETWORK = """
[excerpt]
frames = 32
test = 2
[folds]
split = "holdout"
[model]
widths = [4, 8]
[train]
epochs = 15
valid_every = 15
batch_size = 8
"""
ALPHA = '"classical.alpha" = { low = 1, high = 1e4, log = true }'
# What another process does: it starts when all are there.
PROCESS = """
import sys
from music_emotion.training.accelerator import make_accelerator
from music_emotion.studies.study import read_study, run_study
sys.stdout = open(output, "w", buffering=1)
study = read_study(path, flags)
accelerator = make_accelerator()
together.wait()
run_study(study, runs, accelerator)
"""


@pytest.fixture
def write(tmp_path):
    """Write a search in `space` for `trials` trials of a small experiment."""

    def write_search(space: str, trials: int = 4, experiment: str = RIDGE, more: str = "") -> Path:
        (tmp_path / "base.toml").write_text(experiment)
        path = tmp_path / "study.toml"
        header = f'name = "small"\nbase = "base.toml"\n[search]\ntrials = {trials}\n{more}\n'
        path.write_text(f"{header}[search.space]\n{space}\n")
        return path

    return write_search


@pytest.fixture
def run(competition, tmp_path):
    """Run a search on the small competition."""

    def run_file(path: Path, runs: str = "runs") -> pd.DataFrame:
        flags = {"data.root": str(competition), "data.stores": str(tmp_path / "stores")}
        return run_study(read_study(path, flags), tmp_path / runs, make_accelerator())

    return run_file


@pytest.fixture
def start(competition, tmp_path):
    """Start processes that run a search; each prints into its own file."""
    context = multiprocessing.get_context("forkserver")  # which imports all but once
    context.set_forkserver_preload(
        ["music_emotion.training.accelerator", "music_emotion.studies.study", "optuna"]
    )
    started, kept = [], []

    def start_processes(path: Path, n: int) -> list[tuple[BaseProcess, Path]]:
        flags = {"data.root": str(competition), "data.stores": str(tmp_path / "stores")}
        kept.append(context.Barrier(n))  # which ends with its last reference here
        common = {"path": path, "flags": flags, "runs": tmp_path / "runs", "together": kept[-1]}
        for number in range(n):
            own = {"output": tmp_path / f"{number}.txt"}
            started.append((context.Process(target=exec, args=(PROCESS, common | own)), own["output"]))
            started[-1][0].start()
        return started

    yield start_processes
    for process, _ in started:
        process.kill()
        process.join()


@pytest.fixture
def pretend(monkeypatch):
    """Score rows by a function of their settings in place of training; gives the names trained."""
    trained = []

    def pretend_score(score) -> list[str]:
        def run_row(row: Row, folder: Path, _) -> None:
            trained.append(row.name)
            value = {"value": score(row.settings), "low": 0, "high": 0, "sd": None}
            scores = {part: {"mean": value} for part in ("valid", "test")}
            write_json(folder / row.name / "scores.json", {"repeated": scores, "repeats": [{"n_test": 1}]})
            write_json(folder / row.name / "experiment.json", experiment_to_dict(row.experiment))

        monkeypatch.setattr(search, "run_row", run_row)
        return trained

    return pretend_score


def states(folder: Path) -> list[str]:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    study = optuna.load_study(study_name=folder.name, storage=optuna.storages.JournalStorage(backend))
    return [trial.state.name for trial in study.get_trials()]


def near_100(settings: dict) -> float:
    return -abs(np.log10(settings["classical.alpha"]) - 2)


def test_a_search_is_scored_on_validation_and_its_best_row_is_an_experiment(write, run, tmp_path):
    table = run(write(f'{ALPHA}\n"data.rows" = ["mel", "fused"]'))
    assert sorted(table["trial"]) == [0, 1, 2, 3]
    assert table["searched"].is_monotonic_decreasing
    folder = tmp_path / "runs" / "small"
    for line in table.to_dict("records"):
        scores = read_json(folder / line["row"] / "scores.json")["repeated"]
        assert line["searched"] == line["valid"] == scores["valid"]["mean"]["value"]
        assert line["score"] == scores["test"]["mean"]["value"]
        assert line["row"] == f"{line['classical.alpha']:g}-{line['data.rows']}"
    assert pd.read_csv(folder / "table.csv")["row"].tolist() == table["row"].tolist()
    best = build_experiment(read_differences(folder / "best.toml"), "best")
    run_was = read_json(folder / table["row"][0] / "experiment.json")
    assert experiment_to_dict(best) == run_was | {"name": "small-best"}


def test_folds_are_searched_by_their_out_of_fold_score(write, run, tmp_path):
    table = run(write(ALPHA, 1, RIDGE.replace('split = "holdout"', "n = 2")))
    scores = read_json(tmp_path / "runs" / "small" / table["row"][0] / "scores.json")
    assert table["searched"][0] == table["score"][0] == scores["pooled"]["mean"]["value"]


def test_a_search_finds_what_is_good_and_a_seed_gives_the_same_trials(write, run, pretend):
    pretend(near_100)
    first = run(write(ALPHA, 16), "one")
    assert first["classical.alpha"][0] == pytest.approx(100, rel=0.3)
    for trials in (5, 12, 16):  # as if it had been stopped twice
        again = run(write(ALPHA, trials), "two")
        assert len(again) == trials
    pd.testing.assert_frame_equal(first, again)
    other = run(write(ALPHA, 4, more="seed = 1"), "three")
    assert set(first["row"]).isdisjoint(other["row"])


def test_settings_that_come_again_are_trained_once(write, run, pretend):
    trained = pretend(lambda settings: float(settings["data.rows"] == "mel"))
    table = run(write('"data.rows" = ["mel", "chroma"]', 6))
    assert sorted(trained) == ["chroma", "mel"]
    assert table["trial"].nunique() == 6
    assert table["searched"].tolist() == [float(row == "mel") for row in table["row"]]


def test_a_score_that_is_no_number_is_a_trial_but_never_the_best(write, run, pretend, tmp_path):
    pretend(lambda _: np.nan)
    table = run(write(ALPHA, 3))
    assert table["searched"].isna().tolist() == [True] * 3
    assert not (tmp_path / "runs" / "small" / "best.toml").exists()
    pretend(near_100)
    table = run(write(ALPHA, 5))
    assert table["searched"].isna().tolist() == [False, False, True, True, True]
    assert f"alpha = {table['classical.alpha'][0]}" in (tmp_path / "runs/small/best.toml").read_text()


def test_a_trial_that_diverges_is_pruned_and_does_not_stop_the_search(write, run, tmp_path, monkeypatch):
    wild = NETWORK.replace("15", "2") + "[optim]\nclip_norm = false\n"
    path, folder = write('"optim.learning_rate" = [1e30, 1e-3]', 4, wild), tmp_path / "runs" / "small"
    table = run(path)
    assert set(table["row"]) == {"1e+30", "0.001"}
    diverged = table["row"] == "1e+30"
    assert (table["searched"].isna() == diverged).all()
    assert (table["problem"].str.contains("seed0/fold0: the loss is nan in epoch 1") == diverged).all()
    assert sorted(states(folder)) == ["COMPLETE"] * (~diverged).sum() + ["PRUNED"] * diverged.sum()
    assert "learning_rate = 0.001" in (folder / "best.toml").read_text()
    (folder / "journal.log").unlink()  # as if it had died before it told Optuna
    monkeypatch.setattr(shared_rows, "note_problem", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run(path), table)


def test_trials_of_a_dead_process_are_done_again_and_half_a_line_is_forgotten(write, run, pretend, tmp_path):
    trained, path, folder = pretend(near_100), write(ALPHA, 3), tmp_path / "runs" / "small"

    def killed(row: Row, *_) -> None:
        trained.append(row.name)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "run_row", killed)
        with pytest.raises(SystemExit):
            run(path)
    assert states(folder) == ["RUNNING"]
    with (folder / "journal.log").open("a") as journal:
        journal.write('{"op_code": 5, "trial_')  # a full disk
    (folder / "journal.log.lock").touch()  # Optuna's, while it wrote
    started = time.perf_counter()
    table = run(path)
    assert time.perf_counter() - started < 10
    assert states(folder) == ["COMPLETE"] * 3
    assert len(table) == 3
    assert trained[0] == trained[1]
    assert len(set(trained)) == 3


def test_a_trial_whose_process_died_before_it_had_settings_does_not_count(write, run, pretend, tmp_path):
    pretend(near_100)
    run(write(ALPHA, 1))
    folder = tmp_path / "runs" / "small"
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    optuna.load_study(study_name="small", storage=optuna.storages.JournalStorage(backend)).ask()
    table = run(write(ALPHA, 3))
    assert table["trial"].isin([0, 2, 3]).all()
    assert states(folder) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_a_row_that_another_process_trains_is_waited_for(write, run, pretend, tmp_path, monkeypatch):
    trained = pretend(lambda settings: float(settings["data.rows"] == "mel"))
    (tmp_path / "runs" / "small" / "mel").mkdir(parents=True)
    other = FileLock(tmp_path / "runs" / "small" / "mel" / "row.lock").acquire()
    waited = []

    def die(_: float) -> None:
        waited.append(list(trained))
        other.lock.release()

    monkeypatch.setattr(shared_rows, "time", SimpleNamespace(sleep=die))
    table = run(write('"data.rows" = ["mel", "chroma"]', 4))
    assert waited == [["chroma"]]
    assert trained == ["chroma", "mel"]
    assert len(table) == 4


def test_a_killed_search_goes_on_in_the_same_directories(write, run, start, tmp_path):
    path, folder = (
        write('"model.dropout" = { low = 0.0, high = 0.5 }', 2, NETWORK),
        tmp_path / "runs" / "small",
    )
    ((process, _),) = start(path, 1)
    epochs: list[Path] = []
    while not epochs or len(pd.read_csv(epochs[0])) < 3:
        assert process.is_alive()
        time.sleep(0.02)
        epochs = list(folder.glob("*/seed0/fold0/metrics.csv"))
    process.kill()
    process.join()
    assert states(folder) == ["RUNNING"]
    before = pd.read_csv(epochs[0])
    assert len(before) < 15
    table = run(path)
    assert states(folder) == ["COMPLETE", "COMPLETE"]
    assert epochs[0].parents[2].name == table.set_index("trial")["row"][0]
    after = pd.read_csv(epochs[0])
    assert len(after) == 15
    assert after["seconds"].head(2).tolist() == before["seconds"].head(2).tolist()  # not trained again


def test_two_processes_share_one_search(write, start, tmp_path):
    path = write('"model.dropout" = { low = 0.0, high = 0.5 }', 7, NETWORK.replace("15", "3"))
    processes = start(path, 2)
    for process, _ in processes:
        process.join(120)
        assert process.exitcode == 0
    lines = [output.read_text().splitlines() for _, output in processes]
    own = [[line.split(": ")[1] for line in text if " of 7: " in line] for text in lines]
    assert all(own), "both have trained"
    assert len(own[0]) + len(own[1]) == 7
    table = pd.read_csv(tmp_path / "runs" / "small" / "table.csv")
    assert sorted(f"{value:g}" for value in table["row"]) == sorted(own[0] + own[1])
    assert states(tmp_path / "runs" / "small") == ["COMPLETE"] * 7


def test_a_folder_of_another_search_is_refused(write, run, pretend):
    pretend(near_100)
    run(write(ALPHA, 1))
    with pytest.raises(InputError, match="trials of another search"):
        run(write(ALPHA.replace("1e4", "1e3"), 1))


def test_without_optuna_there_is_a_sentence(write, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'music-emotion\[study\]'"):
        run(write(ALPHA))


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ('"classical.alhpa" = { low = 1, high = 2 }', "unknown key 'classical.alhpa'; did you mean 'alpha'"),
        ('"classical.alpha" = { low = 2, high = 1 }', "low, 2, has to be less than high, 1"),
        ('"classical.alpha" = { low = 0, high = 1, log = true }', "log needs a low above 0"),
        ('"classical.alpha" = { low = -1, high = 1 }', "classical.alpha is -1"),
        ('"classical.alpha" = { low = 1, high = inf }', "finite number"),
        ('"classical.alpha" = { low = 1, hihg = 2 }', "hihg"),
        ('"classical.alpha" = []', "at least 1 item"),
        ('"classical.alpha" = 3', "classical.alpha.choices is 3; input should be a valid list"),
        ('"classical.leaves" = { low = 2, high = 8.5 }', "classical.leaves is 8.5"),
        ('"classical.leaves" = { low = 2.0, high = 8.0 }', "takes whole numbers"),
        ('"model.padded" = { low = 0, high = 1 }', "is a range, but no number"),
        ('"data.rows" = ["mel", "mel"]', "holds mel twice"),
        ('"data.rows" = ["mel", "rows"]', "data.rows is 'rows'"),
        (
            '"train.patience" = [0, 5]\n"train.select" = ["best-loss", "last"]',
            "train.patience needs a best epoch",
        ),
        ("", "space is {}"),
    ],
)
def test_a_wrong_space_gets_a_sentence_before_any_work(write, space, sentence):
    with pytest.raises(InputError, match=sentence):
        read_study(write(space))


def test_whole_numbers_are_whole_where_the_setting_is(write):
    whole = '"classical.leaves" = { low = 2, high = 64, log = true }\n"classical.c" = { low = 1, high = 9 }'
    space = read_study(write(whole)).space
    assert space.integers == {"classical.leaves"}
    settings = space.settings({"classical.leaves": 7, "classical.c": 1.23456})
    assert settings == {"classical.leaves": 7, "classical.c": 1.235}
    assert type(settings["classical.leaves"]) is int


def test_lists_are_choices(write):
    space = read_study(write('"model.widths" = [[4, 8], [8]]')).space
    assert space.distributions()["model.widths"].choices == ("4x8", "8")
    assert space.settings({"model.widths": word("", [4, 8])}) == {"model.widths": [4, 8]}


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.toml")), ids=lambda path: path.stem)
def test_an_experiment_written_as_a_file_is_the_same(path, tmp_path):
    experiment = build_experiment(read_differences(path), str(path))
    (tmp_path / "again.toml").write_text(experiment_toml(experiment))
    again = build_experiment(read_differences(tmp_path / "again.toml"), "again")
    assert json.dumps(experiment_to_dict(again)) == json.dumps(experiment_to_dict(experiment))
