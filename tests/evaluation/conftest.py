import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.evaluation.intervals import resampled_scores
from music_emotion.evaluation.scores import score_run
from music_emotion.files import write_json, write_predictions
from music_emotion.runs import Cost, write_cost

TARGETS = ["valence", "energy"]
MACHINE = {"commit": "0123456789ab", "device": "cpu", "processes": 1, "precision": "bf16"}


@pytest.fixture(scope="session")
def truth() -> pd.DataFrame:
    """Target values of 60 clips."""
    values = np.random.default_rng(0).random((60, 2))
    return pd.DataFrame(values, pd.Index(np.arange(100, 160), name="Id"), TARGETS)


@pytest.fixture(scope="session")
def noisy(truth):
    """Predictions of the truth with noise: `noisy(deviation, seed)`."""
    return lambda deviation, seed=1: truth + np.random.default_rng(seed).normal(0, deviation, truth.shape)


@pytest.fixture(scope="session")
def genres(truth):
    """True genres of these clips and guesses: `genres(seed, noise)`."""

    def guess(seed=1, noise=1.5) -> tuple[pd.DataFrame, pd.DataFrame]:
        drawn = np.random.default_rng(0).integers(0, 3, len(truth))
        known = pd.DataFrame(np.eye(3)[drawn], truth.index, ["Blues", "Folk", "Jazz"])
        return known, known + np.random.default_rng(seed).random(known.shape) * noise

    return guess


@pytest.fixture(scope="session")
def artists(truth) -> pd.Series:
    """Artists of these clips, each of up to four clips; names need quotes, or are numbers."""
    return pd.Series([f'{n}, "the {n}"' if n % 3 else f"{n}" for n in np.arange(60) ** 2 // 240], truth.index)


@pytest.fixture(scope="session")
def folds(truth) -> pd.Series:
    return pd.Series(np.arange(len(truth)) % 5, truth.index)


def cell(score: dict, sign: str = "") -> str:
    """A score and its interval as tables show them."""
    return f"{score['value']:{sign}.3f} [{score['low']:{sign}.3f}, {score['high']:{sign}.3f}]"


@pytest.fixture(scope="session")
def cells():
    """Two scores, their difference, and how often it is positive: `cells(task, truth, pair, names)`."""

    def of_pair(task, truth, pair, names, groups=None) -> list[str]:
        ours, others = (resampled_scores(task, truth, table, groups) for table in pair)
        apart = ours.difference(others, names)
        scores = [cell(each.interval(names)) for each in (ours, others)]
        return [*scores, cell(apart, "+"), f"{100 * apart['above']:.1f} %"]

    return of_pair


@pytest.fixture(scope="session")
def leave_in():
    """Leave a scored run: `leave_in(runs, "one", truth, {0: predictions}, {"train": {"epochs": 3}})`."""

    def leave_run(runs, name, truth, predictions, settings=None, only=range(5), n_folds=5, groups=None):
        data, seeds = {"root": "data/own"}, list(predictions)
        experiment = build_experiment({"data": data, "seeds": seeds, **(settings or {}), "name": name}, name)
        write_json(runs / name / "experiment.json", experiment_to_dict(experiment))
        write_json(runs / name / "environment.json", MACHINE)
        for seed, fold in itertools.product(seeds, only):
            place, table = runs / name / f"seed{seed}" / f"fold{fold}", predictions[seed]
            write_predictions(place / "valid.csv", table.loc[(table.index - 100) % n_folds == fold])
            write_predictions(place / "test.csv", table.iloc[:10])  # so that it can be blended
            write_cost(place, Cost(90.0, "cpu", 2, 1, 1_540_000_000 + fold, None, "bf16", 100, 1_234_567))
        score_run(runs / name, experiment, truth, groups=groups)
        return runs / name

    return leave_run


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def leave(runs, leave_in):
    """As `leave_in`, in a folder of the test's own."""
    return partial(leave_in, runs)
