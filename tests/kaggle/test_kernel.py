"""The kernels in a tree like Kaggle's give the submissions that are made at home."""

import itertools
import math
import os
import runpy
import shutil
import time
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from command_line import call
from kaggle_tree import KaggleTree
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from random_ear import write_random_ear
from safetensors.torch import load_file

from music_emotion.config import DataSection, Experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.datasets.parallel import Workers
from music_emotion.evaluation.blend import Recipe, blend
from music_emotion.files import InputError, read_json, read_predictions, write_json
from music_emotion.kaggle import kernel
from music_emotion.kaggle.kernel import plan_identity, run_shares, take_over, train_stages
from music_emotion.kaggle.plan import Plan, add_plan, plan_training
from music_emotion.models.ear import ear_folder
from music_emotion.models.embedding_table import array_clips, embed_clips, make_hearing
from music_emotion.training import folds, loop
from music_emotion.training.predict import predict_with

TARGETS = ("valence", "energy", "danceability")
EPOCHS = 6  # of the transfer
TRAIN = f"epochs = {EPOCHS}, batch_size = 8, valid_every = 3, frozen_epochs = 1"
MODEL = 'widths = [4, 8], trunk = "runs/genres/seed0/fold0/model.safetensors"'
GROUPED = 'folds = {n = 2, groups = "groups.csv"}'
EXPERIMENTS = {
    "ridge": 'seeds = [0, 1]\nfolds = {n = 2}\nclassical = {kind = "ridge"}',
    "boosting": f'{GROUPED}\nclassical = {{kind = "boosting", rounds = 9, leaf_clips = 2}}',
    "beats": 'data = {rate = "beat"}\nfolds = {n = 2}\nmodel = {kind = "lstm"}\ntrain = {epochs = 2}',
    "genres": """task = "genre"\nmodel = {widths = [4, 8]}
        train = {epochs = 4, batch_size = 8, valid_every = 2}""",
    "transfer": f"{GROUPED}\nmodel = {{{MODEL}}}\ntrain = {{{TRAIN}}}",
    "embedded": """folds = {n = 2}\nclassical = {kind = "gp"}\n[data]
        columns = ["*-mean:*", "*-tags:*", "table2:*"]\nembeddings = ["ear-{split}.csv", "mine.csv"]""",
    "valence": 'data = {targets = ["valence"]}\nclassical = {kind = "ridge"}',
}
BLENDS = {"both": ["ridge", "transfer"], "all": ["ridge", "boosting", "beats", "transfer", "embedded"]}

pytestmark = pytest.mark.usefixtures("own_accelerate")


@pytest.fixture(scope="module")
def home(tmp_path_factory, competition) -> Iterator[Path]:
    """A folder with a small competition, runs, two blends, their submissions, and a bundle of one."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").symlink_to(competition)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        rows = "".join(f"{clip_id},{clip_id % 8}\n" for clip_id in range(1000, 1040))
        Path("groups.csv").write_text("Id,group\n" + rows)
        embed(folder)
        for name, text in EXPERIMENTS.items():
            Path(f"{name}.toml").write_text(f'name = "{name}"\nexcerpt = {{frames = 32}}\n{text}')
        assert call("pretrain.py", "genres.toml") == 0
        for name in BLENDS["all"]:
            assert call("train.py", f"{name}.toml") == 0
        for name, members in BLENDS.items():
            assert call("ensemble.py", *(f"runs/{member}" for member in members), "--name", name) == 0
            assert call("submit.py", f"runs/{name}", "--day", "2026-01-02") == 0
        assert call("package.py", "runs/all", "--owner", "somebody", "--competition", "the-lab") == 0
        yield folder


def embed(folder: Path) -> None:
    """Embed the arrays with random weights in the user's cache; a table of others has all clips."""
    ears = [write_random_ear(ear_folder() / "musicnn-random.safetensors")]
    hearing = make_hearing(ears, 3.0, (15.0, 22.0), tags=True)
    for split in ("train", "test"):
        clips = array_clips(folder / "data/multitask_dataset", split)
        embed_clips(clips, Path(f"ear-{split}.csv"), ears, hearing, Workers(1), 0)
    pd.DataFrame({"id": range(1000, 1100), "0": np.arange(100) % 7}).to_csv("mine.csv", index=False)


