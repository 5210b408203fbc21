"""What the inference kernel does once the wheel is installed: bundle and test arrays to a submission."""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from tqdm import tqdm

from music_emotion.data.clip_set import ClipSet, load_clip_set
from music_emotion.errors import InputError, first_five
from music_emotion.files import atomic_path, read_json, write_json
from music_emotion.models.build import ModelCard, load_model
from music_emotion.predictions import read_predictions, write_predictions
from music_emotion.results.recipe import Recipe, parse_recipe
from music_emotion.results.submission import (
    SubmissionForm,
    check_submission,
    default_form,
    read_form,
    submission_table,
)
from music_emotion.training.evaluate import predict_clips

_PACKAGES = ("torch", "timm", "accelerate", "numpy", "pandas", "scipy")
_SAMPLE_DEPTHS = ("*/", "*/*/", "*/*/*/", "*/*/*/*/")  # competitions/SLUG, or datasets/OWNER/SLUG/data


def predict_bundle(folder: Path, bundle: str, inputs: Path, working: Path) -> None:
    """Predict all test clips with every model of a bundle, blend, and write the submission.

    On several GPUs, each has a process and a share of the models; on one, or on a CPU, this
    process does it all. `run.json` is written last: without it the run did not end well.

    Parameters
    ----------
    folder : Path
        Holds `manifest.json`, the models and the wheel.
    bundle : str
        The hash that the kernel was made for.
    inputs : Path
        Where Kaggle mounts data; the competition's folders are looked for below it.
    working : Path
        Gets `submission.csv` and `run.json`.

    Raises
    ------
    InputError
        When the bundle is another one or damaged, or the data is not there.
    """
    started = time.perf_counter()
    manifest = _read_manifest(folder, bundle)
    recipe = parse_recipe(manifest["recipe"], folder / "manifest.json")
    names = [name for models in manifest["models"].values() for name in models]
    with tempfile.TemporaryDirectory(prefix="predictions-") as scratch:
        packed = _pack(folder, names, inputs, Path(scratch))
        ready = time.perf_counter()
        _predict_all(folder, names, inputs, Path(scratch))
        predictions = recipe.predict(
            {
                run: [read_predictions(Path(scratch) / f"{name}.csv") for name in models]
                for run, models in manifest["models"].items()
            }
        )
    form = _form(inputs, recipe, predictions)
    with atomic_path(working / "submission.csv") as temporary:
        submission_table(predictions, form).to_csv(temporary, index=False)
        check_submission(temporary, form)
    ended = time.perf_counter()
    facts = {
        "bundle": bundle,
        "rows": len(form.ids),
        "models": len(names),
        "clips": packed,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "devices": _device_names(),
        "precision": _precision(),
        "seconds": {"prepare": round(ready - started, 3), "predict": round(ended - ready, 3)},
        "finished": True,
    }
    write_json(working / "run.json", facts)


def _read_manifest(folder: Path, bundle: str) -> dict[str, Any]:
    manifest = read_json(folder / "manifest.json")
    if manifest.get("bundle") != bundle:
        raise InputError(
            f"{folder} holds the bundle {str(manifest.get('bundle'))[:12]}, but the kernel was made for "
            f"{bundle[:12]}. Wait until the newest version of the dataset is ready, and run again."
        )
    damaged = [
        name
        for name, facts in manifest["files"].items()
        if not (folder / name).is_file()
        or hashlib.sha256((folder / name).read_bytes()).hexdigest() != facts["sha256"]
    ]
    if damaged:
        raise InputError(f"{folder}: {len(damaged)} files are missing or damaged: {first_five(damaged)}.")
    return manifest


def _pack(folder: Path, names: list[str], inputs: Path, scratch: Path) -> int:
    """Pack the arrays once, so that several processes find them packed; return the number of clips."""
    cards = [load_model(folder / name).card for name in names]
    by_rate = {card.experiment.data.rate: card for card in cards}
    return max(len(_test_clips(card, inputs, scratch)) for card in by_rate.values())


def _test_clips(card: ModelCard, inputs: Path, scratch: Path) -> ClipSet:
    data = replace(card.experiment.data, root=str(inputs), stores=str(scratch / "stores"))
    return load_clip_set(data, "emotion", "test", card.outputs)


def _predict_all(folder: Path, names: list[str], inputs: Path, scratch: Path) -> None:
    n_gpus = torch.cuda.device_count()
    if n_gpus < 2:
        predict_share(folder, names, inputs, scratch)
        return
    package = str(Path(__file__).parents[2])
    processes = []
    for gpu in range(n_gpus):
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(gpu), "PYTHONPATH": package}
        arguments = [str(folder), str(inputs), str(scratch), *names[gpu::n_gpus]]
        command = [sys.executable, "-m", "music_emotion.delivery.kernel", *arguments]
        processes.append(subprocess.Popen(command, env=environment))
    failed = [gpu for gpu, process in enumerate(processes) if process.wait() != 0]
    if failed:
        raise InputError(f"The processes of GPUs {failed} failed; their own messages are above.")


def predict_share(folder: Path, names: list[str], inputs: Path, scratch: Path) -> None:
    """Predict with some of the models, one after the other, on this process's device.

    Writes ``<scratch>/<name>.csv`` for each.
    """
    accelerator = Accelerator(mixed_precision=_precision())
    for name in tqdm(names, desc="predict", unit="model"):
        network = load_model(folder / name).to(accelerator.device)
        clips = _test_clips(network.card, inputs, scratch)
        write_predictions(scratch / f"{name}.csv", predict_clips(network, clips, accelerator))


def _precision() -> str:
    """Half precision where the GPU computes it fast: from Volta on, so on the T4."""
    return "fp16" if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (7, 0) else "no"


def _device_names() -> list[str]:
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return gpus or [f"CPU, {os.cpu_count()} cores"]


def _form(inputs: Path, recipe: Recipe, predictions: pd.DataFrame) -> SubmissionForm:
    """That of the competition's sample, where there is one."""
    samples = [
        path for depth in _SAMPLE_DEPTHS for path in sorted(inputs.glob(f"{depth}sample_submission*.csv"))
    ]
    if samples:
        return read_form(samples[0], recipe.targets)
    return default_form(recipe.targets, predictions.index.tolist())


if __name__ == "__main__":
    bundle_folder, input_root, scratch_folder, *model_names = sys.argv[1:]
    predict_share(Path(bundle_folder), model_names, Path(input_root), Path(scratch_folder))
