"""What tests of training share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from music_emotion.datasets.splits import folds_of_run
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, train_folds


@pytest.fixture(scope="session")
def train() -> Callable[..., bool]:
    """Train the first folds of an experiment: `train(experiment, directory, n_folds=2, deadline=9.0)`."""

    def first_folds(experiment, directory: Path, n_folds: int = 1, **limit) -> bool:
        accelerator = make_accelerator()
        clips, test = load_sets(experiment, accelerator)
        folds = folds_of_run(experiment, clips)[:n_folds]
        return train_folds(experiment, folds, test, accelerator, directory, **limit)

    return first_folds


@pytest.fixture(scope="module")
def exact(own_accelerate):  # noqa: ARG001
    """Train in float32, whatever the CPU can do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        yield
