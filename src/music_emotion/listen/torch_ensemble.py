"""Networks that share a trunk, in PyTorch."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from music_emotion.listen.predict import Ensemble
from music_emotion.models.network import Network, load_model, share_trunks
from music_emotion.training.accelerator import make_accelerator


class TorchEnsemble(Ensemble):
    """Networks on Accelerate's device and, on a GPU, in its precision.

    Parameters
    ----------
    networks : sequence of Network
        Networks with one trunk and equal excerpts.
    """

    def __init__(self, networks: Sequence[Network]):
        self._device = make_accelerator().device
        self.networks = [network.to(self._device).eval() for network in networks]
        self.cards = [network.card for network in networks]
        self.n_features: int = networks[0].trunk.n_features

    def outputs(self, frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Predict excerpts, as `Ensemble.outputs`."""
        inputs = [torch.from_numpy(each).to(self._device) for each in (frames, lengths)]
        is_cpu = self._device.type == "cpu"  # the CPU predicts in single precision
        with torch.inference_mode(), nullcontext() if is_cpu else make_accelerator().autocast():
            features = self.networks[0].features(*inputs)
            predicted = [network.predict_from(features) for network in self.networks]
            return torch.cat([features.float(), *predicted], dim=1).cpu().numpy()

    @property
    def precision(self) -> str:
        """Precision of the networks: "no", which is single, on a CPU."""
        return "no" if self._device.type == "cpu" else make_accelerator().mixed_precision


def torch_ensembles(networks: Sequence[Network]) -> list[TorchEnsemble]:
    """Group networks by trunk and excerpts, so that the features of a trunk are computed once."""
    share_trunks(networks)
    alike: dict[tuple[object, ...], list[Network]] = {}
    for network in networks:
        excerpt = network.card.experiment.excerpt
        alike.setdefault((id(network.trunk), excerpt.frames, excerpt.test, excerpt.padding), []).append(
            network
        )
    return [TorchEnsemble(group) for group in alike.values()]


def load_ensembles(files: Sequence[Path]) -> list[TorchEnsemble]:
    """Load model files.

    Raises
    ------
    InputError
        As for `load_model`.
    """
    return torch_ensembles([load_model(file) for file in files])
