"""Studies: their runs and tables, what a search learns from, and processes that share them or are killed."""

import multiprocessing
import os
import shutil
import socket
import subprocess
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

from music_emotion import studies
from music_emotion.commands.training import read_genres, study
from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError, read_json, write_json
from music_emotion.studies import run_study
from music_emotion.study_file import read_study
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment

RIDGE = '[folds]\nsplit = "holdout"\n[classical]\nkind = "ridge"\n'
SMALL = """
[excerpt]
frames = 8
per_clip = 1
test = 1
[folds]
n = 2
[model]
widths = [4]
[train]
epochs = 1
batch_size = 8
"""
WILD = f"{SMALL}[optim]\nclip_norm = false\n"
SLOW = SMALL.replace("epochs = 1", "epochs = 15\nvalid_every = 15").replace("n = 2", 'split = "holdout"')
ALPHA = '"classical.alpha" = { low = 1, high = 1e4, log = true }'
DROPOUT = '"model.dropout" = { low = 0.0, high = 0.5 }'
# What another process does: it starts when all are there.
PROCESS = """
import sys
from music_emotion.studies import run_study
from music_emotion.study_file import read_study
from music_emotion.training.accelerator import make_accelerator
sys.stdout = open(output, "w", buffering=1)
study = read_study(path, flags)
accelerator = make_accelerator()
together.wait()
run_study(study, runs, accelerator)
"""


@pytest.fixture
def grid(tmp_path):
    """Write a grid: `grid(lines, experiment)`."""

    def write_grid(lines: str, experiment: str = RIDGE, more: str = "") -> Path:
        (tmp_path / "base.toml").write_text(experiment)
        (tmp_path / "genres.toml").write_text(f'task = "genre"\nseeds = [0]\n{SMALL}')
        path = tmp_path / "study.toml"
        path.write_text(f'name = "small"\nbase = "base.toml"\n{more}\n[[grid]]\n{lines}\n')
        return path

    return write_grid


@pytest.fixture
def search(tmp_path):
    """Write a search in `space` for `trials` trials of a small experiment."""

    def write_search(space: str, trials: int = 4, experiment: str = RIDGE, more: str = "") -> Path:
        (tmp_path / "base.toml").write_text(experiment)
        path = tmp_path / "study.toml"
        header = f'name = "small"\nbase = "base.toml"\n[search]\ntrials = {trials}\n{more}\n'
        path.write_text(f"{header}[search.space]\n{space}\n")
        return path

    return write_search


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "runs" / "small"


@pytest.fixture
def flags(competition, tmp_path):
    return {"data.root": str(competition), "data.stores": str(tmp_path / "stores")}


@pytest.fixture
def run(flags, tmp_path):
    """Run a study on the small competition."""

    def run_file(path: Path, runs: str = "runs") -> pd.DataFrame:
        return run_study(read_study(path, flags), tmp_path / runs, make_accelerator())

    return run_file


@pytest.fixture
def pretend(monkeypatch):
    """Score rows by a function of their experiments in place of training; gives the names trained."""
    trained: list[str] = []

    def pretend_score(score) -> list[str]:
        def train(experiment, _, place: Path) -> None:
            trained.append(place.name)
            value = {"value": score(experiment), "low": 0, "high": 0, "sd": None}
            scores = {part: {"mean": value} for part in ("valid", "test")}
            write_json(place / "scores.json", {"repeated": scores, "repeats": [{"n_test": 1}]})
            write_json(place / "experiment.json", experiment_to_dict(experiment))

        monkeypatch.setattr(studies, "run_experiment", train)
        return trained

    return pretend_score


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in journal(folder).get_trials()]


def journal(folder: Path) -> optuna.Study:
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    return optuna.load_study(study_name="small", storage=optuna.storages.JournalStorage(backend))


def near_100(experiment) -> float:
    return -abs(np.log10(experiment.classical.alpha) - 2)


def of_mel(experiment) -> float:
    return float(experiment.data.rows == "mel")


def test_a_grid_has_scores_deviation_and_time_and_is_not_trained_twice(grid, run, folder, monkeypatch):
    path = grid('"model.activation" = ["relu", "gelu"]', f"seeds = [0, 1]\n{SMALL}")
    table = run(path)
    assert table["row"].tolist() == table["model.activation"].tolist() == ["relu", "gelu"]
    for line in table.to_dict("records"):
        scores = read_json(folder / line["row"] / "scores.json")
        assert line["score"] == line["mean"] == scores["pooled"]["mean"]["value"]
        assert line["valence"] == scores["pooled"]["valence"]["value"]
        seeds = [scores["per_seed"][seed]["mean"] for seed in ("0", "1")]
        assert line["deviation"] == pytest.approx(np.std(seeds, ddof=1))
        assert (line["repeats"], line["minutes"] > 0) == (2, True)
        assert (folder / line["row"] / "oof.png").exists()
    assert pd.read_csv(folder / "table.csv")["row"].tolist() == ["relu", "gelu"]
    monkeypatch.setattr(studies, "run_experiment", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run(path), table)
    (folder / "journal.log").unlink()  # what is on the disk counts
    pd.testing.assert_frame_equal(run(path), table)


