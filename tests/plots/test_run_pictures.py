"""Pictures of runs and networks show the numbers they were given."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from music_emotion.audio.features import FeatureSettings
from music_emotion.commands.clip_arrays import ClipArrays
from music_emotion.commands.show import read_metrics, saved_confusion
from music_emotion.files import InputError
from music_emotion.models.layer_outputs import activations
from music_emotion.models.network import ModelCard, build_network
from music_emotion.plots import activations_figure, confusion_figure, curves_figure


def write_metrics(place, n_epochs, shift=0.0, **more) -> pd.DataFrame:
    """Metrics of a training that was validated in every second epoch."""
    epochs = np.arange(1, n_epochs + 1)
    valid = np.where(epochs % 2 == 0, 2.0 / epochs + shift, np.nan)
    table = pd.DataFrame({"epoch": epochs, "train_loss": 1.0 / epochs + shift, "learning_rate": 1e-3})
    table = table.assign(valid_loss=valid, score=1 - valid, **more)
    place.mkdir(parents=True)
    table.to_csv(place / "metrics.csv", index=False)
    return table


def lines(panel) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()]


def test_every_training_is_a_thin_line_and_their_mean_a_thick_one(tmp_path):
    one = write_metrics(tmp_path / "a/seed0/fold0", 6)
    other = write_metrics(tmp_path / "a/seed1/fold0", 6, shift=0.5)
    figure = curves_figure({"a": read_metrics(tmp_path / "a")})
    assert [panel.get_title() for panel in figure.axes] == [
        "training loss",
        "validation loss",
        "validation score",
        "learning rate",
    ]
    first, second, mean = lines(figure.axes[0])
    assert first == (one["epoch"].tolist(), one["train_loss"].tolist())
    assert second == (other["epoch"].tolist(), other["train_loss"].tolist())
    np.testing.assert_allclose(mean[1], (one["train_loss"] + other["train_loss"]) / 2)
    thin, _, thick = figure.axes[0].get_lines()
    assert thin.get_linewidth() < thick.get_linewidth()
    assert figure.legends[0].get_texts()[0].get_text() == "a (mean of 2 trainings)"


def test_epochs_that_were_not_validated_are_left_out_not_zero(tmp_path):
    table = write_metrics(tmp_path / "a/seed0/fold0", 6)
    score = curves_figure({"a": read_metrics(tmp_path / "a")}).axes[2]
    for epochs, values in lines(score):
        assert epochs == [2, 4, 6]
        np.testing.assert_allclose(values, table["score"].dropna())


def test_a_mean_goes_as_far_as_all_its_trainings(tmp_path):
    write_metrics(tmp_path / "a/seed0/fold0", 6)
    write_metrics(tmp_path / "a/seed0/fold1", 3)
    long, short, mean = lines(curves_figure({"a": read_metrics(tmp_path / "a")}).axes[0])
    assert [len(line[0]) for line in (long, short, mean)] == [6, 3, 3]


def test_runs_have_their_own_colours_and_names(tmp_path):
    write_metrics(tmp_path / "a/seed0/fold0", 4)
    write_metrics(tmp_path / "b/seed0/fold0", 4, macro_f1=0.5)
    figure = curves_figure({name: read_metrics(tmp_path / name) for name in ("a", "b")})
    a, a_mean, b, b_mean = figure.axes[0].get_lines()
    assert a.get_color() == a_mean.get_color() != b.get_color() == b_mean.get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a (1 training)", "b (1 training)"]
    assert figure.axes[2].get_ylabel() == "mean Spearman or macro F1"
    assert figure.axes[0].get_ylabel() == "loss (each run's own)"


def test_a_training_that_was_not_validated_yet_is_drawn(tmp_path):
    place = tmp_path / "a/seed0/fold0"
    table = write_metrics(place, 1)
    table[["epoch", "train_loss", "learning_rate"]].to_csv(place / "metrics.csv", index=False)
    figure = curves_figure({"a": read_metrics(tmp_path / "a")})
    assert lines(figure.axes[0])[0] == ([1], [1.0])
    assert lines(figure.axes[1])[0] == ([], [])


def test_runs_without_curves_are_named(tmp_path):
    write_metrics(tmp_path / "multitask/seed0/fold0", 2)
    (tmp_path / "ridge").mkdir()
    with pytest.raises(InputError, match="ridge has no metrics"):
        read_metrics(tmp_path / "ridge")
    with pytest.raises(InputError, match="multitsk; did you mean 'multitask'"):
        read_metrics(tmp_path / "multitsk")
    (tmp_path / "multitask/seed0/fold0/metrics.csv").write_text("Id,valence\n1,0.5\n")
    with pytest.raises(InputError, match="no column epoch or learning_rate or train_loss"):
        read_metrics(tmp_path / "multitask")
    (tmp_path / "multitask/seed0/fold0/metrics.csv").write_text("")
    with pytest.raises(InputError, match="is not a table of metrics"):
        read_metrics(tmp_path / "multitask")


def write_genre_run(place, counts: pd.DataFrame, task: str = "genre") -> None:
    place.mkdir()
    score = {"value": 0.5, "low": 0.4, "high": 0.625}
    (place / "experiment.json").write_text(json.dumps({"task": task}))
    (place / "scores.json").write_text(json.dumps({"pooled": {"accuracy": score, "macro_f1": score}}))
    counts.rename_axis("truth").reset_index().to_csv(place / "confusion.csv", index=False)


@pytest.mark.parametrize("n_classes", [3, 20])
def test_cells_hold_counts_and_are_shaded_by_their_share_of_the_row(n_classes):
    names = [f"class {number}" for number in range(n_classes)]
    values = np.random.default_rng(0).integers(0, 30, (n_classes, n_classes))
    values[1] = 0  # no clip is of this class
    panel, bar = confusion_figure([("all", pd.DataFrame(values, names, names))]).axes
    rows = np.maximum(values.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(panel.images[0].get_array(), values / rows)
    assert [int(text.get_text()) for text in panel.texts] == values.ravel().tolist()
    assert [text.get_text() for text in panel.get_yticklabels()] == names
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("prediction", "truth")
    assert bar.get_ylabel() == "share of the true class (0 to 1)"


def test_genre_runs_stand_side_by_side_with_their_saved_scores(tmp_path):
    counts = pd.DataFrame([[3, 1], [0, 2]], ["Folk", "Rock"], ["Folk", "Rock"])
    write_genre_run(tmp_path / "a", counts)
    write_genre_run(tmp_path / "b", counts * 2)
    (tmp_path / "b/oof.csv").touch()
    a, b, _ = confusion_figure([saved_confusion(tmp_path / name) for name in ("a", "b")]).axes
    assert a.get_title() == "a: 6 test clips\naccuracy 0.50 [0.40, 0.62]\nmacro F1 0.50 [0.40, 0.62]"
    assert b.get_title().startswith("b: 12 out-of-fold clips")
    assert [text.get_text() for text in b.texts] == ["6", "2", "0", "4"]


def test_confusion_needs_a_finished_genre_run(tmp_path):
    write_genre_run(tmp_path / "emotion", pd.DataFrame([[1]], ["Folk"], ["Folk"]), task="emotion")
    with pytest.raises(InputError, match="has the task 'emotion'; a confusion matrix needs a run of genres"):
        saved_confusion(tmp_path / "emotion")
    write_genre_run(tmp_path / "begun", pd.DataFrame([[1]], ["Folk"], ["Folk"]))
    (tmp_path / "begun/confusion.csv").unlink()
    with pytest.raises(InputError, match="Finish the run first"):
        saved_confusion(tmp_path / "begun")


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    full, beat_synchronous = (
        np.concatenate([rng.uniform(-80, 0, (128, n)), rng.random((12, n))]).astype(np.float32)
        for n in (101, 30)
    )
    return ClipArrays("clip", "a clip", full, beat_synchronous, FeatureSettings())


@pytest.fixture
def network(small):
    """A network of random weights: `network(model={"kind": "lstm"})`."""

    def build(**sections):
        experiment = small(**sections)
        n_rows = {"mel": 128, "chroma": 12, "fused": 140}[experiment.data.rows]
        torch.manual_seed(0)
        card = ModelCard(experiment, ("x", "y"), (-40.0,) * n_rows, (20.0,) * n_rows, (0.0,) * 2, (1.0,) * 2)
        return build_network(card)

    return build


def test_maps_of_the_first_two_blocks_are_the_networks_own(network, clip):
    conv = network(model={"widths": [8, 20, 8], "stem_pool": [2, 2]})
    kept = activations(conv, clip.full)
    assert kept.start == 34  # (101 - 32) / 2, rounded
    np.testing.assert_array_equal(kept.excerpt, clip.full[:128, 34:66])
    assert {name: values.shape for name, values in kept.layers.items()} == {
        "block 1": (8, 32, 8),
        "block 2": (20, 16, 4),
    }
    with torch.inference_mode():
        again = conv.trunk.blocks[1](torch.from_numpy(kept.layers["block 1"])[None])[0]
    np.testing.assert_allclose(kept.layers["block 2"], again, rtol=1e-4, atol=1e-5)
    assert not any(block._forward_hooks for block in conv.trunk.blocks)


def test_maps_are_drawn_below_the_excerpt_over_the_same_time(network, clip):
    conv = network(model={"widths": [8, 20], "stem_pool": [2, 2]})
    kept = activations(conv, clip.full)
    figure = activations_figure("a network", clip, kept, conv.card.experiment.data)
    parts = figure.subfigs
    assert len(parts) == 3
    np.testing.assert_array_equal(parts[0].axes[0].collections[0].get_array(), kept.excerpt)
    assert parts[0].axes[0].get_xlim() == pytest.approx((34 * 512 / 22050, 66 * 512 / 22050))
    assert parts[1].get_suptitle() == "after block 1: 8 maps of 32 rows × 8 frames"
    assert parts[2].get_suptitle() == "after block 2: 20 maps of 16 rows × 4 frames (the 16 that vary most)"
    panels = [panel for panel in parts[2].axes if panel.images]
    shown = [int(panel.get_title().removeprefix("map ")) for panel in panels]
    spread = kept.layers["block 2"].std(axis=(1, 2))
    assert shown == sorted(np.argsort(-spread)[:16])
    for panel, number in zip(panels, shown, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), kept.layers["block 2"][number])
        assert panel.get_xlim() == parts[0].axes[0].get_xlim()


def test_an_lstms_hidden_states_are_drawn_for_each_direction(network, clip):
    lstm = network(
        data={"rate": "beat", "rows": "fused"},
        model={"kind": "lstm", "lstm_width": 8},
        excerpt={"frames": None},
    )
    kept = activations(lstm, clip.beat_synchronous)
    assert {name: values.shape for name, values in kept.layers.items()} == {
        "last LSTM layer, forward": (8, 30),
        "last LSTM layer, backward": (8, 30),
    }
    with torch.inference_mode():
        frames = torch.from_numpy((clip.beat_synchronous + 40) / 20)[None]
        read_out = lstm.trunk(frames, torch.tensor([30]))[0]
    forward, backward = kept.layers.values()
    np.testing.assert_allclose(read_out, np.concatenate([forward[:, -1], backward[:, 0]]), atol=1e-6)
    figure = activations_figure("a network", clip, kept, lstm.card.experiment.data)
    mel, chroma = figure.subfigs[0].axes[:2]
    np.testing.assert_array_equal(chroma.collections[0].get_array(), clip.beat_synchronous[128:])
    assert "the whole clip" in mel.get_title()
    np.testing.assert_array_equal(figure.subfigs[2].axes[0].images[0].get_array(), backward)
    assert figure.subfigs[1].axes[0].get_xlabel() == "span between beats"


def test_a_short_clip_is_padded_as_the_network_hears_it(network, clip):
    kept = activations(network(), clip.full[:, :20])
    assert kept.start == 0
    assert (kept.excerpt[:, 20:] == -80).all()


def test_stages_of_a_timm_backbone_are_drawn_and_transformers_refused(network, clip):
    kept = activations(network(model={"kind": "timm", "backbone": "resnet10t"}), clip.full)
    assert list(kept.layers) == ["resnet10t act1", "resnet10t layer1"]
    assert [values.ndim for values in kept.layers.values()] == [3, 3]
    with pytest.raises(InputError, match="gives no feature maps"):
        activations(network(model={"kind": "timm", "backbone": "vit_tiny_patch16_224"}), clip.full)