def run_kernel(home: Path, tree: KaggleTree, build: Path, blended: str, over_once: str = "never") -> dict:
    """Run a kernel, compare its submission with the one at home, and return its run.json."""
    tree.mount(home / "data", "datasets/lab/arrays/data")
    tree.mount(build / "dataset", f"datasets/somebody/{build.name}")
    done = tree.run((build / "kernel" / "kernel.py").read_text(), over_once)
    assert done.returncode == 0, done.stderr
    facts = read_json(tree.working / "run.json")
    local = pd.read_csv(home / "submissions" / f"{blended}-2026-01-02.csv")
    ours = pd.read_csv(tree.working / "submission.csv")
    assert ours.columns.tolist() == local.columns.tolist()
    assert ours.iloc[:, 0].tolist() == local.iloc[:, 0].tolist()
    assert ours["valence"].nunique() == len(local) == facts["rows"]
    assert (facts["sample"], facts["precision"]) == ("none", "no")
    assert facts["bundle"] == read_json(build / "dataset/manifest.json")["bundle"]
    if over_once == "never":
        # single precision, and z-scores of 12 clips
        np.testing.assert_allclose(ours.iloc[:, 1:], local.iloc[:, 1:], rtol=0, atol=5e-6)
    return facts


def test_the_kernel_gives_the_local_submission(home, tmp_path):
    tree = KaggleTree(tmp_path)
    facts = run_kernel(home, tree, home / "build" / "all", "all")
    assert (facts["models"], facts["refits"]) == (4, 3)
    held = {path.name for path in (home / "build/all/dataset").iterdir()}
    assert {"table0-train.csv", "musicnn-random.safetensors", "table1-train.csv", "table1-test.csv"} <= held
    assert "table0-test.csv" not in held  # made anew of the arrays
    assert sorted(path.name for path in tree.working.iterdir()) == ["run.json", "submission.csv"]


def test_a_notebook_gives_the_same_and_shows_it(home, tmp_path, monkeypatch):
    flags = ["--owner", "somebody", "--competition", "the-lab", "--notebook", "--name", "read"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert call("package.py", "runs/both", *flags) == 0
        submission = pd.read_csv("submissions/both-2026-01-02.csv")
    made = home / "build/read"
    metadata = read_json(made / "kernel/kernel-metadata.json")
    assert (metadata["kernel_type"], metadata["code_file"]) == ("notebook", "kernel.ipynb")
    assert metadata["id"] == "somebody/music-emotion-read-inference-notebook"
    tree = KaggleTree(tmp_path)
    tree.mount(home / "data", "datasets/imsparsh/patreco3-multitask-affective-music")
    tree.mount(made / "dataset", "datasets/somebody/music-emotion-read")
    monkeypatch.delenv("MPLBACKEND")  # set by the command, in this process
    notebook = nbformat.reads(tree.here((made / "kernel/kernel.ipynb").read_text()), as_version=4)
    nbformat.validate(notebook)
    assert [cell.cell_type for cell in notebook.cells] == ["markdown", "code"] * 3
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    found = pd.read_csv(tree.working / "submission.csv")
    np.testing.assert_allclose(found.iloc[:, 1:], submission.iloc[:, 1:], rtol=0, atol=5e-6)
    shown = str(notebook.cells[-1].outputs)
    assert "image/png" in shown
    assert f"{found.iloc[0, 1]:.6f}"[:6] in shown
    (tree.working / "submission.csv").unlink()
    damaged = tree.inputs / "datasets/somebody/music-emotion-read"
    damaged.chmod(0o755)
    next(damaged.glob("*.safetensors")).unlink()
    with pytest.raises(CellExecutionError, match="is missing or damaged"):
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    assert not (tree.working / "submission.csv").exists()


def test_a_notebook_trains_and_shows_its_submission(home, tmp_path, monkeypatch):
    flags = ["--owner", "somebody", "--sources", "lab/arrays", "--hours", "1", "--notebook"]
    assert call("package.py", "ridge.toml", *flags, "--name", "learn") == 0
    made = home / "build/learn"
    assert (
        read_json(made / "kernel/kernel-metadata.json")["id"] == "somebody/music-emotion-learn-run-notebook"
    )
    tree = KaggleTree(tmp_path)
    tree.mount(home / "data", "patreco3-multitask-affective-music")  # as older kernels mount it
    tree.mount(made / "dataset", "music-emotion-learn")
    monkeypatch.delenv("MPLBACKEND")
    notebook = nbformat.reads(tree.here((made / "kernel/kernel.ipynb").read_text()), as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tree.working}}).execute()
    assert read_json(tree.working / "run.json")["complete"]
    assert len(pd.read_csv(tree.working / "submission.csv")) == 8
    assert "image/png" in str(notebook.cells[-1].outputs)


