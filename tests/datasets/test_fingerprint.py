"""Fingerprints: equal for copies of a recording, unlike for others, none where there is nothing to tell."""

import numpy as np
import pytest

from music_emotion.datasets.fingerprint import N_BANDS, N_STEPS, fingerprint


def recording(seed: int, n_frames: int = 1292) -> np.ndarray:
    """An array in which every mel band moves on its own, time first, in dB."""
    rng = np.random.default_rng(seed)
    moves = np.repeat(rng.normal(-30, 8, (n_frames // 10 + 1, 32)), 10, axis=0)[:n_frames]
    frames = np.concatenate([np.repeat(moves, 4, axis=1), rng.random((n_frames, 12))], axis=1)
    frames[:, :128] = np.clip(frames[:, :128], -80, 0)
    return frames.astype(np.float16)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    return float((fingerprint(one, 24).astype(float) * fingerprint(other, 24).astype(float)).sum())


def changed(frames: np.ndarray, change) -> np.ndarray:
    new = frames.copy()
    new[:, :128] = np.clip(change(frames[:, :128].astype(np.float32)), -80, 0)
    return new


def test_a_fingerprint_has_norm_1_and_zeros_after_the_clip():
    print_of = fingerprint(recording(0, 24 * 9 + 48), 24).astype(np.float64)
    assert print_of.shape == (N_STEPS, N_BANDS)
    assert np.linalg.norm(print_of) == pytest.approx(1, abs=1e-3)
    assert print_of[:10].any(axis=1).all()
    assert not print_of[10:].any()


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
    frames = recording(0)
    assert alike(frames, changed(frames, change)) > 0.95
    assert abs(alike(recording(1), changed(frames, change))) < 0.3


def test_chroma_and_what_comes_after_the_last_step_do_not_matter():
    frames = recording(0, 64 * 24 + 24 + 500)
    other = frames.copy()
    other[:, 128:] = 0.5
    other[64 * 24 + 24 :, :128] = -7.0
    assert alike(frames, other) > 0.999


@pytest.mark.parametrize(
    "frames",
    [np.full((1292, 140), -80.0), np.full((1, 140), -3.0), recording(0, 20), np.full((1292, 140), -33.3)],
    ids=["silence", "one frame", "shorter than two steps", "even"],
)
def test_what_has_nothing_to_tell_has_no_fingerprint(frames):
    assert not fingerprint(frames.astype(np.float16), 24).any()
