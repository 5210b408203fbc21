"""Studies: their runs and tables, what a search learns from, and rows that another process trains."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from music_emotion import files, studies
from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.experiment_files import read_differences
from music_emotion.files import InputError, read_json, write_json
from music_emotion.studies import run_study
from music_emotion.study_file import read_study
from music_emotion.training.accelerator import make_accelerator

RIDGE = 'folds.split = "holdout"\nclassical.kind = "ridge"\n'
SMALL = """
excerpt = { frames = 8, per_clip = 1, test = 1 }
folds.n = 2
model.widths = [4]
train.batch_size = 8
train.epochs = 1
"""
WILD = f"{SMALL}optim.clip_norm = false\n"
ALPHA = '"classical.alpha" = { low = 1, high = 1e4, log = true }'
FOLD = Path("seed0", "fold0")


def grid(*lines: str) -> str:
    return "\n".join(["[[grid]]", *lines])


def search(space: str, trials: int, seed: int = 0) -> str:
    return f"[search]\ntrials = {trials}\nseed = {seed}\n[search.space]\n{space}\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "runs" / "small"


@pytest.fixture
def flags(competition, tmp_path):
    return {"data.root": str(competition), "data.stores": str(tmp_path / "stores")}


@pytest.fixture
def run(flags, tmp_path):
    """Write a study of a small experiment, beside a genre experiment, and run it on the small competition."""

    def run_text(text: str, experiment: str = RIDGE, genres: str = SMALL, runs: str = "runs") -> pd.DataFrame:
        (tmp_path / "base.toml").write_text(f"seeds = [0]\n{experiment}")
        (tmp_path / "genres.toml").write_text(f'task = "genre"\nseeds = [0]\n{genres}')
        path = tmp_path / "study.toml"
        path.write_text(f'name = "small"\nbase = "base.toml"\n{text}')
        return run_study(read_study(path, flags, tmp_path / runs), make_accelerator())

    return run_text


@pytest.fixture
def pretend(monkeypatch):
    """Score rows by a function of their experiments in place of training; returns the names trained."""
    trained: list[str] = []

    def pretend_score(score) -> list[str]:
        def train(experiment, _, place: Path, pretraining: bool, draw) -> None:  # noqa: ARG001
            trained.append(place.name)
            value = {"value": score(experiment), "low": 0, "high": 0, "sd": None, "n": 1}
            scores = {"repeated": {part: {"mean": value} for part in ("valid", "test")}}
            genres = {"pooled": {"macro_f1": value}, "per_seed": {"0": {"macro_f1": value["value"]}}}
            write_json(place / "scores.json", scores | genres | {"repeats": [{"n_test": 1}]})
            write_json(place / "experiment.json", experiment_to_dict(experiment))

        monkeypatch.setattr(studies, "run_experiment", train)
        return trained

    return pretend_score


def near_100(experiment) -> float:
    return -abs(np.log10(experiment.classical.alpha) - 2)


def test_finished_and_diverged_rows_are_in_the_table_and_not_trained_again(run, folder, monkeypatch):
    text = grid('seeds = [[0, 1]]\n"optim.learning_rate" = [1e30, 1e-3]')
    table = run(text, WILD)
    assert table["row"].tolist() == ["0x1-1e+30", "0x1-0.001"]
    assert table["optim.learning_rate"].tolist() == [1e30, 1e-3]
    diverged, line = table.to_dict("records")
    place = folder / diverged["row"]
    assert diverged["problem"] == f"{place / FOLD}: the loss is nan in epoch 1."
    assert (np.isnan(diverged["score"]), diverged["n"], diverged["repeats"]) == (True, 0, 0)
    scores = read_json(folder / line["row"] / "scores.json")
    assert line["score"] == line["mean"] == scores["pooled"]["mean"]["value"]
    assert line["valence"] == scores["pooled"]["valence"]["value"]
    seeds = [scores["per_seed"][seed]["mean"] for seed in ("0", "1")]
    assert line["deviation"] == pytest.approx(np.std(seeds, ddof=1))
    assert (line["n"], line["repeats"], line["minutes"] > 0, line["problem"]) == (40, 2, True, "")
    assert table.columns[-2:].tolist() == ["minutes", "problem"]
    assert (folder / line["row"] / "oof.png").exists()
    assert pd.read_csv(folder / "table.csv")["row"].tolist() == table["row"].tolist()
    with monkeypatch.context() as patch:
        patch.setattr(studies, "run_experiment", lambda *_, **__: pytest.fail("trained again"))
        pd.testing.assert_frame_equal(run(text, WILD), table)
    shutil.rmtree(place)  # to try it again
    assert run(text, WILD)["problem"][0] == diverged["problem"]
    assert (place / "diverged.json").exists()


def test_genre_rows_have_a_report_and_emotion_rows_start_from_their_trunk(run, tmp_path, folder):
    text = 'pretrain = "genres.toml"\n' + grid('"train.frozen_epochs" = [0, 1]')
    table = run(text, SMALL)
    for row in table["row"]:
        trunk = read_json(folder / row / "experiment.json")["model"]["trunk"]
        assert Path(trunk) == folder / "genres" / FOLD / "model.safetensors"
    (tmp_path / "moved").mkdir()
    folder.rename(tmp_path / "moved" / "small")
    pd.testing.assert_frame_equal(run(text, SMALL, runs="moved"), table)  # not trained again
    table = run(grid('task = ["genre"]'), SMALL, runs="others")
    assert (table["score"] == table["macro_f1"]).all()
    made = {path.name for path in (tmp_path / "others" / "small" / "genre").iterdir()}
    assert {"report.txt", "confusion.csv", "confusion.png", "scores.json"} <= made


def test_a_row_whose_trunk_diverges_is_noted_too(run):
    text = 'pretrain = "genres.toml"\n' + grid('"train.epochs" = [1, 2]')
    problems = run(text, SMALL, f"{WILD}optim.learning_rate = 1e30\n")["problem"]
    assert problems.str.contains("genres/seed0/fold0: the loss is nan in epoch 1").tolist() == [True] * 2


def test_what_another_process_trains_is_waited_for(run, pretend, folder, monkeypatch):
    trained, waited = pretend(near_100), []
    held = folder / "mel-genres"
    held.mkdir(parents=True)
    other = files.lock(held / "row.lock")

    def die(_: float) -> None:
        waited.append(list(trained))
        other.close()

    monkeypatch.setattr(studies, "time", SimpleNamespace(sleep=die))
    trunks = 'pretrain = "genres.toml"\n[fixed]\n"folds.split" = "holdout"\n'
    table = run(trunks + grid('"data.rows" = ["mel", "fused"]'), SMALL)
    assert table["row"].tolist() == ["mel", "fused"]
    assert waited == [["fused-genres", "fused"]]
    assert trained == ["fused-genres", "fused", "mel-genres", "mel"]


def test_a_grid_may_grow_and_lose_rows_and_its_table_never_shrinks(run, pretend, monkeypatch):
    trained, lengths = pretend(near_100), []
    with monkeypatch.context() as patch:
        patch.setattr(studies.files, "write_table", lambda _, table: lengths.append(len(table)))
        for _ in range(2):  # the second has seen no row yet
            run(grid('"classical.alpha" = [1, 10]'))
    assert lengths == [1, 2, 2, 2]
    assert run(grid('"classical.alpha" = [100, 10]'))["row"].tolist() == ["100", "10"]
    assert trained == ["1", "10", "100"]


def test_a_row_of_other_settings_is_no_line_and_is_refused_with_a_remedy(run, folder):
    run(grid('"classical.alpha" = [10]'))
    with pytest.raises(InputError, match=r"10 holds another experiment: data\.rows differ\. Give --runs an"):
        run('[fixed]\n"data.rows" = "chroma"\n' + grid('"classical.alpha" = [1, 10]'))
    assert pd.read_csv(folder / "table.csv")["row"].tolist() == [1]


def test_a_search_is_scored_on_validation_and_gives_an_experiment(run, flags, tmp_path, folder, run_script):
    table = run(search(f'{ALPHA}\n"data.rows" = ["mel", "chroma"]', 3))
    assert sorted(table["trial"]) == [0, 1, 2]
    assert table["searched"].is_monotonic_decreasing
    for line in table.to_dict("records"):
        scores = read_json(folder / line["row"] / "scores.json")["repeated"]
        assert line["searched"] == line["valid"] == scores["valid"]["mean"]["value"]
        assert line["score"] == scores["test"]["mean"]["value"]
        assert line["row"] == f"{line['classical.alpha']:g}-{line['data.rows']}"
    best = build_experiment(read_differences(folder / "best.toml"), "best")
    run_was = read_json(folder / table["row"][0] / "experiment.json")
    assert experiment_to_dict(best) == run_was | {"name": "small-best"}
    places = [f"--{key}={value}" for key, value in flags.items()]
    _, printed, _ = run_script("study.py", tmp_path / "study.toml", *places, "--runs", tmp_path / "runs")
    assert all(name in printed for name in table["row"])
    assert (folder / "best.toml").read_text() in printed
    assert "those of one repeat validate another, so it is a little too good" in printed


def test_folds_are_searched_by_their_out_of_fold_score(run, folder):
    table = run(search(ALPHA, 1), RIDGE.replace('split = "holdout"', "n = 2"))
    scores = read_json(folder / table["row"][0] / "scores.json")
    assert table["searched"][0] == table["score"][0] == scores["pooled"]["mean"]["value"]


def test_a_search_finds_what_is_good_and_a_seed_gives_the_same_trials(run, pretend):
    pretend(near_100)
    first = run(search(ALPHA, 16), runs="one")
    assert first["classical.alpha"][0] == pytest.approx(100, rel=0.3)
    for trials in (5, 12, 16):  # as if it had been stopped twice
        again = run(search(ALPHA, trials), runs="two")
        assert len(again) == trials
    pd.testing.assert_frame_equal(first, again)
    other = run(search(ALPHA, 4, seed=1), runs="three")
    assert set(first["row"]).isdisjoint(other["row"])


def test_settings_that_come_again_are_trained_once(run, pretend):
    trained = pretend(lambda experiment: float(experiment.data.rows == "mel"))
    table = run(search('"data.rows" = ["mel", "chroma"]', 6))
    assert sorted(trained) == ["chroma", "mel"]
    assert table["trial"].nunique() == 6
    assert table["searched"].tolist() == [float(row == "mel") for row in table["row"]]


def test_a_score_that_is_no_number_is_a_trial_but_never_the_best(run, pretend, folder):
    pretend(lambda _: np.nan)
    assert run(search(ALPHA, 2))["searched"].isna().tolist() == [True, True]
    assert not (folder / "best.toml").exists()
    pretend(near_100)
    table = run(search(ALPHA, 4))
    assert table["searched"].isna().tolist() == [False, False, True, True]
    assert f"alpha = {table['classical.alpha'][0]}" in (folder / "best.toml").read_text()


def test_trials_of_another_search_are_refused(run, pretend):
    pretend(near_100)
    run(search(ALPHA, 1))
    for text, experiment in ((ALPHA.replace("1e4", "1e3"), RIDGE), (ALPHA, f"{RIDGE}classical.rounds = 2\n")):
        with pytest.raises(InputError, match="trials of another"):
            run(search(text, 1), experiment)
    with pytest.raises(InputError, match="trials of another"):
        run(grid('"classical.alpha" = [1]'))
