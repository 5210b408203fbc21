"""Near duplicates: the same pairs as comparing clips one by one, whatever a copy went through."""

import numpy as np
import pandas as pd
import pytest

from music_emotion.datasets import duplicates
from music_emotion.datasets.duplicates import (
    N_BANDS,
    N_STEPS,
    copies,
    fingerprint,
    most_similar,
    near_duplicates,
)


def recording(seed: int, n_frames: int = 1292) -> np.ndarray:
    """An array in which every mel band moves on its own, time first, in dB."""
    rng = np.random.default_rng(seed)
    moves = np.repeat(rng.normal(-30, 8, (n_frames // 10 + 1, 32)), 10, axis=0)[:n_frames]
    frames = np.concatenate([np.repeat(moves, 4, axis=1), rng.random((n_frames, 12))], axis=1)
    frames[:, :128] = np.clip(frames[:, :128], -80, 0)
    return frames.astype(np.float16)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    return float((fingerprint(one, 24).astype(float) * fingerprint(other, 24).astype(float)).sum())


def test_a_fingerprint_has_norm_1_and_zeros_after_the_clip():
    print_of = fingerprint(recording(0, 24 * 9 + 48), 24).astype(np.float64)
    assert print_of.shape == (N_STEPS, N_BANDS)
    assert np.linalg.norm(print_of) == pytest.approx(1, abs=1e-3)
    assert print_of[:10].any(axis=1).all()
    assert not print_of[10:].any()
    for silent in (np.full((1292, 140), -80.0), np.full((1, 140), -3.0), np.full((1292, 140), -33.3)):
        assert not fingerprint(silent.astype(np.float16), 24).any()
    assert not fingerprint(recording(0, 20), 24).any()  # shorter than two steps


@pytest.mark.parametrize(
    "change",
    [
        lambda mel: mel - 6,
        lambda mel: mel + 6,
        lambda mel: mel + np.linspace(-8, 8, 128),  # an equaliser
        lambda mel: np.where(np.arange(128) < 100, mel, -80),  # what a lossy encoder drops
        lambda mel: mel + np.random.default_rng(9).normal(0, 3, mel.shape),
        lambda mel: mel + np.repeat(np.random.default_rng(9).normal(0, 5, (len(mel) // 34, 1)), 34, axis=0),
    ],
    ids=["quieter", "louder", "equaliser", "low-pass", "noise", "volume"],
)
def test_copies_have_almost_the_same_fingerprint_and_others_do_not(change):
    frames = recording(0, 34 * 60)
    changed = frames.copy()
    changed[:, 128:] = 0.5  # chroma does not matter
    changed[:, :128] = np.clip(change(frames[:, :128].astype(np.float32)), -80, 0)
    changed[64 * 24 + 24 :, :128] = -7.0  # nor does what comes after the last step
    assert alike(frames, changed) > 0.95
    assert abs(alike(recording(1), changed)) < 0.3


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
    norms = np.linalg.norm(made, axis=(1, 2), keepdims=True)
    return np.divide(made, norms, out=np.zeros_like(made), where=norms > 0).astype(np.float16)


def every(first: np.ndarray, _second: np.ndarray) -> np.ndarray:
    return np.ones(len(first), bool)


def positions(pairs: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(pairs["first"], pairs["second"], strict=True))


def largest_correlation(one: np.ndarray, other: np.ndarray) -> float:
    padded = np.pad(other, ((4, 4), (0, 0)))
    return max(float((one * padded[start : start + 64]).sum()) for start in range(9))


@pytest.mark.parametrize("at_once", [3, 40, 512])
def test_blocks_find_what_comparing_one_by_one_finds(fingerprints, at_once, monkeypatch):
    monkeypatch.setattr(duplicates, "_CLIPS_AT_ONCE", at_once)
    pairs, n = most_similar(near_duplicates(fingerprints), every)
    # 20 and 21 are shifted by 3 and 2 steps against 5, and by 5, too many, against each other;
    # 34 and 36 are as alike as 3 and 7, but of so few steps that it may be chance
    assert positions(pairs) == {(3, 7), (5, 20), (5, 21), (33, 35)}
    assert n == 4
    for first, second, similarity in pairs.itertuples(index=False):
        one, other = fingerprints[first].astype(float), fingerprints[second].astype(float)
        assert similarity == pytest.approx(largest_correlation(one, other), abs=1e-5)
    assert pairs["similarity"].is_monotonic_decreasing
    # pairs that do not matter are not kept
    pairs, n = most_similar(near_duplicates(fingerprints), lambda first, second: (first < 5) & (second > 5))
    assert positions(pairs) == {(3, 7)}
    assert n == 1


def test_three_copies_are_three_pairs():
    pairs, _ = most_similar(copies([b"a", b"b", b"a", b"", b"", b"a"]), every)
    assert positions(pairs) == {(0, 2), (0, 5), (2, 5)}
    assert (pairs["similarity"] == 1).all()
    assert most_similar(copies([b"a", b"b"]), every)[1] == 0


def test_of_very_many_pairs_the_most_similar_are_kept_and_all_are_counted(monkeypatch):
    monkeypatch.setattr(duplicates, "MOST_LISTED", 10)
    similarities = np.random.default_rng(0).random(100)
    found = pd.DataFrame({"first": 0, "second": range(100), "similarity": similarities})
    pairs, n = most_similar((found[start : start + 7] for start in range(0, 100, 7)), every)
    assert n == 100
    assert pairs["similarity"].tolist() == sorted(similarities)[::-1][:10]