def test_a_training_that_is_cut_short_hands_in_and_goes_on_where_it_stopped(home, tmp_path):
    """Cut within a network's training, then finished."""
    first, last = KaggleTree(tmp_path / "first"), KaggleTree(tmp_path / "last")
    fold = "runs/transfer/seed0/fold0"
    names = ["--owner", "somebody", "--sources", "lab/arrays", "--hours", "1"]
    assert call("package.py", "runs/both", *names) == 0
    build = home / "build" / "both-training"
    facts = run_kernel(home, first, build, "both", over_once=f"{fold}/state.pt")
    assert (facts["complete"], facts["resumed"], facts["failure"]) == (False, False, None)
    assert facts["folds"] == {"ridge": "4 of 4", "genres": "1 of 1", "transfer": "0 of 2"}
    assert facts["made_of"] == {"ridge": 1.0, "transfer": 1 / EPOCHS / 2}
    resume = ["--resume", "somebody/music-emotion-before", "--kernel", "music-emotion-both-two"]
    assert call("package.py", "runs/both", *names, *resume) == 0
    last.mount(first.working, "notebooks/somebody/music-emotion-before")
    facts = run_kernel(home, last, build, "both")
    assert (facts["complete"], facts["resumed"]) == (True, True)
    assert facts["folds"] == {"ridge": "4 of 4", "genres": "1 of 1", "transfer": "2 of 2"}
    assert facts["out_of_fold"] == read_json(home / "runs" / "both" / "scores.json")["pooled"]
    began, ended = (pd.read_csv(tree.working / fold / "metrics.csv") for tree in (first, last))
    pd.testing.assert_frame_equal(ended[list(began)][:1], began)  # seconds, too: not trained again
    assert not list(last.working.rglob("state.pt"))


def test_the_guard_refuses_what_the_image_lacks_and_the_network(tmp_path):
    tree = KaggleTree(tmp_path)
    for statement, said in (
        ("import cyclopts", "No module named 'cyclopts'"),
        ("import socket; socket.create_connection(('127.0.0.1', 9))", "there is no network"),
    ):
        assert said in tree.run(statement).stderr


def test_the_script_finds_its_bundle_on_both_layouts_and_no_other_or_damaged_one(home, tmp_path):
    text = (home / "build/all/kernel/kernel.py").read_text().replace("/kaggle/input", str(tmp_path / "input"))
    (tmp_path / "kernel.py").write_text(text)
    script = runpy.run_path(str(tmp_path / "kernel.py"), run_name="kernel")
    place = tmp_path / "input/music-emotion-all"
    shutil.copytree(home / "build/all/dataset", place)
    for name, content in (("list", "[1]"), ("half", "half of {")):
        (tmp_path / "input" / name).mkdir()
        (tmp_path / "input" / name / "manifest.json").write_text(content)
    assert script["find_bundle"]() == place
    new = tmp_path / "input/datasets/somebody/music-emotion-all"
    new.parent.mkdir(parents=True)
    place.rename(new)
    assert script["find_bundle"]() == new
    (new / "transfer-seed0-fold0.safetensors").write_bytes(b"damaged")
    with pytest.raises(SystemExit, match=r"transfer-seed0-fold0.safetensors is missing or damaged. Upload"):
        script["unpack"](new)
    manifest = new / "manifest.json"
    write_json(manifest, read_json(manifest) | {"bundle": "0123456789abcdef"})
    with pytest.raises(SystemExit, match=r"only \[.*'[0-9a-f]{12}'.*\]\. Kaggle mounts the latest version"):
        script["find_bundle"]()


