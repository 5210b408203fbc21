"""timm backbones: any number of channels, and weights from a local file are really taken."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from music_emotion.config import build_experiment
from music_emotion.experiment_files import lay_over, read_differences
from music_emotion.files import InputError
from music_emotion.models.network import build_trunk
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


@pytest.fixture(scope="module")
def transformers(tmp_path_factory) -> dict[str, tuple[Path, dict[str, torch.Tensor]]]:
    """Files of transformers as timm's hub ships them for ImageNet, in both formats, and what is in them."""
    files = {}
    for name, ending in (("tiny", "safetensors"), ("tiny_distilled", "pth")):
        random = timm.create_model(f"deit_{name}_patch16_224").state_dict()
        weights = {key: torch.randn_like(value) for key, value in random.items()}
        path = tmp_path_factory.mktemp("weights") / f"{name}.{ending}"
        if ending == "pth":
            torch.save({"model": weights}, path)
        else:
            save_file(weights, path)
        files[name] = path, weights
    return files


def trunk_of(experiment: str, weights: Path) -> nn.Module:
    """The trunk of a built-in experiment, started from a file; of AST in a small size."""
    differences = lay_over(read_differences(experiment), {"model": {"weights": str(weights)}})
    if experiment == "ast":
        assert differences["model"]["backbone"] == "deit_base_distilled_patch16_384"
        differences["model"]["backbone"] = "deit_tiny_distilled_patch16_224"
    return build_trunk(build_experiment(differences, experiment), 128).backbone


@pytest.mark.parametrize(
    ("experiment", "file", "grid", "n_tokens"),
    [("deit", "tiny", (8, 16), 1), ("ast", "tiny_distilled", (8, 64), 2)],
)
def test_image_transformers_are_taken_whole_and_fitted_to_spectrograms(
    transformers, experiment, file, grid, n_tokens
):
    path, weights = transformers[file]
    backbone = trunk_of(experiment, path)
    assert backbone.patch_embed.grid_size == grid
    taken, first = backbone.state_dict(), weights["patch_embed.proj.weight"]
    heads = {f"{name}.{part}" for name in ("head", "head_dist")[:n_tokens] for part in ("weight", "bias")}
    assert set(weights) - set(taken) == heads
    torch.testing.assert_close(taken.pop("patch_embed.proj.weight"), first.sum(dim=1, keepdim=True))
    tokens, positions = taken.pop("pos_embed").split([n_tokens, grid[0] * grid[1]], dim=1)
    assert torch.equal(tokens, weights["pos_embed"][:, :n_tokens])
    square = weights["pos_embed"][:, n_tokens:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    resampled = nn.functional.interpolate(square, grid, mode="bicubic", antialias=True)
    torch.testing.assert_close(positions, resampled.flatten(2).transpose(1, 2))
    for name, value in taken.items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize("lost", ["cls_token", "dist_token", "pos_embed", "blocks.11.mlp.fc2.weight"])
def test_a_file_that_lacks_part_of_a_transformer_is_refused(transformers, tmp_path, lost):
    _, weights = transformers["tiny_distilled"]
    path = tmp_path / "part.safetensors"
    save_file({name: value for name, value in weights.items() if name != lost}, path)
    with pytest.raises(InputError, match=rf"part\.safetensors lacks weights of this backbone: {lost}\. Give"):
        trunk_of("ast", path)


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
