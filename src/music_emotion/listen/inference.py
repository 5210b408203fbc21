"""Predict with a saved model."""

import numpy as np
import pandas as pd
from accelerate import Accelerator

from music_emotion.audio.spectrogram import N_ROWS
from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.store import Store
from music_emotion.files import InputError
from music_emotion.models.build import Network
from music_emotion.training.evaluate import predict_clips


def predict_array(network: Network, fused: np.ndarray) -> dict[str, float]:
    """Predict one clip from its fused array.

    Parameters
    ----------
    network : Network
        As `load_model` gives it.
    fused : np.ndarray [shape=(140, n_frames)]
        As `fused_features` computes it, or as the competition gives it; at the rate, full or
        beat-synchronous, that the network was trained on.

    Returns
    -------
    dict of str to float
        Every target in its own units, or every class's probability.

    Raises
    ------
    InputError
        When the array has another shape or values that are not finite.

    Examples
    --------
    >>> network = load_model(Path("runs/multitask/seed0/fold0/model.safetensors"))  # doctest: +SKIP
    >>> predict_array(network, np.load("1004.fused.full.npy"))  # doctest: +SKIP
    {'valence': 0.55, 'energy': 0.81, 'danceability': 0.62}
    """
    if fused.ndim != 2 or fused.shape[0] != N_ROWS or not fused.size or not np.isfinite(fused).all():
        raise InputError(f"The array has shape {fused.shape}; expected ({N_ROWS}, n_frames) finite values.")
    place = pd.DataFrame({"start": [0], "length": [fused.shape[1]]}, pd.Index([0], name="Id"))
    outputs = network.card.outputs
    unknown = np.full((1, len(outputs)), np.nan, np.float32)
    clip = ClipSet(np.array([0]), Store(fused.T, place), outputs, unknown)
    predictions = predict_clips(network, clip, Accelerator())
    return {name: float(value) for name, value in zip(outputs, predictions.iloc[0], strict=True)}