def test_other_clips_are_refused_and_no_earlier_submission_is_left(home, tmp_path):
    shutil.copytree(home / "data", tmp_path / "input" / "data")
    data = tmp_path / "input/data/multitask_dataset"
    labels = data / "train_labels.txt"
    labels.write_text(labels.read_text().replace("1003,", "2003,"))
    (data / "train/1003.fused.full.npy").rename(data / "train/2003.fused.full.npy")
    working = tmp_path / "working"
    write_json(working / "run.json", {})
    here = Path.cwd()
    with pytest.raises(InputError, match="2 training clips are only in the attached data or only in ridge-f"):
        kernel.run_bundle(home / "build/all/dataset", tmp_path / "input", working)
    assert not list(working.iterdir())
    assert Path.cwd() == here


def test_two_gpus_share_the_models(home, tmp_path, monkeypatch):
    dataset = home / "build" / "all" / "dataset"
    manifest = read_json(dataset / "manifest.json")
    recipe = Recipe(**manifest["recipe"])
    monkeypatch.chdir(tmp_path)
    kernel.lay_out(dataset, manifest, home / "data")
    for share in range(2):
        kernel.predict_share(share, 2, *(name for names in manifest["models"].values() for name in names))
    monkeypatch.setattr(kernel, "run_shares", lambda *_: None)
    shared, _ = kernel.predict_blend(recipe, manifest)
    at_home = read_predictions(home / "runs" / "all" / "test.csv")
    pd.testing.assert_frame_equal(shared, at_home, rtol=0, atol=1e-6)


class Room:
    """A folder to train in, as the kernel lays it out, with a clock that ticks once an epoch."""

    def __init__(self, home: Path, place: Path, monkeypatch, *what: str) -> None:
        self.monkeypatch, self.scratch, dataset = monkeypatch, place / "scratch", place / "dataset"
        for folder in (self.scratch, dataset):
            folder.mkdir(parents=True)
        monkeypatch.chdir(home)
        self.plan = plan_training([Path(name) for name in what], "both", 1.0, None)
        manifest = add_plan(self.plan, dataset)
        manifest["files"] = {path.name: {} for path in dataset.iterdir()}
        monkeypatch.chdir(self.scratch)
        kernel.lay_out(dataset, manifest, home / "data")
        self.plan = Plan.model_validate(manifest["plan"])

    def train(self, epochs: float = math.inf) -> dict:
        """Train until so many epochs are over; return the progress."""
        ticks = itertools.count()
        clock = SimpleNamespace(time=lambda: 1000 * next(ticks), perf_counter=time.perf_counter)
        self.monkeypatch.setattr(loop, "time", clock)
        self.predictions, progress = train_stages(self.plan, 1000 * epochs - 500)
        assert len(self.predictions) == 8
        return progress


def predict_model(path: Path) -> pd.DataFrame:
    clips = load_clip_set(DataSection(), "emotion", "test", TARGETS)
    return predict_with(path, clips, Accelerator(mixed_precision="no"))


