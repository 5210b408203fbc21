"""Predict with a saved model."""

import numpy as np
from accelerate import Accelerator

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.datasets.store import Store, check_array
from music_emotion.models.build import Network
from music_emotion.training.predict import predict_clips


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
    check_array(fused, "The array")
    outputs = network.card.outputs
    clip = ClipSet.unlabelled(Store.in_memory(fused.T, [fused.shape[1]]), outputs)
    predictions = predict_clips(network, clip, Accelerator())
    return {name: float(value) for name, value in zip(outputs, predictions.iloc[0], strict=True)}
