"""Predictions for whole clips, complete and unique whatever the number of processes."""

import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.excerpts import EvenExcerpts, batches
from music_emotion.files import prediction_table
from music_emotion.models.build import Network, load_model

_EXCERPTS_AT_ONCE = 60


def predict_with(path: Path, clips: ClipSet, accelerator: Accelerator) -> pd.DataFrame:
    """Predict clips with a model file.

    Parameters
    ----------
    path : Path
        `model.safetensors`; its card says how clips are cut.
    clips : ClipSet
        Labels are not looked at.
    accelerator : Accelerator
        Device, processes, precision.

    Returns
    -------
    pd.DataFrame
        One row per clip, indexed by `Id`.
    """
    network = load_model(path).to(accelerator.device)
    return predict_clips(network, clips, accelerator)


def predict_clips(
    network: Network, clips: ClipSet, accelerator: Accelerator, quick: bool = False
) -> pd.DataFrame:
    """Predict every clip as the mean over its evenly spaced excerpts.

    Every process predicts its share; ids and predictions are then gathered, and the copies that
    fill up uneven shares dropped.

    Parameters
    ----------
    network : Network
        Unwrapped; put into evaluation mode here.
    clips : ClipSet
        Labels, if any, are not looked at.
    accelerator : Accelerator
        Gives the device, the processes and, where it is half, the precision of a GPU.
    quick : bool
        Use half precision on a CPU, too. Predictions would then depend on what the CPU can.

    Returns
    -------
    pd.DataFrame
        One row per clip, indexed by `Id`: targets in their own units, or class probabilities.

    Raises
    ------
    RuntimeError
        When a clip was lost between the processes.
    """
    card = network.card
    dataset = EvenExcerpts(clips, card.experiment.data, card.experiment.excerpt)
    share = math.ceil(len(dataset) / accelerator.num_processes)
    per_process = max(1, min(_EXCERPTS_AT_ONCE // dataset.n_excerpts, share))
    loader = accelerator.prepare_data_loader(batches(dataset, per_process * accelerator.num_processes))
    _agree(network, accelerator)
    network.eval()
    halved = quick or accelerator.device.type != "cpu"
    ids: list[int] = []
    predictions: list[list[float]] = []
    for batch in loader:
        with torch.inference_mode(), accelerator.autocast() if halved else nullcontext():
            excerpts = network.predict(batch["frames"], batch["lengths"])
        mean = excerpts.unflatten(0, (-1, dataset.n_excerpts)).mean(dim=1)
        gathered = accelerator.gather_for_metrics((batch["ids"], mean))
        # as Python's numbers: small arrays that stay would lie between the large ones that come and go,
        # whose memory could then not be used again
        ids += gathered[0].tolist()
        predictions += gathered[1].tolist()
    return _complete(clips, np.array(ids), np.array(predictions, np.float32), card.outputs)


def _agree(network: Network, accelerator: Accelerator) -> None:
    """Give every process the main one's weights and batch statistics, which training lets differ."""
    if accelerator.num_processes > 1:
        for tensor in network.state_dict().values():
            tensor.copy_(broadcast(tensor.contiguous()))


def _complete(
    clips: ClipSet, ids: np.ndarray, predictions: np.ndarray, outputs: tuple[str, ...]
) -> pd.DataFrame:
    unique, first = np.unique(ids, return_index=True)
    if not np.array_equal(unique, np.sort(clips.ids)):
        raise RuntimeError(f"{len(unique)} of {len(clips)} clips came back from the processes.")
    return prediction_table(unique, predictions[first], outputs)
