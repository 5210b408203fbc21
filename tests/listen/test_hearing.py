"""A second process computes the same blocks, and survives what it can't decode."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from music_emotion.audio.features import FeatureSettings
from music_emotion.files import InputError
from music_emotion.listen.feature_blocks import FeatureBlocks, feature_blocks
from music_emotion.listen.hearing import HearingProcess, hear


class Counter:
    """A listener, which goes to the other process and comes back."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.loudest = self.n_frames = 0.0

    def listen(self, decibels, n_frames):
        self.sizes.append(len(decibels))
        self.n_frames = n_frames

    def finish(self):
        self.loudest = float(sum(self.sizes))


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 40 * 22050), 22050)
    return path


def blocks_of(path: Path, seconds: float = 7.0) -> FeatureBlocks:
    return feature_blocks(path, seconds, FeatureSettings(), with_chroma=False)


@pytest.fixture(scope="module")
def process():
    with HearingProcess() as process:
        yield process


def test_another_process_computes_the_same_and_its_listener_comes_back(process, noise):
    here, there = Counter(), Counter()
    expected, blocks = list(hear(blocks_of(noise), here)), list(process.hear(blocks_of(noise), there))
    assert len(blocks) == len(expected) == 6
    np.testing.assert_allclose(np.concatenate(blocks), np.concatenate(expected), atol=1e-3)
    assert vars(there) == vars(here)
    assert there.loudest == there.n_frames == sum(map(len, blocks))


def test_what_can_not_be_decoded_is_an_error_here_and_the_next_file_is_heard(process, noise, tmp_path):
    (tmp_path / "broken.wav").write_bytes(noise.read_bytes()[:300_000])
    with pytest.raises(InputError, match=r"broken\.wav: the file is cut off"):
        list(process.hear(blocks_of(tmp_path / "broken.wav", 2.0)))
    assert len(list(process.hear(blocks_of(noise)))) == 6


def test_whoever_stops_listening_can_ask_for_another_file(process, noise):
    stopped = process.hear(blocks_of(noise, 1.0))  # more blocks than the process may be ahead
    next(stopped)
    stopped.close()
    assert len(list(process.hear(blocks_of(noise)))) == 6


def test_when_the_process_is_ended_this_one_goes_on(noise, tmp_path, capsys):
    (tmp_path / "broken.wav").write_bytes(noise.read_bytes()[:300_000])
    here, cut, after = Counter(), Counter(), Counter()
    expected = np.concatenate(list(hear(blocks_of(noise), here)))
    with HearingProcess() as process:
        heard = process.hear(blocks_of(noise), cut)
        blocks = [next(heard)]
        process.process.kill()
        process.process.join()
        np.testing.assert_allclose(np.concatenate([*blocks, *heard]), expected, atol=1e-3)
        with pytest.raises(InputError, match=r"broken\.wav: the file is cut off"):
            list(process.hear(blocks_of(tmp_path / "broken.wav", 2.0)))
        np.testing.assert_allclose(np.concatenate(list(process.hear(blocks_of(noise), after))), expected)
    assert vars(cut) == vars(after) == vars(here)
    assert capsys.readouterr().err.count("this one goes on alone") == 1
    assert not process.process.is_alive()


def test_a_process_that_ends_between_two_files_is_not_the_second_ones_fault(process, noise):
    """The last test of this process."""
    assert len(list(process.hear(blocks_of(noise)))) == 6
    process.process.kill()
    process.process.join()
    assert len(list(process.hear(blocks_of(noise)))) == 6
