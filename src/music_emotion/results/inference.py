"""Predict with a saved model."""

from pathlib import Path

import pandas as pd
from accelerate import Accelerator

from music_emotion.data.clip_set import ClipSet
from music_emotion.models.build import load_model
from music_emotion.training.evaluate import predict_clips


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