def test_a_training_cut_anywhere_ends_like_one_that_was_not(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "runs/both")
    for epochs, genres, transfer, made_of in (
        (2, 0, 0, {"ridge": 1.0}),
        (4, 1, 0, {"ridge": 1.0, "transfer": 2 / EPOCHS / 2}),
        (EPOCHS, 1, 1, {"ridge": 1.0, "transfer": 0.5}),
    ):
        progress = room.train(epochs)
        folds = {"ridge": "4 of 4", "genres": f"{genres} of 1", "transfer": f"{transfer} of 2"}
        assert progress == {"complete": False, "folds": folds, "failure": None, "made_of": made_of}
        if epochs == 4:  # runs count by the share of their training
            tables = [read_predictions(path) for path in sorted(Path("runs/ridge").glob("*/*/test.csv"))]
            network = predict_model(Path("runs/transfer/seed0/fold0/unfinished.safetensors"))
            weights = pd.DataFrame([dict.fromkeys(TARGETS, share) for share in made_of.values()])
            parts = [blend(tables, "z-score"), blend([network], "z-score")]
            expected = blend(parts, "z-score", weights)
            for target in TARGETS:
                assert np.corrcoef(expected[target], room.predictions[target])[0, 1] == pytest.approx(1)
    assert room.train()["complete"] is True
    expected = read_predictions(home / "runs" / "both" / "test.csv")
    np.testing.assert_allclose(room.predictions, expected, rtol=0, atol=1e-6)
    for model in ("genres/seed0/fold0", "transfer/seed0/fold0", "transfer/seed0/fold1"):
        name = Path("runs", model, "model.safetensors")
        ours, theirs = (load_file(folder / name) for folder in (room.scratch, home))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_a_failure_hands_in_a_ridge_regression_or_a_part_of_a_network(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "genres.toml", "transfer.toml")
    with monkeypatch.context() as patch:
        patch.setattr(folds, "Trainer", Mock(side_effect=RuntimeError("CUDA out of memory")))
        progress = room.train()
    assert (progress["complete"], progress["failure"]) == (False, "genres: CUDA out of memory")
    assert progress["folds"] == {"genres": "0 of 1", "transfer": "0 of 2"}
    assert progress["made_of"] == {"ridge": 1.0}
    ridge = room.predictions
    assert ridge["energy"].nunique() == 8
    assert list(room.train(6)["made_of"]) == ["transfer"]
    alone = predict_model(Path("runs/transfer/seed0/fold0/unfinished.safetensors"))
    assert room.predictions["energy"].rank().equals(alone["energy"].rank())
    assert not room.predictions.equals(ridge)


def test_experiments_of_other_targets_are_refused(home, tmp_path, monkeypatch):
    room = Room(home, tmp_path, monkeypatch, "ridge.toml", "valence.toml")
    with pytest.raises(InputError, match=r"same targets.*'valence': 'valence'"):
        room.train()


def test_two_gpus_share_the_folds(home, tmp_path, monkeypatch):
    """The processes are real; without GPUs they train on the CPU."""
    room = Room(home, tmp_path, monkeypatch, "ridge.toml", "transfer.toml")
    monkeypatch.setattr(kernel.torch.cuda, "device_count", lambda: 2)
    started, start = [], SpawnProcess.start

    def note_and_start(process: SpawnProcess) -> None:
        started.append((os.environ["CUDA_VISIBLE_DEVICES"], *process._args[:3]))
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", note_and_start)
    assert room.train()["complete"] is True
    transfer = room.plan.experiments[1]
    assert started == [("0", 0, 2, transfer), ("1", 1, 2, transfer)]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    expected = read_predictions(home / "runs" / "both" / "test.csv")
    np.testing.assert_allclose(room.predictions, expected, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match=r"The processes of GPUs \[0, 1\] failed"):
        run_shares(os.remove)


