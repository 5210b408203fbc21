"""What tests of training share."""

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest

from music_emotion.datasets.splits import folds_of_run
from music_emotion.training.accelerator import make_accelerator
from music_emotion.training.folds import load_sets, train_folds
from music_emotion.training.loop import Trainer


@pytest.fixture(scope="session")
def train() -> Callable[..., bool]:
    """Train the first folds of an experiment: `train(experiment, directory, n_folds=2, deadline=9.0)`."""

    def first_folds(experiment, directory: Path, n_folds: int = 1, **limit) -> bool:
        accelerator = make_accelerator()
        clips, test = load_sets(experiment, accelerator)
        folds = folds_of_run(experiment, clips)[:n_folds]
        return train_folds(experiment, folds, test, accelerator, directory, **limit)

    return first_folds


@pytest.fixture(scope="session")
def interrupt():
    """Press Ctrl-C when so many epochs are finished: `with interrupt(epoch=2): train(...)`."""

    @contextmanager
    def interrupted(epoch: int):
        run_epoch = Trainer._run_epoch

        def run_or_stop(trainer):
            if trainer.progress.epoch == epoch:
                raise KeyboardInterrupt
            return run_epoch(trainer)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_run_epoch", run_or_stop)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupted
