"""Scores on other sets: a matrix of models and sets, targets of other names, and labels over time."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import root_mean_squared_error
from small_networks import small_network, small_run

from music_emotion.datasets.synthesis import write_demo
from music_emotion.evaluation.metrics import concordance
from music_emotion.files import InputError, read_predictions, write_json
from music_emotion.listen.model import EmotionModel
from music_emotion.listen.score import SHIPPED, score_curves, score_sets
from music_emotion.models.network import load_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, run_experiment
from music_emotion.training.predict import predict_clips

pytestmark = pytest.mark.usefixtures("own_accelerate")
NAMES = {"liveliness": "energy"}  # of a set to a model's


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """A table of eight synthesised clips with groups, a target of another name, and labels over time."""
    folder = tmp_path_factory.mktemp("songs")
    write_demo(folder, (8, 0, 0, 0), 6.0, 0)
    table = pd.read_csv(folder / "emotion_train.csv")
    table = table.rename(columns={"energy": "liveliness"}).drop(columns="danceability")
    table["group"] = [1, 1, 2, 2, 3, 3, 4, 4]
    table.to_csv(folder / "clips.csv", index=False)
    seconds = np.arange(1.0, 5.0, 0.5)
    rows = [(i, s, (s / 10 + i / 20)) for i in table["id"] for s in seconds]
    pd.DataFrame(rows, columns=["id", "seconds", "liveliness"]).to_csv(
        folder / "clips-curves.csv", index=False
    )
    write_json(folder / "dataset.json", {"scales": {"liveliness": [1, 9]}})
    return folder / "clips.csv"


def test_the_model_in_the_package_is_scored_on_a_table_and_over_time(
    songs, tmp_path, run_script, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, said, _ = run_script("score.py", "package", songs, "--map", "liveliness=energy", "--jobs", 1)
    assert status == 0
    assert "liveliness is scored against the predicted energy." in said
    assert "liveliness by energy" in said
    assert "its training clips are not here" in said
    for pair in ("livelines=energy", "liveliness=enrgy"):
        flags = ["--map", "liveliness=energy", pair, "--jobs", 1, "--out", "wrong.csv"]
        status, _, errors = run_script("score.py", "package", songs, *flags)
        assert (status, Path("wrong.csv").exists()) == (2, False)
        assert f"--map {pair} pairs nothing: no set has the target '{pair.split('=')[0]}'" in errors
    table = pd.read_csv(tmp_path / "scores.csv").set_index(["target", "measure"])
    model, clips = EmotionModel.from_pretrained(), pd.read_csv(songs)
    heard = pd.DataFrame([model.predict(songs.parent / path) for path in clips["path"]])
    for target, by in {"valence": "valence", **NAMES}.items():
        row = table.loc[target, "spearman"]
        assert row["value"] == pytest.approx(spearmanr(clips[target], heard[by]).statistic, abs=0.05)
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n"] == 8
    rmse = root_mean_squared_error(clips["liveliness"], heard["energy"])
    assert table.loc[("liveliness", "rmse"), "value"] == pytest.approx(rmse, abs=0.01)
    assert table.loc[("liveliness", "rmse_own_scale"), "value"] == pytest.approx(8 * rmse, abs=0.08)

    arguments = ("package", songs, "--curves", "--map", "liveliness=energy", "--window", 3)
    status, said, _ = run_script("score.py", *arguments)
    assert status == 0
    assert "CCC over time:" in said
    table = pd.read_csv(tmp_path / "scores.csv").set_index("measure")
    curves, errors, agreements = pd.read_csv(songs.with_name("clips-curves.csv")), [], []
    for clip_id, path in zip(clips["id"], clips["path"], strict=True):
        line, known = model.timeline(songs.parent / path, 3.0, 0.5), curves[curves["id"] == clip_id]
        centre = (line["start_seconds"] + line["end_seconds"]) / 2
        there = np.interp(known["seconds"] + 0.25, centre, line["energy"])
        errors.append(root_mean_squared_error(known["liveliness"], there))
        agreements.append(concordance(known["liveliness"], there))
    assert table.loc["curve_rmse", "value"] == pytest.approx(np.mean(errors))
    assert table.loc["curve_ccc", "value"] == pytest.approx(np.mean(agreements))
    assert table["n"].tolist() == [8, 8]


def test_a_clip_that_can_not_be_read_is_named_and_a_table_of_labels_is_refused(
    songs, tmp_path, run_script, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("broken.wav").write_text("no audio")
    clips = pd.read_csv(songs)
    clips["path"] = ["broken.wav", *(str(songs.parent / path) for path in clips["path"][1:])]
    clips.to_csv("some.csv", index=False)
    status, said, _ = run_script("score.py", "package", "some.csv", "--jobs", 1)
    assert status == 0
    assert f"7 done, 0 already there, 1 failed.\n  clip {clips['id'][0]}: {tmp_path}/broken.wav: " in said
    assert set(pd.read_csv("scores.csv")["n"]) == {7}
    clips[["path"]].assign(label="Q1").to_csv("labels.csv", index=False)
    status, _, errors = run_script("score.py", "package", "labels.csv")
    assert (status, "labels.csv has no targets to score on." in errors) == (2, True)
    assert not Path("labels-arrays").exists()


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        ({"data": {"rate": "beat"}}, "trained with data.rate 'beat', which can't be made of audio here"),
        ({"hop": 256}, "Extract the set with the same settings."),
    ],
)
def test_a_model_of_other_arrays_is_refused(competition, tmp_path, network, sentence):
    run = small_run(tmp_path / "run", small_network(**network))
    with pytest.raises(InputError, match=sentence):
        score_sets([run], [competition], {})


def test_time_lines_without_a_common_target_are_told(songs):
    table, notes = score_curves([SHIPPED], [songs], {})
    assert table.empty
    assert notes == [
        f"package predicts valence, energy, danceability; {songs} has liveliness. Pair them with --map."
    ]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--measure", "rsme"], "--measure rsme: did you mean 'rmse'?"),
        (
            ["--map", "arousal"],
            "--map arousal is no pair. Give, for example, clips.csv --map arousal=energy.",
        ),
    ],
)
def test_a_wrong_flag_gets_a_sentence_before_anything_is_read(run_script, flags, sentence):
    status, _, said = run_script("score.py", "package", "nowhere.csv", *flags)
    assert (status, said) == (2, f"error: {sentence}\n")


def test_a_run_is_scored_out_of_fold_at_home_and_without_recordings_that_it_knows_elsewhere(
    small, competition, tmp_path
):
    run, copy = tmp_path / "run", tmp_path / "copy"
    experiment = small(train={"epochs": 1})
    run_experiment(experiment, make_accelerator(), run)
    truth, oof = read_predictions(run / "truth.csv"), read_predictions(run / "oof.csv")
    table, notes = score_sets([run, SHIPPED], [competition], {"valence": "energy"})
    of = table.set_index(["model", "target", "measure"])["value"]
    assert of["run", "valence", "spearman"] == pytest.approx(
        spearmanr(truth["valence"], oof["energy"]).statistic
    )
    assert of["run", "energy", "ccc"] == pytest.approx(concordance(truth["energy"], oof["energy"]))
    assert f"run on {competition}: the run's own out-of-fold or test predictions." in notes

    # another set, in which five of the run's recordings are under other ids
    folder, own = copy / "multitask_dataset", competition / "multitask_dataset"
    (folder / "train").mkdir(parents=True)
    clips, _ = load_sets(experiment, make_accelerator())
    labels = clips.truth.head(12).set_axis(range(901, 913)).rename_axis("Id")
    rng = np.random.default_rng(1)
    for k, clip_id in enumerate(clips.ids[:12]):
        array = np.load(own / "train" / f"{clip_id}.fused.full.npy")
        if k >= 5:
            array = rng.permutation(array.T).T + rng.normal(0, 6, array.shape)
        np.save(folder / "train" / f"{901 + k}.fused.full.npy", array)
    labels.to_csv(folder / "train_labels.txt")
    table, notes = score_sets([run], [copy], {})
    assert "5 clips of recordings that it knows are left out: 901, 902, 903, 904, 905" in notes[0]
    assert set(table["n"]) == {7}
    models = [load_model(path) for path in sorted(run.glob("seed*/fold*/model.safetensors"))]
    data = experiment.data.model_copy(update={"root": str(copy)})
    others, _ = load_sets(experiment.model_copy(update={"data": data}), make_accelerator())
    others = others.select(np.arange(5, 12))
    guesses = np.mean([predict_clips(m, others, make_accelerator()) for m in models], axis=0)
    of = table.set_index(["target", "measure"])["value"]
    assert of["energy", "pearson"] == pytest.approx(
        np.corrcoef(others.values[:, 1], guesses[:, 1])[0, 1], abs=1e-5
    )
