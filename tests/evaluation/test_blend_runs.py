"""Blends and votes of the runs on disk, from their text files alone."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.config import build_experiment, experiment_to_dict
from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.blend_runs import blend_runs, check_current, vote
from music_emotion.evaluation.scores import score_repeats, score_run
from music_emotion.files import InputError, read_json, read_predictions, write_json, write_predictions

ROOT = Path(__file__).parents[2]
BENCH = next(
    path.parent
    for path in [*ROOT.glob("runs/bench/blend.json"), *ROOT.glob("research/runs/bench/blend.json")]
)


def test_the_tracked_blend_is_the_same_when_it_is_made_again(tmp_path):
    held = read_json(BENCH / "blend.json")
    members = [BENCH.parent / Path(member).name for member in held["members"]]
    blend_runs(members, tmp_path / "bench", held["method"], held["shrinkage"])
    made = read_json(tmp_path / "bench" / "blend.json")
    for name, weights in held["weights"].items():
        assert made["weights"][name] == pytest.approx(weights, abs=1e-9)
    scores, tracked = (read_json(path / "scores.json") for path in (tmp_path / "bench", BENCH))
    for name, score in tracked["pooled"].items():
        assert scores["pooled"][name] == pytest.approx(score, abs=1e-9)
    for name in ("oof.csv", "truth.csv", "test.csv"):
        one, other = (read_predictions(path / name) for path in (tmp_path / "bench", BENCH))
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=1e-9)


@pytest.fixture
def leave(tmp_path, truth, noisy, folds):
    """Leave a scored emotion run: `leave("one", 0.3)`."""

    def write_run(name: str, noise: float, seed: int = 1, settings: dict | None = None) -> Path:
        place, table = tmp_path / name, noisy(noise, seed)
        experiment = build_experiment({"name": name, "seeds": [0], **(settings or {})}, name)
        write_json(place / "experiment.json", experiment_to_dict(experiment))
        for fold in range(5):
            write_predictions(place / "seed0" / f"fold{fold}" / "valid.csv", table[folds == fold])
            write_predictions(place / "seed0" / f"fold{fold}" / "test.csv", noisy(noise, seed + fold))
        score_run(place, experiment, truth)
        return place

    return write_run


def test_members_that_do_not_help_are_left_out_and_the_order_is_told(leave, tmp_path):
    members = [leave("good", 0.1), leave("bad", 9.0, 2)]
    text = blend_runs(members, tmp_path / "both", "z-score", 1.0, choose=True)
    recipe = read_recipe(tmp_path / "both")
    assert recipe.weights == {"good": {"valence": 1.0, "energy": 1.0}}
    assert "good: valence 1.00, energy 1.00" in text
    order = pd.read_csv(tmp_path / "both" / "members.csv")
    assert order["run"].tolist() == ["good", "bad"] * 2
    blend_runs(members, tmp_path / "both", "z-score", 1.0)
    assert not (tmp_path / "both" / "members.csv").exists()
    assert set(read_recipe(tmp_path / "both").weights) == {"good", "bad"}


def test_a_blend_whose_member_was_trained_again_is_refused(leave, tmp_path, noisy):
    blend_runs([leave("one", 0.1)], tmp_path / "both", "z-score", 0.5)
    recipe = read_recipe(tmp_path / "both")
    check_current(tmp_path / "both", recipe)
    write_predictions(tmp_path / "one" / "seed0" / "fold0" / "test.csv", noisy(3.0, 9))
    with pytest.raises(InputError, match="have changed since it was made"):
        check_current(tmp_path / "both", recipe)


def test_what_can_not_be_blended_is_refused(leave, tmp_path, truth):
    one = leave("one", 0.1)
    elsewhere = shutil.copytree(one, tmp_path / "elsewhere" / "one")
    repeats = leave("repeats", 0.1, settings={"folds": {"split": "holdout"}})
    for members, sentence in (
        ([], "nothing to blend"),
        ([one, elsewhere], "the same name"),
        ([repeats], "is a run of repeats"),
    ):
        with pytest.raises(InputError, match=sentence):
            blend_runs(members, tmp_path / "both", "z-score", 0.5)
    with pytest.raises(InputError, match="is an emotion run; only genre runs vote"):
        vote([one], tmp_path / "vote")
    write_predictions(one / "truth.csv", truth.iloc[1:])
    with pytest.raises(InputError, match=r"one: 1 clips have no truth in its truth\.csv: 100"):
        blend_runs([one], tmp_path / "both", "z-score", 0.5)
    shutil.rmtree(one / "seed0" / "fold3")
    with pytest.raises(InputError, match="is not finished: it lacks seed0/fold3"):
        blend_runs([one], tmp_path / "both", "z-score", 0.5)


CLASSES = ["Blues", "Folk"]


@pytest.fixture
def voters(tmp_path):
    """Three scored genre runs: two of the same repeats or folds, and one of another seed."""

    def write_runs(split: str) -> list[Path]:
        random = np.random.default_rng(0)
        ids = pd.Index(range(40), name="Id")
        truth = pd.DataFrame(np.eye(2)[random.integers(0, 2, 40)], ids, CLASSES)
        for name, seed in (("one", 0), ("two", 0), ("other", 1)):
            settings = {"name": name, "task": "genre", "seeds": [seed], "folds": {"split": split, "n": 2}}
            experiment = build_experiment(settings, name)
            write_json(tmp_path / name / "experiment.json", experiment_to_dict(experiment))
            for fold in range(1 if experiment.has_repeats else 2):
                table = pd.DataFrame(random.random((40, 2)), ids, CLASSES)
                place = tmp_path / name / f"seed{seed}" / f"fold{fold}"
                write_predictions(place / "valid.csv", table.iloc[fold::2])
                write_predictions(place / "test.csv", table.iloc[20:] if experiment.has_repeats else table)
            if experiment.has_repeats:
                score_repeats(tmp_path / name, experiment, {"valid": truth, "test": truth}, [7])
            else:
                score_run(tmp_path / name, experiment, truth)
        return [tmp_path / name for name in ("one", "two", "other")]

    return write_runs


@pytest.mark.parametrize("split", ["folds", "holdout"])
def test_a_vote_is_the_mean_of_probabilities_and_is_scored_like_its_members(voters, tmp_path, split):
    one, two, _ = voters(split)
    text = vote([one, two], tmp_path / "vote")
    assert ("vote (1 repeats, 20 test clips each" if split == "holdout" else "vote (out-of-fold") in text
    for name in ("seed0/fold0/valid.csv", "seed0/fold0/test.csv"):
        tables = [read_predictions(folder / name) for folder in (one, two, tmp_path / "vote")]
        pd.testing.assert_frame_equal(tables[2], (tables[0] + tables[1]) / 2)
    held, scores = (read_json(folder / "scores.json") for folder in (one, tmp_path / "vote"))
    if split == "holdout":
        sizes = ("n_train", "n_valid", "n_test")
        assert [scores["repeats"][0][size] for size in sizes] == [7, 20, 20]
        assert scores["repeats"][0]["test"]["loss"] < held["repeats"][0]["test"]["loss"]
    else:
        assert scores["n"] == held["n"] == 40
        assert (tmp_path / "vote" / "truth.csv").read_text() == (one / "truth.csv").read_text()
    assert read_json(tmp_path / "vote" / "vote.json")["members"] == [str(one), str(two)]


def test_only_finished_runs_of_the_same_folds_vote(voters, tmp_path):
    one, two, other = voters("holdout")
    with pytest.raises(InputError, match=r"one holds something else \(experiment\.json\)"):
        vote([one, two], one)
    with pytest.raises(InputError, match=r"seed0.* does not exist"):
        vote([one, other], tmp_path / "vote")
    (other / "seed1").rename(other / "seed0")
    with pytest.raises(InputError, match=r"other is not finished: it lacks seed1/fold0"):
        vote([one, other], tmp_path / "vote")
    table = read_predictions(two / "seed0" / "fold0" / "test.csv")
    write_predictions(two / "seed0" / "fold0" / "test.csv", table.iloc[1:])
    with pytest.raises(InputError, match=r"two.* is not of the classes and clips that the first run"):
        vote([one, two], tmp_path / "vote")
    assert not list((tmp_path / "vote").glob("seed*"))
