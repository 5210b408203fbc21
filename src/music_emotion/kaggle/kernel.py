"""What runs on Kaggle once the wheel is installed: a bundle and the attached data to a submission."""

import hashlib
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from music_emotion.datasets.layout import find_set
from music_emotion.evaluation.submission import check_submission, submission_table
from music_emotion.files import InputError, atomic_path, first_five, read_json, write_json
from music_emotion.kaggle.devices import device_names, precision
from music_emotion.kaggle.predict_blend import predict_blend
from music_emotion.kaggle.train_plan import train_plan
from music_emotion.runs import package_versions

OUTPUTS = ("submission.csv", "run.json")


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
    for name in OUTPUTS:  # of an earlier run in the same place
        (working / name).unlink(missing_ok=True)
    manifest = _read_manifest(folder, bundle)
    data = _find_data(inputs, manifest["competition"])
    with tempfile.TemporaryDirectory(prefix="music-emotion-") as scratch:
        if "plan" in manifest:
            predictions, form, facts = train_plan(
                folder, manifest, inputs, data, working, Path(scratch), started
            )
        else:
            predictions, form, facts = predict_blend(folder, manifest, inputs, data, Path(scratch))
    with atomic_path(working / "submission.csv") as temporary:
        submission_table(predictions, form).to_csv(temporary, index=False)
        check_submission(temporary, form)
    common = {
        "bundle": bundle,
        "rows": len(form),
        "python": platform.python_version(),
        "versions": package_versions(),
        "devices": device_names(),
        "precision": precision(),
        "seconds": {**facts.pop("seconds"), "all": round(time.time() - started, 3)},
    }
    write_json(working / "run.json", {**common, **facts, "finished": True})
    print(f"{working / 'submission.csv'}: {len(form)} rows.", flush=True)


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
        raise InputError(
            f"{folder}: missing or damaged are {first_five(damaged)}. Upload the dataset again, and wait "
            f"until it is ready."
        )
    return manifest


def _find_data(inputs: Path, competition: str) -> Path:
    """Below which folder the data is: of the competition, or else of anything attached."""
    for place in (inputs / "competitions" / competition, inputs / competition, inputs):
        try:
            find_set(place, "emotion", "full")
            return place
        except InputError as error:
            complaint = error
    try:
        find_set(inputs, "emotion", "beat")
        return inputs
    except InputError:
        raise InputError(
            f"{complaint} On Kaggle, data is attached by the --competition and --sources of package.py."
        ) from None
