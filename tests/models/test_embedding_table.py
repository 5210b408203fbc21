"""Tables of embeddings hold what the network gives for each clip, in families of each ear's name."""

import json

import numpy as np
import pandas as pd
import pytest
import soundfile
from random_ear import write_random_ear
from small_networks import small_network

from music_emotion.audio.decode import read_waveform
from music_emotion.audio.ear_input import array_bands, ear_bands
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.store import Store
from music_emotion.files import InputError, sha256
from music_emotion.models.ear import load_ear
from music_emotion.models.embedding_table import hearing_of, make_hearing
from music_emotion.models.musicnn import embedding
from music_emotion.models.network import clip_features, save_model


@pytest.fixture(scope="module")
def ear(tmp_path_factory):
    return write_random_ear(tmp_path_factory.mktemp("ear") / "musicnn-one.safetensors")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with two clips of 4 s and their table."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).standard_normal((2, 4 * 22050))
    for name, sound in zip(("a", "b"), noise, strict=True):
        soundfile.write(f"{name}.wav", 0.1 * sound, 22050)
    (tmp_path / "clips.csv").write_text("id,path,end_seconds\n7,b.wav,\n5,a.wav,2\n")
    return tmp_path


def test_rows_of_audio_are_the_networks_and_a_second_run_embeds_what_changed(place, ear, run_script):
    command = ("embed.py", "audio", "clips.csv", "--out", "e.csv", "--ear", str(ear), "--jobs", "1", "--tags")
    status, said, _ = run_script(*command)
    assert (status, "2 done" in said) == (0, True)
    table = pd.read_csv("e.csv", index_col="id")
    assert json.loads(table.loc[7, "settings"]) == {
        "ears": {ear.name: sha256(ear)}, "hop_frames": 94, "levels_db": [], "tags": True,
    }  # fmt: skip
    for clip_id, path, end in ((5, "a.wav", 2.0), (7, "b.wav", None)):
        bands = ear_bands(read_waveform(place / path, 16000, 0.0, end))
        for kind, values in embedding(load_ear(ear), bands, 94).items():
            ours = table.loc[clip_id].filter(like=f"one-{kind}:").astype(float)
            assert len(ours) == {"mean": 753, "max": 753, "penultimate": 400, "tags": 50}[kind]
            np.testing.assert_allclose(ours, values, rtol=1e-5, atol=1e-5)
    assert table.columns[-2] == "one-tags:tag 49"
    assert hearing_of(place / "e.csv") is None  # a kernel has no audio
    for more, done in (((), 0), (("--hop", "3"), 2)):
        assert f"{done} done" in run_script(*command, *more)[1]
    assert run_script("embed.py", "audio", "clips.csv", "--out", "e.csv", "--ear", "no.safetensors")[0] == 2


def test_rows_of_arrays_are_averaged_over_levels_and_ears_stand_beside_each_other(place, ear, run_script):
    other = write_random_ear(place / "other.safetensors", seed=1)
    fused = np.zeros((140, 150), np.float16)
    fused[:128] = -80 * np.random.default_rng(0).random((128, 150))
    folder = place / "multitask_dataset"
    (folder / "test").mkdir(parents=True)
    np.save(folder / "test/3.fused.full.npy", fused)
    np.save(folder / "test/4.fused.full.npy", fused[:100])
    command = ["embed.py", "arrays", ".", "--split", "test", "--out", "e.csv", "--jobs", "1", "--ear"]
    command += [str(ear), str(other), "--level", "10", "30"]
    status, _, errors = run_script(*command)
    assert (status, "1 of 2 clips failed" in errors, "140" in errors) == (2, True, True)
    assert run_script(*command, "--max-failed", "0.5")[0] == 0
    row = pd.read_csv("e.csv", index_col="id").loc[3]
    for name, path in (("one", ear), ("other", other)):
        parts = [
            embedding(load_ear(path), array_bands(fused.astype(np.float32), level), 187) for level in (10, 30)
        ]
        for kind in ("mean", "max", "penultimate"):
            expected = np.mean([part[kind] for part in parts], axis=0)
            ours = row.filter(like=f"{name}-{kind}:").astype(float)
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert hearing_of(place / "e.csv") == make_hearing([ear, other], 3.0, (10.0, 30.0))
    own = small_network()
    save_model(place / "own.safetensors", own, own.state_dict())
    features = ["--out", "f.csv", "--jobs", "1", "--ear", "own.safetensors"]
    assert run_script("embed.py", "arrays", ".", "--split", "test", *features, "--max-failed", "0.5")[0] == 0
    clip = ClipSet.unlabelled(Store.in_memory(fused.T, [150]))
    ours = pd.read_csv("f.csv", index_col="id").loc[3].filter(like="own:").astype(float)
    np.testing.assert_allclose(ours, clip_features(own, clip)[0], rtol=1e-4, atol=1e-5)
    _, _, errors = run_script("embed.py", "audio", "clips.csv", *features)
    assert "own.safetensors reads arrays. Extract the clips, and give embed arrays." in errors
    (folder / "settings.json").write_text('{"sample_rate_hz": 16000, "n_fft": 2048, "hop_length": 512}')
    status, _, errors = run_script(*command)
    assert (status, "arrays of 16000 Hz / 2048 / 512" in errors) == (2, True)
    for ears, hop, sentence in (([ear, ear], 3.0, "have one name"), ([ear], 0.0, "--hop is 0. Give")):
        with pytest.raises(InputError, match=sentence):
            make_hearing(ears, hop)
