"""`music-emotion show`: pictures hold the numbers they were given, and mistakes get sentences."""

import re
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from small_networks import small_network

from music_emotion import plots
from music_emotion.commands.show import ClipArrays
from music_emotion.files import InputError, write_json
from music_emotion.models.layer_outputs import activations
from music_emotion.models.network import save_model

GENRE = """
name = "mine"
task = "genre"
[data.genres]
Blues = "Old"
Folk = "Old"
"Psych-Rock" = "New"
Soundtrack = false
"""


@pytest.fixture
def folder(competition, tmp_path, monkeypatch):
    """An empty working directory that has `data`."""
    (tmp_path / "data").symlink_to(competition)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def show(folder, monkeypatch, run_script):  # noqa: ARG001 (its folder)
    """Run `music-emotion show`; returns what it prints and the figures it saved."""
    figures, save = [], plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda path, each: figures.append(each) or save(path, each))

    def call(*arguments):
        figures.clear()
        status, out, errors = run_script("show.py", *arguments)
        assert status == 0, errors
        assert all(imread(line.rpartition(": ")[2]).std() > 0 for line in out.splitlines())
        return out, *figures

    return call


def load(competition, folder: str, clip: int) -> np.ndarray:
    """An array of the training split as it is stored, in half precision."""
    array = np.load(competition / folder / "train" / f"{clip}.fused.full.npy")
    return array.astype(np.float16).astype(np.float32)


def drawn(panel) -> np.ndarray:
    """The one array that a panel shows."""
    (shown,) = [*panel.images, *panel.collections]
    return np.asarray(shown.get_array())


def texts(artists) -> list[str]:
    return [text.get_text() for text in artists]


def lines(panel) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()]


def test_clips_are_drawn_at_both_rates_mel_above_chroma(show, competition):
    out, figure, other = show("features", "1003", "1002", "--data.root", "data")
    assert "pictures/features-emotion-train-1003.png\n" in out
    panels, bars = figure.axes[:4], figure.axes[4:]
    full, beat = (load(competition, name, 1003) for name in ("multitask_dataset", "multitask_dataset_beat"))
    for panel, array in zip(panels, [full[:128], beat[:128], full[128:], beat[128:]], strict=True):
        np.testing.assert_array_equal(drawn(panel), array)
    assert not np.array_equal(drawn(panels[0]), drawn(other.axes[0]))
    assert panels[0].get_title() == f"full rate: {full.shape[1]} frames of 23.2 ms"
    assert panels[0].get_xlim() == pytest.approx((0, full.shape[1] * 512 / 22050))
    assert [panel.get_xlabel() for panel in panels] == ["", "", "time (s)", "span between beats"]
    assert panels[0].get_ylabel() == "Hz"
    assert [bar.get_ylabel() for bar in bars] == ["dB below the loudest", "chroma (0 to 1)"]
    label = (competition / "multitask_dataset/train_labels.txt").read_text().splitlines()[4].split(",")
    assert label[0] == "1003"
    assert f"valence {float(label[1]):.2f}, energy {float(label[2]):.2f}" in figure.get_suptitle()
    edges_hz = panels[0].collections[0].get_coordinates()[:, 0, 1]
    centres_hz = librosa.mel_frequencies(130, fmax=11025)[1:-1]
    assert (edges_hz[:-1] < centres_hz).all()
    assert (centres_hz < edges_hz[1:]).all()


def test_a_set_without_beats_is_drawn_at_full_rate_alone(show, competition):
    Path("full").mkdir()
    Path("full/multitask_dataset").symlink_to(competition / "multitask_dataset")
    _, figure = show("features", "1003", "--data.root", "full")
    full = load(competition, "multitask_dataset", 1003)
    assert [drawn(panel).tolist() for panel in figure.axes[:2]] == [full[:128].tolist(), full[128:].tolist()]
    assert len(figure.axes) == 4  # with two colour bars


