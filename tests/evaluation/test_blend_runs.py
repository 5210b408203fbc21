"""Blends and votes of the runs on disk, from their text files alone."""

from pathlib import Path

import pandas as pd
import pytest

from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.blend_runs import blend_runs, check_current, vote
from music_emotion.evaluation.scores import score_repeats
from music_emotion.files import InputError, read_json, read_predictions, write_predictions
from music_emotion.runs import read_experiment

BENCH = Path(__file__).parents[2] / "research" / "runs" / "bench"


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


def test_members_that_do_not_help_are_left_out_and_trained_again_they_are_noticed(leave, runs, truth, noisy):
    members = [leave("good", truth, {0: noisy(0.1)}), leave("bad", truth, {0: noisy(9.0, 2)})]
    both = runs / "both"
    text = blend_runs(members, both, "z-score", 1.0, choose=True)
    recipe = read_recipe(both)
    assert recipe.weights == {"good": {"valence": 1.0, "energy": 1.0}}
    assert "good: valence 1.00, energy 1.00" in text
    order = pd.read_csv(both / "members.csv")
    assert order["run"].tolist() == ["good", "bad"] * 2
    blend_runs(members, both, "z-score", 1.0)
    assert not (both / "members.csv").exists()
    assert set(read_recipe(both).weights) == {"good", "bad"}
    check_current(both, read_recipe(both))
    write_predictions(runs / "bad" / "seed0" / "fold0" / "test.csv", noisy(3.0, 9).iloc[:10])
    with pytest.raises(InputError, match="have changed since it was made"):
        check_current(both, read_recipe(both))


def test_what_can_not_be_blended_is_refused(leave, runs, truth, noisy):
    one, both = leave("one", truth, {0: noisy(0.1)}), runs / "both"
    repeats = leave("repeats", truth, {0: noisy(0.1)}, {"folds": {"split": "holdout"}})
    with pytest.raises(InputError, match="repeats has repeats"):
        blend_runs([repeats], both, "z-score", 0.5)
    with pytest.raises(InputError, match="is an emotion run, unlike the first"):
        vote([one], runs / "vote")
    write_predictions(one / "truth.csv", truth.iloc[1:])
    with pytest.raises(InputError, match=r"truth\.csv and one differ in 1 clips \(100\)"):
        blend_runs([one], both, "z-score", 0.5)


@pytest.fixture
def voters(leave, genres):
    """Three scored genre runs: two of the same repeats or folds, and one of another seed."""

    def write_runs(split: str) -> list[Path]:
        known, made = genres()[0], []
        settings = {"task": "genre", "folds": {"split": split, "n": 2}}
        n_folds = 1 if split == "holdout" else 2
        for number, (name, seed) in enumerate({"one": 0, "two": 0, "other": 1}.items()):
            guessed = {seed: genres(number, noise=2 - number)[1] / 4}
            run = leave(name, known, guessed, settings, only=range(n_folds), n_folds=n_folds)
            if split == "holdout":
                score_repeats(run, read_experiment(run), {"valid": known, "test": known}, [7])
            made.append(run)
        return made

    return write_runs


@pytest.mark.parametrize("split", ["folds", "holdout"])
def test_a_vote_is_the_mean_of_probabilities_and_is_scored_like_its_members(voters, runs, split):
    one, two, _ = voters(split)
    text = vote([one, two], runs / "vote")
    assert ("vote (1 repeats, 10 test clips each" if split == "holdout" else "vote (out-of-fold") in text
    for name in ("seed0/fold0/valid.csv", "seed0/fold0/test.csv"):
        tables = [read_predictions(folder / name) for folder in (one, two, runs / "vote")]
        pd.testing.assert_frame_equal(tables[2], (tables[0] + tables[1]) / 2)
    held, scores = (read_json(folder / "scores.json") for folder in (one, runs / "vote"))
    if split == "holdout":
        sizes = ("n_train", "n_valid", "n_test")
        assert [scores["repeats"][0][size] for size in sizes] == [7, 60, 10]
        assert scores["repeats"][0]["test"]["loss"] < held["repeats"][0]["test"]["loss"]
    else:
        assert scores["n"] == held["n"] == 60
        assert (runs / "vote" / "truth.csv").read_text() == (one / "truth.csv").read_text()
    assert read_json(runs / "vote" / "vote.json")["members"] == [str(one), str(two)]


def test_only_finished_runs_of_the_same_folds_vote(voters, runs):
    one, two, other = voters("holdout")
    with pytest.raises(InputError, match=r"one holds something else \(experiment\.json\)"):
        vote([one, two], one)
    with pytest.raises(
        InputError, match=r"other and .*one have other seeds or folds.* seed0/fold0, seed1/fold0"
    ):
        vote([one, other], runs / "vote")
    (other / "seed1").rename(other / "seed0")
    with pytest.raises(InputError, match=r"other is not finished: it lacks seed1/fold0"):
        vote([one, other], runs / "vote")
    table = read_predictions(two / "seed0" / "fold0" / "test.csv")
    write_predictions(two / "seed0" / "fold0" / "test.csv", table.iloc[1:])
    with pytest.raises(InputError, match=r"two/seed0/fold0/test\.csv and .* differ in 1 clips \(100\)"):
        vote([one, two], runs / "vote")
    assert not list((runs / "vote").glob("seed*"))
