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


def check_excerpts(batch: dict[str, torch.Tensor], lengths: list[int], n_frames: int, silence: float) -> None:
    """Every excerpt is of its own clip, consecutive, inside it, and padded after it."""
    n_per_item = len(batch["frames"]) // len(batch["ids"])
    ids = np.repeat(batch["ids"].numpy(), n_per_item)
    for frames, length, clip_id in zip(batch["frames"].numpy(), batch["lengths"].tolist(), ids, strict=True):
        clip_length = lengths[clip_id - 10]
        assert frames.shape == (140, n_frames)
        assert length == min(clip_length, n_frames)
        assert (frames[CLIP_ROW, :length] == clip_id).all()
        first = frames[TIME_ROW, 0]
        assert 0 <= first <= clip_length - length
        np.testing.assert_array_equal(frames[TIME_ROW, :length], first + np.arange(length))
        assert (frames[:128, length:] == silence).all()
        assert (frames[128:, length:] == 0).all()


clip_lengths = st.lists(st.integers(1, 90), min_size=1, max_size=6)


@given(clip_lengths, st.integers(1, 64), st.integers(1, 3), st.sampled_from(["silence", "zero"]), st.data())
@settings(max_examples=60, deadline=None)
def test_training_excerpts_are_cut_and_padded_to_the_asked_length(lengths, n_frames, per_clip, padding, data):
    excerpt = ExcerptSection(frames=n_frames, per_clip=per_clip, padding=padding)
    dataset = TrainingExcerpts(clip_set(lengths), FUSED, excerpt, seed=data.draw(st.integers(0, 99)))
    dataset.set_epoch(data.draw(st.integers(0, 99)))
    batch = items_of(dataset)
    assert sorted(batch["ids"].tolist()) == sorted(list(range(10, 10 + len(lengths))) * per_clip)
    check_excerpts(batch, lengths, n_frames, -80 if padding == "silence" else 0)


@given(clip_lengths, st.integers(1, 64), st.integers(1, 5), st.sampled_from(["silence", "zero"]))
@settings(max_examples=60, deadline=None)
def test_even_excerpts_are_cut_and_padded_to_the_asked_length(lengths, n_frames, n_excerpts, padding):
    excerpt = ExcerptSection(frames=n_frames, test=n_excerpts, padding=padding)
    batch = items_of(EvenExcerpts(clip_set(lengths), FUSED, excerpt))
    assert batch["ids"].tolist() == list(range(10, 10 + len(lengths)))
    assert len(batch["frames"]) == n_excerpts * len(lengths)
    check_excerpts(batch, lengths, n_frames, -80 if padding == "silence" else 0)


@given(clip_lengths, st.sampled_from([TrainingExcerpts, EvenExcerpts]))
@settings(max_examples=30, deadline=None)
def test_whole_clips_are_padded_to_the_longest_of_the_batch(lengths, kind):
    excerpt = ExcerptSection(frames=None, per_clip=1)
    arguments = (clip_set(lengths), FUSED, excerpt)
    batch = items_of(kind(*arguments, 0) if kind is TrainingExcerpts else kind(*arguments))
    assert batch["frames"].shape == (len(lengths), 140, max(lengths))
    check_excerpts(batch, lengths, max(lengths), -80)
    assert batch["lengths"].tolist() == [lengths[clip_id - 10] for clip_id in batch["ids"].tolist()]


def test_excerpts_carry_the_values_and_id_of_their_clip():
    clips = clip_set([50, 20, 70])
    dataset = TrainingExcerpts(clips, FUSED, ExcerptSection(frames=16, per_clip=4), 3)
    for batch in (items_of(dataset), items_of(EvenExcerpts(clips, FUSED, ExcerptSection(frames=16)))):
        np.testing.assert_allclose(batch["values"][:, 0], batch["ids"] / 100)
        assert batch["values"].dtype == batch["frames"].dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "n_rows", "first"), [("mel", 128, 10), ("chroma", 12, -40), ("fused", 140, 10)]
)
def test_only_the_asked_rows_are_given(rows, n_rows, first):
    dataset = EvenExcerpts(clip_set([9]), DataSection(rows=rows), ExcerptSection(frames=4, test=1))
    frames = items_of(dataset)["frames"]
    assert frames.shape == (1, n_rows, 4)
    assert frames[0, 0, 0] == first
    assert frames[0, -1, 0] == (-40 if rows == "mel" else 1)