def test_a_clip_is_called_by_its_labels_if_it_has_any(show):
    out, _ = show("features", "1003", "--split", "test")
    assert out == "clip 1003 of multitask_dataset/test: pictures/features-emotion-test-1003.png\n"
    out, _ = show("features", "5001", "--task", "genre", "--split", "test", "--out", "p")
    assert out == "clip 5001 of fma_genre_spectrograms/test: Folk: p/features-genre-test-5001.png\n"


def test_audio_is_drawn_over_seconds_with_medians_between_its_beats(show):
    rng, bursts = np.random.default_rng(0), np.zeros(6 * 22050)
    for start in range(0, len(bursts) - 2000, 11025):  # two a second
        bursts[start : start + 2000] = rng.normal(0, 0.3, 2000)
    name = "A$AP \\frac $"  # no formula
    soundfile.write(f"{name}.wav", bursts, 22050)
    out, figure = show("features", f"{name}.wav", "--hop-length", "256")
    assert out == f"{name}.wav: pictures/features-{name}.png\n"
    assert figure.get_suptitle() == f"{name}.wav"
    panels = figure.axes[:4]
    assert [panel.get_xlabel() for panel in panels[2:]] == ["time (s)", "time (s)"]
    frames, edges = (np.asarray(panel.collections[0].get_coordinates())[0, :, 0] for panel in panels[2:])
    np.testing.assert_allclose(frames, np.arange(len(frames)) * 256 / 22050)
    assert edges[-1] == pytest.approx(frames[-1])
    assert np.median(np.diff(edges)) == pytest.approx(0.5, abs=0.05)
    borders = np.rint(edges * 22050 / 256).astype(int)
    medians = [np.median(drawn(panels[2])[:, a:b], axis=1) for a, b in pairwise(borders)]
    np.testing.assert_allclose(drawn(panels[3]), np.transpose(medians), atol=1e-6)


def test_genres_are_counted_before_and_after_the_mapping(show):
    long = "O" * 250
    Path("genre.toml").write_text(GENRE.replace("Old", long))
    out, figure = show("classes", "genre.toml", "--data.root", "data")
    assert out == "classes: pictures/classes-mine.png\n"
    before, after = figure.axes
    genres = f"Blues → {long[:27]}..., Folk → {long[:27]}..., Psych-Rock → New, Soundtrack (left out)"
    assert ", ".join(texts(before.get_yticklabels())) == genres
    assert [[bar.get_width() for bar in bars] for bars in before.containers] == [[8] * 4, [3] * 4]
    assert [bar.get_x() for bar in before.containers[1]] == [8] * 4
    assert texts(after.get_yticklabels()) == [f"{long[:30]}...", "New"]
    assert [[bar.get_width() for bar in bars] for bars in after.containers] == [[16, 8], [6, 3]]
    assert before.get_title() == "before: 4 raw genres, 44 clips"
    assert after.get_title() == "after: 2 classes, 33 clips (11 left out)"
    assert [bar.get_hatch() for bar in before.containers[0]] == [None, None, None, "///"]
    assert texts(after.get_legend().get_texts()) == ["train split", "test split", "left out"]
    out, figure = show("classes", "genre.toml", "--name", "raw", "--data.genres", "{}")
    assert out == "classes: pictures/classes-raw.png\n"
    names = [texts(panel.get_yticklabels()) for panel in figure.axes]
    assert names == [["Blues", "Folk", "Psych-Rock", "Soundtrack"]] * 2
    assert texts(figure.axes[1].get_legend().get_texts()) == ["train split", "test split"]


def write_metrics(place: str, n_epochs: int, shift: float = 0.0, **more: float) -> pd.DataFrame:
    """Metrics of a training that was validated in every second epoch."""
    epochs = np.arange(1, n_epochs + 1)
    valid = np.where(epochs % 2 == 0, 2.0 / epochs + shift, np.nan)
    table = pd.DataFrame({"epoch": epochs, "train_loss": 1.0 / epochs + shift, "learning_rate": 1e-3})
    table = table.assign(valid_loss=valid, score=1 - valid, **more)
    Path("runs", place).mkdir(parents=True)
    table.to_csv(Path("runs", place, "metrics.csv"), index=False)
    return table


