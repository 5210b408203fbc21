"""The benchmark of intervals runs, and tells a wrong interval from a right one."""

import re

import numpy as np
import pytest
from sklearn.metrics import f1_score

from music_emotion.bench import coverage
from music_emotion.evaluation import intervals
from music_emotion.files import InputError


@pytest.fixture
def clips():
    return coverage.Case("independent clips", 60, coverage.normal)


def test_intervals_hold_the_known_value_and_half_of_them_does_not(clips, monkeypatch):
    honest = coverage.measure(clips, 60, seed=1, jobs=1)[""]
    assert set(honest) == {"weak", "middle", "strong", "mean", "difference"}
    assert all(88 < percent <= 100 for percent in honest.values())
    right = intervals.with_interval

    def half_as_wide(*arguments):
        found = right(*arguments)
        quarter = (found["high"] - found["low"]) / 4
        return found | {"low": found["low"] + quarter, "high": found["high"] - quarter}

    monkeypatch.setattr(intervals, "with_interval", half_as_wide)
    narrow = coverage.measure(clips, 60, seed=1, jobs=1)[""]
    assert all(percent < 85 for percent in narrow.values())


def test_the_command_prints_every_kind_and_a_verdict(clips, monkeypatch, capsys):
    of_genres = coverage.Case("genres", 60, coverage.genres)
    monkeypatch.setattr(coverage, "cases", lambda: [clips, of_genres])
    monkeypatch.setattr(coverage, "_ENOUGH", 60)
    coverage.coverage(simulations=4, seed=3, jobs=1)
    printed = capsys.readouterr().out
    assert re.search(r"independent clips, 60 clips:\n  weak [\d.]+  middle [\d.]+  strong", printed)
    assert re.search(r"genres, 60 clips:\n  accuracy [\d.]+  macro_f1 [\d.]+ ", printed)
    assert re.search(r"% of 11 intervals\ncoverage_farthest [\d.]+ within_2 (yes|no)\n$", printed)
    coverage.coverage(simulations=4, seed=3, jobs=1)
    assert capsys.readouterr().out == printed
    with pytest.raises(InputError, match="--simulations is 1; expected 2 or more"):
        coverage.coverage(simulations=1)


@pytest.mark.parametrize("draw", [coverage.normal, coverage.folds])
def test_what_is_known_is_what_many_clips_have(draw):
    sample = draw(np.random.default_rng(5), 60_000)
    found = coverage._scores(sample)
    assert found == pytest.approx(sample.known, abs=0.02)
    assert found["difference"] == pytest.approx(sample.known["difference"], abs=0.01)


def test_what_is_known_of_genres_is_what_many_clips_have():
    sample = coverage.genres(np.random.default_rng(5), 100_000)
    guessed = sample.one.argmax(axis=1)
    assert sample.known["accuracy"] == pytest.approx((guessed == sample.truth).mean(), abs=0.01)
    assert sample.known["macro_f1"] == pytest.approx(
        f1_score(sample.truth, guessed, average="macro"), abs=0.01
    )


def test_clips_of_artists_are_as_many_as_those_of_the_bench_set_and_alike():
    sample = coverage.artists(np.random.default_rng(5), 600)
    assert len(sample.truth) == 600
    last = sample.truth.iloc[-31:]  # of the three artists with most
    spread = np.mean([last.iloc[a:b].var().mean() for a, b in ((0, 9), (9, 19), (19, 31))])
    assert spread < 0.6 * sample.truth.var().mean()
