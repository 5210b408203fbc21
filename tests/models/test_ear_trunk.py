"""MusiCNN as a trunk: what it hears of arrays, what learns, and that its model needs no other file."""

import numpy as np
import pandas as pd
import pytest
import torch
from random_ear import write_random_ear
from safetensors.torch import save_file
from small_networks import small_network

from music_emotion.audio.ear_input import array_bands
from music_emotion.config import build_experiment
from music_emotion.datasets.clip_set import load_clip_set
from music_emotion.files import InputError, read_predictions
from music_emotion.models.ear import load_ear
from music_emotion.models.ear_trunk import LEVEL_DB, EarTrunk
from music_emotion.models.musicnn import MusiCNN, Vgg
from music_emotion.models.network import build_trunk, load_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import run_experiment
from music_emotion.training.predict import predict_with

pytestmark = pytest.mark.usefixtures("own_accelerate")


@pytest.mark.parametrize("n_frames", [1, 2, 87, 256])
def test_the_trunk_hears_arrays_as_the_embeddings_do(n_frames):
    rng = np.random.default_rng(n_frames)
    fused = rng.uniform(-80, 0, (3, 140, n_frames)).astype(np.float32)
    with torch.autocast("cpu"):  # bfloat16
        heard = EarTrunk(MusiCNN()).bands(torch.from_numpy(fused))
    expected = np.stack([array_bands(clip, LEVEL_DB) for clip in fused])
    np.testing.assert_allclose(heard, expected, rtol=0, atol=1e-5)


def test_the_front_end_and_all_statistics_stay_and_the_model_needs_no_other_file(
    small, tmp_path, monkeypatch
):
    weights, directory = write_random_ear(tmp_path / "musicnn.safetensors"), tmp_path / "runs" / "tuned"
    before = load_ear(weights).state_dict()
    model, train = {"kind": "ear", "weights": str(weights)}, {"epochs": 1, "batch_size": 8}
    experiment = small(name="tuned", model=model, train=train, folds={"n": 2})
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    run_experiment(experiment, make_accelerator(), directory, only_fold=1)
    weights.unlink()
    fold = directory / "seed0" / "fold1"
    now = load_model(fold / "model.safetensors").trunk.ear.state_dict()
    learnt = {name for name, value in now.items() if not torch.equal(value, before[name])}
    behind, learns = ("middle", "pool_norm", "dense"), ("weight", "bias")
    assert learnt == {name for name in before if name.startswith(behind) and name.endswith(learns)}
    written = read_predictions(fold / "valid.csv")
    clips = load_clip_set(experiment.data, "emotion", "train")
    valid = clips.select(np.isin(clips.ids, written.index))
    again = predict_with(fold / "model.safetensors", valid, make_accelerator())
    pd.testing.assert_frame_equal(again, written.sort_index(), check_exact=False, atol=1e-6)
    assert (written.std() > 0).all()


def test_weights_that_do_not_fit_get_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"model\.weights is a file of a VGG\. Give one of MusiCNN"):
        EarTrunk(Vgg())
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    experiment = build_experiment({"model": {"kind": "ear", "weights": str(other)}}, "test")
    with pytest.raises(InputError, match=r"other\.safetensors is not a file of the pretrained ear"):
        build_trunk(experiment, 128)


def test_the_ear_reads_arrays_of_the_defaults_only():
    with pytest.raises(InputError, match="'ear' can't read arrays of 22050 Hz / 2048 / 1102"):
        small_network(kind="ear", hop=1102)
