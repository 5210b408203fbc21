"""The inference kernel in a tree like Kaggle's gives the submission that is made at home."""

import os
import re
import runpy
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from accelerate.state import AcceleratorState
from command_line import call as script
from kaggle_tree import GUARD, PROJECT, KaggleTree

from music_emotion.evaluation.blend import Recipe
from music_emotion.files import InputError, read_json, read_predictions
from music_emotion.kaggle import bundle, train
from music_emotion.kaggle.kernel import find_data, find_form, predict_blend, predict_models
from music_emotion.kaggle.metadata import make_metadata

SMALL = [
    *("--model.widths", "4", "8", "--excerpt.frames", "32", "--folds.n", "2"),
    *("--train.epochs", "2", "--train.batch-size", "8"),
]
RUNS = {
    "one": ["multitask", "--seeds", "0", "1"],
    "two": ["multitask", "--model.kind", "lstm", "--data.rate", "beat"],
    "three": ["ridge", "--seeds", "0", "1"],
    "four": [
        *("boosting", "--classical.rounds", "9", "--classical.leaf-clips", "2"),
        *("--folds.groups", "groups.csv", "--data.targets", "valence", "energy", "danceability"),
    ],
}


pytestmark = pytest.mark.usefixtures("own_accelerate")


@pytest.fixture(scope="module", params=[1, 375])
def handed_in(request, tmp_path_factory, make_emotion) -> Path:
    """A folder with a small competition, a blend of networks and classical runs, submission and bundle.

    The networks are trained in the precision that this machine's processor likes.
    """
    folder = tmp_path_factory.mktemp("handed-in")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_emotion(folder / "data", n_train=24, n_test=request.param)
        rows = "".join(f"{clip_id},{clip_id % 8}\n" for clip_id in range(1000, 1024))
        (folder / "groups.csv").write_text("Id,group\n" + rows)
        for name, (experiment, *flags) in RUNS.items():
            file = PROJECT / "experiments" / f"{experiment}.toml"
            assert script("train.py", str(file), "--name", name, *SMALL, *flags) == 0
        assert script("ensemble.py", *(f"runs/{name}" for name in RUNS), "--name", "both") == 0
        assert script("submit.py", "runs/both", "--day", "2026-01-02") == 0
        assert script("package.py", "runs/both", "--owner", "somebody", "--competition", "the-lab") == 0
    return folder


def tree_of(handed_in: Path, root: Path, layout: str) -> KaggleTree:
    """The competition's data and the bundle under one of Kaggle's two layouts."""
    tree = KaggleTree(root)
    tree.mount(handed_in / "data", LAYOUTS[layout]["data"] + "/data")
    tree.mount(handed_in / "build" / "both" / "dataset", LAYOUTS[layout]["bundle"])
    return tree


LAYOUTS = {
    "old": {"data": "patreco3-multitask-affective-music", "bundle": "music-emotion-both"},
    "new": {
        "data": "datasets/geoparslp/patreco3-multitask-affective-music",
        "bundle": "datasets/somebody/music-emotion-both",
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_kernel_gives_the_local_submission(handed_in, tmp_path, layout):
    tree = tree_of(handed_in, tmp_path, layout)
    done = tree.run(handed_in / "build" / "both" / "kernel" / "kernel.py")
    assert done.returncode == 0, done.stderr
    local = pd.read_csv(handed_in / "submissions" / "both-2026-01-02.csv")
    ours = pd.read_csv(tree.working / "submission.csv")
    assert ours.columns.tolist() == local.columns.tolist()
    assert ours.iloc[:, 0].tolist() == local.iloc[:, 0].tolist()
    np.testing.assert_allclose(ours.iloc[:, 1:], local.iloc[:, 1:], rtol=0, atol=1e-6)
    facts = read_json(tree.working / "run.json")
    assert facts["finished"] is True
    assert facts["rows"] == len(local)
    assert facts["sample"] == "none"
    assert (facts["models"], facts["refits"]) == (6, 2)
    assert facts["bundle"] == read_json(handed_in / "build/both/dataset/manifest.json")["bundle"]
    assert sorted(path.name for path in tree.working.iterdir()) == ["run.json", "submission.csv"]


def test_the_guard_refuses_what_the_image_lacks_and_the_network(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(GUARD.read_text())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    environment["IMAGE"] = str(PROJECT / "kaggle" / "image.txt")
    for module in ("cyclopts", "distributed", "pytest"):
        command = [sys.executable, "-c", f"import {module}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert f"No module named '{module}'" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as server:
        call = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}))"
        command = [sys.executable, "-c", call]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "there is no network" in done.stderr


@pytest.mark.parametrize("handed_in", [1], indirect=True)
def test_another_bundle_or_a_damaged_one_or_other_clips_are_not_run(handed_in, tmp_path):
    tree = tree_of(handed_in, tmp_path, "new")
    kernel = handed_in / "build" / "both" / "kernel" / "kernel.py"
    data, dataset = (tree.inputs / LAYOUTS["new"][place] for place in ("data", "bundle"))
    labels = data / "data" / "multitask_dataset" / "train_labels.txt"
    labels.chmod(0o644)
    kept = labels.read_text()
    labels.write_text(kept.replace("1003,", "2003,"))
    array = data / "data/multitask_dataset/train/1003.fused.full.npy"
    array.rename(array.with_name("2003.fused.full.npy"))
    done = tree.run(kernel)
    assert done.returncode != 0
    assert "2 training clips are only in the attached data or only in three-folds.csv" in done.stderr
    model = dataset / "one-seed0-fold0.safetensors"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-4] + b"\\1\\2\\3\\4")
    done = tree.run(kernel)
    assert done.returncode != 0
    assert "missing or damaged are one-seed0-fold0.safetensors. Upload the dataset again" in done.stderr
    assert "Traceback" not in done.stderr
    manifest = dataset / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text().replace("z-score", "rank"))
    done = tree.run(kernel)
    assert done.returncode != 0
    assert re.search(
        r"only \['[0-9a-f]{12}'\]\. Kaggle mounts the latest version that was ready", done.stderr
    )
    assert not list(tree.working.iterdir())


