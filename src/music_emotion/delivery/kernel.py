"""What runs on Kaggle once the wheel is installed: a bundle and the attached data to a submission."""

import hashlib
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from music_emotion.delivery.devices import device_names, precision
from music_emotion.delivery.predict_blend import predict_blend
from music_emotion.delivery.train_plan import train_plan
from music_emotion.errors import InputError, first_five
from music_emotion.files import atomic_path, read_json, write_json
from music_emotion.results.submission import (
    SubmissionForm,
    check_submission,
    default_form,
    read_form,
    submission_table,
)

_PACKAGES = ("torch", "timm", "accelerate", "numpy", "pandas", "scipy", "scikit-learn")
_SAMPLE_DEPTHS = ("*/", "*/*/", "*/*/*/", "*/*/*/*/")  # competitions/SLUG, or datasets/OWNER/SLUG/data


def run_bundle(folder: Path, bundle: str, inputs: Path, working: Path) -> None:
    """Predict the test clips with a bundle's blend, or train its plan first, and write the submission.

    `run.json` is written last: without it the run did not end well.

    Parameters
    ----------
    folder : Path
        Holds `manifest.json`, the wheel, and what the manifest lists.
    bundle : str
        The hash that the kernel was made for.
    inputs : Path
        Where Kaggle mounts data; the competition's folders are looked for below it.
    working : Path
        Gets `submission.csv` and `run.json`, and of a training `runs/`.

    Raises
    ------
    InputError
        When the bundle is another one or damaged, or the data is not there.
    """
    started = time.time()
    manifest = _read_manifest(folder, bundle)
    with tempfile.TemporaryDirectory(prefix="music-emotion-") as scratch:
        if "plan" in manifest:
            predictions, facts = train_plan(folder, manifest, inputs, working, Path(scratch), started)
        else:
            predictions, facts = predict_blend(folder, manifest, inputs, Path(scratch))
    form = _form(inputs, predictions)
    with atomic_path(working / "submission.csv") as temporary:
        submission_table(predictions, form).to_csv(temporary, index=False)
        check_submission(temporary, form)
    common = {
        "bundle": bundle,
        "rows": len(form.ids),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in _PACKAGES},
        "devices": device_names(),
        "precision": precision(),
        "seconds": {**facts.pop("seconds"), "all": round(time.time() - started, 3)},
    }
    write_json(working / "run.json", {**common, **facts, "finished": True})


def _read_manifest(folder: Path, bundle: str) -> dict[str, Any]:
    manifest: dict[str, Any] = read_json(folder / "manifest.json")
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


def _form(inputs: Path, predictions: pd.DataFrame) -> SubmissionForm:
    """That of the competition's sample, where there is one."""
    targets = tuple(predictions.columns)
    samples = [
        path for depth in _SAMPLE_DEPTHS for path in sorted(inputs.glob(f"{depth}sample_submission*.csv"))
    ]
    return read_form(samples[0], targets) if samples else default_form(targets, predictions.index.tolist())
