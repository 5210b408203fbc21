"""The scripts as a user calls them: flags, files, messages, and what they leave behind."""

import errno
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from music_emotion import cli
from music_emotion.files import read_json

SCRIPTS = Path(__file__).parents[1] / "scripts"
TOML = """
name = "{name}"
task = "{task}"
[excerpt]
frames = 32
test = 2
[model]
widths = [8, 16]
[train]
epochs = 2
batch_size = 8
[folds]
n = 3
"""


@pytest.fixture
def call(competition, tmp_path, monkeypatch, run_script):
    """Call a script in an empty folder that has `data`; returns status, output and errors."""
    (tmp_path / "data").symlink_to(competition)
    monkeypatch.chdir(tmp_path)
    for name, task in (("small", "emotion"), ("other", "emotion"), ("genre", "genre")):
        Path(f"{name}.toml").write_text(TOML.format(name=name, task=task))
    return run_script


def test_from_competition_to_submission(call):
    assert call("pretrain.py", "genre.toml")[0] == 0
    assert "macro_f1" in read_json(Path("runs/genre/scores.json"))["pooled"]
    trunk = "runs/genre/seed0/fold0/model.safetensors"
    status, out, _ = call("train.py", "small.toml", "--model.trunk", trunk)
    assert status == 0
    assert "28 taken, 2 new" in out
    assert call("train.py", "other.toml", "--seeds", "0", "1")[0] == 0
    assert sorted(path.name for path in Path("runs/other").glob("seed*")) == ["seed0", "seed1"]
    status, out, _ = call("ensemble.py", "runs/small", "runs/other", "--name", "both")
    assert status == 0
    assert "nested out-of-fold" in out
    assert call("ensemble.py", "runs/small", "runs/other", "--choose", "--name", "chosen")[0] == 0
    weights = read_json(Path("runs/chosen/blend.json"))["weights"]
    for target, ranked in pd.read_csv("runs/chosen/members.csv", index_col="run").groupby("target"):
        assert sorted(ranked.index) == ["other", "small"]
        best = set(ranked.index[: ranked["score"].to_numpy().argmax() + 1])
        assert {name for name, of_target in weights.items() if of_target[target] > 0} == best
    assert call("submit.py", "runs/both", "--day", "2026-01-02")[0] == 0
    submission = pd.read_csv("submissions/both-2026-01-02.csv")
    assert submission.columns.tolist() == ["Id.fused.full.npy.gz", "valence", "energy", "danceability"]
    assert submission.iloc[:, 0].tolist() == [f"{n}.fused.full.npy.gz" for n in range(1000, 1008)]
    card = read_json(Path("submissions/both-2026-01-02.json"))
    assert card["runs"] == ["runs/small", "runs/other"]
    assert card["leaderboard"] is None
    assert card["out_of_fold"]["mean"]["n"] == 40


def test_a_rank_blend_of_one_run_keeps_its_seeds_mean_order(call):
    call("train.py", "small.toml", "--seeds", "0", "1")
    assert call("ensemble.py", "runs/small", "--method", "rank", "--name", "ranked")[0] == 0
    tests = [pd.read_csv(path, index_col="Id") for path in Path("runs/small").glob("seed*/fold*/test.csv")]
    assert len(tests) == 6
    order = sum(table["energy"].rank() for table in tests).rank()
    pd.testing.assert_series_equal(
        pd.read_csv("runs/ranked/test.csv", index_col="Id")["energy"].rank(), order
    )


def test_a_sample_decides_the_submissions_form(call):
    assert call("train.py", "small.toml")[0] == 0
    ids = [1003, 1001, 1000, 1002, 1007, 1006, 1005, 1004]
    Path("sample_submission.csv").write_text(
        "Id,energy,valence,danceability\n" + "".join(f"{n},0,0,0\n" for n in ids)
    )
    call(
        "submit.py",
        "runs/small",
        "--sample",
        "sample_submission.csv",
        "--name",
        "form",
        "--day",
        "2026-01-02",
    )
    written = pd.read_csv("submissions/form-2026-01-02.csv").set_index("Id")
    assert written.index.tolist() == ids
    assert written.columns.tolist() == ["energy", "valence", "danceability"]
    predictions = pd.read_csv("runs/small/test.csv").set_index("Id").loc[ids, written.columns]
    assert ((written - predictions).abs() < 1e-5).all(axis=None)


def test_a_second_run_trains_nothing_again(call):
    call("train.py", "small.toml")
    models = sorted(Path("runs/small").glob("seed0/fold*/model.safetensors"))
    times = [path.stat().st_mtime_ns for path in models]
    assert len(models) == 3
    status, out, _ = call("train.py", "small.toml")
    assert status == 0
    assert "small (out-of-fold):" in out
    assert [path.stat().st_mtime_ns for path in models] == times


