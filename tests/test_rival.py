"""The benchmark of an outside rival, with a small package in its place: no network, but real processes."""

import os
import re
import sysconfig
import venv
from pathlib import Path

import pandas as pd
import pytest

from music_emotion.bench import rival
from music_emotion.datasets.clip_set import read_tables
from music_emotion.datasets.synthesis import write_demo
from music_emotion.files import InputError

PACKAGE = {
    "vibenet-0.1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vibenet\nVersion: 0.1.0\n",
    "vibenet-0.1.0.dist-info/RECORD": "",
    "vibenet/__init__.py": "",
    "vibenet/artifacts/efficientnet_model.onnx": "weights",
    # a clip is numbers, 10 per second
    "vibenet/core.py": """
import os, numpy as np
SAMPLE_RATE = 10
def load_audio(path):
    print("words of a library")
    text = open(path).read()
    if text == "crash":
        os._exit(7)
    return np.array(text.split(), float)
def extract_mel(waveform, rate):
    return waveform
class InferenceResult:
    @classmethod
    def from_logits(cls, logits):
        cls.logits = logits
        return cls()
    def to_dict(self):
        names = "acousticness danceability energy instrumentalness liveness speechiness valence"
        return dict(zip(names.split(), self.logits, strict=True))
""",
    "onnxruntime.py": r"""
import numpy as np
class SessionOptions:
    pass
class InferenceSession:
    def __init__(self, model, options):
        assert model == b"weights\x3a\x10\x62\x06\x0a\x04view\x62\x06\x0a\x04gelu"
    def run(self, _, given):
        mean = given["x"].mean()
        logits = np.concatenate([np.full((1, 6), -mean), np.full((1, 1), mean)], axis=1)
        return logits, np.full((1, 1280), mean), np.full((1, 256), given["x"].size)
""",
}
CLIPS = {"1": "1 1", "2": "2 2 2", "3": "crash", "4": "3 3 3 3", "5": "no numbers", "6": "4 nan", "7": "5 6"}


@pytest.fixture
def environment(tmp_path) -> Path:
    """An environment that has a small vibenet."""
    place = tmp_path / "environment"
    venv.create(place, symlinks=os.name != "nt")
    installed = Path(sysconfig.get_path("purelib", "venv", {"base": str(place)}))
    for name, text in PACKAGE.items():
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).write_text(text)
    (installed / "ours.pth").write_text(sysconfig.get_path("purelib"))  # for NumPy
    return place


@pytest.fixture
def clips(tmp_path) -> Path:
    for name, text in CLIPS.items():
        (tmp_path / f"{name}.wav").write_text(text)
    rows = "".join(f"{name}.wav,0,{'0.1' * (name == '7')},0.{name},0.{name},{name}\n" for name in CLIPS)
    (tmp_path / "clips.csv").write_text(f"path,start_seconds,end_seconds,valence,energy,joy\n{rows}")
    return tmp_path / "clips.csv"


def test_a_rival_predicts_in_a_process_of_its_own_and_bad_clips_get_reasons(clips, environment, capsys):
    out = clips.parent / "out.csv"
    with pytest.raises(InputError, match="3 of 7 clips failed, more than the share"):
        rival.vibenet(clips, out=out, environment=environment)
    table = pd.read_csv(out, index_col="id")
    assert table["reason"].str.extract(r"(\(.*\)|finite)")[0].dropna().to_dict() == {
        3: "(status 7)",
        5: "(ValueError: could not convert string to float: 'no')",
        6: "finite",
    }
    good = read_tables({"table1": out}, ("vibenet-feature:*",))
    assert good.shape == (4, 1536)
    assert good["vibenet-feature:0"].tolist() == [1, 2, 3, 5]
    assert good["vibenet-feature:1535"].tolist() == [2, 3, 4, 1]  # the last clip ends after 0.1 s
    assert table["vibenet-prediction:valence"].dropna().tolist() == [1, 2, 3, 5]
    capsys.readouterr()
    (clips.parent / "3.wav").write_text("7 7")
    rival.vibenet(clips, out=out, environment=environment, max_failed=0.5)
    printed = capsys.readouterr().out
    assert "7 clips: 1 done, 4 already there, 2 failed." in printed
    assert "vibenet==0.1.0 (as it ships):\n" in printed
    assert "\n  valence        0.700  [" in printed
    assert "  energy         -0.700  [" in printed
    assert "joy " not in printed


def test_without_the_network_or_with_a_broken_environment_there_is_a_sentence(
    clips, environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    why = r"vibenet==0\.1\.0 can't be installed in .* \(ERROR: No matching distribution found for vibenet.*\)"
    with pytest.raises(InputError, match=rf"{why}\. Connect to the network, or give an --environment"):
        rival.vibenet(clips, out=tmp_path / "out.csv")
    next(environment.rglob("onnxruntime.py")).unlink()
    with pytest.raises(InputError, match=r"can't be loaded: the process ended with status 1\. Remove that"):
        rival.vibenet(clips, out=tmp_path / "out.csv", environment=environment)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.skipif(os.name == "nt", reason="the program vibenet is a shell script here")
def test_prediction_is_timed_in_turns_and_as_whole_processes(environment, tmp_path, capsys):
    core = Path(sysconfig.get_path("purelib", "venv", {"base": str(environment)})) / "vibenet" / "core.py"
    core.write_text(core.read_text().replace("text = open(path).read()", "text = '1 2'"))
    program = environment / "bin" / "vibenet"
    program.write_text(f"#!/bin/sh\necho $# >> {tmp_path}/asked\n")
    program.chmod(0o755)
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    write_demo(tmp_path / "demo", (2, 1, 1, 1), seconds=4.0, seed=0)
    rival.predict(tmp_path / "demo/emotion_train.csv", files=1, rounds=1, songs=2, environment=environment)
    assert (tmp_path / "asked").read_text().split() == ["5", "5", "4"]
    said = capsys.readouterr().out
    assert len(re.findall(r"  times_as_fast +[\d.]+ \([\d.]+ to [\d.]+\), n = 1\n", said)) == 5
    assert len(re.findall(r"  decoding +[\d.]+ ", said)) == 2
    assert allowed is None or os.sched_getaffinity(0) == allowed
