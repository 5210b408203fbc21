"""Two experiments trained in turns: what is compared, in which order, and what the last line says."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from music_emotion.bench import memory, training
from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.files import InputError, read_json, write_predictions, write_table

TOML = """
name = "{name}"
[data]
root = "{root}"
stores = "{stores}"
[folds]
n = 2
[excerpt]
frames = 32
test = 2
[model]
widths = [4, 8]
[train]
epochs = 3
batch_size = 8
"""
SELECTING = 'select = "best-loss"\npatience = 1\nvalid_every = 1\n'


@pytest.fixture
def files(competition, tmp_path) -> tuple[Path, Path]:
    """Files of a slow and of a fast experiment."""
    paths = tmp_path / "slow.toml", tmp_path / "fast.toml"
    for path, more in zip(paths, (SELECTING, ""), strict=True):
        path.write_text(TOML.format(name=path.stem, root=competition, stores=tmp_path / "stores") + more)
    return paths


@pytest.fixture
def pretended(monkeypatch, competition, tmp_path):
    """Trainings that take no time: who was trained in which fold and how, and a way to set the errors.

    The slow one's folds take 100 and 140 s for 10 updates, the fast one's 20 and 40 s.
    """
    data = DataSection(root=str(competition), stores=str(tmp_path / "stores"))
    truth = load_clip_set(data, "emotion", "train").truth
    calls, noise = [], {"slow": 1.0, "fast": 0.1}

    def pretend(file: Path, flags: list[str], environment: dict[str, str]) -> None:
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        name, fold = given["--name"], int(given["--only-fold"])
        calls.append((file.stem, fold, given["--train.epochs"], environment))
        place = Path(given["--runs"], name, "seed0", f"fold{fold}")
        seconds = {"slow": (100, 140), "fast": (20, 40)}[file.stem][fold]
        table = pd.DataFrame({"updates": [5, 10], "seconds": [seconds / 4, seconds * 3 / 4]})
        write_table(place / "metrics.csv", table)
        own = truth.iloc[fold::2]
        errors = np.random.default_rng(fold).standard_normal(own.shape) * noise[file.stem]
        write_predictions(place / "valid.csv", own + errors)

    monkeypatch.setattr(training, "run_train", pretend)
    return calls, noise


def test_both_train_one_fold_after_the_other(files, pretended, tmp_path):
    training.train(*files, out=tmp_path / "out", epochs=2, precision="bf16")
    first = {"ACCELERATE_MIXED_PRECISION": "bf16"}
    assert pretended[0] == [
        ("slow", 0, "3", first),
        ("fast", 0, "2", {}),
        ("slow", 1, "3", first),
        ("fast", 1, "2", {}),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fast-2-epochs", "slow"]


@pytest.mark.usefixtures("pretended")
def test_times_and_scores_are_those_of_the_folds(files, tmp_path, capsys):
    training.train(*files, out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert "slow (out-of-fold, selected on validation):" in printed
    assert "fast (out-of-fold):" in printed
    assert "120.0 s per fold [100.0, 140.0], n=2, training and validation; 0.7 excerpts" in printed
    assert "30.0 s per fold [20.0, 40.0], n=2, training and validation; 2.7 excerpts" in printed
    assert "time ratio of a fold: 4.25, from 3.50 to 5.00" in printed
    assert printed.count("n=40") == 2 * 4 + 1
    last = printed.splitlines()[-1]
    ours, public = map(float, re.findall(r"(?:ours|public) (\S+)", last))
    assert last == f"time_ratio 4.00 n 2 ours {ours:.3f} public {public:.3f} reached yes"
    assert public < 0.6 < 0.8 < ours


def test_a_faster_training_that_scores_less_has_not_reached_it(files, pretended, tmp_path, capsys):
    pretended[1]["fast"] = 3.0
    training.train(*files, out=tmp_path / "out", folds=(1,), headline=("valence", "energy"))
    printed = capsys.readouterr().out
    assert "headline: mean of valence, energy" in printed
    assert re.fullmatch(r"time_ratio 3\.50 n 1 ours \S+ public \S+ reached no", printed.splitlines()[-1])
    assert {call[1] for call in pretended[0]} == {1}


@pytest.mark.usefixtures("pretended")
def test_the_headline_is_the_mean_of_its_targets_alone(files, tmp_path, capsys):
    training.train(*files, out=tmp_path / "out", headline=("energy",))
    printed = capsys.readouterr().out
    scores = re.findall(r"(energy|headline)\s+(\S+  \[\S+ \S+\])", printed)
    assert len(scores) == 4
    assert scores[0][1] == scores[1][1] != scores[2][1] == scores[3][1]


@pytest.mark.parametrize(
    ("which", "before", "after", "flags", "message"),
    [
        (1, '"fast"', '"slow"', {}, "are both named 'slow'"),
        (1, "n = 2", "n = 4", {}, r"has 2 folds .* but .*fast\.toml 4 of"),
        (1, '"fast"', '"fast"\nseeds = [1]', {}, r"the seeds \(0,\), but .* of \(1,\)"),
        (0, '"slow"', '"slow"\ntask = "genre"', {}, r"slow\.toml trains no folds of networks"),
        (1, "n = 2", 'n = 2\nsplit = "holdout"', {}, r"fast\.toml trains no folds"),
        (1, "[train]", '[classical]\nkind = "ridge"\n[train]', {}, r"fast\.toml trains no folds"),
        (1, "", "", {"folds": (0, 2)}, "--folds names 2; the folds are 0 to 1"),
        (1, "", "", {"headline": ("joy",)}, "--headline names 'joy'; the targets are valence, energy"),
        (1, "", "", {"epochs": -1}, "train.epochs"),
    ],
)
def test_what_can_not_be_compared_is_not_trained(
    files, pretended, tmp_path, which, before, after, flags, message
):
    files[which].write_text(files[which].read_text().replace(before, after))
    with pytest.raises(InputError, match=message):
        training.train(*files, out=tmp_path / "out", **flags)
    assert pretended[0] == []


@pytest.mark.usefixtures("pretended")
def test_folds_of_other_clips_are_refused(files, tmp_path, monkeypatch):
    pretend = training.run_train

    def shifted(file: Path, flags: list[str], environment: dict[str, str]) -> None:
        pretend(file, flags, environment)
        if file.stem == "fast":
            path = Path(flags[1], "fast", "seed0", "fold0", "valid.csv")
            path.write_text(path.read_text().replace("\n1000,", "\n1001,"))

    monkeypatch.setattr(training, "run_train", shifted)
    with pytest.raises(InputError, match=r"Fold 0 of .* validates on other clips"):
        training.train(*files, out=tmp_path / "out")


@pytest.mark.usefixtures("own_accelerate")
def test_the_trainings_are_real_and_finished_ones_are_not_repeated(
    files, tmp_path, capsys, monkeypatch, run_script
):
    printed_by_scripts = []

    def here(file: Path, flags: list[str], _: dict[str, str]) -> None:
        status, out, errors = run_script("train.py", str(file), *flags)
        assert status == 0, errors
        printed_by_scripts.append(out)

    monkeypatch.setattr(training, "run_train", here)
    printed = []
    for _ in range(2):
        training.train(*files, epochs=1, folds=(0,), out=tmp_path / "out")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]  # times, too
    assert "slow (out-of-fold" in printed_by_scripts[0]
    names = ("slow", "fast-1-epochs")
    slow, fast = (pd.read_csv(tmp_path / "out" / name / "seed0/fold0/metrics.csv") for name in names)
    assert len(slow) in {2, 3}
    assert len(fast) == 1
    assert f"time_ratio {slow['seconds'].sum() / fast['seconds'].sum():.2f} n 1 ours " in printed[0]
    assert read_json(tmp_path / "out" / "fast-1-epochs" / "experiment.json")["train"]["epochs"] == 1


def test_the_first_epoch_is_not_timed(monkeypatch, capsys):
    seconds = [9.0, 1.0, 2.0, 4.0]

    def pretend(_: Path, flags: list[str], environment: dict[str, str]) -> None:
        assert flags[-2:] == ["--train.epochs", "4"]
        factor = 10 if "ACCELERATE_USE_CPU" in environment else 1
        table = pd.DataFrame({"seconds": [factor * each for each in seconds]})
        write_table(Path(flags[flags.index("--runs") + 1], "a", "seed0", "fold0", "metrics.csv"), table)

    monkeypatch.setattr(training, "run_train", pretend)
    monkeypatch.setattr(training.torch.cuda, "is_available", lambda: True)
    training.devices(Path("a.toml"), "--data.root", "data", epochs=3)
    printed = capsys.readouterr().out
    assert "CPU: 20.000 s per epoch [10.000, 40.000], validation included, n=3" in printed
    assert printed.endswith("cpu_over_gpu 10.00\n")
    monkeypatch.setattr(training, "run_train", lambda *_: None)
    with pytest.raises(InputError, match="has no epochs to time"):
        training.devices(Path("a.toml"))


@pytest.fixture
def script(tmp_path, monkeypatch) -> Path:
    """A file that runs in place of the training."""
    monkeypatch.setattr(memory, "_TRAIN", (sys.executable, str(tmp_path / "script.py")))
    return tmp_path / "script.py"


def test_a_training_is_a_process_with_its_own_flags_and_environment(tmp_path, script):
    tell = "import os, sys, time\nprint(sys.argv[1:], os.environ['MIXED'], file=open(sys.argv[2], 'w'))"
    script.write_text(f"{tell}\ntime.sleep(0.1)\nsys.exit(int(sys.argv[3]))\n")
    out = str(tmp_path / "out")
    assert 1 < memory.run_train(Path("a.toml"), [out, "0"], {"MIXED": "no"}) < 100
    assert Path(out).read_text() == f"['a.toml', '{out}', '0'] no\n"
    with pytest.raises(InputError, match=r"The training failed with status 2: .*script\.py a\.toml"):
        memory.run_train(Path("a.toml"), [out, "2"], {"MIXED": "no"})


def test_an_interrupted_comparison_leaves_no_training_behind(script, monkeypatch):
    script.write_text("import time\ntime.sleep(600)\n")
    seen = []

    def interrupt(process: int) -> None:
        seen.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(memory, "peak_mb", interrupt)
    with pytest.raises(KeyboardInterrupt):
        memory.run_train(Path("a.toml"), [])
    with pytest.raises(ChildProcessError):  # it has ended and was waited for
        os.waitpid(seen[0], 0)
