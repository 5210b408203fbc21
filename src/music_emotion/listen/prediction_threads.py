"""Networks that predict side by side, one thread for each core."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import numpy as np
import torch
from accelerate import Accelerator

from music_emotion.datasets.excerpts import Batch
from music_emotion.models.build import Network


class PredictionThreads:
    """Threads that predict batches, each on one core.

    A layer shared between cores waits for the slower one, and there are dozens: with another process
    on one of two cores, that took four times as long.

    Parameters
    ----------
    accelerator : Accelerator
        Gives the device and, where it is no CPU, the precision; on a CPU it is single, as in all
        predictions that are written.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator, self.n_threads = accelerator, torch.get_num_threads()
        self.is_cpu = accelerator.device.type == "cpu"
        # an accelerator has its own parallelism
        n_threads = self.n_threads if self.is_cpu else 1
        self.pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> "PredictionThreads":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.n_threads)  # threads that are made later would have one, too

    def predict(self, jobs: Sequence[tuple[Network, Batch]]) -> list[np.ndarray]:
        """What each network says of its batch [shape=(n_excerpts, n_outputs)]."""
        return list(self.pool.map(self._predict, *zip(*jobs, strict=True))) if jobs else []

    def _predict(self, network: Network, batch: Batch) -> np.ndarray:
        frames, lengths = (batch[name].to(self.accelerator.device) for name in ("frames", "lengths"))
        with torch.inference_mode(), nullcontext() if self.is_cpu else self.accelerator.autocast():
            return network.predict(frames, lengths).cpu().numpy()
