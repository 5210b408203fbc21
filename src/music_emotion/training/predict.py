"""Predict whole clips with any number of processes."""

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
from music_emotion.models.network import EXCERPTS_AT_ONCE, Network, load_model


def predict_with(path: Path, clips: ClipSet, accelerator: Accelerator) -> pd.DataFrame:
    """Predict clips with a model file; otherwise as `predict_clips`."""
    return predict_clips(load_model(path).to(accelerator.device), clips, accelerator)


def predict_clips(
    network: Network, clips: ClipSet, accelerator: Accelerator, quick: bool = False
) -> pd.DataFrame:
    """Predict every clip as the mean over its evenly spaced excerpts.

    Each process predicts a share of the clips with the main process's weights. Predictions are then
    gathered, and the copies that pad uneven shares are dropped.

    Parameters
    ----------
    network : Network
        An unwrapped network; it is set to evaluation mode. Its card says how clips are cut into excerpts.
    clips : ClipSet
        Labels, if any, are ignored.
    accelerator : Accelerator
        Device, processes and, on a GPU, precision.
    quick : bool
        Use half precision on a CPU too. Predictions then depend on the CPU model.

    Returns
    -------
    pd.DataFrame
        One row per clip, indexed by `Id`: targets in their own units, or class probabilities.

    Raises
    ------
    RuntimeError
        When a clip was lost while gathering predictions.
    """
    card = network.card
    dataset = EvenExcerpts(clips, card.experiment.data, card.experiment.excerpt)
    share = math.ceil(len(dataset) / accelerator.num_processes)
    per_process = max(1, min(EXCERPTS_AT_ONCE // dataset.n_excerpts, share))
    loader = accelerator.prepare_data_loader(batches(dataset, per_process * accelerator.num_processes))
    if accelerator.num_processes > 1:  # after training, batch statistics differ
        for tensor in network.state_dict().values():
            tensor.copy_(broadcast(tensor.contiguous()))
    network.eval()
    halved = quick or accelerator.device.type != "cpu"
    ids: list[int] = []
    predictions: list[list[float]] = []
    for batch in loader:
        with torch.inference_mode(), accelerator.autocast() if halved else nullcontext():
            excerpts = network.predict(batch["frames"], batch["lengths"])
        mean = excerpts.unflatten(0, (-1, dataset.n_excerpts)).mean(dim=1)
        gathered = accelerator.gather_for_metrics((batch["ids"], mean))
        # lists, since many small arrays that stay would fragment the memory
        ids += gathered[0].tolist()
        predictions += gathered[1].tolist()
    unique, first = np.unique(ids, return_index=True)
    if not np.array_equal(unique, np.sort(clips.ids)):
        raise RuntimeError(f"{len(unique)} of {len(clips)} clips came back from the processes.")
    return prediction_table(unique, np.array(predictions, np.float32)[first], card.outputs)
