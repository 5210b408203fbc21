"""The benchmarks measure for real, on tiny inputs, and end in the lines that others read."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import soundfile

from music_emotion.bench import coverage, extraction, training
from music_emotion.config import DataSection
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.evaluation.metrics import table_scores
from music_emotion.experiment_files import experiment_toml
from music_emotion.files import InputError, write_predictions, write_table
from music_emotion.models.musicnn import MusiCNN
from music_emotion.runs import Cost, write_cost


@pytest.fixture
def table(tmp_path):
    samples = 0.05 * np.random.default_rng(0).standard_normal(3 * 22050)
    samples[:: 22050 // 2] = 0.9
    soundfile.write(tmp_path / "0.wav", samples, 22050)
    (tmp_path / "clips.csv").write_text("path\n0.wav\n")
    return tmp_path / "clips.csv"


def test_the_extraction_is_compared_and_timed(table, capsys, monkeypatch):
    monkeypatch.setattr(extraction, "get_reusable_executor", ThreadPoolExecutor)  # a process starts slowly
    extraction.extract(table, clips=1, rounds=2, jobs=1)
    printed = capsys.readouterr().out
    assert "identical beat frames: 1 of 1 (100.00 %)" in printed
    assert printed.count("0 clips above") == 4
    assert len(re.findall(r"[\d.]+ clips per second", printed)) == 4
    assert len(re.findall(r"\d{3,} MB at most in a worker process", printed)) == 2
    last = re.fullmatch(r"beat_sync_ratio ([\d.]+) ([\d.]+) ([\d.]+) 2", printed.splitlines()[-1])
    median, least, most = (float(number) for number in last.groups())
    assert 1 < least <= median <= most


def test_the_ear_is_compared_and_timed(table, capsys, monkeypatch):
    monkeypatch.setattr(extraction, "load_ear", lambda _: MusiCNN(n_timbral=6, n_temporal=3))
    extraction.ear(clips=table, files=1, rounds=2)
    printed = capsys.readouterr().out
    assert len(re.findall(r"(decode|mel|plain|fast) +[\d.]+ ms per clip", printed)) == 4
    apart = re.findall(r"(\w+): fast differs from plain by ([\d.e-]+) of", printed)
    assert [name for name, _ in apart] == ["mean", "max", "penultimate", "tags"]
    assert all(float(difference) < 1e-5 for _, difference in apart)
    assert re.fullmatch(r"ear_ratio [\d.]+ [\d.]+ [\d.]+ 2", printed.splitlines()[-1])


def test_a_difference_is_counted_and_named(table, capsys, monkeypatch):
    features, right = extraction.features, extraction.features.fused_features
    monkeypatch.setattr(
        features, "fused_features", lambda *of: [part + np.float32(0.5) for part in right(*of)]
    )
    monkeypatch.setattr(features, "beat_frames", lambda *_: np.array([1, 2]))
    extraction.report_equality([table.parent / "0.wav"], jobs=1)
    printed = capsys.readouterr().out
    assert "identical beat frames: 0 of 1 (0.00 %)" in printed
    assert re.search(r"mel_db: largest difference 5\.00e-01.*; 1 clips above 0\.001", printed)
    assert "beat_chroma: largest difference inf" in printed
    assert "0.wav: 5.00e-01" in printed


def test_intervals_contain_the_known_value_and_no_other():
    far = {"weak": 0.5, "middle": 0.4, "strong": 0.8, "mean": 0.45, "difference": 0.2}
    found = coverage.measure(
        coverage.Case("independent clips", 60, coverage.normal, {", far": far}), 30, seed=1, jobs=1
    )
    honest = found[""]
    assert set(honest) == {"weak", "middle", "strong", "mean", "difference"}
    assert all(88 < percent <= 100 for percent in honest.values())
    assert all(percent < 85 for percent in found[", far"].values())


def test_the_coverage_of_every_kind_is_printed_and_the_farthest_last(monkeypatch, capsys):
    monkeypatch.setattr(coverage, "_MANY", 50)
    coverage.coverage(simulations=2, seed=3, jobs=1)
    printed = capsys.readouterr().out
    assert re.search(r"independent clips, 60 clips:\n  weak [\d.]+  middle [\d.]+  strong", printed)
    assert re.search(r"own, the expected score of the recipe, 600 clips:\n  weak [\d.]+  middle", printed)
    assert re.search(r"genres of eight classes, 100 clips:\n  accuracy [\d.]+  macro_f1 [\d.]+ ", printed)
    assert re.search(r"% of 26 intervals\ncoverage_farthest [\d.]+ within_2 (yes|no)\n$", printed)
    with pytest.raises(InputError, match="--simulations is 1; expected 2 or more"):
        coverage.coverage(simulations=1)


def test_what_is_known_is_what_many_clips_have():
    for draw in (coverage.normal, coverage.folds):
        sample = draw(np.random.default_rng(5), 60_000)
        found = coverage._scores(sample)
        assert found == pytest.approx(sample.known, abs=0.02)
        assert found["difference"] == pytest.approx(sample.known["difference"], abs=0.01)
    sample = coverage.genres(np.random.default_rng(5), 100_000)
    one, other = (table_scores("genre", sample.truth, each) for each in (sample.one, sample.other))
    expected = one | {f"{name}_ahead": one[name] - other[name] for name in one}
    assert sample.known == pytest.approx(expected, abs=0.01)


def test_clips_of_artists_are_as_many_as_those_of_the_bench_set_and_alike():
    sample = coverage.artists(np.random.default_rng(5), 600)
    assert len(sample.truth) == 600
    last = sample.truth.iloc[-31:]  # of the three artists with most
    spread = np.mean([last.iloc[a:b].var().mean() for a, b in ((0, 9), (9, 19), (19, 31))])
    assert spread < 0.6 * sample.truth.var().mean()


def test_the_peak_of_another_process_is_seen_after_it():
    allocating = "block = bytearray(300_000_000); del block; print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", allocating], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert 300 < training.peak_mb(process.pid) < 400
        process.communicate("\n")
    assert training.peak_mb(process.pid) == 0
    assert training.peak_mb(os.getpid()) > 50


@pytest.fixture
def train_here(monkeypatch, run_script, own_accelerate):  # noqa: ARG001
    """Trainings of benchmarks run in this process; gives what they printed."""
    printed = []

    def here(file: Path, flags: list[str], _: dict[str, str]) -> None:
        status, out, errors = run_script("train.py", str(file), *flags)
        assert status == 0, errors
        printed.append(out)

    monkeypatch.setattr(training, "run_train", here)
    return printed


def test_trainings_on_many_and_few_arrays_are_measured(tmp_path, train_here, capsys, monkeypatch):
    train = training.run_train

    def measured(*given) -> float:
        train(*given)
        (metrics,) = tmp_path.rglob("metrics.csv")
        assert len(pd.read_csv(metrics)) == 1
        return 100 + 3 * len(pd.read_csv(*tmp_path.rglob("runs/memory/test.csv")))

    monkeypatch.setattr(training, "run_train", measured)
    training.memory(arrays=32, frames=40, few=20, folder=tmp_path)
    assert len(train_here) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if "arrays" in line]
    assert (lines[0], lines[-1]) == ("32 arrays: 124 MB at most", "data_memory_mb 9 arrays 32")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3.9e9))
    with pytest.raises(InputError, match=r"5300 arrays and its store take 3\.8 GB, but .* has 3\.9 GB free"):
        training.memory(few=5300, folder=tmp_path)


@pytest.fixture
def write(small, tmp_path):
    """Write the file of a slow or fast experiment: `write("fast", folds={"n": 3})`."""

    def write(stem: str, /, **sections) -> Path:
        own = {"name": stem, "folds": {"n": 2}, "train": {"epochs": 3, "batch_size": 8}}
        if stem == "slow":
            own["train"] |= {"select": "best-loss", "patience": 1, "valid_every": 1}
        path = tmp_path / f"{stem}.toml"
        path.write_text(experiment_toml(small(**own | sections)))
        return path

    return write


@pytest.fixture
def files(write) -> tuple[Path, Path]:
    return write("slow"), write("fast")


@pytest.fixture
def pretended(monkeypatch, competition, tmp_path):
    """Trainings that take no time: who was trained in which fold and how, their errors and their clips.

    The slow one's folds take 100 and 140 s for 10 updates, the fast one's 20 and 40 s.
    """
    data = DataSection(root=str(competition), stores=str(tmp_path / "stores"))
    truth = load_clip_set(data, "emotion", "train").truth
    calls, noise, known = [], {"slow": 1.0, "fast": 0.1}, {"slow": truth, "fast": truth}

    def pretend(file: Path, flags: list[str], environment: dict[str, str]) -> None:
        given = dict(zip(flags[::2], flags[1::2], strict=True))
        name, fold = given["--name"], int(given["--only-fold"])
        calls.append((file.stem, fold, given["--train.epochs"], environment))
        place = Path(given["--runs"], name, "seed0", f"fold{fold}")
        seconds = {"slow": (100, 140), "fast": (20, 40)}[file.stem][fold]
        write_cost(place, Cost(seconds, "cpu", 1, 1, updates=10))
        own = known[file.stem].iloc[fold::2]
        errors = np.random.default_rng(fold).standard_normal(own.shape) * noise[file.stem]
        write_predictions(place / "valid.csv", own + errors)

    monkeypatch.setattr(training, "run_train", pretend)
    return calls, noise, known


def test_both_train_in_turns_and_times_and_scores_are_those_of_the_folds(files, pretended, tmp_path, capsys):
    training.train(*files, out=tmp_path / "out", epochs=2, precision="bf16", headline=("energy",))
    first = {"ACCELERATE_MIXED_PRECISION": "bf16"}
    turns = ((("slow", fold, "3", first), ("fast", fold, "2", {})) for fold in (0, 1))
    assert pretended[0] == [*chain.from_iterable(turns)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["fast-2-epochs", "slow"]
    printed = capsys.readouterr().out
    assert "slow (out-of-fold, selected on validation):" in printed
    assert "fast-2-epochs (out-of-fold):" in printed
    assert "120.0 s per fold [100.0, 140.0], n=2, training and validation; 0.7 excerpts" in printed
    assert "30.0 s per fold [20.0, 40.0], n=2, training and validation; 2.7 excerpts" in printed
    assert "time ratio of a fold: 4.25, from 3.50 to 5.00" in printed
    assert printed.count("n=40") == 2 * 4 + 1
    scores = [score for _, score in re.findall(r"(energy|headline)\s+(\S+  \[\S+ \S+\])", printed)]
    assert scores[0] == scores[1] != scores[2] == scores[3]
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


@pytest.mark.parametrize(
    ("stem", "sections", "flags", "message"),
    [
        ("fast", {"name": "slow"}, {}, "are both named 'slow'"),
        ("fast", {"folds": {"n": 4}}, {}, r"has 2 folds .* but .*fast\.toml 4 of"),
        ("fast", {"seeds": [1]}, {}, r"the seeds \(0,\), but .* of \(1,\)"),
        ("slow", {"task": "genre"}, {}, r"slow\.toml trains no folds of networks"),
        ("fast", {"folds": {"split": "holdout"}}, {}, r"fast\.toml trains no folds"),
        ("fast", {"classical": {"kind": "ridge"}}, {}, r"fast\.toml trains no folds"),
        ("fast", {}, {"folds": (0, 2)}, "--folds names 2; the folds are 0 to 1"),
        ("fast", {}, {"headline": ("joy",)}, "--headline names 'joy'; the targets are valence, energy"),
        ("fast", {}, {"epochs": -1}, "train.epochs"),
    ],
)
def test_what_can_not_be_compared_is_not_trained(
    write, files, pretended, tmp_path, stem, sections, flags, message
):
    write(stem, **sections)
    with pytest.raises(InputError, match=message):
        training.train(*files, out=tmp_path / "out", **flags)
    assert pretended[0] == []


def test_folds_of_other_clips_are_refused(files, pretended, tmp_path):
    pretended[2]["fast"] = pretended[2]["fast"].rename({1000: 999})
    with pytest.raises(InputError, match=r"Fold 0 of .* validates on other clips"):
        training.train(*files, out=tmp_path / "out")


def test_the_trainings_are_real_and_finished_ones_are_not_repeated(files, tmp_path, capsys, train_here):
    printed = []
    for _ in range(2):
        training.train(*files, epochs=1, folds=(0,), out=tmp_path / "out")
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]  # times, too
    assert "slow (out-of-fold" in train_here[0]
    names = ("slow", "fast-1-epochs")
    slow, fast = (pd.read_csv(tmp_path / "out" / name / "seed0/fold0/metrics.csv") for name in names)
    assert f"time_ratio {slow['seconds'].sum() / fast['seconds'].sum():.2f} n 1 ours " in printed[0]
    assert (len(slow) > 1, len(fast)) == (True, 1)


def test_the_first_epoch_is_not_timed(monkeypatch, capsys):
    def pretend(_: Path, flags: list[str], environment: dict[str, str]) -> None:
        assert flags[:2] == ["--data.root", "data"]
        assert flags[-2:] == ["--train.epochs", "4"]
        factor = 10 if "ACCELERATE_USE_CPU" in environment else 1
        table = pd.DataFrame({"seconds": [factor * each for each in (9.0, 1.0, 2.0, 4.0)]})
        write_table(Path(flags[flags.index("--runs") + 1], "a", "seed0", "fold0", "metrics.csv"), table)

    monkeypatch.setattr(training, "run_train", pretend)
    for has_gpu, last in ((True, "cpu_over_gpu 10.00"), (False, "There is no GPU here.")):
        monkeypatch.setattr(training.torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        training.devices(Path("a.toml"), "--data.root", "data", epochs=3)
        printed = capsys.readouterr().out
        assert "CPU: 20.000 s per epoch [10.000, 40.000], validation included, n=3" in printed
        assert printed.endswith(f"{last}\n")
    monkeypatch.setattr(training, "run_train", lambda *_: None)
    with pytest.raises(InputError, match="has no epochs to time"):
        training.devices(Path("a.toml"))


def test_a_training_is_a_process_of_its_own_that_an_interruption_ends(tmp_path, monkeypatch):
    script, out = tmp_path / "script.py", str(tmp_path / "out")
    monkeypatch.setattr(training, "_TRAIN", (sys.executable, str(script)))
    tell = "import os, sys, time\nprint(sys.argv[1:], os.environ['MIXED'], file=open(sys.argv[2], 'w'))"
    script.write_text(f"{tell}\ntime.sleep(0.1)\nsys.exit(int(sys.argv[3]))\n")
    assert 1 < training.run_train(Path("a.toml"), [out, "0"], {"MIXED": "no"}) < 100
    assert Path(out).read_text() == f"['a.toml', '{out}', '0'] no\n"
    with pytest.raises(InputError, match=r"The training failed with status 2: .*script\.py a\.toml"):
        training.run_train(Path("a.toml"), [out, "2"], {"MIXED": "no"})
    script.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(training, "peak_mb", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        training.run_train(Path("a.toml"), [], {})
    with pytest.raises(ChildProcessError):  # it has ended and was waited for
        os.waitpid(training.peak_mb.call_args[0][0], 0)
