"""Excerpts: cut out of their own clip, padded with silence, and repeatable."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from music_emotion.config import DataSection, ExcerptSection
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import EvenExcerpts, TrainingExcerpts, batches, row_statistics
from music_emotion.datasets.store import Store
from music_emotion.files import InputError

FUSED = DataSection(rows="fused")
CLIP_ROW, TIME_ROW, CHROMA_ROW = 0, 1, 139  # rows that say which clip and frame they belong to


def clip_set(lengths: list[int]) -> ClipSet:
    """Clips 10, 11, ... of some lengths, whose rows tell the clip and the frame (exact up to 2048)."""
    ids = np.arange(10, 10 + len(lengths))
    frames = np.full((sum(lengths), 140), -40, np.float16)
    frames[:, CLIP_ROW] = np.repeat(ids, lengths)
    frames[:, TIME_ROW] = np.concatenate([np.arange(length) for length in lengths])
    frames[:, CHROMA_ROW] = 1
    values = np.stack([ids / 100, -ids / 100], axis=1).astype(np.float32)
    return ClipSet(ids, Store.in_memory(frames, lengths, ids), ("up", "down"), values)


def items_of(dataset) -> dict[str, torch.Tensor]:
    return dataset.__getitems__(list(range(len(dataset))))


@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
    st.integers(1, 64) | st.none(),
    st.integers(1, 4),
    st.sampled_from(["silence", "zero"]),
    st.sampled_from(["training", "even"]),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_excerpts_are_cut_from_their_own_clip_and_padded(lengths, n_frames, n, padding, kind, epoch):
    excerpt = ExcerptSection(frames=n_frames, per_clip=n, test=n, padding=padding)
    dataset = EvenExcerpts(clip_set(lengths), FUSED, excerpt)
    if kind == "training":
        dataset = TrainingExcerpts(clip_set(lengths), FUSED, excerpt, 0)
        dataset.set_epoch(epoch)
    batch = items_of(dataset)
    own = list(range(10, 10 + len(lengths)))
    assert sorted(batch["ids"].tolist()) == sorted(own * (n if kind == "training" else 1))
    n_per_item = n if kind == "even" and n_frames else 1
    ids = np.repeat(batch["ids"].numpy(), n_per_item)
    longest = n_frames or max(lengths)  # whole clips are padded to the longest of the batch
    assert batch["frames"].shape == (len(ids), 140, longest)
    for frames, length, clip_id in zip(batch["frames"].numpy(), batch["lengths"].tolist(), ids, strict=True):
        clip_length = lengths[clip_id - 10]
        assert length == min(clip_length, longest)
        assert (frames[CLIP_ROW, :length] == clip_id).all()
        first = frames[TIME_ROW, 0]
        assert 0 <= first <= clip_length - length
        np.testing.assert_array_equal(frames[TIME_ROW, :length], first + np.arange(length))
        assert (frames[:128, length:] == (-80 if padding == "silence" else 0)).all()
        assert (frames[128:, length:] == 0).all()
    np.testing.assert_allclose(batch["values"][:, 0], batch["ids"] / 100)
    assert batch["values"].dtype == batch["frames"].dtype == torch.float32


def test_training_excerpts_depend_on_seed_and_epoch_but_not_on_the_batch_size():
    def drawn(seed: int, *epochs: int, batch_size: int = 12) -> torch.Tensor:
        dataset = TrainingExcerpts(clip_set([90] * 12), FUSED, ExcerptSection(frames=16, per_clip=1), seed)
        for epoch in epochs:
            dataset.set_epoch(epoch)
        return torch.cat([batch["frames"] for batch in batches(dataset, batch_size)])

    assert torch.equal(drawn(5, 2), drawn(5, 7, 0, 1, 2))
    assert torch.equal(drawn(5, 2), drawn(5, 2, batch_size=4))
    others = [drawn(5, 2), drawn(5, 3), drawn(6, 2), drawn(2, 5)]
    assert not any(torch.equal(one, other) for i, one in enumerate(others) for other in others[:i])


def test_excerpts_reach_the_first_and_the_last_frame():
    dataset = TrainingExcerpts(clip_set([20]), FUSED, ExcerptSection(frames=16, per_clip=200), 0)
    first = items_of(dataset)["frames"][:, TIME_ROW, 0]
    assert sorted(set(first.tolist())) == [0, 1, 2, 3, 4]
    for n_excerpts, starts in ((1, [35]), (2, [0, 70]), (3, [0, 35, 70]), (5, [0, 18, 35, 52, 70])):
        dataset = EvenExcerpts(clip_set([90]), FUSED, ExcerptSection(frames=20, test=n_excerpts))
        assert items_of(dataset)["frames"][:, TIME_ROW, 0].tolist() == starts


def test_a_short_last_batch_is_left_out_in_training_unless_it_is_the_only_one():
    clips, excerpt = clip_set([30] * 7), ExcerptSection(frames=8, per_clip=1, test=2)
    training, only = (
        [len(batch["ids"]) for batch in batches(TrainingExcerpts(clips, FUSED, excerpt, 0), size)]
        for size in (3, 100)
    )
    even = [batch["ids"].tolist() for batch in batches(EvenExcerpts(clips, FUSED, excerpt), 3)]
    assert (training, only) == ([3, 3], [7])
    assert even == [[10, 11, 12], [13, 14, 15], [16]]


@pytest.mark.parametrize("rows", ["mel", "chroma", "fused"])
def test_only_the_asked_rows_are_given_and_their_statistics_are_numpys_over_the_given_clips(rows):
    clips = clip_set([40, 1, 25, 60])
    clips.store.frames[:] = np.random.default_rng(0).normal(-40, 20, clips.store.frames.shape)
    clips.store.frames[:, [0, 139]] = 1
    data = DataSection(rows=rows)
    mean, deviation = row_statistics(clips.select(np.array([3, 1, 0])), data)
    given_frames = np.concatenate([clips.store.frames[:41], clips.store.frames[66:]]).astype(np.float64)
    own = {"mel": slice(0, 128), "chroma": slice(128, 140), "fused": slice(0, 140)}[rows]
    whole = items_of(EvenExcerpts(clips.select(np.array([2])), data, ExcerptSection(frames=None)))["frames"]
    np.testing.assert_array_equal(whole[0], clips.store.frames[41:66, own].T)
    np.testing.assert_allclose(mean, given_frames[:, own].mean(axis=0), rtol=1e-6)
    expected = given_frames.std(axis=0)
    expected[[0, 139]] = 1  # of a row that never changes
    np.testing.assert_allclose(deviation, expected[own], rtol=1e-6)


def test_clips_without_silence_must_be_as_long_as_the_excerpts():
    store = Store.in_memory(np.ones((24, 5), np.float32), [12, 12], is_fused=False)
    clips = ClipSet.unlabelled(store)
    batch = items_of(TrainingExcerpts(clips, DataSection(), ExcerptSection(frames=12, per_clip=1), seed=0))
    assert batch["frames"].shape == (2, 5, 12)
    with pytest.raises(InputError, match=r"excerpt\.frames is 13, but the shortest clip has 12 frames"):
        TrainingExcerpts(clips, DataSection(), ExcerptSection(frames=13), seed=0)
