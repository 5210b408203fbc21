"""Who computes the frames of a file: this process, or one beside it, which does without PyTorch."""

import gc
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from threading import current_thread, main_thread
from typing import Protocol

import librosa
import numpy as np
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from music_emotion.audio.features import N_MELS
from music_emotion.files import InputError
from music_emotion.listen.feature_blocks import FeatureBlocks

_MOST_AHEAD = 8  # blocks that wait until they are taken


class Listener(Protocol):
    """Whoever wants to see a file's frames, too, where they are computed."""

    def listen(self, decibels: np.ndarray, n_frames: int) -> None:
        """Take in mel rows [shape=(n, 128)], absolute dB, of a file of so many frames."""

    def finish(self) -> None:
        """Conclude, after the last block."""


def hear(blocks: FeatureBlocks, listener: Listener | None = None) -> Iterator[np.ndarray]:
    """The blocks of a file, shown to a listener as well.

    Parameters
    ----------
    blocks : FeatureBlocks
    listener : Listener, optional

    Yields
    ------
    np.ndarray [shape=(n, 140)]
    """
    for block in blocks:
        if listener:
            listener.listen(block[:, :N_MELS], blocks.n_frames)
        yield block
    if listener:
        listener.finish()


class HearingProcess:
    """A process that computes frames while this one imports PyTorch, and predicts.

    With two cores, that halves the time of a file of some minutes. It is only a few blocks ahead.
    When it is ended, this process goes on in its place.
    """

    def __enter__(self) -> "HearingProcess":
        # a fork would copy the locks of threads that run here
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _uninterrupted():
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.process.terminate()  # it writes nothing, and may still be importing
        self.process.join()

    def hear(self, blocks: FeatureBlocks, listener: Listener | None = None) -> Iterator[np.ndarray]:
        """As the function `hear`; what the listener there has become is carried over to it here.

        Raises
        ------
        InputError
            When the file can't be decoded.
        """
        n_heard = 0
        try:
            self.connection.send((blocks, listener))
            while isinstance(answer := self.connection.recv(), np.ndarray):
                n_heard += 1
                yield answer
        except (EOFError, OSError):
            self._give_up()
        except GeneratorExit:  # whoever took the blocks has given up, the process has not
            with suppress(EOFError, OSError):
                while isinstance(self.connection.recv(), np.ndarray):
                    pass
            raise
        if self.connection.closed:
            yield from islice(hear(blocks, listener), n_heard, None)  # a listener here has heard nothing yet
            return
        if isinstance(answer, InputError):
            raise answer
        if listener:
            vars(listener).update(vars(answer))

    def _give_up(self) -> None:
        """Close the connection, so that no later file is asked of the process; say it once."""
        if not self.connection.closed:
            self.connection.close()
            reason = "was ended, perhaps for want of memory; this one goes on alone"
            tqdm.write(f"The process that reads audio {reason}.", file=sys.stderr)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C is for this process; one that is started meanwhile never gets it, not even while it imports."""
    if current_thread() is not main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _serve(connection: Connection) -> None:
    """Compute what is asked for, until nobody is there to ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which Windows does not hand down
    gc.disable()  # nothing here is garbage but arrays, and those are counted
    # loaded by first use, which had better be now, while the parent still imports
    _ = librosa.resample, librosa.stft, librosa.feature.melspectrogram
    with suppress(EOFError, OSError), threadpool_limits(1), ThreadPoolExecutor(1) as sender:
        while True:
            blocks, listener = connection.recv()
            try:
                _send_ahead(hear(blocks, listener), connection, sender)
                connection.send(listener)
            except InputError as error:
                connection.send(error)


def _send_ahead(blocks: Iterator[np.ndarray], connection: Connection, sender: Executor) -> None:
    """Send blocks while the next ones are computed already."""
    waiting: deque[Future] = deque()
    try:
        for block in blocks:
            waiting.append(sender.submit(connection.send, block))
            if len(waiting) > _MOST_AHEAD:
                waiting.popleft().result()
    finally:
        for sending in waiting:
            sending.result()
