"""Runs of classical estimators: what they write, what they are fitted to, and what is done once."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from music_emotion.config import Experiment
from music_emotion.datasets import statistics_table
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.splits import folds_of_run
from music_emotion.evaluation.metrics import spearman
from music_emotion.files import InputError, read_json, read_predictions, write_json
from music_emotion.runs import open_run
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, train_folds

KINDS = ["gp", "ridge", "svr", "boosting", "xgboost", "lightgbm"]
LEARNT = 0.65  # rank correlation, where of hundreds of statistics a few tell the level and the others noise


@pytest.fixture(scope="module")
def classical(tmp_path_factory, make_emotion, small) -> Callable[..., Experiment]:
    """Build an experiment on 90 clips, for boosting does not split fewer than 20: `classical("svr")`."""
    root = tmp_path_factory.mktemp("classical")
    make_emotion(root, n_train=90, n_test=8, n_frames=40)
    shared = {"alpha": 10.0, "rounds": 40}
    return lambda kind, **more: small(data={"root": str(root)}, classical={"kind": kind, **shared}, **more)


@pytest.fixture(scope="module")
def sets(classical) -> tuple[ClipSet, ClipSet]:
    """Training and test split."""
    return load_sets(classical("ridge"), make_accelerator())


def fit(experiment: Experiment, sets: tuple[ClipSet, ClipSet], directory: Path, folds=None) -> None:
    clips, test = sets
    folds = folds or folds_of_run(experiment, clips)
    # a deadline is for networks
    assert train_folds(experiment, folds, test, make_accelerator(), directory, deadline=0.0)


def written(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and time of every file."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_predicts_every_clip_well_and_is_done_once(classical, sets, tmp_path, monkeypatch, kind):
    experiment, (clips, test) = classical(kind), sets
    fit(experiment, sets, tmp_path)
    names = {f"seed0/fold{k}/{name}" for k in range(3) for name in ("valid.csv", "test.csv", "cost.json")}
    first = written(tmp_path)
    assert set(first) == {*names, "experiment.json", "environment.json"}
    cost = read_json(tmp_path / "seed0" / "fold2" / "cost.json")
    assert set(cost) == {"seconds", "device", "threads", "processes", "peak_memory_bytes"}
    assert 0 < cost["seconds"] < 60
    assert (cost["device"], cost["processes"]) == ("cpu", 1)
    assert 1 <= cost["threads"] <= os.cpu_count()
    assert cost["peak_memory_bytes"] > 100e6
    valid = pd.concat(map(read_predictions, tmp_path.glob("seed0/fold*/valid.csv"))).sort_index()
    assert valid.index.tolist() == clips.ids.tolist()
    for target in clips.outputs:
        assert spearman(clips.truth[target].to_numpy(), valid[target].to_numpy()) > LEARNT
    assert (valid - clips.truth).abs().mean().max() < 0.2  # of targets spread evenly over 0 to 1
    # The test clips' ids are those of other clips of the training split.
    tables = [read_predictions(path) for path in tmp_path.glob("seed0/fold*/test.csv")]
    for number, target in enumerate(test.outputs):
        rows = slice(number * 40, number * 40 + 40)
        levels = np.array([test.store.frames_of(clip_id)[:, rows].mean() for clip_id in test.ids])
        assert spearman(levels, np.mean([table[target] for table in tables], axis=0)) > LEARNT
    with monkeypatch.context() as patch:  # nothing is left to do
        patch.setattr(statistics_table, "statistic_families", None)
        fit(experiment, sets, tmp_path)
    assert written(tmp_path) == first
    (tmp_path / "seed0/fold1/test.csv").unlink()  # made again to the bit, and no other
    fit(experiment, sets, tmp_path)
    again = written(tmp_path)
    changed = {name for name in again if again[name] != first[name]}
    assert "seed0/fold1/test.csv" in changed
    assert {str(Path(name).parent) for name in changed} == {"seed0/fold1"}
    assert all(again[name][0] == first[name][0] for name in changed if name.endswith(".csv"))


def test_every_seed_and_fold_draws_anew_and_alone_as_among_others(classical, sets, tmp_path):
    experiment = classical("boosting")
    first = folds_of_run(experiment, sets[0])[0]
    same_clips = [replace(first, seed=seed, number=number) for seed, number in ((0, 0), (0, 1), (1, 0))]
    fit(experiment, sets, tmp_path / "all", same_clips)
    tables = {path.parent: path.read_bytes() for path in (tmp_path / "all").glob("seed*/fold*/test.csv")}
    assert len(set(tables.values())) == 3
    fit(experiment, sets, tmp_path / "alone", same_clips[1:2])
    assert (tmp_path / "alone/seed0/fold1/test.csv").read_bytes() == tables[tmp_path / "all/seed0/fold1"]


def test_statistics_are_computed_once_per_clip_however_many_fits(classical, sets, tmp_path, monkeypatch):
    compute = Mock(wraps=statistics_table.statistic_families)
    monkeypatch.setattr(statistics_table, "statistic_families", compute)
    fit(classical("ridge", seeds=[0, 1]), sets, tmp_path)
    lengths = [clips.store.index.loc[clips.ids, "length"] for clips in sets]
    assert sorted(call.args[0].shape[1] for call in compute.call_args_list) == sorted(pd.concat(lengths))


def test_a_target_that_does_not_vary_is_refused(classical, sets, tmp_path):
    clips, test = sets
    values = clips.values.copy()
    values[:, 1] = 0.7
    sentence = r"energy is the same for all .* learns from.*--data\.targets valence danceability"
    with pytest.raises(InputError, match=sentence):
        fit(classical("ridge"), (replace(clips, values=values), test), tmp_path)
    assert not list(tmp_path.rglob("*.csv"))


def test_a_run_from_before_a_section_goes_on_with_its_defaults(small, tmp_path):
    accelerator = make_accelerator()
    path = tmp_path / "experiment.json"
    open_run(tmp_path, small(), accelerator)
    (tmp_path / "seed0").mkdir()
    resolved = read_json(path)
    del resolved["classical"]
    write_json(path, resolved)
    open_run(tmp_path, small(), accelerator)
    assert read_json(path) == resolved