def test_genre_rows_have_a_report_and_start_from_trunks_of_their_own_kind(grid, run, folder):
    lines = '"data.rows" = ["mel", "chroma"]\n"train.frozen_epochs" = [0, 1]'
    path = grid(lines, f"seeds = [0]\n{SMALL}", 'pretrain = "genres.toml"')
    assert len(run(path)) == 4
    for name in ("mel-0", "mel-1", "chroma-0", "chroma-1"):
        trunk, kind = read_json(folder / name / "seed0" / "fold0" / "trunk.json"), name.partition("-")[0]
        assert Path(trunk["file"]).parts[-4:] == (f"{kind}-genres", "seed0", "fold0", "model.safetensors")
        assert trunk["new"] == ["head.1.weight", "head.1.bias"]
    for name in ("mel-genres", "chroma-genres"):  # of which two rows start each
        files = {path.name for path in (folder / name).iterdir()}
        assert {"report.txt", "confusion.csv", "confusion.png", "scores.json"} <= files
    genres = grid('"data.rows" = ["mel"]', f'task = "genre"\nseeds = [0]\n{SMALL}')
    genres.write_text(genres.read_text().replace("small", "genres"))
    table = run(genres)
    assert (table["score"] == table["macro_f1"]).all()
    assert (folder.parent / "genres" / "mel" / "confusion.png").exists()


@pytest.mark.parametrize("is_trunk", [False, True])
def test_what_another_process_trains_is_waited_for(grid, run, pretend, folder, monkeypatch, is_trunk):
    trained = pretend(near_100)
    monkeypatch.setattr(studies, "run_pretraining", lambda e, _, place: studies.run_experiment(e, _, place))
    lines = '"data.rows" = ["mel", "fused"]'
    path = grid(lines, RIDGE if not is_trunk else SMALL, 'pretrain = "genres.toml"' if is_trunk else "")
    if is_trunk:
        path.write_text(path.read_text().replace("[[grid]]", '[fixed]\n"folds.split" = "holdout"\n[[grid]]'))
    held = folder / ("mel-genres" if is_trunk else "mel")
    held.mkdir(parents=True)
    other = FileLock(held / "row.lock").acquire()
    waited = []

    def die(_: float) -> None:
        waited.append(list(trained))
        other.lock.release()

    monkeypatch.setattr(studies, "time", SimpleNamespace(sleep=die))
    assert run(path)["row"].tolist() == ["mel", "fused"]
    before = ["fused-genres", "fused"] if is_trunk else ["fused"]
    assert waited == [before]
    assert trained == [*before, *(["mel-genres"] if is_trunk else []), "mel"]


