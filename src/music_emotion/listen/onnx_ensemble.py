"""Networks that share a trunk, in ONNX Runtime. Imports no torch, except to export."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from music_emotion import __version__
from music_emotion.files import InputError, in_turn, shortened
from music_emotion.listen.predict import Ensemble
from music_emotion.models.card import CARDS, METADATA_KEY


class OnnxEnsemble(Ensemble):
    """Networks in a file of `export_excerpts`, with one thread.

    Parameters
    ----------
    path : Path
        The file.
    """

    precision = "no"

    def __init__(self, path: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # songs are predicted side by side
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has many kinds
            reason = f"{path} is damaged ({shortened(str(error), 200)})."
            raise InputError(f"{reason} Delete its folder; it is then exported again.") from None
        known = json.loads(self._session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        self.cards = [CARDS.validate_python(card) for card in known["cards"]]
        self.n_features: int = known["n_features"]

    def outputs(self, frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Predict excerpts, as `Ensemble.outputs`."""
        outputs: np.ndarray = self._session.run(None, {"frames": frames, "lengths": lengths})[0]
        return outputs


def onnx_ensembles(files: Sequence[Path], digest: str) -> list[OnnxEnsemble]:
    """Load models in ONNX Runtime; they are exported into the user's cache first, once.

    Parameters
    ----------
    files : sequence of Path
        Model files.
    digest : str
        SHA-256 of the model, which names it in the cache.

    Raises
    ------
    InputError
        When the extra onnx is not installed, or a model can't be exported.
    """
    from platformdirs import user_cache_path

    if not find_spec("onnxruntime"):
        raise InputError("onnxruntime is not installed. Try pip install music-emotion[onnx].")
    folder = user_cache_path("music-emotion") / "onnx" / f"{__version__}-{digest[:16]}"
    if not folder.exists():
        with in_turn(folder, "exports the model"):
            if not folder.exists():
                _export(files, folder)
    return [OnnxEnsemble(path) for path in sorted(folder.glob("*.onnx"))]


def _export(files: Sequence[Path], folder: Path) -> None:
    print("Exporting the model for ONNX Runtime, which can take half a minute, once.", flush=True)
    from music_emotion.listen.export import export_excerpts  # both import torch
    from music_emotion.listen.torch_ensemble import load_ensembles

    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unfinished = Path(temporary, "model")
        unfinished.mkdir()
        for number, ensemble in enumerate(load_ensembles(files)):
            export_excerpts(ensemble, unfinished / f"{number:02}.onnx")
        shutil.move(unfinished, folder)
