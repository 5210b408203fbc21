"""Models in ONNX Runtime: the predictions of PyTorch, without importing it, and whole graphs for others."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import soundfile
from audio_files import RATE_HZ, noise, written
from small_networks import small_network, small_run

from music_emotion.audio.mel import mel_decibels
from music_emotion.audio.settings import FeatureSettings
from music_emotion.files import InputError
from music_emotion.listen import model as models
from music_emotion.listen.export import export_clip, export_excerpts
from music_emotion.listen.model import WEIGHTS, EmotionModel, default_engine, model_files
from music_emotion.listen.onnx_ensemble import OnnxEnsemble
from music_emotion.listen.predict import Sliding, Song, predict_song
from music_emotion.listen.torch_ensemble import TorchEnsemble, load_ensembles, torch_ensembles
from music_emotion.models.network import Network

pytestmark = pytest.mark.usefixtures("own_accelerate")
SETTINGS = FeatureSettings()


def clips(n: int) -> list[np.ndarray]:
    """Noise that swells, of 1 to 30 s."""
    rng = np.random.default_rng(0)
    lengths = np.append([22050, 30 * 22050], rng.integers(22050, 30 * 22050, n - 2))
    return [rng.normal(0, 0.1, n) * np.linspace(*rng.random(2), n) for n in lengths]


def predicted(waveform: np.ndarray, ensembles: list, sliding: Sliding | None = None):
    rows = np.zeros((1 + len(waveform) // SETTINGS.hop_length, 140), np.float32)
    rows[:, :128] = mel_decibels(waveform.astype(np.float32), SETTINGS).T
    rows[:, 128:] = 0.5
    return predict_song(Song(len(waveform) / 22050, rows, SETTINGS), ensembles, sliding)


@pytest.fixture
def shipped() -> list[TorchEnsemble]:
    return load_ensembles(model_files(WEIGHTS))


def test_the_shipped_model_predicts_a_hundred_clips_as_in_pytorch(shipped, tmp_path):
    assert len(shipped) == 1  # one trunk
    export_excerpts(shipped[0], tmp_path / "excerpts.onnx")
    export_clip(shipped, tmp_path / "clip.onnx")
    fast = [OnnxEnsemble(tmp_path / "excerpts.onnx")]
    session = onnxruntime.InferenceSession(tmp_path / "clip.onnx")
    names = [output.name for output in session.get_outputs()]
    spread = []
    for clip in clips(100):
        expected = predicted(clip, shipped)
        whole = expected.whole_targets | expected.whole_genres
        found = predicted(clip, fast)
        assert found.whole_targets | found.whole_genres == pytest.approx(whole, abs=1e-4)
        np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
        values = session.run(None, {"waveform": clip.astype(np.float32)})
        assert dict(zip(names, map(float, values), strict=True)) == pytest.approx(whole, abs=1e-4)
        spread.append(whole["valence"])
    assert np.ptp(spread) > 0.01


@pytest.mark.parametrize(
    ("differences", "card"),
    [
        ({"rows": "fused"}, {}),
        ({"readout": "attention"}, {}),
        ({"outputs": ("Folk", "Jazz")}, {}),
        ({}, {"target_quantiles": tuple(tuple((np.linspace(0, 1, 101) ** k).tolist()) for k in (1, 2))}),
    ],
    ids=["chroma", "attention", "genres", "normal scores"],
)
def test_other_networks_predict_as_in_pytorch(tmp_path, differences, card):
    network = small_network(**differences)
    if card:
        weights = network.state_dict()
        network = Network(replace(network.card, **card)).eval()
        network.load_state_dict(weights)
    slow = torch_ensembles([network])
    export_excerpts(slow[0], tmp_path / "a.onnx")
    for clip in clips(3):
        lines = [predicted(clip, each, Sliding(2, 1)) for each in (slow, [OnnxEnsemble(tmp_path / "a.onnx")])]
        for kind in ("targets", "genres"):
            np.testing.assert_allclose(*(getattr(line, kind) for line in lines), atol=1e-4)
        assert lines[0].whole_targets or lines[0].whole_genres


def test_folds_and_genres_are_averaged_in_one_graph(tmp_path, monkeypatch, run_script):
    monkeypatch.chdir(tmp_path)
    run = small_run(Path("run"), small_network(), small_network(seed=1))
    genres = small_run(Path("genres"), small_network(("Folk", "Jazz"), padding="zero"))
    status, out, errors = run_script("export.py", str(run), str(genres), "--onnx", "a/b.onnx")
    assert status == 0, errors
    assert out.startswith("a/b.onnx gives valence, energy, Folk, Jazz of a waveform (")
    session = onnxruntime.InferenceSession("a/b.onnx")
    known = json.loads(session.get_modelmeta().custom_metadata_map["music_emotion"])
    assert known == {"sample_rate_hz": 22050, "outputs": ["valence", "energy", "Folk", "Jazz"]}
    waveform = noise(3) * np.linspace(0, 1, 3 * RATE_HZ)
    soundfile.write("a.wav", waveform, RATE_HZ, subtype="FLOAT")
    found = EmotionModel.from_pretrained(run, genres).predict("a.wav")
    expected = [found[name] for name in ("valence", "energy", "genre_Folk", "genre_Jazz")]
    assert session.run(None, {"waveform": waveform.astype(np.float32)}) == pytest.approx(expected, abs=1e-4)


def test_the_command_imports_no_torch_and_gives_the_same_numbers(tmp_path):
    written(tmp_path / "a.wav", noise(3))
    code = (
        "import sys; from music_emotion.cli import main; main();"
        "print('heavy:', {'torch', 'librosa', 'sklearn', 'accelerate', 'numba'} & set(sys.modules))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    tables = {}
    for out, flags in {"first": [], "again": [], "torch": ["--engine", "torch"]}.items():
        command = [sys.executable, "-c", code, "predict", "a.wav", "--out", out, *flags]
        run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert ("Exporting the model" in run.stdout) == (out == "first")
        assert ("heavy: set()" in run.stdout) == (out == "again"), run.stdout
        tables[out] = (tmp_path / out / "predictions.csv").read_text()
    assert not (tmp_path / "cache" / "Microsoft").exists()  # ONNX Runtime's events about its use
    assert tables["first"] == tables["again"]
    values = [pd.read_csv(tmp_path / out / "predictions.csv")["valence"][0] for out in ("again", "torch")]
    assert values[0] == pytest.approx(values[1], abs=1e-4)


def test_what_can_not_be_exported_gets_a_sentence(tmp_path, monkeypatch):
    for differences, message in (({"rows": "fused"}, "reads chroma"), ({"frames": None}, "of any length")):
        with pytest.raises(InputError, match=message):
            export_clip(torch_ensembles([small_network(**differences)]), tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"can't export this network .* --engine torch"):
        export_excerpts(torch_ensembles([small_network(kind="lstm", head="mlp")])[0], tmp_path / "a.onnx")
    code = "import sys; sys.modules['onnxscript'] = None; from music_emotion.cli import main; main('export')"
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr == "error: onnxscript is not installed. Try pip install music-emotion[onnx].\n"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime is not installed. Try pip install .*\[onnx\]"):
        EmotionModel.from_pretrained(engine="onnx")
    assert not list(tmp_path.iterdir())


def test_a_damaged_export_gets_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    run = small_run(tmp_path / "run", small_network())
    assert EmotionModel.from_pretrained(run, engine="onnx").targets == ["valence", "energy"]
    exported = next(tmp_path.rglob("*.onnx"))
    exported.write_bytes(exported.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"00\.onnx is damaged .* Delete its folder"):
        EmotionModel.from_pretrained(run, engine="onnx")


def test_without_a_cache_the_package_predicts_in_pytorch(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # refuses writers of every right
    monkeypatch.setattr(models.shutil, "which", lambda _: None)
    assert isinstance(EmotionModel.from_pretrained().ensembles[0], TorchEnsemble)
    with pytest.raises(NotADirectoryError):
        EmotionModel.from_pretrained(engine="onnx")


def test_onnx_is_the_default_for_the_package_on_a_cpu(monkeypatch):
    monkeypatch.setattr(models.shutil, "which", lambda _: None)
    assert default_engine([WEIGHTS]) == "onnx"
    assert default_engine([Path("runs/multitask")]) == "torch"
    monkeypatch.setattr(models.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    assert default_engine([WEIGHTS]) == "torch"
    monkeypatch.undo()
    monkeypatch.setattr(models, "find_spec", lambda _: None)
    assert default_engine([WEIGHTS]) == "torch"
