"""Runs packed into small models: what they predict, and what is known of it."""

import numpy as np
import pytest
from command_line import call

from music_emotion.experiment_files import experiment_toml
from music_emotion.files import InputError, read_object
from music_emotion.listen.model import EmotionModel, model_files
from music_emotion.listen.pack import _merged, pack
from music_emotion.listen.predict import predict_array
from music_emotion.models.network import load_model, save_model
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, make_network, run_experiment

pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize("is_probe", [True, False])
def test_the_packed_folds_predict_as_their_mean_does(small, tmp_path, is_probe):
    genre = small(task="genre")
    trunk = make_network(genre, load_sets(genre, make_accelerator())[0], 3)
    save_model(tmp_path / "trunk.safetensors", trunk, trunk.state_dict())
    still = {"epochs": 1, "frozen_epochs": 1, "probe": 1000.0} if is_probe else {"epochs": 1}
    experiment = small(model={"trunk": str(tmp_path / "trunk.safetensors")}, train=still)
    run, out = tmp_path / "run", tmp_path / "packed"
    run_experiment(experiment, make_accelerator(), run)
    said = pack(run, out)
    n_folds = len(model_files(run))
    files = sorted(path.name for path in out.iterdir())
    assert files == [*(f"emotion{k}.safetensors" for k in range(1 if is_probe else n_folds)), "facts.json"]
    assert f"{len(files) - 1} networks, " in said
    clips, _ = load_sets(experiment, make_accelerator())
    networks = [load_model(file) for file in model_files(run)]
    if is_probe:  # whose weights are too large for 8 bits, on a trunk that has learnt nothing
        packed = _merged([load_model(file) for file in model_files(run)])
    else:
        packed = [load_model(file) for file in model_files(out)]
    for clip_id in clips.ids[:3]:
        array = clips.store.frames_of(clip_id).T
        whole, small_ones = (
            np.mean([list(predict_array(network, array).values()) for network in each], axis=0)
            for each in (networks, packed)
        )
        assert small_ones == pytest.approx(whole, abs=1e-3 if is_probe else 0.05)
    facts = EmotionModel.from_pretrained(out).facts
    assert facts.unlike.threshold > 0
    assert set(facts.intervals) == {"valence", "energy", "danceability"}
    assert facts.about["scores"]["emotion"] == read_object(run / "scores.json")["pooled"]
    assert {row["third"] for row in facts.about["coverage"]} == {"overall", "low", "middle", "high"}


def test_what_is_not_a_run_of_folds_is_refused(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = small(task="genre", name="genre")
    (tmp_path / "genre.toml").write_text(experiment_toml(experiment))
    assert call("train.py", "genre.toml") == 0
    with pytest.raises(InputError, match=r"genre is not an emotion run of folds with one seed"):
        pack(tmp_path / "runs" / "genre", tmp_path / "out")
    assert not (tmp_path / "out").exists()
