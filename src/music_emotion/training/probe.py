"""Linear probing: ridge regression on a trunk's features sets the head before training.

References
----------
Kumar et al., 2022, "Fine-tuning can distort pretrained features and underperform out-of-distribution",
section 4.
"""

import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from music_emotion.datasets.clip_set import ClipSet
from music_emotion.files import InputError
from music_emotion.models.network import Network, clip_features


def probe(network: Network, clips: ClipSet, penalty: float) -> None:
    """Set the last layer of a linear head by ridge regression on the standardised features of clips.

    Parameters
    ----------
    network : Network
        With a trained trunk. It is set to evaluation mode.
    clips : ClipSet
        Training clips.
    penalty : float
        Weight of the ridge penalty.

    Raises
    ------
    InputError
        When a clip lacks a target.
    """
    if not clips.has_labels:
        lacking = "train.probe needs all targets of all clips, but sets of data.more lack some"
        raise InputError(f"{lacking}. Give data.targets that all have, or train.probe 0.")
    scale, targets = network.target_scale, torch.from_numpy(clips.values)
    wanted = targets if scale is None else scale.outputs_of(targets)
    pipeline = make_pipeline(StandardScaler(), Ridge(penalty))
    scaler, ridge = pipeline.fit(clip_features(network, clips), wanted.numpy()).named_steps.values()
    weight = ridge.coef_.reshape(len(clips.outputs), -1) / scaler.scale_
    with torch.no_grad():
        network.head[-1].weight.copy_(torch.from_numpy(weight))
        network.head[-1].bias.copy_(torch.from_numpy(ridge.intercept_ - weight @ scaler.mean_))
