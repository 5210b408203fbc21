"""Commands as a user gives them, from the competition to submissions: flags, files and messages."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line import call

from music_emotion import cli
from music_emotion.commands import experiment_of
from music_emotion.files import read_json, read_predictions
from music_emotion.plots import read_confusion

TOML = """
name = "{name}"
task = "{task}"
excerpt.frames = 32
excerpt.test = 2
model.widths = [8, 16]
train.epochs = 2
train.batch_size = 8
folds.n = 3
data.genres = {{ Blues = "NA", Folk = "1", Psych-Rock = "Cash $$ 歌", Soundtrack = false }}
"""
TARGETS, CLASSES = ["NA", "energy", 'worth $_$, "b"'], ["1", "Cash $$ 歌", "NA"]
HEADER = 'Id,NA,energy,"worth $_$, ""b"""'
TRUNK = "runs/genre/seed0/fold0/model.safetensors"
RUNS = {
    "genre": "pretrain.py genre.toml --train.select best-score --train.valid-every 1",
    "small": f"train.py small.toml --model.trunk {TRUNK}",
    "seeds": "train.py small.toml --name seeds --seeds 0 1",
    "alone": "train.py small.toml --name alone --only-fold 1",
    "folds": "train.py genre.toml --name folds",
    "energy": "train.py small.toml --name energy --data.targets energy --train.select best-score",
    "ridge": "train.py small.toml --name ridge --classical.kind ridge",
    "both": "ensemble.py runs/small runs/seeds --name both",
    "chosen": "ensemble.py runs/small runs/seeds --choose --name chosen",
    "ranked": "ensemble.py runs/seeds --method rank --name ranked",
}


