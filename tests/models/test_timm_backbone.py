"""timm backbones: any number of channels, and weights from a local file are really taken."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from music_emotion.files import InputError
from music_emotion.models.timm_backbone import TimmBackbone

NAME = "resnet10t"
FIRST = "conv1.0.weight"


def backbone_of(n_channels: int, weights: str | None = None, name: str = NAME) -> TimmBackbone:
    return TimmBackbone(name, n_channels, 128, 64, weights)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A weights file as timm writes it, for three channels and ten classes, and what is in it."""
    torch.manual_seed(7)
    weights = timm.create_model(NAME, num_classes=10, in_chans=3).state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    save_file(weights, path)
    return path, weights


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("n_frames", [1, 40, 64, 131])
def test_a_backbone_with_random_weights_reads_images_of_any_length(n_channels, n_frames):
    backbone = backbone_of(n_channels).eval()
    features = backbone(torch.randn(2, n_channels, 128, n_frames), torch.tensor([n_frames, 1]))
    assert features.shape == (2, backbone.n_features) == (2, 512)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_local_weights_are_taken_whole(source, n_channels):
    path, weights = source
    taken = backbone_of(n_channels, str(path)).backbone.state_dict()
    assert len(taken) > 50
    for name, value in taken.items():
        if name != FIRST:
            assert torch.equal(value, weights[name]), name
    first = weights[FIRST]
    assert taken[FIRST].shape[1] == n_channels
    if n_channels == 3:
        assert torch.equal(taken[FIRST], first)
    elif n_channels == 1:
        torch.testing.assert_close(taken[FIRST], first.sum(dim=1, keepdim=True))
    else:
        torch.testing.assert_close(taken[FIRST], first[:, :2] * 1.5)


def test_taking_weights_uses_as_much_randomness_as_taking_none(source):
    draws = []
    for weights in (None, str(source[0])):
        torch.manual_seed(3)
        backbone_of(2, weights)
        draws.append(torch.rand(4))
    assert torch.equal(*draws)


def test_an_unknown_backbone_gets_a_suggestion():
    with pytest.raises(InputError, match=r"timm has no model 'resnet10x'; did you mean 'resnet10t'\?"):
        backbone_of(2, name="resnet10x")


def test_a_missing_weights_file_gets_a_sentence():
    with pytest.raises(InputError, match=r"none\.safetensors does not exist. Correct model\.weights"):
        backbone_of(2, "none.safetensors")


def test_weights_of_another_backbone_are_refused(tmp_path):
    path = tmp_path / "resnet18.safetensors"
    save_file(timm.create_model("resnet18", num_classes=0).state_dict(), path)
    with pytest.raises(InputError, match=r"'resnet10t' can't be built with model\.weights .*resnet18"):
        backbone_of(2, str(path))


def test_weights_that_lack_a_layer_are_refused(source, tmp_path):
    _, weights = source
    path = tmp_path / "part.safetensors"
    save_file({name: value for name, value in weights.items() if not name.startswith("layer4")}, path)
    with pytest.raises(InputError, match=r"part\.safetensors lacks weights .*layer4\.0\.conv1\.weight"):
        backbone_of(2, str(path))


@pytest.mark.parametrize("content", [b"", b"not weights"])
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_damaged_weights_file_is_refused(tmp_path, content, ending):
    path = tmp_path / f"broken.{ending}"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"'resnet10t' can't be built with model\.weights .*broken\.{ending}"
    ):
        backbone_of(2, str(path))
