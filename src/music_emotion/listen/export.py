"""Export networks to ONNX: whole, from waveform to predictions, for other programs; or for `OnnxEnsemble`."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import Dim

from music_emotion.audio.mel import LEAST_POWER, mel_filters
from music_emotion.audio.settings import SILENCE_DB
from music_emotion.files import InputError, atomic_path, shortened
from music_emotion.listen.torch_ensemble import TorchEnsemble
from music_emotion.models.card import CARDS, METADATA_KEY

_EXAMPLE_SECONDS = 10


class _Excerpts(nn.Module):
    """`TorchEnsemble.outputs` as a module."""

    def __init__(self, ensemble: TorchEnsemble):
        super().__init__()
        self.networks = nn.ModuleList(ensemble.networks)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        networks: list[Any] = list(self.networks)
        features = networks[0].features(frames, lengths)
        return torch.cat([features, *(network.predict_from(features) for network in networks)], dim=1)


class _Clip(nn.Module):
    """Predictions of a clip from its waveform, as `EmotionModel.predict` gives them for up to 31 s."""

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, ensembles: Sequence[TorchEnsemble]):
        super().__init__()
        self.ensembles = nn.ModuleList(map(_Excerpts, ensembles))
        self.cards = [ensemble.cards for ensemble in ensembles]
        self.sizes = [[each.n_features, *(len(card.outputs) for card in each.cards)] for each in ensembles]
        self.names = list(dict.fromkeys(n for cards in self.cards for card in cards for n in card.outputs))
        self.settings = self.cards[0][0].features
        self.register_buffer("window", torch.hann_window(self.settings.n_fft))
        self.register_buffer("filters", torch.from_numpy(mel_filters(self.settings)))

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, ...]:
        n_fft, window = self.settings.n_fft, self.window
        samples = nn.functional.pad(waveform, (n_fft // 2, n_fft // 2))[None]
        spectrum = torch.stft(
            samples, n_fft, self.settings.hop_length, window=window, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(dim=3)[0]
        decibels = 10 * (self.filters @ power).clamp(min=LEAST_POWER).log10()
        decibels = (decibels - decibels.amax(dim=(0, 1))).clamp(min=SILENCE_DB)
        found: dict[str, list[torch.Tensor]] = {name: [] for name in self.names}
        for ensemble, cards, sizes in zip(self.ensembles, self.cards, self.sizes, strict=True):
            excerpt = cards[0].experiment.excerpt
            frames, lengths = _excerpts(
                decibels, excerpt.frames or 0, excerpt.test, excerpt.padding == "silence"
            )
            outputs = ensemble(frames, lengths).mean(dim=0).split(sizes)[1:]
            for card, of_network in zip(cards, outputs, strict=True):
                for name, value in zip(card.outputs, of_network, strict=True):
                    found[name].append(value)
        return tuple(torch.stack(values).mean() for values in found.values())


def _excerpts(decibels: torch.Tensor, length: int, n: int, silent: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut evenly spaced excerpts [shape=(n, 128, length)], and give their lengths before the padding."""
    n_frames = torch.tensor(decibels.shape[1])
    shares = torch.linspace(0, 1, n) if n > 1 else torch.tensor([0.5])
    starts = ((n_frames - length).clamp(min=0) * shares).round().long()
    padded = nn.functional.pad(decibels, (0, length), value=SILENCE_DB if silent else 0.0)
    frames = padded[:, starts[:, None] + torch.arange(length)].transpose(0, 1)
    return frames, n_frames.clamp(max=length).repeat(n)


def export_excerpts(ensemble: TorchEnsemble, path: Path) -> None:
    """Write an ensemble for `OnnxEnsemble`.

    Raises
    ------
    InputError
        When the extra onnx is not installed, or PyTorch can't export the networks.
    """
    n_rows = len(ensemble.cards[0].row_mean)
    length = ensemble.cards[0].experiment.excerpt.frames or 256
    example = {"frames": torch.zeros(2, n_rows, length), "lengths": torch.full((2,), length)}
    shapes: dict[str, Any] = {"frames": {0: Dim.DYNAMIC}, "lengths": {0: Dim.DYNAMIC}}
    if ensemble.cards[0].experiment.excerpt.frames is None:
        shapes["frames"][2] = Dim.DYNAMIC
    known: dict[str, Any] = {"cards": [CARDS.dump_python(card, mode="json") for card in ensemble.cards]}
    known |= {"n_features": ensemble.n_features}
    _write(path, _Excerpts(ensemble), example, shapes, ["outputs"], known)


def export_clip(ensembles: Sequence[TorchEnsemble], path: Path) -> list[str]:
    """Write networks as one graph from the waveform of a clip to predictions.

    Parameters
    ----------
    ensembles : sequence of TorchEnsemble
        Networks that read mel rows alone. Predictions of the same output are averaged.
    path : Path

    Returns
    -------
    list of str
        Names of the graph's outputs, each a number: targets, and probabilities of genres.

    Raises
    ------
    InputError
        As for `export_excerpts`, and when a network reads chroma or whole clips.
    """
    for experiment in (card.experiment for each in ensembles for card in each.cards):
        if experiment.data.rows != "mel" or experiment.excerpt.frames is None:
            problem = "reads chroma" if experiment.data.rows != "mel" else "reads clips of any length"
            raise InputError(f"A network of {experiment.name} {problem}, which ONNX files here do not.")
    clip = _Clip(ensembles)
    settings = clip.settings
    example = {"waveform": torch.zeros(_EXAMPLE_SECONDS * settings.sample_rate_hz)}
    known = {"sample_rate_hz": settings.sample_rate_hz, "outputs": clip.names}
    _write(path, clip, example, {"waveform": {0: Dim.DYNAMIC}}, clip.names, known)
    return clip.names


def _write(
    path: Path, module: nn.Module, example: dict[str, Any], shapes: Any, outputs: list[str], known: Any
) -> None:
    try:
        with warnings.catch_warnings(action="ignore"):
            program: Any = torch.onnx.export(
                module.eval().cpu(),
                kwargs=example,
                dynamic_shapes=shapes,
                input_names=[*example],
                output_names=outputs,
                opset_version=18,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # PyTorch has many kinds
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, ImportError):
            raise InputError(f"{cause.name} is not installed. Try pip install music-emotion[onnx].") from None
        reason = f"PyTorch can't export this network ({shortened(str(cause), 300)})."
        raise InputError(f"{reason} Predict with --engine torch.") from None
    program.model.metadata_props[METADATA_KEY] = json.dumps(known)
    with atomic_path(path) as temporary:
        program.save(temporary, external_data=False)
