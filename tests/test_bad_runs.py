"""What may be wrong with models, runs, blends and samples: a sentence that helps, and nothing changes."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call as run_command
from mistakes import Damage, both, cut, nothing, remove, replace, write
from safetensors.numpy import save_file
from scipy.io import wavfile

TOML = """
name = "{}"
[excerpt]
frames = 32
[model]
widths = [8, 16]
[train]
epochs = 1
batch_size = 8
[folds]
n = 3
"""
MODEL, IDS = "runs/one/seed0/fold0/model.safetensors", range(1000, 1008)
TRAIN, SUBMIT = ("train.py", "new.toml"), ("submit.py", "runs/both", "--day", "2026-01-02")
PREDICT = ("predict.py", "song.wav", "--emotion")
SAMPLED = (*SUBMIT, "--sample", "sample.csv")
PACKAGE = ("package.py", "runs/both", "--owner", "tester", "--competition", "music")
BLEND = ("ensemble.py", "--name", "new")
BLEND_TWO, SUBMIT_ONE = (*BLEND, "runs/one", "runs/fewer"), ("submit.py", "runs/one")


def foreign() -> None:
    save_file({"encoder.weight": np.zeros((2, 3), np.float32)}, "m.safetensors")


def sample(ids: object = IDS, header: str = "Id,valence,energy,danceability") -> Damage:
    return write("sample.csv", header + "\n" + "".join(f"{number},0,0,0\n" for number in ids))


MODELS: dict[str, tuple[Damage, str]] = {
    "missing": (nothing, "model file m.safetensors does not exist. Train it first"),
    "of-text": (write("m.safetensors", "weights"), "m.safetensors is not a whole safetensors file"),
    "empty": (write("m.safetensors", b""), "m.safetensors is not a whole safetensors file"),
    "a-folder": (lambda: Path("m.safetensors").mkdir(), "m.safetensors does not exist"),
    "truncated": (
        both(lambda: shutil.copy(MODEL, "m.safetensors"), cut("m.safetensors", -100)),
        "m.safetensors is not a whole safetensors file",
    ),
    "of-others": (foreign, "m.safetensors has no experiment in its metadata, so it was not written by"),
}
CASES: dict[str, tuple[Damage, tuple[str, ...], str]] = {
    **{
        f"trunk-{name}": (damage, (*TRAIN, "--model.trunk", "m.safetensors"), sentence)
        for name, (damage, sentence) in MODELS.items()
    },
    **{
        f"predict-{name}": (damage, (*PREDICT, "m.safetensors"), sentence)
        for name, (damage, sentence) in MODELS.items()
    },
    "trunk-of-another-architecture": (
        nothing,
        (*TRAIN, "--only-fold", "0", "--model.trunk", MODEL, "--model.kind", "lstm"),
        r"trunk of .* does not fit: \d+ weights differ .* Use the same model section",
    ),
    "predict-of-another-task": (nothing, ("predict.py", "song.wav", "--genre", MODEL), "as --emotion"),
    "predict-nothing": (nothing, (*PREDICT[:2], "--genre"), "No model is given|requires an argument"),
    # a run's folder
    "run-of-another-experiment": (
        nothing,
        (*TRAIN, "--name", "one", "--train.epochs", "2"),
        "another experiment: train.epochs differ",
    ),
    "run-of-a-damaged-experiment": (
        write("runs/one/experiment.json", "[1]"),
        (*TRAIN, "--name", "one"),
        "json holds no JSON object",
    ),
    # submissions
    "sample-lacks-ids": (sample(IDS[:-2]), SAMPLED, r"2 predictions have no row \(1006, 1007\)"),
    "sample-has-more-ids": (sample([*IDS, 1, 2]), SAMPLED, r"2 have no prediction \(1, 2\)"),
    "sample-repeats-ids": (sample([*IDS, 1001]), SAMPLED, "sample.csv: 1 ids occur more than once: 1001"),
    "sample-of-other-columns": (
        sample(header="Id,valence,arousal"),
        SAMPLED,
        "asks for valence, arousal, but the run",
    ),
    "sample-without-header": (sample(header="999,0,0,0"), SAMPLED, "line 1: '999' is an id where the header"),
    "sample-of-words": (sample(["song"]), SAMPLED, "sample.csv line 2: 'song' is not an integer id"),
    "sample-missing": (nothing, SAMPLED, "sample.csv does not exist. Correct --sample"),
    "sample-empty": (write("sample.csv", ""), SAMPLED, "sample.csv is empty. Replace it"),
    "sample-in-utf-16": (write("sample.csv", "Id\n1\n".encode("utf-16")), SAMPLED, "not a text file in UTF"),
    "run-without-test": (remove("runs/one/test.csv"), SUBMIT_ONE, "runs/one/test.csv does not"),
    "test-not-finite": (
        write("runs/one/test.csv", "Id,valence\n7,inf\n"),
        SUBMIT_ONE,
        "not finite numbers: 7",
    ),
    "scores-damaged": (cut("runs/both/scores.json", 30), SUBMIT, "not valid JSON .* Delete it"),
    "scores-of-something": (write("runs/both/scores.json", "[]"), SUBMIT, "scores.json holds no JSON object"),
    "scores-incomplete": (write("runs/both/scores.json", "{}"), SUBMIT, "scores.json has no 'pooled'"),
    "recipe-damaged": (
        replace("runs/both/blend.json", '"one": {', '"won": {'),
        SUBMIT,
        "blend.json: the runs of weights are not .* Blend the runs again",
    ),
    "member-trained-again": (
        replace("runs/one/seed0/fold0/test.csv", "\n1003,0", "\n1003,1"),
        SUBMIT,
        "changed since it was",
    ),
    "submission-of-others": (
        write("submissions/both-2026-01-02.csv", b"\xff another"),
        SUBMIT,
        "another submission",
    ),
    # blends
    "blend-of-other-clips": (nothing, BLEND_TWO, r"fewer and one differ in 10 clips \(1030,"),
    "blend-of-the-unfinished": (nothing, (*BLEND, "runs/unfinished"), "not finished: it lacks seed0/fold2"),
    "blend-of-one-run-twice": (nothing, (*BLEND, "runs/one", "runs/one"), "same name. Name each run once"),
    "blend-of-two-tasks": (
        replace("runs/fewer/experiment.json", '"emotion"', '"genre"'),
        BLEND_TWO,
        "fewer is a genre run",
    ),
    "blend-of-a-damaged-table": (
        cut("runs/one/seed0/fold1/valid.csv", 100),
        (*BLEND, "runs/one"),
        "fold1/valid.csv",
    ),
    # packages
    "package-of-no-blend": (nothing, (*PACKAGE[:1], "runs/one", *PACKAGE[2:]), "is not a blend. Make one"),
    "package-of-nothing": (nothing, (*PACKAGE[:1], "runs/none", *PACKAGE[2:]), "runs/none is not a folder"),
    "package-without-a-fold": (remove(MODEL), PACKAGE, "model.safetensors does not exist. Train the run"),
    "package-without-scores": (remove("runs/both/test.csv"), PACKAGE, "runs/both/test.csv does not exist"),
}


@pytest.fixture(scope="module")
def trained(competition, tmp_path_factory):
    """A folder of finished runs, a blend, and a run that lacks its last fold."""
    folder = tmp_path_factory.mktemp("trained") / "Müsik und Gefühl"
    shutil.copytree(competition / "multitask_dataset", folder / "data" / "multitask_dataset")
    wavfile.write(
        folder / "song.wav", 22050, np.random.default_rng(0).normal(0, 0.1, 22050).astype(np.float32)
    )
    for name in ("one", "new"):
        (folder / f"{name}.toml").write_text(TOML.format(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (["train.py", "one.toml"], ["ensemble.py", "runs/one", "--name", "both"]):
            assert run_command(*command) == 0
    assert (folder / "runs/both/scores.json").exists()
    shutil.copytree(folder / "runs/one", folder / "runs/unfinished")
    shutil.rmtree(folder / "runs/unfinished/seed0/fold2")
    shutil.copytree(folder / "runs/one", folder / "runs/fewer")
    for path in (folder / "runs/fewer").glob("seed*/fold*/valid.csv"):
        path.write_text("".join(row for row in path.open() if not row.startswith("103")))
    (folder / "submissions").mkdir()
    return folder


@pytest.fixture
def call(trained, tmp_path, monkeypatch, run_script):
    shutil.copytree(trained, tmp_path / trained.name)
    monkeypatch.chdir(tmp_path / trained.name)
    return run_script


def contents() -> dict[Path, bytes]:
    """All files but the packed arrays, which any command may make, and locks, which stay."""
    paths = (p for p in Path().rglob("*") if "stores" not in p.parts and p.suffix != ".lock")
    return {path: path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_a_sentence_that_helps_and_changes_nothing(name, call):
    damage, command, sentence = CASES[name]
    damage()
    before = contents()
    status, _, errors = call(*command)
    said = " ".join(errors.split())
    assert status in (1, 2), said
    assert "Traceback" not in said
    assert re.search(sentence, said[said.index("error: ") :]), said
    after = contents()
    assert {path: after.get(path) for path in before} == before
    assert not {path.name for path in after.keys() - before.keys()} - {"experiment.json", "environment.json"}


def test_without_a_mistake_the_same_commands_work(call):
    sample()()
    assert call(*SAMPLED)[0] == 0
    assert len(pd.read_csv("submissions/both-2026-01-02.csv")) == 8
    assert call(*BLEND, "runs/one")[0] == 0
