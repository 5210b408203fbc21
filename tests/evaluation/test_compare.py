"""Two runs compared in pairs from their files: against their resampled scores, and what is refused."""

import re

import numpy as np
import pytest
from scipy.stats import spearmanr

from music_emotion.evaluation.blend_runs import vote
from music_emotion.evaluation.compare import compare_runs
from music_emotion.files import InputError, read_json, write_json

BOTH = ["valence", "energy"]
GENRE = {"task": "genre"}


def read_rows(text: str) -> dict[str, list[str]]:
    """The cells of every row of a comparison: two scores, their difference, and how often it is positive."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    return {name: cells for name, *cells in lines[2:]}


def test_every_row_has_both_scores_and_their_difference(leave, truth, noisy, genres, cells):
    pair = noisy(0.25, 1), noisy(0.35, 2)
    one, two = (leave(name, truth, {0: table}) for name, table in zip(("one", "two"), pair, strict=True))
    rows = read_rows(compare_runs(one, two, ["energy"]))
    assert list(rows) == ["valence", "mean of valence and energy", "energy"]
    assert rows["energy"] == cells("emotion", truth, pair, ["energy"])
    assert rows["mean of valence and energy"] == cells("emotion", truth, pair, BOTH)
    assert rows["energy"][3] not in ("0.0 %", "100.0 %")
    known, pair = genres()[0], (genres(1)[1], genres(2, 1.7)[1])
    voters = [leave(f"genre{number}", known, {0: table}, GENRE) for number, table in enumerate(pair)]
    rows = read_rows(text := compare_runs(*voters))
    assert list(rows) == ["accuracy", "weighted_f1", "macro_f1"]
    for name, row in rows.items():
        assert row == cells("genre", known, pair, [name])
    assert "in macro_f1" in text
    with pytest.raises(InputError, match=r"both runs predict genres\. Leave it out"):
        compare_runs(*voters, ["energy"])


def test_groups_of_either_run_are_resampled(leave, runs, truth, noisy, artists, genres, cells):
    pair = noisy(0.25, 1), noisy(0.35, 2)
    one = leave("one", truth, {0: pair[0]}, groups=artists)
    two = leave("two", truth, {0: pair[1]})
    for first, second, tables in ((one, two, pair), (two, one, pair[::-1])):
        text = compare_runs(first, second)
        assert ", out of fold, groups resampled, n=60:" in text
        assert read_rows(text)["energy"] == cells("emotion", truth, tables, ["energy"], artists)
    assert read_rows(text)["energy"] != cells("emotion", truth, tables, ["energy"])
    voters = [leave(f"g{k}", genres()[0], {0: genres(k)[1]}, GENRE, groups=artists) for k in (1, 2)]
    text = vote(voters, runs / "vote")
    assert f"vote (out-of-fold, intervals over {artists.nunique()} groups):" in text
    assert (runs / "vote" / "truth.csv").read_text() == (voters[0] / "truth.csv").read_text()
    assert "groups resampled" in compare_runs(voters[0], runs / "vote")


def test_the_text_says_whether_it_is_beyond_chance_and_what_to_keep_in_mind(leave, truth, noisy):
    good = leave("good", truth, {0: noisy(0.1), 1: noisy(0.12)})
    bad = leave("bad", truth, {0: noisy(0.8, 3)}, {"train": {"select": "best-score"}})
    text = compare_runs(good, bad)
    assert text.startswith("good minus bad, out of fold, n=60:\n")
    difference, share = read_rows(text)["mean of valence and energy"][2:]
    assert re.fullmatch(r"\+0\.\d+ \[\+0\.\d+, \+0\.\d+\]", difference)
    assert share == "100.0 %"
    assert (
        f"good is above bad in the mean of valence and energy by {difference}: the interval excludes 0."
        in text
    )
    assert "the scored clips chose the epoch of bad" in text
    assert "good averages 2 seeds and bad 1 seed: a mean of several usually scores higher" in text
    seeds = [scores["mean"] for scores in read_json(good / "scores.json")["per_seed"].values()]
    assert (
        f"good score {np.mean(seeds):.3f} ± {np.std(seeds, ddof=1):.3f} (standard deviation over 2)" in text
    )
    assert "bad has no second seed" in text
    assert "bad is below good in the mean of valence and energy by -0." in compare_runs(bad, good)
    alike = leave("alike", truth, {0: noisy(0.1) + 1e-3 * noisy(0.5, 7)})
    close = compare_runs(leave("same", truth, {0: noisy(0.1)}), alike)
    assert "may be chance: its interval contains 0." in close
    assert "epoch" not in close
    assert "usually scores higher" not in close


def test_other_clips_and_unfinished_runs_are_refused_or_compared_on_what_both_have(leave, truth, noisy):
    whole = leave("whole", truth, {0: noisy(0.2)})
    part = leave("part", truth, {0: noisy(0.3, 2).iloc[7:]})
    half = leave("half", truth, {0: noisy(0.3)}, only=range(2))
    for pair in ((whole, part), (part, whole)):
        with pytest.raises(
            InputError, match=r"part lacks 7 clips of whole \(100, 101, 102, 103, 104, \.\.\.\)"
        ):
            compare_runs(*pair)
    with pytest.raises(InputError, match="half is not finished: 2 of 5 folds are scored"):
        compare_runs(whole, half)
    assert "n=24:" in compare_runs(whole, half, common=True)
    text = compare_runs(whole, part, common=True)
    assert "n=53:" in text
    ids = truth.index[7:]
    expected = np.mean([spearmanr(truth.loc[ids, t], noisy(0.2).loc[ids, t])[0] for t in truth])
    assert read_rows(text)["mean of valence and energy"][0].startswith(f"{expected:.3f} [")
    (half / "scores.json").unlink()
    with pytest.raises(InputError, match=r"half is not finished: it has no scores\.json"):
        compare_runs(whole, half, common=True)


def test_what_can_not_be_compared_is_said(leave, runs, truth, noisy, genres):
    one, two = leave("one", truth, {0: noisy(0.2)}), leave("two", truth, {0: noisy(0.3)})
    known, guessed = genres()
    changed = truth.copy()
    changed.iloc[[3, 8], 1] += 0.01
    write_json(
        runs / "split" / "scores.json", {"pooled": {"accuracy": {"value": 0.5}}, "classes": list(known)}
    )
    repeated = {"repeats": [{"n_test": 9}], "repeated": {"test": {"energy": {"value": 0.5}}}}
    write_json(runs / "repeats" / "scores.json", repeated)
    few = leave("few", known.iloc[:, :2], {0: guessed.iloc[:, :2]}, GENRE)
    voter = leave("genres", known, {0: guessed}, GENRE)
    renamed = {"valence": "tension", "energy": "arousal"}
    others = leave("others", truth.rename(columns=renamed), {0: noisy(0.2).rename(columns=renamed)})
    three = leave("three", changed, {0: noisy(0.3)})
    for first, second, sentence in (
        (one, runs / "one", "Both runs are"),
        (one, runs / "none", r"The run .*none does not exist"),
        (one, runs / "split", "split is scored on a test split"),
        (one, runs / "repeats", "repeats is scored on repeated splits"),
        (one, voter, "genres predicts genres and one targets"),
        (voter, few, r"genres and few differ in their classes \(Jazz\)"),
        (one, others, "one and others have no target in common"),
        (one, three, "one and three differ in the truth of 2 clips: 103, 108"),
    ):
        with pytest.raises(InputError, match=sentence):
            compare_runs(first, second)
    with pytest.raises(
        InputError, match="--headline names 'danceability'; both runs have the targets valence, energy"
    ):
        compare_runs(one, two, ["danceability"])
    (one / "truth.csv").unlink()
    with pytest.raises(InputError, match=r"truth\.csv does not exist"):
        compare_runs(one, two)