def test_the_output_of_an_earlier_run_is_told_from_others(tmp_path, capsys):
    inputs, runs = tmp_path / "input", tmp_path / "working" / "runs"
    assert take_over("this", None, inputs, runs) is False
    assert take_over("this", None, inputs, runs) is True  # begun here already
    with pytest.raises(InputError, match="working/runs is of other experiments"):
        take_over("that", None, inputs, runs)
    begun, other = inputs / "notebooks/somebody/before/runs", inputs / "other/runs"
    with pytest.raises(InputError, match="nothing of somebody/before is attached"):
        take_over("this", "somebody/before", inputs, tmp_path / "two")
    write_json(other / "plan.json", {"hash": "another"})
    with pytest.raises(InputError, match=r"attached are others: .*other/runs\. Package the same"):
        take_over("this", None, inputs, tmp_path / "two")
    write_json(begun / "plan.json", {"hash": "this"})
    whole, damaged = begun / "x" / "seed0" / "fold0", begun / "x" / "seed0" / "fold1"
    for place in (whole, damaged):
        place.mkdir(parents=True)
        torch.save({"epoch": 3}, place / "state.pt")
    (damaged / "state.pt").write_bytes((whole / "state.pt").read_bytes()[:50])
    assert take_over("this", None, inputs, tmp_path / "two") is True
    copied = tmp_path / "two/x/seed0"
    assert (copied / "fold0/state.pt").read_bytes() == (whole / "state.pt").read_bytes()
    assert not (copied / "fold1/state.pt").exists()
    assert "fold1/state.pt is damaged, so its fold begins anew" in capsys.readouterr().out
    write_json(other / "plan.json", {"hash": "this"})
    with pytest.raises(InputError, match=r"Several outputs of this plan are attached: .*Attach one"):
        take_over("this", None, inputs, tmp_path / "three")


def test_a_training_is_known_by_its_experiments_and_the_files_they_name_and_not_by_its_hours():
    plan = Plan(name="kaggle", hours=8.0, experiments=(Experiment(),))
    groups = {"x-groups.csv": {"sha256": "a"}, "m-1.whl": {"sha256": "b"}}
    same = plan_identity(plan, groups)
    longer = plan.model_copy(update={"hours": 1.0, "resume": "a/some-kernel"})
    assert plan_identity(longer, groups | {"m-1.whl": {"sha256": "c"}}) == same
    assert plan_identity(plan, groups | {"x-groups.csv": {"sha256": "c"}}) != same
    assert plan_identity(plan.model_copy(update={"experiments": (Experiment(seeds=(1,)),)}), groups) != same


@pytest.fixture
def attached(tmp_path, make_emotion) -> Path:
    """Inputs with arrays in a dataset, a competition, and another dataset."""
    make_emotion(tmp_path / "input/datasets/lab/arrays", n_train=2, n_test=3)
    for folder in ("competitions/the-lab", "datasets/lab/other"):
        (tmp_path / "input" / folder).mkdir(parents=True)
    return tmp_path / "input"


def test_the_form_is_the_competitions_and_no_others(attached):
    arrays = attached / "datasets/lab/arrays/multitask_dataset"

    def look() -> tuple[pd.DataFrame, str]:
        return kernel.find_form(attached, "the-lab", arrays, TARGETS, np.array([1000, 1001, 1002]))

    (attached / "datasets/lab/other/sample_submission.csv").write_text("Id,price\n1,2\n")
    assert look()[1] == "none"
    own = attached / "competitions/the-lab/sample_submission.csv"
    own.write_text("Id,energy,valence,danceability\n1002,0,0,0\n1001,0,0,0\n1000,0,0,0\n")
    form, sample = look()
    assert (form.index.tolist(), form.columns[1]) == ([1002, 1001, 1000], "energy")
    assert sample == str(own.relative_to(attached))
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
    assert kernel.find_data(attached, "the-lab") == attached
    make_emotion(attached / "competitions/the-lab/data", n_train=2, n_test=3)
    assert kernel.find_data(attached, "the-lab") == attached / "competitions/the-lab"
    with pytest.raises(InputError, match=r"Several folders multitask_dataset.*--competition and --sources"):
        kernel.find_data(attached, None)
    (attached / "empty").mkdir()
    with pytest.raises(InputError, match=r"No folder multitask_dataset.*--competition and --sources"):
        kernel.find_data(attached / "empty", None)