def test_curves_are_thin_lines_and_their_mean_a_thick_one_as_far_as_all_go(show):
    one, other = write_metrics("slow/seed0/fold0", 6), write_metrics("slow/seed1/fold0", 3, shift=0.5)
    out, figure = show("curves", "runs/slow/")
    assert out == "learning curves: pictures/curves-slow.png\n"
    titles = ["training loss", "validation loss", "validation score", "learning rate"]
    assert [panel.get_title() for panel in figure.axes] == titles
    first, second, mean = lines(figure.axes[0])
    assert first == (one["epoch"].tolist(), one["train_loss"].tolist())
    assert second == (other["epoch"].tolist(), other["train_loss"].tolist())
    np.testing.assert_allclose(mean[1], (one["train_loss"][:3] + other["train_loss"]) / 2)
    thin, _, thick = figure.axes[0].get_lines()
    assert thin.get_linewidth() < thick.get_linewidth()
    epochs, scores = lines(figure.axes[2])[0]
    assert epochs == [2, 4, 6]  # epochs without validation are left out, not zero
    np.testing.assert_allclose(scores, one["score"].dropna())
    assert texts(figure.legends[0].get_texts()) == ["slow (mean of 2 trainings)"]


def test_curves_of_runs_differ_in_colour_and_name_their_scores(show):
    write_metrics("_a/seed0/fold0", 2)
    write_metrics("b/seed0/fold0", 2, macro_f1=1.0)
    begun = write_metrics("begun/seed0/fold0", 1)[["epoch", "train_loss", "learning_rate"]]
    begun.to_csv("runs/begun/seed0/fold0/metrics.csv", index=False)  # not validated yet
    for name in ("c", "d"):
        write_metrics(f"{name}/seed0/fold0", 2)
    out, figure = show("curves", *(f"runs/{name}" for name in ("_a", "b", "begun", "c", "d")))
    assert out == "learning curves: pictures/curves-_a-b-begun-and-2-more.png\n"
    a, a_mean, b, b_mean, *_ = figure.axes[0].get_lines()
    assert a.get_color() == a_mean.get_color() != b.get_color() == b_mean.get_color()
    assert lines(figure.axes[0])[4] == ([1], [1.0])
    assert lines(figure.axes[1])[4] == ([], [])
    assert texts(figure.legends[0].get_texts())[:2] == [" _a (1 training)", "b (1 training)"]
    assert figure.axes[2].get_ylabel() == "mean Spearman or macro F1"
    assert figure.axes[0].get_ylabel() == "loss (each run's own)"


def write_genre_run(name: str, counts: pd.DataFrame, task: str = "genre") -> Path:
    place, score = Path("runs", name), {"value": 0.5, "low": 0.4, "high": 0.625, "n": 4}
    write_json(place / "experiment.json", {"task": task})
    write_json(place / "scores.json", {"pooled": {"accuracy": score, "macro_f1": score}})
    counts.rename_axis("truth").reset_index().to_csv(place / "confusion.csv", index=False)
    return place


@pytest.mark.parametrize("n_classes", [3, 20])
def test_confusion_matrices_hold_counts_and_are_shaded_by_their_share_of_the_row(show, n_classes):
    names = ["Cash $$", "_歌", "x" * 200, "1", "NA", *map("class {}".format, range(5, 20))][:n_classes]
    values = np.random.default_rng(0).integers(0, 30, (n_classes, n_classes))
    values[1] = 0  # no clip is of this class
    write_genre_run("one", pd.DataFrame(values, names, names))
    (write_genre_run("two", pd.DataFrame(2 * values, names, names)) / "oof.csv").touch()
    out, figure = show("confusion", "runs/one", "runs/two")
    assert out == "confusion matrices: pictures/confusion-one-two.png\n"
    assert plots.read_confusion(Path("runs/one/confusion.csv")).index.tolist() == names
    panel, other, bar = figure.axes
    np.testing.assert_allclose(drawn(panel), values / np.maximum(values.sum(axis=1, keepdims=True), 1))
    assert [int(text) for text in texts(panel.texts)] == values.ravel().tolist()
    assert [int(text) for text in texts(other.texts)] == (2 * values).ravel().tolist()
    for ticks in (panel.get_xticklabels(), panel.get_yticklabels()):
        assert texts(ticks) == ["Cash $$", " _歌", "x" * 30 + "...", *names[3:]]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("prediction", "truth")
    assert bar.get_ylabel() == "share of the true class (0 to 1)"
    scores = "accuracy 0.50 [0.40, 0.62]\nmacro F1 0.50 [0.40, 0.62]"
    assert panel.get_title() == f"one: {values.sum()} test clips\n{scores}"
    assert other.get_title().startswith(f"two: {2 * values.sum()} out-of-fold clips")


