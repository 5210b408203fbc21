"""What may be wrong with models, runs, blends and samples: a sentence that helps, and nothing changes."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call as run_command
from mistakes import SMALL, Damage, both, check_refusal, contents, cut, nothing, pipe, remove, replace, write
from safetensors.numpy import save_file
from scipy.io import wavfile

MODEL, IDS = "runs/one/seed0/fold0/model.safetensors", range(1000, 1008)
TRAIN, SUBMIT = ("train.py", "new.toml"), ("submit.py", "runs/both", "--day", "2026-01-02")
PREDICT = ("predict.py", "song.wav", "--jobs", "1", "--model")
SAMPLED = (*SUBMIT, "--sample", "sample.csv")
PACKAGE = ("package.py", "runs/both", "--owner", "tester", "--competition", "music")
BLEND = ("ensemble.py", "--name", "new")
BLEND_TWO, SUBMIT_ONE = (*BLEND, "runs/one", "runs/fewer"), ("submit.py", "runs/one")


def sample(ids: object = IDS, header: str = "Id,valence,energy,danceability") -> Damage:
    return write("sample.csv", header + "\n" + "".join(f"{number},0,0,0\n" for number in ids))


MODELS: dict[str, Damage] = {
    "missing": nothing,
    "of-text": write("m.safetensors", "weights"),
    "empty": write("m.safetensors", b""),
    "a-folder": lambda: Path("m.safetensors").mkdir(),
    "a-pipe": pipe("m.safetensors"),
    "truncated": both(lambda: shutil.copy(MODEL, "m.safetensors"), cut("m.safetensors", -100)),
    "of-others": lambda: save_file({"encoder.weight": np.zeros((2, 3), np.float32)}, "m.safetensors"),
}
CASES: dict[str, tuple[Damage, tuple[str, ...]]] = {  # docs/FAULTS.md has what each says
    **{
        f"trunk-{name}": (damage, (*TRAIN, "--model.trunk", "m.safetensors"))
        for name, damage in MODELS.items()
    },
    **{f"predict-{name}": (damage, (*PREDICT, "m.safetensors")) for name, damage in MODELS.items()},
    "trunk-of-another-architecture": (
        nothing,
        (*TRAIN, "--only-fold", "0", "--model.trunk", MODEL, "--model.kind", "lstm"),
    ),
    "predict-of-a-pipe": (pipe("song.wav"), (*PREDICT, MODEL)),
    "predict-nothing": (nothing, (PREDICT[0], *PREDICT[2:], MODEL)),
    # a run's folder
    "run-of-another-experiment": (nothing, (*TRAIN, "--name", "one", "--train.epochs", "2")),
    "run-of-a-damaged-experiment": (write("runs/one/experiment.json", "[1]"), (*TRAIN, "--name", "one")),
    # submissions
    "sample-lacks-ids": (sample(IDS[:-2]), SAMPLED),
    "sample-has-more-ids": (sample([*IDS, 1, 2]), SAMPLED),
    "sample-repeats-ids": (sample([*IDS, 1001]), SAMPLED),
    "sample-of-other-columns": (sample(header="Id,valence,arousal"), SAMPLED),
    "sample-without-header": (sample(header="999,0,0,0"), SAMPLED),
    "sample-of-words": (sample(["song"]), SAMPLED),
    "sample-missing": (nothing, SAMPLED),
    "sample-a-pipe": (pipe("sample.csv"), SAMPLED),
    "sample-empty": (write("sample.csv", ""), SAMPLED),
    "sample-in-utf-16": (write("sample.csv", "Id\n1\n".encode("utf-16-le")), SAMPLED),
    "run-without-test": (remove("runs/one/test.csv"), SUBMIT_ONE),
    "test-not-finite": (write("runs/one/test.csv", "Id,valence\n7,inf\n"), SUBMIT_ONE),
    "scores-damaged": (cut("runs/both/scores.json", 30), SUBMIT),
    "scores-of-something": (write("runs/both/scores.json", "[]"), SUBMIT),
    "scores-incomplete": (write("runs/both/scores.json", "{}"), SUBMIT),
    "recipe-damaged": (replace("runs/both/blend.json", '"one": {', '"won": {'), SUBMIT),
    "member-trained-again": (replace("runs/one/seed0/fold0/test.csv", "\n1003,0", "\n1003,1"), SUBMIT),
    "submission-of-others": (write("submissions/both-2026-01-02.csv", b"\xff another"), SUBMIT),
    # blends
    "blend-of-other-clips": (nothing, BLEND_TWO),
    "blend-of-the-unfinished": (nothing, (*BLEND, "runs/unfinished")),
    "blend-of-one-run-twice": (nothing, (*BLEND, "runs/one", "runs/one")),
    "blend-of-two-tasks": (replace("runs/fewer/experiment.json", '"emotion"', '"genre"'), BLEND_TWO),
    "blend-of-a-damaged-table": (cut("runs/one/seed0/fold1/valid.csv", 100), (*BLEND, "runs/one")),
    # packages
    "package-of-no-blend": (nothing, (*PACKAGE[:1], "runs/one", *PACKAGE[2:])),
    "package-of-nothing": (nothing, (*PACKAGE[:1], "runs/none", *PACKAGE[2:])),
    "package-without-a-fold": (remove(MODEL), PACKAGE),
    "package-without-scores": (remove("runs/both/test.csv"), PACKAGE),
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
        (folder / f"{name}.toml").write_text(SMALL.replace("small", name))
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


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_a_sentence_that_helps_and_changes_nothing(name, call):
    damage, command = CASES[name]
    damage()
    before = contents()
    check_refusal(name, call, command)
    after = contents()
    assert {path: after.get(path) for path in before} == before
    made = {path.name for path in after.keys() - before.keys() if "stores" not in path.parts}
    of_a_failed_song = {"record.csv", "predictions.csv", "predictions.json"}
    assert not made - {"experiment.json", "environment.json", *of_a_failed_song}


def test_without_a_mistake_the_same_commands_work(call):
    sample()()
    assert call(*SAMPLED)[0] == 0
    assert len(pd.read_csv("submissions/both-2026-01-02.csv")) == 8
    assert call(*BLEND, "runs/one")[0] == 0
