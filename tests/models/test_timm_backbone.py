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
CHANNELS = ("spectrogram", "frequency", "delta")


def backbone_of(n_channels: int, weights: str | None = None, name: str = NAME) -> TimmBackbone:
    return TimmBackbone(name, CHANNELS[:n_channels], 128, 64, weights)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A weights file as timm writes it, for three channels and ten classes, and what is in it."""
    torch.manual_seed(7)
    weights = timm.create_model(NAME, num_classes=10, in_chans=3).state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet10t.safetensors"
    save_file(weights, path)
    return path, weights


@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_local_weights_are_taken_whole_and_excerpts_of_any_length_are_read(source, n_channels):
    path, weights = source
    backbone = backbone_of(n_channels, str(path)).eval()
    for n_frames in (1, 40, 131):
        features = backbone(torch.randn(2, 128, n_frames), torch.tensor([n_frames, 1]))
        assert features.shape == (2, backbone.n_features) == (2, 512)
        assert torch.isfinite(features).all()
    taken = backbone.backbone.state_dict()
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


@pytest.mark.parametrize(
    ("name", "weights", "sentence"),
    [
        ("resnet10x", None, r"timm has no model 'resnet10x'; did you mean 'resnet10t'\?"),
        (NAME, "none.safetensors", r"none\.safetensors does not exist. Correct model\.weights"),
        (NAME, "resnet18.safetensors", r"'resnet10t' can't be built with model\.weights 'resnet18\."),
        (NAME, "part.safetensors", r"part\.safetensors lacks weights .*layer4\.0\.conv1\.weight"),
        (NAME, "empty.pth", r"can't be built with model\.weights 'empty\.pth'"),
        (NAME, "text.safetensors", r"can't be built with model\.weights 'text\.safetensors'"),
    ],
)
def test_names_and_files_that_do_not_fit_are_refused(source, tmp_path, monkeypatch, name, weights, sentence):
    monkeypatch.chdir(tmp_path)
    Path("empty.pth").touch()
    Path("text.safetensors").write_text("not weights")
    save_file({key: value for key, value in source[1].items() if "layer4" not in key}, "part.safetensors")
    if weights == "resnet18.safetensors":
        save_file(timm.create_model("resnet18", num_classes=0).state_dict(), weights)
    with pytest.raises(InputError, match=sentence):
        backbone_of(2, weights, name)