def test_a_picture_that_can_not_be_drawn_is_a_warning(tmp_path, capsys):
    (tmp_path / "confusion.csv").write_text("truth,Rock\nRock,much\n")
    (tmp_path / "confusion.png").touch()  # of other scores
    (tmp_path / "confusion-b.csv").write_text("truth,Rock\nRock,3\n")
    plots.draw_scores(tmp_path)
    said = r"warning: the picture .*/confusion\.png failed \(\w+: .*\)\. Its numbers are written\.\n"
    assert re.fullmatch(said, capsys.readouterr().err)
    assert {path.name for path in tmp_path.glob("*.png")} == {"confusion-b.png"}


def test_one_clip_that_can_not_be_drawn_leaves_the_others(folder, monkeypatch, run_script):  # noqa: ARG001
    draw = plots.features_figure

    def fail_at_1001(clip: ClipArrays) -> Figure:
        return 1 / 0 if "1001" in clip.title else draw(clip)

    monkeypatch.setattr(plots, "features_figure", fail_at_1001)
    status, _, errors = run_script("show.py", "features", "999", "1001", "1002")
    assert (status, errors.count("Traceback")) == (2, 1)
    assert "error: 2 of 3 could not be drawn:\ndata/multitask_dataset/train has no clip 999." in errors
    assert errors.endswith("\n1001 failed (ZeroDivisionError: division by zero).\n")
    assert [path.name for path in Path("pictures").iterdir()] == ["features-emotion-train-1002.png"]


def test_maps_are_drawn_below_the_excerpt_over_the_same_time(show, competition):
    conv = small_network(frames=32, data={"root": "data"}, widths=(8, 20, 8), stem_pool=(2, 2))
    model = Path("runs/slow/seed0/fold0/model.safetensors")
    save_model(model, conv, conv.state_dict())
    out, figure = show("activations", str(model), "1004")  # from where the network was trained
    assert out == "activations: pictures/activations-slow-seed0-fold0-emotion-train-1004.png\n"
    full = load(competition, "multitask_dataset", 1004)
    kept = activations(conv, full)
    start = round((full.shape[1] - 32) / 2)
    assert kept.start == start
    np.testing.assert_array_equal(kept.excerpt, full[:128, start : start + 32])
    shapes = {name: values.shape for name, values in kept.layers.items()}
    assert shapes == {"block 1": (8, 32, 8), "block 2": (20, 16, 4)}
    with torch.inference_mode():
        again = conv.trunk.blocks[1](torch.from_numpy(kept.layers["block 1"])[None])[0]
    np.testing.assert_allclose(kept.layers["block 2"], again, rtol=1e-4, atol=1e-5)
    assert not any(block._forward_hooks for block in conv.trunk.blocks)
    excerpt, first, second = figure.subfigs
    np.testing.assert_array_equal(drawn(excerpt.axes[0]), kept.excerpt)
    times = start * 512 / 22050, (start + 32) * 512 / 22050
    assert excerpt.axes[0].get_xlim() == pytest.approx(times)
    assert first.get_suptitle() == "after block 1: 8 maps of 32 rows × 8 frames"
    assert second.get_suptitle() == "after block 2: 20 maps of 16 rows × 4 frames (the 16 that vary most)"
    panels = [panel for panel in second.axes if panel.images]
    shown = [int(panel.get_title().removeprefix("map ")) for panel in panels]
    assert shown == sorted(np.argsort(-kept.layers["block 2"].std(axis=(1, 2)))[:16])
    for panel, number in zip(panels, shown, strict=True):
        np.testing.assert_array_equal(drawn(panel), kept.layers["block 2"][number])
        assert panel.get_xlim() == pytest.approx(times)


