"""`EmotionModel`: folds of a run or the package's own weights, intervals, percentiles and time lines."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from accelerate.state import AcceleratorState
from audio_files import noise, written
from pydantic import TypeAdapter
from small_networks import small_network, small_run

import music_emotion
from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import full_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.evaluation.conformal import Intervals
from music_emotion.files import InputError, read_predictions
from music_emotion.listen import model as module
from music_emotion.listen.model import EmotionModel, Facts, Unlike
from music_emotion.listen.predict import Timeline, predict_array
from music_emotion.listen.torch_ensemble import torch_ensembles
from music_emotion.models.network import Network, save_model

pytestmark = pytest.mark.usefixtures("own_accelerate")
WITH_FACTS = [
    *("valence", "energy"),
    *("valence_low", "valence_high", "valence_percentile"),
    *("energy_low", "energy_high", "energy_percentile"),
]


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, noise(3) * np.linspace(0, 1, 3 * 22050), 22050, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def networks() -> list[Network]:
    return [small_network(), small_network(seed=1)]


@pytest.fixture
def run(tmp_path, networks) -> Path:
    return small_run(tmp_path / "run", *networks)


@pytest.fixture(scope="module")
def mean_of(song):
    """The mean prediction of networks for the song's array."""
    array = full_features(read_waveform(song), FeatureSettings())

    def mean(*networks: Network) -> dict[str, float]:
        return pd.DataFrame([predict_array(network, array) for network in networks]).mean().to_dict()

    return mean


def song_of(**targets: float) -> Timeline:
    return Timeline(1.0, *[pd.DataFrame()] * 3, targets, {}, np.zeros(2))


def test_a_run_gives_the_mean_of_its_folds_an_interval_and_a_percentile(run, networks, song, mean_of):
    model = music_emotion.EmotionModel.from_pretrained(run)
    found = model.predict(song)
    assert list(found) == model.columns == WITH_FACTS
    expected = mean_of(*networks)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    truth, guesses = (read_predictions(run / f"{name}.csv") for name in ("truth", "oof"))
    for name, value in expected.items():
        half = Intervals.fit(truth[name].to_numpy(), guesses[name].to_numpy()).half_width(np.array([value]))
        ends = max(min(0, value), value - half[0]), min(max(1, value), value + half[0])
        assert (found[f"{name}_low"], found[f"{name}_high"]) == pytest.approx(ends, abs=1e-5)
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"]
        assert found[f"{name}_percentile"] == pytest.approx(100 * (guesses[name] < value).mean(), abs=2)


def test_intervals_end_where_the_scale_does_and_scales_of_other_units_have_no_end():
    guesses = pd.DataFrame({"valence": np.linspace(0, 1, 90)})
    truth = guesses + np.resize([-0.1, 0.1], (90, 1))
    unit, nine = Facts.of(truth, guesses), Facts.of(9 * truth, 9 * guesses)
    for value, low, high, percentile in [(0.5, 0.4, 0.6, 50), (0.95, 0.85, 1, 95), (-0.3, -0.3, 0, 0)]:
        expected = {
            "valence": value, "valence_low": low, "valence_high": high, "valence_percentile": percentile
        }  # fmt: skip
        assert unit.of_song(song_of(valence=value)) == pytest.approx(expected, abs=0.2 * (value < 0) + 1e-9)
    assert nine.of_song(song_of(valence=8.9))["valence_high"] == pytest.approx(9.8)


def test_what_is_not_of_whole_runs_on_the_same_clips_has_no_intervals(run, tmp_path, networks, song, mean_of):
    other = small_run(tmp_path / "other", small_network(seed=2))
    few = small_run(tmp_path / "few", networks[0], n_clips=9)
    genre = tmp_path / "genre.safetensors"
    save_model(genre, small_network(("Folk", "Jazz")), small_network(("Folk", "Jazz")).state_dict())
    assert EmotionModel.from_pretrained(run, other).columns == WITH_FACTS
    for places in ([few], [run, few], [run, other / "seed0/fold0/model.safetensors"]):
        assert EmotionModel.from_pretrained(*places).columns == ["valence", "energy"]
    both = EmotionModel.from_pretrained(run, genre)
    found = both.predict(song)
    assert list(found) == both.columns == [*WITH_FACTS, "genre", "genre_Folk", "genre_Jazz"]
    assert found["genre_Folk"] + found["genre_Jazz"] == pytest.approx(1, abs=1e-5)
    expected = mean_of(*networks)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_a_time_line_is_a_table_of_windows(run, song):
    table = EmotionModel.from_pretrained(run).timeline(song, window_seconds=2, hop_seconds=0.5)
    assert list(table) == ["start_seconds", "end_seconds", "valence", "energy"]
    assert table["start_seconds"].tolist() == [0, 0.5, 1]
    assert np.isfinite(table.to_numpy()).all()


def test_equal_trunks_are_computed_once(tmp_path, networks, song, mean_of):
    with torch.random.fork_rng():
        twin = small_network()
        torch.nn.init.normal_(twin.head[-1].weight)  # another head on the same trunk
    run = small_run(tmp_path / "run", networks[0], twin, networks[1])
    model, calls = EmotionModel.from_pretrained(run), []
    for trunk in {ensemble.networks[0].trunk for ensemble in model.ensembles}:
        trunk.register_forward_pre_hook(lambda *_: calls.append(1))
    expected = mean_of(networks[0], twin, networks[1])
    found = model.predict(song)
    assert len(calls) == 2
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)


def test_the_models_of_the_package_bring_their_facts(tmp_path, monkeypatch, networks, song):
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    save_model(tmp_path / "a.safetensors", networks[0], networks[0].state_dict())
    n, guesses = networks[0].trunk.n_features, pd.DataFrame({"valence": np.linspace(0, 1, 90)})
    for threshold, is_unlike in ((0.0, True), (1e9, False)):
        unlike = Unlike((0.0,) * n, (1.0,) * n, threshold)
        facts = Facts.of(guesses.clip(0.1, 0.9), guesses, unlike)
        (tmp_path / "facts.json").write_bytes(TypeAdapter(Facts).dump_json(facts))
        model = EmotionModel.from_pretrained()
        assert model.facts == facts
        found = model.predict(song)
        assert list(found) == model.columns == [*WITH_FACTS[:5], "unlike"]
        assert found["unlike"] is is_unlike
    other = small_run(tmp_path / "other", small_network(seed=3))
    assert EmotionModel.from_pretrained(None, other).columns == ["valence", "energy"]  # facts of neither
    (tmp_path / "facts.json").write_text('{"intervals": {}}')
    with pytest.raises(InputError, match=r"facts\.json: percentiles is missing.*Install music-emotion, pack"):
        EmotionModel.from_pretrained()


def test_what_is_too_quiet_for_a_prediction_gets_a_sentence(run, tmp_path):
    click = np.zeros(22050)
    click[11025] = 3e-5
    soundfile.write(tmp_path / "a.wav", click, 22050, subtype="FLOAT")
    with pytest.raises(InputError, match=r"a\.wav is too quiet throughout"):
        EmotionModel.from_pretrained(run).predict(tmp_path / "a.wav")


def test_a_model_outlives_a_reset_of_accelerates_state(tmp_path):
    model = EmotionModel(torch_ensembles([small_network()]), Facts({}, {}))
    AcceleratorState._reset_state(reset_partial_state=True)
    assert set(model.predict(written(tmp_path / "song.wav", noise(2)))) == {"valence", "energy"}