def test_a_row_that_diverges_is_noted_and_the_others_are_trained(grid, run, folder, monkeypatch):
    path = grid('"optim.learning_rate" = [1e30, 1e-3]', f"seeds = [0]\n{WILD}")
    table = run(path)
    assert table["row"].tolist() == ["1e+30", "0.001"]
    assert table["score"].isna().tolist() == [True, False]
    assert table.columns[-1] == "problem"
    assert table["problem"][0] == f"{folder / '1e+30' / 'seed0' / 'fold0'}: the loss is nan in epoch 1."
    assert table["problem"][1] == ""
    assert table["n"].tolist() == [0, 40]
    assert sorted(states(folder)) == ["COMPLETE", "PRUNED"]
    monkeypatch.setattr(studies, "run_experiment", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(run(path), table)
    monkeypatch.undo()
    shutil.rmtree(folder / "1e+30")  # to try it again
    assert run(path)["problem"][0] == table["problem"][0]
    assert (folder / "1e+30" / "diverged.json").exists()


def test_a_row_whose_trunk_diverges_is_noted_too(grid, run, tmp_path):
    path = grid('"train.epochs" = [1, 2]', f"seeds = [0]\n{SMALL}", 'pretrain = "genres.toml"')
    wild = WILD.replace("clip_norm", "learning_rate = 1e30\nclip_norm")
    (tmp_path / "genres.toml").write_text(f'task = "genre"\nseeds = [0]\n{wild}')
    problems = run(path)["problem"]
    assert problems.str.contains("genres/seed0/fold0: the loss is nan in epoch 1").tolist() == [True] * 2


def test_two_processes_of_a_launcher_that_diverge_go_on_together(grid, flags, tmp_path, folder):
    with socket.socket() as free:  # a port that nothing else on this machine listens to
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    path = grid('"optim.learning_rate" = [1e30, 1e-3]', f"seeds = [0]\n{WILD}")
    places = {f"--{key}": value for key, value in flags.items()} | {"--runs": str(tmp_path / "runs")}
    command = [
        sys.executable,
        *launcher,
        "-m",
        "music_emotion",
        "study",
        str(path),
        *(w for pair in places.items() for w in pair),
    ]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1e+30: ") == 2  # when it happened, and below the table; the main process alone
    assert "the loss is nan in epoch 1." in done.stdout
    assert pd.read_csv(folder / "table.csv")["score"].isna().tolist() == [True, False]


def test_a_table_never_shrinks(grid, run, pretend, monkeypatch):
    pretend(near_100)
    path, lengths = grid('"classical.alpha" = [1, 10, 100]'), []
    monkeypatch.setattr(studies.files, "write_table", lambda _, table: lengths.append(len(table)))
    run(path)
    run(path)  # a second process, which has seen no row yet
    assert lengths == [1, 2, 3, 3, 3]


def test_a_row_of_other_settings_is_no_line_and_is_refused_with_a_remedy(grid, run, folder):
    run(grid('"classical.alpha" = [1, 10]'))
    shutil.rmtree(folder / "1")
    with pytest.raises(
        InputError, match=r"10 holds another experiment: data\.rows differ\. Give --runs anoth"
    ):
        run(grid('"classical.alpha" = [1, 10]', more='[fixed]\n"data.rows" = "chroma"'))
    assert pd.read_csv(folder / "table.csv")["row"].tolist() == [1]


def test_a_grid_may_grow_and_lose_rows(grid, run, pretend):
    trained = pretend(near_100)
    run(grid('"classical.alpha" = [1, 10]'))
    assert run(grid('"classical.alpha" = [100, 10]'))["row"].tolist() == ["100", "10"]
    assert trained == ["1", "10", "100"]


def test_a_search_is_scored_on_validation_and_its_best_row_is_an_experiment(search, run, folder):
    table = run(search(f'{ALPHA}\n"data.rows" = ["mel", "fused"]'))
    assert sorted(table["trial"]) == [0, 1, 2, 3]
    assert table["searched"].is_monotonic_decreasing
    for line in table.to_dict("records"):
        scores = read_json(folder / line["row"] / "scores.json")["repeated"]
        assert line["searched"] == line["valid"] == scores["valid"]["mean"]["value"]
        assert line["score"] == scores["test"]["mean"]["value"]
        assert line["row"] == f"{line['classical.alpha']:g}-{line['data.rows']}"
    assert pd.read_csv(folder / "table.csv")["row"].tolist() == table["row"].tolist()
    best = build_experiment(read_differences(folder / "best.toml"), "best")
    run_was = read_json(folder / table["row"][0] / "experiment.json")
    assert experiment_to_dict(best) == run_was | {"name": "small-best"}


def test_folds_are_searched_by_their_out_of_fold_score(search, run, folder):
    table = run(search(ALPHA, 1, RIDGE.replace('split = "holdout"', "n = 2")))
    scores = read_json(folder / table["row"][0] / "scores.json")
    assert table["searched"][0] == table["score"][0] == scores["pooled"]["mean"]["value"]


def test_a_search_finds_what_is_good_and_a_seed_gives_the_same_trials(search, run, pretend):
    pretend(near_100)
    first = run(search(ALPHA, 16), "one")
    assert first["classical.alpha"][0] == pytest.approx(100, rel=0.3)
    for trials in (5, 12, 16):  # as if it had been stopped twice
        again = run(search(ALPHA, trials), "two")
        assert len(again) == trials
    pd.testing.assert_frame_equal(first, again)
    other = run(search(ALPHA, 4, more="seed = 1"), "three")
    assert set(first["row"]).isdisjoint(other["row"])


def test_settings_that_come_again_are_trained_once(search, run, pretend):
    trained = pretend(of_mel)
    table = run(search('"data.rows" = ["mel", "chroma"]', 6))
    assert sorted(trained) == ["chroma", "mel"]
    assert table["trial"].nunique() == 6
    assert table["searched"].tolist() == [float(row == "mel") for row in table["row"]]


def test_a_score_that_is_no_number_is_a_trial_but_never_the_best(search, run, pretend, folder):
    pretend(lambda _: np.nan)
    table = run(search(ALPHA, 3))
    assert table["searched"].isna().tolist() == [True] * 3
    assert states(folder) == ["PRUNED"] * 3
    assert not (folder / "best.toml").exists()
    pretend(near_100)
    table = run(search(ALPHA, 5))
    assert table["searched"].isna().tolist() == [False, False, True, True, True]
    assert f"alpha = {table['classical.alpha'][0]}" in (folder / "best.toml").read_text()


def test_trials_of_a_dead_process_are_done_again_and_half_a_line_is_forgotten(search, run, pretend, folder):
    trained, path = pretend(near_100), search(ALPHA, 3)

    def killed(*arguments) -> None:
        trained.append(arguments[-1].name)
        raise SystemExit

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "run_experiment", killed)
        with pytest.raises(SystemExit):
            run(path)
    assert states(folder) == ["RUNNING"]
    with (folder / "journal.log").open("a") as half:
        half.write('{"op_code": 5, "trial_')  # a full disk
    assert len(run(path)) == 3
    assert states(folder) == ["COMPLETE"] * 3
    assert trained[0] == trained[1]
    assert len(set(trained)) == 3