@pytest.mark.parametrize("handed_in", [375], indirect=True)
def test_every_member_predicts_what_it_did_at_home(handed_in):
    """The blend of one run does not hide what the others do."""
    for run in RUNS:
        tables = [read_predictions(path) for path in sorted((handed_in / "runs" / run).glob("*/*/test.csv"))]
        assert len(tables) == (4 if run in {"one", "three"} else 2)
        assert all((table.std() > 1e-6).all() for table in tables)


@pytest.mark.parametrize("handed_in", [375], indirect=True)
def test_two_gpus_share_the_models(handed_in, tmp_path, monkeypatch):
    """The processes are real; without GPUs they predict on the CPU."""
    folder, inputs = handed_in / "build" / "both" / "dataset", handed_in / "data"
    manifest = read_json(folder / "manifest.json")
    AcceleratorState._reset_state(reset_partial_state=True)
    recipe = Recipe(**manifest["recipe"])
    alone, _ = predict_blend(recipe, folder, manifest, inputs, tmp_path / "alone")
    monkeypatch.setattr(train.torch.cuda, "device_count", lambda: 2)
    shared, _ = predict_blend(recipe, folder, manifest, inputs, tmp_path / "shared")
    pd.testing.assert_frame_equal(shared, alone, rtol=0, atol=1e-9)
    tables = sorted((tmp_path / "shared").glob("*.safetensors.csv"))
    assert len(tables) == 6
    for table in tables:
        seed, fold = table.name.removesuffix(".safetensors.csv").split("-")[1:]
        at_home = handed_in / "runs" / table.name.split("-")[0] / seed / fold / "test.csv"
        ours, theirs = read_predictions(table), read_predictions(at_home)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"The processes of GPUs \[0, 1\] failed"):
        train.run_shares(predict_models, lambda share, _: [str(tmp_path), str(share), "x", "no.model"])


@pytest.fixture
def attached(tmp_path, make_emotion) -> Path:
    """Inputs with arrays in a dataset, a competition, and another dataset."""
    make_emotion(tmp_path / "input/datasets/lab/arrays", n_train=2, n_test=3)
    for folder in ("competitions/the-lab", "datasets/lab/other"):
        (tmp_path / "input" / folder).mkdir(parents=True)
    return tmp_path / "input"


def test_the_form_is_the_competitions_and_no_others(attached):
    targets, ids = ("valence", "energy", "danceability"), np.array([1000, 1001, 1002])
    arrays = attached / "datasets/lab/arrays/multitask_dataset"
    look = partial(find_form, attached, "the-lab", arrays, targets, ids)
    stranger = attached / "datasets/lab/other/sample_submission.csv"
    stranger.write_text("Id,price\n1,2\n")
    form, sample = look()
    assert (form.columns[0], sample) == ("Id.fused.full.npy.gz", "none")
    rows = "".join(f"{clip_id},0,0,0\n" for clip_id in reversed(ids))
    own = attached / "competitions/the-lab/sample_submission.csv"
    own.write_text("Id,energy,valence,danceability\n" + rows)
    form, sample = look()
    assert (form.index.tolist(), form.columns[1], sample) == (
        [1002, 1001, 1000],
        "energy",
        str(own.relative_to(attached)),
    )
    beside = attached / "datasets/lab/arrays/sample_submission.csv"
    beside.write_text(own.read_text())
    assert look()[0].equals(form)
    beside.write_text(own.read_text().replace("0,0,0", "0,0,1"))
    with pytest.raises(InputError, match="Several sample submissions are attached"):
        look()
    beside.unlink()
    own.write_text("Id,energy,valence,danceability\n1,0,0,0\n")
    with pytest.raises(InputError, match="1 have no prediction"):
        look()


def test_the_competitions_data_is_taken_where_a_dataset_has_it_too(attached, make_emotion):
    assert find_data(attached, "the-lab") == attached
    make_emotion(attached / "competitions/the-lab/data", n_train=2, n_test=3)
    assert find_data(attached, "the-lab") == attached / "competitions/the-lab"
    with pytest.raises(InputError, match=r"Several folders multitask_dataset.*--competition and --sources"):
        find_data(attached, None)
    (attached / "empty").mkdir()
    with pytest.raises(InputError, match=r"No folder multitask_dataset.*--competition and --sources"):
        find_data(attached / "empty", None)


def test_a_manifest_that_was_changed_is_no_bundle(tmp_path):
    script = runpy.run_path(str(PROJECT / "kaggle" / "kernel.py"), run_name="kernel")
    (tmp_path / "dataset").mkdir()
    metadata = make_metadata("somebody", "some-dataset", "some-kernel", "the-lab", (), None)
    found = bundle._write_files(tmp_path, "x", {"recipe": {"weights": 0.1}}, *metadata)
    path = tmp_path / "dataset" / "manifest.json"
    assert script["hash_of"](path) == found
    path.write_text(path.read_text().replace("0.1", "0.9"))
    assert script["hash_of"](path) != found
    for text in ("[1]", "half of {"):
        path.write_text(text)
        assert script["hash_of"](path) == "another file"