def test_training_excerpts_depend_on_seed_and_epoch_alone():
    def drawn(seed: int, epoch: int, epochs_before: tuple[int, ...] = ()) -> torch.Tensor:
        dataset = TrainingExcerpts(clip_set([90] * 12), FUSED, ExcerptSection(frames=16), seed)
        for number in (*epochs_before, epoch):
            dataset.set_epoch(number)
        return items_of(dataset)["frames"]

    assert torch.equal(drawn(5, 2), drawn(5, 2, epochs_before=(7, 0, 1)))
    others = [drawn(5, 2), drawn(5, 3), drawn(6, 2), drawn(2, 5)]
    assert not any(torch.equal(one, other) for i, one in enumerate(others) for other in others[:i])


def test_training_excerpts_do_not_depend_on_the_batch_size():
    dataset = TrainingExcerpts(clip_set([90] * 6), FUSED, ExcerptSection(frames=16), 1)
    whole = items_of(dataset)["frames"]
    for batch_size in (1, 4, 12):
        parts = [batch["frames"] for batch in batches(dataset, batch_size)]
        assert torch.equal(torch.cat(parts), whole)


def test_training_excerpts_reach_the_first_and_the_last_frame():
    dataset = TrainingExcerpts(clip_set([20]), FUSED, ExcerptSection(frames=16, per_clip=200), 0)
    first = items_of(dataset)["frames"][:, TIME_ROW, 0]
    assert sorted(set(first.tolist())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("n_excerpts", [2, 3, 5])
def test_even_excerpts_cover_the_first_and_the_last_frame_at_equal_steps(n_excerpts):
    dataset = EvenExcerpts(clip_set([90]), FUSED, ExcerptSection(frames=20, test=n_excerpts))
    times = items_of(dataset)["frames"][:, TIME_ROW]
    assert times[0, 0] == 0
    assert times[-1, -1] == 89
    steps = np.diff(times[:, 0].numpy())
    assert steps.max() - steps.min() <= 1


def test_a_single_even_excerpt_is_the_middle():
    dataset = EvenExcerpts(clip_set([90]), FUSED, ExcerptSection(frames=20, test=1))
    assert items_of(dataset)["frames"][0, TIME_ROW].tolist() == list(range(35, 55))


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
def test_row_statistics_are_numpys_over_the_frames_of_the_given_clips(rows):
    clips = clip_set([40, 1, 25, 60])
    clips.store.frames[:] = np.random.default_rng(0).normal(-40, 20, clips.store.frames.shape)
    mean, deviation = row_statistics(clips.select(np.array([3, 1, 0])), DataSection(rows=rows))
    given_frames = np.concatenate([clips.store.frames[:41], clips.store.frames[66:]]).astype(np.float64)
    own = {"mel": slice(0, 128), "chroma": slice(128, 140), "fused": slice(0, 140)}[rows]
    np.testing.assert_allclose(mean, given_frames[:, own].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, given_frames[:, own].std(axis=0), rtol=1e-6)


def test_a_row_that_never_changes_has_the_deviation_one():
    clips = clip_set([40, 30])
    mean, deviation = row_statistics(clips, FUSED)
    assert mean[CHROMA_ROW] == 1
    assert deviation[CHROMA_ROW] == 1
    assert deviation[TIME_ROW] > 10


def test_clips_without_silence_must_be_as_long_as_the_excerpts():
    store = Store.in_memory(np.ones((24, 5), np.float32), [12, 12], is_fused=False)
    clips = ClipSet.unlabelled(store)
    batch = items_of(TrainingExcerpts(clips, DataSection(), ExcerptSection(frames=12, per_clip=1), seed=0))
    assert batch["frames"].shape == (2, 5, 12)
    with pytest.raises(InputError, match=r"excerpt\.frames is 13, but the shortest clip has 12 frames"):
        TrainingExcerpts(clips, DataSection(), ExcerptSection(frames=13), seed=0)
