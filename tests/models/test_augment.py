"""Shifts, equalisers, masks and mixup: in training only, within their bounds, and labels stay labels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from music_emotion.config import N_ROWS_OF, AugmentSection, DataSection, Experiment, ModelSection
from music_emotion.models.augment import SpectrogramAugmentation, mixup
from music_emotion.models.card import ModelCard
from music_emotion.models.network import Network


def varied(frames: torch.Tensor, n_mels: int, seed: int = 0, **settings) -> torch.Tensor:
    """Frames after some augmentations alone."""
    torch.manual_seed(seed)
    return SpectrogramAugmentation(n_mels, **settings).train()(frames)


def masked(seed: int = 0, n_rows: int = 40, n_frames: int = 50, n: int = 64, **settings) -> torch.Tensor:
    """Where ones became zeros."""
    result = varied(torch.ones(n, n_rows, n_frames), n_rows, seed, **settings)
    assert ((result == 0) | (result == 1)).all()
    return result == 0


def test_an_equaliser_adds_a_smooth_curve_over_the_mel_bands_of_each_excerpt():
    frames = torch.randn(500, 140, 8)
    added = varied(frames, 128, equaliser=0.4) - frames
    assert torch.equal(added[:, 128:], torch.zeros(500, 12, 8))
    curves = added[:, :128, 0]
    assert torch.allclose(added[:, :128], curves[:, :, None], atol=1e-6)
    assert abs(curves[:, 0].std() - 0.4) < 0.04  # a point of the curve, drawn anew for every excerpt
    assert abs(curves.mean()) < 0.05
    # straight between six points: it bends at the four within, each between two rows at most
    assert ((curves.diff(n=2, dim=1).abs() > 1e-4).sum(dim=1) <= 8).all()
    assert torch.corrcoef(curves[:2])[0, 1] < 0.999


def test_a_shift_moves_all_mel_bands_of_an_excerpt_by_some_rows_and_repeats_the_end():
    frames = torch.arange(140.0)[None, :, None].expand(300, 140, 3)
    shifted = varied(frames, 128, row_shift=3)
    assert torch.equal(shifted[:, 128:], frames[:, 128:])
    shifts = shifted[:, 64, 0] - 64
    assert shifts.unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]
    expected = (torch.arange(128.0) + shifts[:, None]).clamp(0, 127)
    assert torch.equal(shifted[:, :128], expected[:, :, None].expand(300, 128, 3))


def test_mixed_styles_lie_between_those_of_two_excerpts_and_keep_the_course_of_each():
    frames = torch.randn(64, 140, 50) * torch.linspace(0.5, 2, 64)[:, None, None]
    frames = frames + torch.randn(64, 140, 1)
    mixed = varied(frames, 128, style_mixing=1.0)
    assert torch.equal(mixed[:, 128:], frames[:, 128:])
    before, after = frames[:, :128], mixed[:, :128]
    assert not torch.allclose(before, after, atol=0.1)

    def course(rows: torch.Tensor) -> torch.Tensor:
        return (rows - rows.mean(dim=2, keepdim=True)) / rows.std(dim=2, keepdim=True)

    assert torch.allclose(course(before), course(after), atol=1e-3)
    for style in (torch.mean, torch.std):
        old, new = style(before, dim=2), style(after, dim=2)  # [excerpt, row]
        low, high = torch.minimum(old[:, None], old), torch.maximum(old[:, None], old)
        within = (low - 2e-3 <= new[:, None]) & (new[:, None] <= high + 2e-3)
        assert within.all(dim=2).any(dim=1).all()  # one partner explains all rows of an excerpt


def test_styles_are_mixed_in_some_batches():
    frames = torch.randn(6, 8, 20)
    changed = [not torch.equal(varied(frames, 8, seed, style_mixing=0.3), frames) for seed in range(200)]
    assert 0.2 < np.mean(changed) < 0.4


@pytest.mark.parametrize(
    ("data", "changes"), [({"rows": "mel"}, True), ({"rows": "fused"}, True), ({"rows": "chroma"}, False)]
)
def test_networks_equalise_mel_bands_in_training_and_leave_chroma(data, changes):
    experiment = Experiment(
        data=DataSection(**data),
        model=ModelSection(kind="lstm", dropout=0),
        augment=AugmentSection(equaliser=1.0, row_shift=2, frequency_masks=None, time_masks=None),
    )
    n_rows = N_ROWS_OF[experiment.data.rows]
    card = ModelCard(experiment, ("valence",), (0.0,) * n_rows, (1.0,) * n_rows, (0.0,), (1.0,))
    network = Network(card).train()
    frames = torch.randn(4, n_rows, 64)
    augmented = network.augmentation(frames)
    assert torch.equal(augmented, frames) is not changes
    assert torch.equal(augmented[:, 128:], frames[:, 128:])
    assert torch.equal(network.eval().augmentation(frames), frames)


@pytest.mark.parametrize(("masks", "along", "across"), [("frequency_masks", 1, 2), ("time_masks", 2, 1)])
@given(width=st.integers(1, 60), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_mask_is_one_band_or_span_of_at_most_its_width(masks, along, across, width, seed):
    mask = masked(seed, **{masks: (1, width)})
    lines = mask.any(dim=across, keepdim=True)
    assert torch.equal(mask, lines.expand_as(mask))
    for line in lines.squeeze(across):
        places = line.nonzero().flatten()
        assert (places.diff() == 1).all()
        assert len(places) <= min(width, mask.shape[along])


def test_masks_have_every_width_and_place_differ_by_excerpt_and_add_up():
    rows = masked(n=3000, n_rows=6, n_frames=1, frequency_masks=(1, 3))[:, :, 0]
    assert set(rows.sum(dim=1).tolist()) == {0, 1, 2, 3}
    assert rows.any(dim=0).all()
    both = masked(frequency_masks=(1, 20), time_masks=(1, 20))
    assert len({line.numpy().tobytes() for line in both}) > 40
    n_masked = masked(frequency_masks=(3, 10)).any(dim=2).sum(dim=1)
    assert 10 < n_masked.max() <= 30


def batch(n: int = 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    frames, lengths = torch.randn(n, 5, 7), torch.randint(1, 8, (n,))
    return frames, lengths, torch.nn.functional.one_hot(torch.arange(n) % 4, 4).float()


def test_mixup_is_the_published_formula_and_no_alpha_changes_nothing():
    frames, lengths, values = batch()
    torch.manual_seed(3)
    mixed, longer, mixed_values = mixup(frames, lengths, values, 0.4)
    torch.manual_seed(3)
    share = torch.distributions.Beta(0.4, 0.4).sample((16,))
    share, other = share.maximum(1 - share), torch.randperm(16)
    own = share[:, None, None]
    torch.testing.assert_close(mixed, own * frames + (1 - own) * frames[other])
    assert torch.equal(longer, lengths.maximum(lengths[other]))
    torch.testing.assert_close(mixed_values, share[:, None] * values + (1 - share[:, None]) * values[other])
    assert all(map(torch.equal, mixup(frames, lengths, values, None), (frames, lengths, values)))


@pytest.mark.parametrize("alpha", [0.4, 1e-3])  # with the second, every share is 1
def test_a_mixture_lacks_the_targets_that_either_clip_lacks(alpha):
    frames, lengths, _ = batch()
    values = torch.rand(16, 2)
    values[:8, 0] = torch.nan
    torch.manual_seed(3)
    _, _, mixed_values = mixup(frames, lengths, values, alpha)
    torch.manual_seed(3)
    torch.distributions.Beta(alpha, alpha).sample((16,))
    lacking = values[:, 0].isnan()
    assert torch.equal(mixed_values[:, 0].isnan(), lacking | lacking[torch.randperm(16)])
    assert not mixed_values[:, 1].isnan().any()


def partners(values: torch.Tensor, bandwidth: float, n_draws: int = 1) -> torch.Tensor:
    """Whom every item was mixed with, found from what is in its mixture [shape=(n_draws, n)]."""
    n = len(values)
    own = torch.eye(n)
    found = []
    for _ in range(n_draws):
        mixed, _, _ = mixup(own[:, None], torch.ones(n), values, 50.0, bandwidth)
        found.append((mixed[:, 0] - own).argmax(dim=1))
    return torch.stack(found)


def test_partners_follow_the_kernel_over_standardised_values():
    values = torch.tensor([[0.0, 1.0], [0.1, 1.3], [0.5, 1.1], [0.9, 1.9], [0.2, 1.2]])
    torch.manual_seed(0)
    drawn = partners(values, 0.7, n_draws=1000)
    standard = ((values - values.mean(dim=0)) / values.std(dim=0, correction=0)).numpy()
    for item in range(5):
        distance = np.sqrt(np.mean((standard - standard[item]) ** 2, axis=1))
        expected = np.exp(-(distance**2) / (2 * 0.7**2)) * (np.arange(5) != item)
        shares = np.bincount(drawn[:, item], minlength=5) / len(drawn)
        np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.05)
        assert shares[item] == 0


def test_a_small_bandwidth_takes_the_nearest_and_never_oneself():
    values = torch.tensor([[0.0], [0.1], [0.5], [0.56], [2.0]])
    assert partners(values, 1e-6).tolist() == [[1, 0, 3, 2, 3]]
    constant = torch.tensor([[0.1, 0.3], [0.1, 0.0], [0.1, 0.31]])  # the first output does not count
    assert partners(constant, 1e-3).tolist() == [[2, 0, 0]]


def test_a_single_item_is_its_own_partner():
    single = [part[:1] for part in batch()]
    for before, after in zip(single, mixup(*single, 0.4, 0.5), strict=True):
        torch.testing.assert_close(before, after)