def test_a_trial_whose_process_died_before_it_had_settings_does_not_count(search, run, pretend, folder):
    pretend(near_100)
    run(search(ALPHA, 1))
    journal(folder).ask()
    table = run(search(ALPHA, 3))
    assert table["trial"].isin([0, 2, 3]).all()
    assert states(folder) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]


def test_a_folder_of_another_search_is_refused(search, grid, run, pretend):
    pretend(near_100)
    run(search(ALPHA, 1))
    for write, text in ((search, ALPHA.replace("1e4", "1e3")), (grid, '"classical.alpha" = [1]')):
        with pytest.raises(InputError, match="trials of another"):
            run(write(text))


def test_the_command_prints_the_table_and_the_best_experiment(search, flags, tmp_path, folder, capsys):
    path = search('"classical.alpha" = [1, 10]', 2)
    root, stores = flags.values()
    study(path, root=root, stores=stores, genres="{}", runs=tmp_path / "runs")
    printed = capsys.readouterr().out
    table = pd.read_csv(folder / "table.csv")
    assert len(table) == 2
    assert all(str(name) in printed for name in table["row"])
    assert (folder / "best.toml").read_text() in printed
    assert "those of one repeat validate another, so it is a little too good" in printed


@pytest.mark.parametrize("text", ["{", "[]", "Rock"])
def test_genres_are_json(text):
    assert read_genres('{"Psych-Rock": "Rock"}') == {"Psych-Rock": "Rock"}
    assert read_genres(None) is None
    with pytest.raises(InputError, match=r"--data\.genres is"):
        read_genres(text)


@pytest.mark.parametrize("batch_size", [2, 128])
def test_the_smallest_and_largest_batches_can_be_trained(small, tmp_path, batch_size):
    train, repeats = {"batch_size": batch_size, "epochs": 1}, {"split": "holdout"}
    run_experiment(small(train=train, folds=repeats, excerpt={"per_clip": 1}), make_accelerator(), tmp_path)
    assert read_json(tmp_path / "scores.json")["repeats"][0]["n_train"] % 2 == 1


@pytest.fixture
def start(flags, tmp_path):
    """Start processes that run a search; each prints into its own file."""
    context = multiprocessing.get_context("forkserver")  # which imports all but once
    context.set_forkserver_preload(["music_emotion.studies", "optuna"])
    started, kept = [], []

    def start_processes(path: Path, n: int) -> list[tuple[BaseProcess, Path]]:
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


def test_a_killed_search_goes_on_in_the_same_directories(search, run, start, folder):
    path = search(DROPOUT, 2, SLOW)
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


def test_two_processes_share_one_search(search, start, folder):
    processes = start(search(DROPOUT, 7, SLOW.replace("15", "2")), 2)
    for process, _ in processes:
        process.join(120)
        assert process.exitcode == 0
    lines = [output.read_text().splitlines() for _, output in processes]
    own = [[line.split(": ")[1] for line in text if " of 7: " in line] for text in lines]
    assert all(own), "both have trained"
    assert len(own[0]) + len(own[1]) == 7
    table = pd.read_csv(folder / "table.csv")
    assert sorted(f"{value:g}" for value in table["row"]) == sorted(own[0] + own[1])
    assert states(folder) == ["COMPLETE"] * 7