def test_one_fold_can_be_trained_alone_and_the_others_later(call):
    call("train.py", "small.toml", "--only-fold", "1")
    assert [path.name for path in Path("runs/small/seed0").iterdir()] == ["fold1"]
    alone = pd.read_csv("runs/small/oof.csv")
    assert 0 < len(alone) < 40
    call("train.py", "small.toml")
    assert len(pd.read_csv("runs/small/oof.csv")) == 40


def test_a_single_target_is_trained_and_submitted(call):
    assert call("train.py", "small.toml", "--data.targets", "energy")[0] == 0
    assert pd.read_csv("runs/small/oof.csv").columns.tolist() == ["Id", "energy"]
    assert call("submit.py", "runs/small", "--day", "2026-01-02")[0] == 0


def test_a_genre_training_that_selects_does_not_see_the_test_split(call):
    assert (
        call("pretrain.py", "genre.toml", "--train.select", "best-score", "--train.valid-every", "1")[0] == 0
    )
    place = Path("runs/genre/seed0/fold0")
    held_out = pd.read_csv(place / "valid.csv")["Id"]
    assert 0 < len(held_out) < 12
    assert held_out.max() <= 32  # ids of the training split; those of the test split begin at 5001
    assert pd.read_csv(place / "test.csv")["Id"].min() > 5000
    assert read_json(Path("runs/genre/scores.json"))["n"] == 9  # 12 test clips, one class left out


def test_genre_folds_are_scored_and_drawn(call):
    assert call("train.py", "genre.toml")[0] == 0
    names = {path.name for path in Path("runs/genre").iterdir()}
    assert {"report.txt", "confusion.csv", "confusion.png", "oof.csv", "test.csv"} <= names


def test_ctrl_c_says_how_to_go_on(call, monkeypatch):
    from music_emotion.training.loop import Trainer

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_run_epoch", interrupt)
    status, _, errors = call("train.py", "small.toml")
    assert status == 130
    assert "the same command goes on" in errors
    assert "Traceback" not in errors


def test_a_genre_run_is_not_submitted(call):
    call("train.py", "genre.toml")
    status, _, errors = call("submit.py", "runs/genre")
    assert status == 2
    assert "is a genre run" in errors


def test_a_file_where_a_folder_should_be_gets_a_sentence(call):
    Path("taken").write_text("")
    status, _, errors = call("train.py", "small.toml", "--runs", "taken")
    assert status == 2
    assert "taken" in errors.strip().splitlines()[-1]
    assert "Traceback" not in errors


def test_a_score_selected_on_validation_is_marked(call):
    _, out, _ = call("train.py", "small.toml", "--train.select", "best-score")
    assert "selected on validation" in out
    assert read_json(Path("runs/small/scores.json"))["selected_on_validation"] is True


def test_a_classical_run_is_scored_and_submitted_like_any_other(call):
    status, out, _ = call("train.py", "small.toml", "--classical.kind", "ridge")
    assert status == 0
    assert "small (out-of-fold):" in out
    assert read_json(Path("runs/small/scores.json"))["pooled"]["mean"]["value"] > 0.7
    assert not list(Path("runs").rglob("*.safetensors"))
    assert call("submit.py", "runs/small", "--day", "2026-01-02")[0] == 0
    assert len(pd.read_csv("submissions/small-2026-01-02.csv")) == 8


