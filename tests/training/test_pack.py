"""Runs packed into small models: what they predict, and what is known of it."""

import numpy as np
import pytest
from command_line import call
from small_networks import small_network, small_run

from music_emotion.config import experiment_to_dict
from music_emotion.experiment_files import experiment_toml
from music_emotion.files import InputError, read_object, write_json
from music_emotion.listen.model import EmotionModel, model_files
from music_emotion.listen.pack import _merged, pack
from music_emotion.models.network import load_model, save_model, share_trunks
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment
from music_emotion.training.predict import predict_clips

pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize("start", ["frozen trunk", "trunk", "random"])
def test_the_packed_folds_predict_as_their_mean_does(small, tmp_path, start):
    genre = small(task="genre")
    trunk = make_network(genre, load_sets(genre, make_accelerator())[0], 3)
    save_model(tmp_path / "trunk.safetensors", trunk, trunk.state_dict())
    still = {"epochs": 1} | ({"frozen_epochs": 1, "probe": 1000.0} if start == "frozen trunk" else {})
    model = {} if start == "random" else {"trunk": str(tmp_path / "trunk.safetensors")}
    experiment = small(model=model, train=still)
    run, out = tmp_path / "run", tmp_path / "packed"
    run_experiment(experiment, make_accelerator(), run)
    save_model(out / "emotion7.safetensors", trunk, trunk.state_dict())  # of an earlier model
    said = pack(run, out)
    n_folds = len(model_files(run))
    files = sorted(path.name for path in out.iterdir())
    n = n_folds if start == "random" else 1
    assert files == [*(f"emotion{k}.safetensors" for k in range(n)), "facts.json"]
    assert f"{n} networks, " in said
    clips, _ = load_sets(experiment, make_accelerator())
    networks = [load_model(file) for file in model_files(run)]
    packed = [load_model(file) for file in model_files(out)]
    if start != "random":  # whose weights are too large for 8 bits, on a trunk that has learnt little
        packed = _merged([load_model(file) for file in model_files(run)], clips)
    whole, small_ones = (
        np.mean([predict_clips(network, clips, make_accelerator()) for network in each], axis=0)
        for each in (networks, packed)
    )
    if start == "trunk":  # the mean of weights predicts on the scale of the mean of predictions
        assert small_ones.mean(axis=0) == pytest.approx(whole.mean(axis=0), abs=1e-5)
        assert small_ones.std(axis=0) == pytest.approx(whole.std(axis=0), rel=1e-3)
    else:
        assert small_ones == pytest.approx(whole, abs=1e-3 if n == 1 else 0.05)
    facts = EmotionModel.from_pretrained(out).facts
    assert facts.unlike.threshold > 0
    assert set(facts.intervals) == {"valence", "energy", "danceability"}
    assert facts.about["scores"]["emotion"] == read_object(run / "scores.json")["pooled"]
    assert {row["third"] for row in facts.about["coverage"]} == {"overall", "low", "middle", "high"}


def test_a_trunk_that_was_read_from_eight_bits_is_shared(tmp_path):
    network = small_network()
    for name in ("a", "b"):
        save_model(tmp_path / name, network, network.state_dict(), packed=True)
        network = load_model(tmp_path / name)
    both = [load_model(tmp_path / name) for name in ("a", "b")]
    share_trunks(both)
    assert both[0].trunk is both[1].trunk
    other = small_network(seed=1)
    share_trunks([both[0], other])
    assert other.trunk is not both[0].trunk


def test_what_is_not_a_run_of_folds_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = small(task="genre", name="genre")
    (tmp_path / "genre.toml").write_text(experiment_toml(experiment))
    assert call("train.py", "genre.toml") == 0
    with pytest.raises(InputError, match=r"genre is not an emotion run of folds with one seed"):
        pack(tmp_path / "runs" / "genre", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_whose_clips_are_elsewhere_is_told(tmp_path):
    run = small_run(tmp_path / "run", small_network(data={"root": "elsewhere"}))
    experiment = load_model(model_files(run)[0]).card.experiment
    write_json(run / "experiment.json", experiment_to_dict(experiment))
    with pytest.raises(InputError, match=r"was trained on clips in elsewhere, which is not here\. Give the"):
        pack(run, tmp_path / "out")
