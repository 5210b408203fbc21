"""Predictions over time: frames of a whole file, windows and the file, as networks were trained to hear."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from accelerate import Accelerator
from small_networks import small_network

from music_emotion.audio import spectrum
from music_emotion.audio.decode import read_waveform
from music_emotion.audio.features import full_features
from music_emotion.audio.settings import FeatureSettings
from music_emotion.datasets.synthesis import Music, synthesise
from music_emotion.files import InputError
from music_emotion.listen import predict as module
from music_emotion.listen.predict import Sliding, Timeline, predict_array, predict_song, read_song
from music_emotion.listen.torch_ensemble import torch_ensembles
from music_emotion.models.network import Network

SETTINGS = FeatureSettings()
MUSIC = Music(0, False, 120.0, 0.6, 0.6, 0.7, 0.5, 0.9, 0.6)

pytestmark = pytest.mark.usefixtures("own_accelerate")


def music(seconds: float, rate_hz: int = 22050) -> np.ndarray:
    return synthesise(MUSIC, seconds, rate_hz, np.random.default_rng(3))


@pytest.fixture(scope="module")
def audio(tmp_path_factory) -> Path:
    """Files of several lengths; one louder half, so that it matters what mel is referred to."""
    folder = tmp_path_factory.mktemp("audio")
    for seconds in (1, 3, 25):
        waveform = music(seconds)
        waveform[: len(waveform) // 2] *= 0.1
        soundfile.write(folder / f"{seconds}.wav", waveform, 22050, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def array_of(audio):
    """The fused array of a file, computed once."""
    return cache(lambda seconds: full_features(read_waveform(audio / f"{seconds}.wav"), SETTINGS))


def predict(path: Path, *networks: Network, **sliding) -> Timeline:
    with_chroma = any(network.card.experiment.data.rows != "mel" for network in networks)
    song = read_song(path, SETTINGS, with_chroma)
    return predict_song(song, torch_ensembles(networks), Sliding(**sliding))


@pytest.mark.parametrize(
    ("rate_hz", "ending", "settings"),
    [(22050, "wav", SETTINGS), (32000, "mp3", SETTINGS), (44100, "wav", FeatureSettings(16000, 1024, 160))],
)
def test_frames_are_those_of_the_extraction_without_borders(tmp_path, monkeypatch, rate_hz, ending, settings):
    mono, path = music(6.5, rate_hz), tmp_path / f"a.{ending}"
    soundfile.write(path, np.stack([mono, 0.5 * mono], axis=1), rate_hz)
    monkeypatch.setattr(module, "_BLOCK_SECONDS", 1.7)
    song = read_song(path, settings, with_chroma=True)
    assert song.seconds == pytest.approx(6.5, abs=0.1)
    array = full_features(read_waveform(path, settings.sample_rate_hz), settings)
    assert song.rows.shape == array.T.shape
    mel = song.rows[:, :128] - song.rows[:, :128].max()
    np.testing.assert_allclose(np.maximum(mel, -80).T, array[:128], atol=2e-3)  # dB
    np.testing.assert_allclose(song.rows[:, 128:].T, array[128:], atol=5e-3)
    monkeypatch.setattr(spectrum, "chroma", None)  # not even computed
    assert not read_song(path, settings, with_chroma=False).rows[:, 128:].any()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "the clip from 0 s on holds values that are not finite"),
        (2e6, "the clip from 0 s on holds values that are not finite"),
        (0.0, "the clip from 0 s on is silent"),
    ],
)
def test_damaged_and_silent_files_get_a_sentence(tmp_path, value, sentence):
    soundfile.write(tmp_path / "a.wav", np.resize(np.float32([0, value]), 22050), 22050, subtype="FLOAT")
    with pytest.raises(InputError, match=rf"a\.wav: {sentence}"):
        read_song(tmp_path / "a.wav", SETTINGS, with_chroma=False)


@pytest.mark.parametrize(
    ("seconds", "settings"),
    [
        (1, {"rows": "mel"}),
        (3, {"rows": "chroma"}),
        (25, {"rows": "fused"}),
        (3, {"frames": None}),
        (3, {"frames": None, "kind": "lstm"}),
        (3, {"frames": 400, "readout": "flatten", "padding": "silence"}),  # reads the padding, too
        (3, {"frames": 400, "readout": "flatten", "padding": "zero"}),
    ],
)
def test_a_file_as_long_as_a_clip_is_predicted_like_its_array(audio, array_of, seconds, settings):
    network = small_network(**settings)
    timeline = predict(audio / f"{seconds}.wav", network)
    assert timeline.whole_targets == pytest.approx(predict_array(network, array_of(seconds)), abs=1e-5)
    assert timeline.seconds == seconds
    if not network.card.experiment.excerpt.frames:  # one window, and one excerpt
        assert timeline.times.to_numpy().tolist() == [[0, seconds]]
        assert timeline.targets.iloc[0].to_dict() == pytest.approx(timeline.whole_targets)


def test_a_window_is_heard_as_part_of_the_clip_around_it(audio, array_of):
    network = small_network(frames=None)
    timeline = predict(audio / "25.wav", network, window_seconds=5, hop_seconds=5)
    for number, start in enumerate([0, 5, 10, 15, 20]):
        first = round(start * 22050 / 512)
        part = array_of(25)[:, first : first + 1 + 5 * 22050 // 512]
        expected = predict_array(network, part)
        assert timeline.targets.iloc[number].to_dict() == pytest.approx(expected, abs=1e-5)


def test_a_long_file_is_referred_to_the_half_minute_around_not_to_its_loudest(tmp_path):
    loud = music(40)
    soundfile.write(tmp_path / "a.wav", np.concatenate([0.01 * loud, loud]), 22050, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", loud[: 20 * 22050], 22050, subtype="FLOAT")
    network = small_network(frames=None)
    long, short = (
        predict(tmp_path / name, network, window_seconds=2, hop_seconds=2).targets
        for name in ("a.wav", "b.wav")
    )
    # the same windows, a hundredth as loud, and far from what is louder;
    # the first frames of a window hear what sounded before it, so the windows at 0 s are left out
    np.testing.assert_allclose(long.iloc[1:9], short.iloc[1:9], atol=0.02)


@pytest.mark.parametrize("seconds", [45, 3.3])
@pytest.mark.parametrize(
    ("window", "hop"), [(10, 2), (10, 3), (3, 20), (0.5, 0.5), (100, 2), (10, 9.99), (45, 1)]
)
def test_windows_ascend_from_the_beginning_to_the_end(seconds, window, hop):
    start, end = Sliding(window, hop).windows(seconds).T
    assert start[0] == 0
    assert end[-1] == pytest.approx(seconds)
    assert (np.diff(start) > 0).all()
    assert np.diff(start)[:-1] == pytest.approx(hop)
    assert (np.diff(start) <= hop + 1e-9).all()
    assert end - start == pytest.approx(min(window, seconds))


def test_every_window_has_predictions_and_the_whole_file_does_not_depend_on_them(audio):
    sizes, network, whole = [], small_network(widths=(2,)), []
    network.trunk.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    for window, hop in [(10, 3), (3, 20), (0.5, 0.5), (100, 2)]:
        timeline = predict(audio / "25.wav", network, window_seconds=window, hop_seconds=hop)
        assert len(timeline.targets) == len(timeline.times)
        assert np.isfinite(timeline.targets.to_numpy()).all()
        whole.append(timeline.whole_targets)
        assert whole[-1] == pytest.approx(whole[0], abs=1e-6)
    assert max(sizes) <= 8


def test_a_window_is_the_mean_over_overlapping_excerpts_that_lie_in_it():
    for window, length, hop, step in ((431, 256, 86.1, 86.1), (2000, 256, 5000.0, 128)):
        times = np.array([[0.0, window - 1], [hop, hop + window - 1]])
        (starts, _), within = module._starts_in_windows(times, hop, length, 10**4)
        assert within == length
        assert starts[0] < step + 1 > window - (starts[-1] + length) >= 0
        assert np.diff(starts).max() <= step + 1
    alone, within = module._starts_in_windows(np.array([[0.0, 255.0]]), 86.1, 300, 10**4)
    assert (alone.tolist(), within) == ([[0]], 256)


def test_networks_of_one_output_are_averaged_and_genres_are_probabilities(audio):
    networks = small_network(seed=1), small_network(("energy", "danceability"), 2)
    both, *alone = (predict(audio / "3.wav", *some) for some in [networks, networks[:1], networks[1:]])
    assert list(both.targets) == ["valence", "energy", "danceability"]
    mean = (alone[0].targets["energy"] + alone[1].targets["energy"]) / 2
    np.testing.assert_allclose(both.targets["energy"], mean, atol=1e-6)
    np.testing.assert_allclose(both.targets["valence"], alone[0].targets["valence"], atol=1e-6)
    assert both.genres.shape == (len(both.times), 0)
    assert both.likeliest_genre is None
    timeline = predict(audio / "3.wav", *(small_network(("Folk", "Jazz"), seed) for seed in (1, 2)))
    np.testing.assert_allclose(timeline.genres.sum(axis=1), 1, atol=1e-5)
    assert sum(timeline.whole_genres.values()) == pytest.approx(1, abs=1e-5)
    assert timeline.whole_genres[timeline.likeliest_genre] == max(timeline.whole_genres.values())


def test_predictions_on_a_cpu_are_in_single_precision_whatever_the_launcher_says(audio, monkeypatch):
    monkeypatch.setattr(Accelerator, "autocast", None)
    network, dtypes = small_network(), set()
    network.head.register_forward_hook(lambda _, __, output: dtypes.update({output.dtype}))
    predict(audio / "3.wav", network)
    assert dtypes == {torch.float32}


def test_silence_has_no_predictions_and_does_not_count(tmp_path):
    sound, silence = music(5), np.zeros(45 * 22050, np.float32)
    soundfile.write(tmp_path / "long.wav", np.concatenate([sound, silence]), 22050)
    timeline = predict(tmp_path / "long.wav", small_network())
    assert timeline.targets.iloc[0].notna().all()
    assert timeline.targets.iloc[-1].isna().all()
    assert np.isfinite(list(timeline.whole_targets.values())).all()