def test_the_overfit_check_says_what_came_of_it(call):
    augment = ["--train.batch-size", "8"]
    status, out, _ = call("train.py", "small.toml", "--overfit-batch", *augment)
    assert status == 0
    assert "It can learn one batch." in out
    assert not Path("runs").exists()
    _, out, _ = call("train.py", "small.toml", "--overfit-batch", "--optim.learning-rate", "1e-9")
    assert "It could not" in out


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["train.py", "none.toml"], 2, "none.toml does not exist"),
        (["train.py"], 1, "--file requires an argument"),
        (["train.py", "small.toml", "--optim.learning-rat", "1"], 1, "--optim.learning-rate"),
        (
            ["train.py", "small.toml", "--model.kind", "cnov"],
            2,
            "model.kind is 'cnov'; input should be 'conv'",
        ),
        (
            ["train.py", "small.toml", "--train.epochs", "0"],
            2,
            "train.epochs is '0'; input should be greater",
        ),
        (["train.py", "small.toml", "--train.patience", "2"], 2, "train.patience needs a best epoch"),
        (["train.py", "small.toml", "--data.root", "nowhere"], 2, "The data root nowhere is not a folder"),
        (["train.py", "small.toml", "--data.root", "runs-of-nothing/.."], 2, "is not a folder"),
        (["train.py", "small.toml", "--data.targets", "valense"], 2, "did you mean 'valence'"),
        (["train.py", "small.toml", "--folds.n", "90"], 2, "There are 40 clips for 90 folds"),
        (["train.py", "small.toml", "--folds.groups", "no.csv"], 2, "The group file no.csv does not exist"),
        (["train.py", "small.toml", "--only-fold", "3"], 2, "the folds are 0 to 2"),
        (
            ["train.py", "small.toml", "--folds.split", "holdout", "--only-fold", "1"],
            2,
            "the folds are 0 to 0",
        ),
        (["pretrain.py", "genre.toml", "--folds.split", "holdout"], 2, "so it is no pretraining"),
        (["train.py", "small.toml", "--model.trunk", "no.safetensors"], 2, "no.safetensors does not exist"),
        (["train.py", "small.toml", "--optim.name", "adamm"], 2, "timm has no optimiser 'adamm'"),
        (
            ["train.py", "small.toml", "--data.rows", "chroma", "--model.widths", "8", "8", "8", "8"],
            2,
            "pools at least 32",
        ),
        (
            ["train.py", "small.toml", "--classical.kind", "ridge", "--overfit-batch"],
            2,
            "--overfit-batch is for networks; classical.kind is 'ridge'",
        ),
        (["pretrain.py", "small.toml"], 2, "pretraining needs 'genre'"),
        (["pretrain.py", "genre.toml", "--classical.kind", "svr"], 2, "'svr' can't do genre"),
        (["ensemble.py"], 2, "There is nothing to blend"),
        (["ensemble.py", "runs/none"], 2, "experiment.json does not exist"),
        (["submit.py", "runs/none"], 2, "runs/none/test.csv does not exist"),
        (["extract.py", "no.csv", "--out", "x"], 2, "no.csv does not exist"),
    ],
)
def test_misuse_gets_a_sentence_and_no_traceback(call, arguments, status, sentence):
    reached, _, errors = call(*arguments)
    assert reached == status
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert sentence in " ".join(errors.split())
    assert "Traceback" not in errors


def test_a_run_of_another_experiment_is_refused(call):
    call("train.py", "small.toml", "--only-fold", "0")
    status, _, errors = call("train.py", "small.toml", "--train.epochs", "3", "--optim.learning-rate", "1e-4")
    assert status == 2
    assert "optim.learning_rate, train.epochs differ" in errors


@pytest.mark.parametrize("where", ["store", "state.pt", "model.safetensors"])
def test_a_full_disk_gets_a_sentence_and_leaves_no_half_file(call, monkeypatch, where):
    from music_emotion.datasets import store

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write = Path.write_bytes
    if where == "store":
        monkeypatch.setattr(store, "_write_header", full)
    else:
        monkeypatch.setattr(
            Path, "write_bytes", lambda p, c: full() if p.name.endswith(where) else write(p, c)
        )
    status, _, errors = call("train.py", "small.toml")
    assert status == 2
    place = r"stores/\S+/frames.npy" if where == "store" else f"runs/small/seed0/fold0/{where}"
    said = errors.strip().splitlines()[-1]
    assert re.match(rf"error: No space left on device \({place}\)\. Free some space", said), said
    assert not list(Path().rglob(".writing-*"))


def test_a_trunk_that_does_not_fit_is_refused(call):
    call("pretrain.py", "genre.toml", "--model.widths", "4", "8")
    trunk = "runs/genre/seed0/fold0/model.safetensors"
    status, _, errors = call("train.py", "small.toml", "--model.trunk", trunk)
    assert status == 2
    assert "does not fit" in errors
    assert "trunk.blocks.0.0.weight is (4, 2, 3, 3) there, (8, 2, 3, 3) here" in errors


def test_help_names_every_flag_with_its_meaning(call):
    status, out, _ = call("train.py", "--help")
    assert status == 0
    assert "--optim.learning-rate" in out
    assert "The largest one." in out


def test_a_section_called_like_a_command_is_read_from_the_experiment_file(tmp_path):
    file = tmp_path / "short.toml"
    file.write_text('name = "short"\n[train]\nepochs = 7\n[folds]\nn = 3\n')
    _, bound, *_ = cli._app().parse_args(["train", str(file), "--seeds", "3"])
    experiment = bound.arguments["experiment"]
    assert (experiment.train.epochs, experiment.folds.n, experiment.seeds) == (7, 3, (3,))
