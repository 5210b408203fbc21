"""Heads: which layers, in which order, and what outputs share."""

import pytest
import torch
from torch import nn

from music_emotion.config import Experiment, ModelSection
from music_emotion.models.network import build_head


def head_of(task: str = "emotion", n_features: int = 1024, n_outputs: int = 4, **settings) -> nn.Module:
    torch.manual_seed(0)
    model = ModelSection(**settings)
    return build_head(Experiment(task=task, model=model), n_features, n_outputs)


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module]


def sizes(module: nn.Module) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in module if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(
    ("place", "layers"),
    [("before", ["Dropout", "Linear", "ReLU", "Linear"]), ("after", ["Linear", "ReLU", "Dropout", "Linear"])],
)
@pytest.mark.parametrize("task", ["emotion", "genre"])
def test_dense_256_has_its_dropout_before_or_after_the_hidden_layer(task, place, layers):
    head = head_of(task, head="dense", dropout=0.5, dropout_place=place)
    assert kinds(head) == layers
    assert sizes(head) == [(1024, 256), (256, 4)]
    assert head[layers.index("Dropout")].p == 0.5


def test_dense_widths_are_hidden_layers_one_after_another():
    head = head_of("genre", head="dense", head_widths=(256, 32), dropout=0, activation="gelu")
    assert sizes(head) == [(1024, 256), (256, 32), (32, 4)]
    layers = [kind for kind in kinds(head) if kind != "Dropout"]
    assert layers == [*["Linear", "GELU"] * 2, "Linear"]
    features = torch.randn(3, 1024)
    assert torch.equal(head(features), head(features))  # in training: a dropout of 0 drops nothing


@pytest.mark.parametrize("place", ["before", "after"])
def test_dense_without_widths_is_the_linear_head(place):
    head = head_of(head="dense", head_widths=(), dropout_place=place).eval()
    features = torch.randn(3, 1024)
    assert torch.equal(head(features), head_of(head="linear").eval()(features))


@pytest.mark.parametrize(("head", "shared"), [("linear", True), ("dense", True), ("mlp", False)])
def test_targets_share_hidden_layers_in_all_heads_but_the_public_baselines(head, shared):
    network = head_of(n_features=6, head=head, head_widths=(5,), dropout=0).eval()
    weights = [weight for weight in network.parameters() if weight.ndim == 2]
    network(torch.randn(3, 6))[:, 0].sum().backward()
    untouched = [weight for weight in weights if weight.grad is None or not weight.grad.any()]
    assert (len(untouched) == 0) == shared


def test_the_lstms_dropout_is_between_its_layers_and_not_before_a_linear_head():
    assert head_of(kind="lstm", dropout=0.4)[0].p == 0
    assert head_of(kind="conv", dropout=0.4)[0].p == 0.4