@pytest.fixture(scope="module")
def made(competition, tmp_path_factory):
    """A folder with every run of `RUNS`, and what each command printed."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(competition, folder / "data", copy_function=os.symlink)
    labels, said = folder / "data/multitask_dataset/train_labels.txt", {}
    rows = labels.read_text().splitlines()[1:]
    labels.unlink()
    labels.write_text("\n".join([HEADER, *rows]))
    with contextlib.chdir(folder):
        for name, task in (("small", "emotion"), ("genre", "genre")):
            Path(f"{name}.toml").write_text(TOML.format(name=name, task=task))
        for name, command in RUNS.items():
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                assert call(*command.split()) == 0, name
            said[name] = printed.getvalue()
    return folder, said


@pytest.fixture
def said(made, monkeypatch):
    """What each command printed, in the folder of its runs."""
    monkeypatch.chdir(made[0])
    return made[1]


def scores(name: str) -> dict:
    return read_json(Path("runs", name, "scores.json"))


def table(path: str) -> pd.DataFrame:
    return pd.read_csv(path, index_col="Id")


def test_a_pretraining_that_selects_an_epoch_does_not_see_the_test_split(said):
    assert f"The trunk is in {TRUNK}." in said["genre"]
    held_out = table("runs/genre/seed0/fold0/valid.csv").index
    assert 0 < len(held_out) < 12
    assert held_out.max() <= 32  # ids of the training split; those of the test split begin at 5001
    assert table("runs/genre/seed0/fold0/test.csv").index.min() > 5000
    assert scores("genre")["n"] == 9  # 12 test clips, one class left out
    assert "macro_f1" in scores("genre")["pooled"]


def test_trainings_are_scored_by_seed_target_and_estimator(said):
    assert "small (out-of-fold):" in said["small"]
    assert sorted(path.name for path in Path("runs/seeds").glob("seed*")) == ["seed0", "seed1"]
    assert table("runs/energy/oof.csv").columns.tolist() == ["energy"]
    assert "selected on validation" in said["energy"]
    assert scores("energy")["selected_on_validation"] is True
    assert scores("ridge")["pooled"]["mean"]["value"] > 0.7
    assert not list(Path("runs/ridge").rglob("*.safetensors"))
    names = {path.name for path in Path("runs/folds").iterdir()}
    assert {"report.txt", "confusion.csv", "confusion.png", "oof.csv", "test.csv"} <= names
    assert Path("runs/small/oof.png").exists()


def test_names_are_text_in_every_table_picture_and_page(said, run_script):
    assert {name: text for name, text in said.items() if "warning" in text} == {}
    for command in ("compare.py runs/small runs/seeds", "show.py confusion runs/folds", "report.py --out p"):
        status, _, errors = run_script(*command.split())
        assert (status, "warning" in errors) == (0, False), errors
    assert read_predictions(Path("runs/folds/oof.csv")).columns.tolist() == CLASSES
    assert read_confusion(Path("runs/folds/confusion.csv")).columns.tolist() == CLASSES
    assert list(scores("small")["pooled"]) == [*TARGETS, "mean"]
    assert Path("pictures/confusion-folds.png").exists()


@pytest.mark.usefixtures("said")
def test_one_fold_alone_is_not_trained_again_with_the_others(run_script):
    (model,) = Path("runs/alone").glob("seed0/*/model.safetensors")
    assert model.parent.name == "fold1"
    assert 0 < len(table("runs/alone/oof.csv")) < 40
    written = model.stat().st_mtime_ns
    assert run_script(*RUNS["alone"].split()[:-2])[0] == 0
    assert len(table("runs/alone/oof.csv")) == 40
    assert model.stat().st_mtime_ns == written
    status, _, errors = run_script(*RUNS["alone"].split(), "--train.epochs", "3", "--seeds", "1")
    assert status == 2
    assert "runs/alone holds another experiment: seeds, train.epochs differ" in errors


def test_blends_choose_members_and_keep_the_order_of_ranks(said):
    assert "nested out-of-fold" in said["both"]
    weights = read_json(Path("runs/chosen/blend.json"))["weights"]
    members = pd.read_csv("runs/chosen/members.csv", index_col="run", keep_default_na=False)
    for target, ranked in members.groupby("target"):
        assert sorted(ranked.index) == ["seeds", "small"]
        best = set(ranked.index[: ranked["score"].to_numpy().argmax() + 1])
        assert {name for name, of_target in weights.items() if of_target[target] > 0} == best
    tests = [table(str(path)) for path in Path("runs/seeds").glob("seed*/fold*/test.csv")]
    assert len(tests) == 6
    order = sum(each["energy"].rank() for each in tests).rank()
    pd.testing.assert_series_equal(table("runs/ranked/test.csv")["energy"].rank(), order)


@pytest.mark.parametrize(
    ("name", "targets"),
    [("both", TARGETS), ("energy", ["energy"]), ("ridge", None)],
)
@pytest.mark.usefixtures("said")
def test_a_submission_has_the_form_of_the_editions_and_a_card(run_script, name, targets):
    assert run_script("submit.py", f"runs/{name}", "--day", "2026-01-02")[0] == 0
    submission = pd.read_csv(f"submissions/{name}-2026-01-02.csv")
    assert submission.columns.tolist()[:1] == ["Id.fused.full.npy.gz"]
    assert targets is None or submission.columns.tolist()[1:] == targets
    assert submission.iloc[:, 0].tolist() == [f"{n}.fused.full.npy.gz" for n in range(1000, 1008)]
    card = read_json(Path(f"submissions/{name}-2026-01-02.json"))
    assert card["runs"] == (["runs/small", "runs/seeds"] if name == "both" else [f"runs/{name}"])
    assert card["leaderboard"] is None
    assert card["out_of_fold"]["mean"]["n"] == 40


@pytest.mark.usefixtures("said")
def test_a_sample_decides_the_submissions_form(run_script):
    ids = [1003, 1001, 1000, 1002, 1007, 1006, 1005, 1004]
    rows = "".join(f"{n},0,0,0\n" for n in ids)
    Path("sample.csv").write_text(f"{HEADER.replace('NA,energy', 'energy,NA')}\n{rows}")
    flags = ["--sample", "sample.csv", "--name", "form", "--day", "2026-01-02"]
    assert run_script("submit.py", "runs/small", *flags)[0] == 0
    written = table("submissions/form-2026-01-02.csv")
    assert written.index.tolist() == ids
    assert written.columns.tolist() == ["energy", "NA", TARGETS[2]]
    assert ((written - table("runs/small/test.csv").loc[ids, written.columns]).abs() < 1e-5).all(axis=None)


@pytest.mark.usefixtures("said")
def test_the_overfit_check_says_what_came_of_it(run_script):
    check = ["train.py", "small.toml", "--name", "checked", "--overfit-batch", "--model.widths", "4"]
    status, out, _ = run_script(*check)
    assert status == 0
    assert "It can learn one batch." in out
    assert not Path("runs/checked").exists()
    _, out, _ = run_script(*check, "--optim.learning-rate", "1e-9")
    assert "after 400 updates. It could not" in out


MISTAKES = {
    "train.py": (1, "--file requires an argument. See --help."),
    "train.py small.toml --optim.learning-rat 1": (1, "--optim.learning-rate"),
    "extract.py clips.csv --out x --max-failed 2": (1, "--max-failed"),
    "extract.py clips.csv --out x --hop-length 0": (2, "command line: hop_length is '0'; input should be"),
    "extract.py clips.csv --out x --jobs 0": (2, "--jobs is 0"),
    "study.py tune-svm --name mine": (2, "Leave out --name"),
    "train.py small.toml --train.patience 2": (2, "command line: train.patience needs train.select"),
    "train.py small.toml --only-fold 3": (2, "the folds are 0 to 2"),
    "train.py small.toml --folds.split holdout --only-fold 1": (2, "the folds are 0 to 0"),
    "train.py small.toml --optim.name adamm": (2, "timm has no optimiser 'adamm'"),
    "train.py small.toml --data.rows chroma --model.widths 8 8 8 8": (2, "pools at least 32"),
    "train.py small.toml --classical.kind ridge --overfit-batch": (2, "classical.kind is 'ridge'"),
    "pretrain.py small.toml": (2, "pretraining needs 'genre'"),
    "pretrain.py genre.toml --folds.split holdout": (2, "so it is no pretraining"),
    f"train.py small.toml --model.trunk {TRUNK} --model.widths 4 8": (
        2,
        "is (8, 2, 3, 3) there, (4, 2, 3, 3)",
    ),
    "submit.py runs/folds": (2, "is a genre run"),
}


@pytest.mark.parametrize("command", MISTAKES)
@pytest.mark.usefixtures("said")
def test_misuse_gets_a_sentence_and_no_traceback(run_script, tmp_path, command):
    runs = ["--runs", str(tmp_path)] if ".toml" in command else []
    status, _, errors = run_script(*command.split(), *runs)
    expected, sentence = MISTAKES[command]
    assert status == expected
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert sentence in " ".join(errors.split())
    assert "Traceback" not in errors


def test_flags_take_the_place_of_the_files_settings_not_of_the_defaults(tmp_path):
    file = tmp_path / "trees.toml"
    file.write_text('task = "genre"\n[train]\nepochs = 7\n[folds]\nn = 3\n[augment]\ntime_masks = false\n')
    flags = "--classical.kind svm --seeds 3 --train.batch-size 4 --augment.equaliser false"
    flags += " --augment.no-frequency-masks --train.no-ema"
    _, bound, *_ = cli._app().parse_args(["train", str(file), *flags.split()])
    experiment = experiment_of(file, bound.arguments["experiment"])
    assert (experiment.task, experiment.classical.kind) == ("genre", "svm")  # no svm without the file's task
    assert (experiment.train.epochs, experiment.train.batch_size) == (7, 4)
    assert (experiment.folds.n, experiment.seeds) == (3, (3,))
    assert experiment.augment.time_masks is experiment.augment.equaliser is None
    assert experiment.augment.frequency_masks is experiment.train.ema is None


def test_help_names_every_flag_and_loads_no_heavy_library(run_script):
    status, out, _ = run_script("train.py", "--help")
    assert status == 0
    assert "--optim.learning-rate" in out
    assert "The peak learning rate." in out
    heavy = "{'torch', 'librosa', 'pandas', 'matplotlib'}"
    code = (
        f"import sys; from music_emotion.cli import main; main('--help'); print(sys.modules.keys() & {heavy})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")
    assert all(words.split()[0] in done.stdout for words in cli.COMMANDS)


def test_printing_never_ends_a_command(monkeypatch, run_script):
    reader, writer = os.pipe()
    with open(writer, "w", encoding="cp1252") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert call("--version") == 0
        print("歌", "é", flush=True)
        assert os.read(reader, 99).endswith(b"\\u6b4c \xe9\n")
        os.close(reader)
        for _ in range(2):
            print("nobody reads this", flush=True)
    _, _, errors = run_script("train.py", "\x1b[31m\udce9.toml")
    assert r"experiment \x1b[31m\udce9.toml does" in errors


def test_a_misspelt_command_gets_the_right_one_at_once():
    code = "import sys; from music_emotion.cli import main; sys.argv[1:] = ['predcit', 'a.mp3']\n"
    code += "try: main()\nfinally: print({'pandas', 'torch', 'librosa'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: There is no command 'predcit'; did you mean 'predict'? See --help.\n",
    )
    assert "torch" not in done.stdout
    assert "librosa" not in done.stdout
