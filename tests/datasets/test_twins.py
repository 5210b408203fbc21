"""Twins among many clips: the same pairs as comparing them one by one, in bounded memory."""

import numpy as np
import pytest

from music_emotion.datasets import twins
from music_emotion.datasets.twins import Pairs, find_copies, find_near_twins


def every(first: np.ndarray, _second: np.ndarray) -> np.ndarray:
    return np.ones(len(first), bool)


def scaled(fingerprints: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(fingerprints, axis=(1, 2), keepdims=True)
    return np.divide(fingerprints, norms, out=np.zeros_like(fingerprints), where=norms > 0)


@pytest.fixture
def fingerprints() -> np.ndarray:
    """40 clips of 50 or 16 steps, of which some are alike, some shifted, and one without any."""
    rng = np.random.default_rng(0)
    made = rng.normal(0, 1, (40, 64, 16))
    made[:, 50:] = 0
    made[30:, 16:] = 0
    made[7] = made[3] + rng.normal(0, 0.4, (64, 16)) * (made[3] != 0)
    made[12] = 0
    made[20, :47], made[20, 47:] = made[5, 3:50], 0
    made[21, 2:50] = made[5, :48]
    made[35] = made[33] + rng.normal(0, 0.3, (64, 16)) * (made[33] != 0)
    made[36] = made[34] + rng.normal(0, 0.7, (64, 16)) * (made[34] != 0)
    return scaled(made).astype(np.float16)


def found(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.table()["first"], pairs.table()["second"], strict=True))


def largest_correlation(one: np.ndarray, other: np.ndarray) -> float:
    padded = np.pad(other, ((4, 4), (0, 0)))
    return max(float((one * padded[start : start + 64]).sum()) for start in range(9))


@pytest.mark.parametrize("at_once", [3, 40, 512])
def test_blocks_find_what_comparing_one_by_one_finds(fingerprints, at_once, monkeypatch):
    monkeypatch.setattr(twins, "_CLIPS_AT_ONCE", at_once)
    pairs = Pairs(every)
    find_near_twins(fingerprints, pairs)
    # 20 and 21 are shifted by 3 and 2 steps against 5, and by 5, too many, against each other;
    # 34 and 36 are as alike as 3 and 7, but of so few steps that it may be chance
    assert found(pairs) == {(3, 7), (5, 20), (5, 21), (33, 35)}
    for first, second, similarity in pairs.table().itertuples(index=False):
        one, other = fingerprints[first].astype(float), fingerprints[second].astype(float)
        assert similarity == pytest.approx(largest_correlation(one, other), abs=1e-5)
    assert pairs.table()["similarity"].is_monotonic_decreasing


def test_pairs_that_do_not_matter_are_not_kept(fingerprints):
    pairs = Pairs(lambda first, second: (first < 5) & (second > 5))
    find_near_twins(fingerprints, pairs)
    assert found(pairs) == {(3, 7)}
    assert pairs.n == 1


def test_three_copies_are_three_pairs():
    pairs = Pairs(every)
    find_copies([b"a", b"b", b"a", b"", b"", b"a"], pairs)
    assert found(pairs) == {(0, 2), (0, 5), (2, 5)}
    assert (pairs.table()["similarity"] == 1).all()


def test_of_very_many_pairs_the_most_similar_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(twins, "MOST_LISTED", 10)
    pairs, rng = Pairs(every), np.random.default_rng(0)
    similarities = rng.random(100)
    for start in range(0, 100, 7):
        part = similarities[start : start + 7]
        pairs.add(np.full(len(part), start), start + 1 + np.arange(len(part)), part)
    assert pairs.n == 100
    assert pairs.table()["similarity"].tolist() == sorted(similarities)[::-1][:10]