def test_an_lstms_hidden_states_are_drawn_for_each_direction(show, competition):
    lstm = small_network(rows="fused", frames=None, data={"root": "data", "rate": "beat"}, kind="lstm")
    save_model(Path("lstm.safetensors"), lstm, lstm.state_dict())
    _, figure = show("activations", "lstm.safetensors", "1004")
    beat = load(competition, "multitask_dataset_beat", 1004)
    excerpt, *parts = figure.subfigs
    forward, backward = (drawn(part.axes[0]) for part in parts)
    mean, deviation = (np.repeat(of, [128, 12])[:, None] for of in ([-40, 0.4], [18, 0.3]))
    with torch.inference_mode():
        frames = torch.from_numpy((beat - mean) / deviation).float()[None]
        read_out = lstm.trunk(frames, torch.tensor([beat.shape[1]]))[0]
    np.testing.assert_allclose(read_out, np.concatenate([forward[:, -1], backward[:, 0]]), atol=1e-6)
    mel, chroma = excerpt.axes[:2]
    np.testing.assert_array_equal(drawn(chroma), beat[128:])
    assert "the whole clip" in mel.get_title()
    assert parts[0].axes[0].get_xlabel() == "span between beats"
    assert parts[1].axes[0].get_title() == "last LSTM layer, backward: 8 units"


def test_short_clips_are_padded_and_only_feature_maps_are_kept():
    short = np.zeros((140, 20), np.float32)
    kept = activations(small_network(frames=32), short)
    assert kept.start == 0
    assert (kept.excerpt[:, 20:] == -80).all()
    kept = activations(small_network(kind="timm", backbone="resnet10t"), short)
    assert list(kept.layers) == ["resnet10t act1", "resnet10t layer1"]
    assert [values.ndim for values in kept.layers.values()] == [3, 3]
    with pytest.raises(InputError, match="gives no feature maps"):
        activations(small_network(kind="timm", backbone="vit_tiny_patch16_224"), short)


MISTAKES = {
    "features 999": "has no clip 999. Ids near it: 1000, 1001, 1002, 1003, 1004.",
    "features 1039 --split test": "It is in the other split: --split train.",
    "features gone.mp3": "The audio file gone.mp3 does not exist",
    "features 1003.fused.full.npy": "is an array, not audio. Give its id",
    "features emotion.toml": "emotion.toml",
    "classes emotion.toml": "emotion.toml has the task 'emotion'; classes need 'genre'",
    "curves runs/sloow": "There is no run runs/sloow; did you mean 'slow'?",
    "curves runs/slow": "runs/slow has no metrics",
    "curves runs/odd": "is not a table of metrics",
    "curves runs/blank": "is not a table of metrics",
    "confusion runs/slow": "has the task 'emotion'; a confusion matrix needs a run of genres",
    "confusion runs/begun": "Finish the run first",
    "confusion data": "experiment.json does not exist",
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", MISTAKES)
def test_what_is_wrong_is_said_in_a_sentence(run_script, command):
    counts = pd.DataFrame([[1]], ["Folk"], ["Folk"])
    write_genre_run("slow", counts, task="emotion")
    (write_genre_run("begun", counts) / "confusion.csv").unlink()
    Path("emotion.toml").write_text('name = "mine"\n')
    for run, metrics in (("odd", "Id,valence\n1,0.5\n"), ("blank", "")):
        write_metrics(f"{run}/seed0/fold0", 1)
        Path("runs", run, "seed0/fold0/metrics.csv").write_text(metrics)
    status, _, errors = run_script("show.py", *command.split())
    assert (status, MISTAKES[command] in errors) == (2, True), errors
    assert not Path("pictures").exists()
