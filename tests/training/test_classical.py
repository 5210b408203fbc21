"""Runs of classical estimators: what they write, what they are fitted to, and what is done once."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scrambled import with_scrambled_labels

from music_emotion.config import Experiment, build_experiment
from music_emotion.datasets import statistics_table
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import Fold, folds_of_run
from music_emotion.evaluation.metrics import spearman
from music_emotion.files import InputError, read_json, read_predictions, write_json
from music_emotion.runs import open_run
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, train_folds

KINDS = ["gp", "ridge", "svr", "boosting", "xgboost", "lightgbm"]
LEARNT = 0.65  # rank correlation, where of hundreds of statistics a few tell the level and the others noise


@pytest.fixture(scope="module")
def classical(tmp_path_factory, make_emotion) -> Callable[..., Experiment]:
    """Build an experiment on 90 clips, for boosting does not split fewer than 20: `classical("svr")`."""
    root = tmp_path_factory.mktemp("classical")
    make_emotion(root, n_train=90, n_test=8, n_frames=40)

    def build(kind: str, **sections) -> Experiment:
        data = {"root": str(root), "stores": str(root / "stores")}
        described = {"kind": kind, "alpha": 10.0, "rounds": 40}
        return build_experiment(
            {"data": data, "folds": {"n": 3}, "classical": described, **sections}, "classical"
        )

    return build


@pytest.fixture(scope="module")
def sets(classical) -> tuple[ClipSet, ClipSet]:
    """Training and test split."""
    return load_sets(classical("ridge"), make_accelerator())


@pytest.fixture(scope="module", params=KINDS)
def run_of(request, classical, sets, tmp_path_factory) -> tuple[str, Path]:
    """A finished run of two seeds of every kind: its kind and its directory."""
    directory = tmp_path_factory.mktemp(request.param)
    fit(classical(request.param, seeds=[0, 7]), sets, directory)
    return request.param, directory


@pytest.fixture
def summed_up(monkeypatch) -> list[int]:
    """Frames of every array that statistics were computed of since."""
    arrays, compute = [], statistics_table.statistic_families

    def count(fused, *rest, **named):
        arrays.append(fused.shape[1])
        return compute(fused, *rest, **named)

    monkeypatch.setattr(statistics_table, "statistic_families", count)
    return arrays


def fit(
    experiment: Experiment, sets: tuple[ClipSet, ClipSet], directory: Path, folds: list[Fold] | None = None
) -> None:
    clips, test = sets
    folds = folds_of_run(experiment, clips) if folds is None else folds
    # a deadline is for networks
    assert train_folds(experiment, folds, test, make_accelerator(), directory, deadline=0.0)


def written(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and time of every file."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_run_leaves_two_tables_and_its_cost_per_fold_and_no_model(run_of):
    _, directory = run_of
    of_folds = {
        f"seed{seed}/fold{number}/{name}"
        for seed in (0, 7)
        for number in range(3)
        for name in ("valid.csv", "test.csv", "cost.json")
    }
    assert set(written(directory)) == {*of_folds, "experiment.json", "environment.json"}
    for place in directory.glob("seed*/fold*"):
        cost = read_json(place / "cost.json")
        assert set(cost) == {"seconds", "device", "threads", "processes", "peak_memory_bytes"}
        assert 0 < cost["seconds"] < 60
        assert (cost["device"], cost["processes"]) == ("cpu", 1)
        assert 1 <= cost["threads"] <= os.cpu_count()
        assert cost["peak_memory_bytes"] > 100e6


def test_every_clip_is_predicted_once_per_seed_and_close_to_its_label(run_of, sets):
    _, directory = run_of
    clips, test = sets
    for seed in ("seed0", "seed7"):
        tables = [read_predictions(path) for path in directory.glob(f"{seed}/fold*/valid.csv")]
        out_of_fold = pd.concat(tables).sort_index()
        assert out_of_fold.index.tolist() == clips.ids.tolist()
        for target in clips.outputs:
            assert spearman(clips.truth[target].to_numpy(), out_of_fold[target].to_numpy()) > LEARNT
        assert (out_of_fold - clips.truth).abs().mean().max() < 0.2  # of targets spread evenly over 0 to 1
    for path in directory.glob("seed*/fold*/test.csv"):
        assert read_predictions(path).index.tolist() == test.ids.tolist()


def test_the_test_split_is_predicted_from_its_own_arrays(run_of, sets):
    """Its ids are those of other clips of the training split."""
    _, directory = run_of
    _, test = sets
    tables = [read_predictions(path) for path in directory.glob("seed*/fold*/test.csv")]
    frames = [test.store.frames[start : start + n] for start, n in test.store.index.loc[test.ids].to_numpy()]
    for number, target in enumerate(test.outputs):
        levels = np.array([array[:, number * 40 : number * 40 + 40].mean() for array in frames])
        assert spearman(levels, np.mean([table[target] for table in tables], axis=0)) > LEARNT


@pytest.mark.parametrize("kind", KINDS)
def test_every_seed_and_fold_draws_anew_where_there_is_something_to_draw(classical, sets, tmp_path, kind):
    experiment = classical(kind)
    first = folds_of_run(experiment, sets[0])[0]
    same_clips = [replace(first, seed=seed, number=number) for seed, number in ((0, 0), (0, 1), (1, 0))]
    fit(experiment, sets, tmp_path, same_clips)
    tables = {path.read_bytes() for path in tmp_path.glob("seed*/fold*/test.csv")}
    assert len(tables) == (1 if kind in {"gp", "ridge", "svr"} else 3)


def test_a_second_call_fits_nothing_again(run_of, classical, sets, summed_up):
    kind, directory = run_of
    before = written(directory)
    fit(classical(kind, seeds=[0, 7]), sets, directory)
    assert written(directory) == before
    assert not summed_up


def test_a_missing_table_is_made_again_to_the_bit_and_no_other(run_of, classical, sets):
    kind, directory = run_of
    before = written(directory)
    (directory / "seed7" / "fold1" / "test.csv").unlink()
    fit(classical(kind, seeds=[0, 7]), sets, directory)
    after = written(directory)
    timed = "seed7/fold1/cost.json"  # how long it took is another number each time
    assert {name: content for name, (content, _) in after.items() if name != timed} == {
        name: content for name, (content, _) in before.items() if name != timed
    }
    again = {name for name in after if after[name] != before[name]}
    assert "seed7/fold1/test.csv" in again
    assert again <= {"seed7/fold1/test.csv", "seed7/fold1/valid.csv", timed}


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_statistics_are_computed_once_per_clip_however_many_fits(classical, sets, tmp_path, summed_up, seeds):
    fit(classical("ridge", seeds=seeds), sets, tmp_path)
    lengths = [clips.store.index.loc[clips.ids].iloc[:, 1] for clips in sets]
    assert sorted(summed_up) == sorted(pd.concat(lengths))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_a_fold_do_not_reach_its_own_predictions(classical, sets, tmp_path, kind):
    experiment = classical(kind)
    folds = folds_of_run(experiment, sets[0])
    fit(experiment, sets, tmp_path / "one", folds)
    scrambled, _ = with_scrambled_labels(folds, sets[0])
    fit(experiment, sets, tmp_path / "other", scrambled)
    one, other = written(tmp_path / "one"), written(tmp_path / "other")
    for number in range(3):
        for table in ("valid", "test"):
            name = f"seed0/fold{number}/{table}.csv"
            assert (one[name][0] == other[name][0]) == (number == 0), name


def test_one_fold_alone_is_the_same_as_among_all(classical, sets, tmp_path):
    experiment = classical("boosting")
    folds = folds_of_run(experiment, sets[0])
    fit(experiment, sets, tmp_path / "alone", folds[1:2])
    fit(experiment, sets, tmp_path / "all", folds)
    alone, among_all = written(tmp_path / "alone"), written(tmp_path / "all")
    assert [name for name in alone if name.endswith(".csv")] != []
    for name in alone:
        if name.endswith(".csv"):
            assert alone[name][0] == among_all[name][0], name


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_target_is_learnt(classical, tmp_path, kind):
    experiment = classical(kind)
    experiment = experiment.model_copy(
        update={"data": experiment.data.model_copy(update={"targets": ("energy",)})}
    )
    clips, test = load_sets(experiment, make_accelerator())
    fit(experiment, (clips, test), tmp_path)
    tables = [read_predictions(path) for path in tmp_path.glob("seed0/fold*/valid.csv")]
    out_of_fold = pd.concat(tables).sort_index()
    assert out_of_fold.columns.tolist() == ["energy"]
    assert spearman(clips.values[:, 0], out_of_fold["energy"].to_numpy()) > LEARNT


@pytest.mark.parametrize("kind", KINDS)
def test_a_target_that_does_not_vary_is_refused(make_emotion, tmp_path, kind):
    make_emotion(tmp_path / "data", n_train=12, n_test=2, n_frames=20)
    labels = tmp_path / "data" / "multitask_dataset" / "train_labels.txt"
    pd.read_csv(labels).assign(energy=0.7).to_csv(labels, index=False)
    data = {"root": str(tmp_path / "data"), "stores": str(tmp_path / "stores")}
    experiment = build_experiment({"data": data, "classical": {"kind": kind}, "folds": {"n": 2}}, "constant")
    sets = load_sets(experiment, make_accelerator())
    with pytest.raises(InputError, match=r"training labels of energy are all the same.*--data\.targets"):
        fit(experiment, sets, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.csv"))


def test_a_run_of_other_settings_is_refused(classical, sets, tmp_path):
    fit(classical("ridge"), sets, tmp_path)
    before = written(tmp_path)
    with pytest.raises(InputError, match=r"holds another experiment: classical\.kind differ"):
        fit(classical("svr"), sets, tmp_path)
    assert written(tmp_path) == before


def test_a_run_from_before_a_section_goes_on_with_its_defaults(small, tmp_path):
    accelerator = make_accelerator()
    path = tmp_path / "experiment.json"
    open_run(tmp_path, small(), accelerator)
    resolved = read_json(path)
    del resolved["classical"]
    write_json(path, resolved)
    open_run(tmp_path, small(), accelerator)
    assert read_json(path) == resolved
    with pytest.raises(InputError, match=r"another experiment: classical\.kind differ"):
        open_run(tmp_path, small(classical={"kind": "ridge"}), accelerator)
