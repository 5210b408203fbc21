"""What tests of the loop share."""

from contextlib import contextmanager

import pytest

from music_emotion.training.loop import Trainer


@pytest.fixture
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
