"""The files on this side of a push: the bundle before it goes, the kernel's output when it came."""

import csv
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from music_emotion.files import InputError, first_five, read_json
from music_emotion.kaggle.metadata import check_metadata

_METADATA = "dataset-metadata.json"
_MANIFEST = "manifest.json"


class RunFailed(InputError):
    """What the kernel left shows that its run is of no use, however often it is fetched."""


@dataclass(frozen=True)
class Bundle:
    """A packaged bundle that can be pushed.

    Attributes
    ----------
    folder : Path
        ``build/<name>``.
    hash : str
        The bundle's own.
    sizes : dict of str to int
        Bytes of every file that is to be on Kaggle.
    dataset, kernel : str
        ``owner/slug`` of each.
    kernel_hash : str
        Of the kernel's folder.
    """

    folder: Path
    hash: str
    sizes: dict[str, int]
    dataset: str
    kernel: str
    kernel_hash: str


def read_bundle(folder: Path) -> Bundle:
    """Check ``build/<name>`` and say what it holds.

    Raises
    ------
    InputError
        When a file is missing, changed or too many, or the metadata can't be pushed.
    """
    if not (folder / "dataset" / _MANIFEST).is_file():
        raise InputError(f"{folder} is not a packaged bundle. Name build/<name>, as package.py wrote it.")
    manifest = _object(folder / "dataset" / _MANIFEST)
    bundle_hash, files = manifest.get("bundle"), manifest.get("files", {})
    whole = isinstance(files, dict) and files and all(map(_is_entry, files.items()))
    if not whole or not re.fullmatch(r"[0-9a-f]{64}", str(bundle_hash)):
        raise InputError(f"{folder / 'dataset' / _MANIFEST} lists no bundle and files. Package it again.")
    _check_files(folder / "dataset", files)
    sizes = {name: int(file["bytes"]) for name, file in files.items()}
    sizes[_MANIFEST] = (folder / "dataset" / _MANIFEST).stat().st_size
    about_dataset = _object(folder / "dataset" / _METADATA)
    kernel_file = folder / "kernel" / "kernel-metadata.json"
    metadata = _object(kernel_file)
    check_metadata(about_dataset, metadata)
    code = folder / "kernel" / str(metadata.get("code_file"))
    if not code.is_file():
        raise InputError(f"{kernel_file}: code_file {code.name} does not exist. Package it again.")
    if str(bundle_hash) not in code.read_text(encoding="utf-8"):
        raise InputError(f"{code} was made for another bundle than {folder / 'dataset'}. Package it again.")
    kernel_hash = hashlib.sha256(kernel_file.read_bytes() + code.read_bytes()).hexdigest()
    return Bundle(folder, str(bundle_hash), sizes, about_dataset["id"], metadata["id"], kernel_hash)


def _is_entry(entry: tuple[str, Any]) -> bool:
    name, file = entry
    return Path(name).name == name and isinstance(file, dict) and {"bytes", "sha256"} <= file.keys()


def _check_files(folder: Path, files: dict[str, Any]) -> None:
    """Every file of the manifest as it was packaged, and nothing else: the CLI uploads all it finds."""
    there = {path.name for path in folder.iterdir()} - {_MANIFEST, _METADATA}
    if extra := sorted(there - set(files)):
        raise InputError(f"{folder} holds what its manifest does not list: {first_five(extra)}. Remove it.")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing, though the manifest lists it. Package the bundle again.")
        if path.stat().st_size != expected["bytes"]:
            raise InputError(
                f"{path} has {path.stat().st_size} bytes, its manifest says {expected['bytes']}. "
                f"Package the bundle again."
            )
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                raise InputError(f"{path} was changed after packaging (sha256). Package the bundle again.")


def _object(path: Path) -> dict[str, Any]:
    held = read_json(path)
    if not isinstance(held, dict):
        raise InputError(f"{path} is no JSON object. Package the bundle again.")
    return held


def check_output(folder: Path, bundle_hash: str) -> int:
    """Check what a kernel's run left.

    Parameters
    ----------
    folder : Path
        Holds ``run.json`` and ``submission.csv``.
    bundle_hash : str
        The bundle that must have made them.

    Returns
    -------
    int
        Rows of the submission.

    Raises
    ------
    RunFailed
        When a file is missing, or the run was of another bundle or did not finish.
    InputError
        When a file is not what its name says.
    """
    text = _text(folder / "run.json")
    try:
        run = json.loads(text)
    except ValueError:
        run = None
    if not isinstance(run, dict):
        raise InputError(f"run.json of the kernel is not JSON but begins with '{text[:40]}'. {_AGAIN}")
    if run.get("bundle") != bundle_hash:
        raise RunFailed(
            f"run.json is of bundle {str(run.get('bundle'))[:12]}, not of {bundle_hash[:12]}: an earlier "
            f"run, or one on the dataset's earlier version. The same command runs the kernel again."
        )
    if run.get("finished") is not True:
        raise RunFailed(
            "run.json has no end marker: the kernel stopped before its end, though Kaggle calls it complete. "
            "Look at its log; the same command runs it again."
        )
    rows = _check_submission(folder / "submission.csv")
    if rows != run.get("rows"):
        raise InputError(f"submission.csv has {rows} rows, run.json says {run.get('rows')}. {_AGAIN}")
    return rows


_AGAIN = "The same command fetches it again."


def _text(path: Path) -> str:
    if not path.is_file():
        raise RunFailed(
            f"The kernel's output has no {path.name}: it stopped before writing it. Look at its log; "
            f"the same command runs it again."
        )
    text = path.read_bytes().decode("utf-8-sig", "replace")
    if text.lstrip().startswith("<"):
        raise InputError(f"{path.name} is an HTML page: an error in place of the kernel's file. {_AGAIN}")
    return text


def _check_submission(path: Path) -> int:
    header, *rows = [row for row in csv.reader(_text(path).splitlines()) if row] or [[]]
    if len(header) < 2 or not re.match(r"id\b|.*_id$", header[0], re.IGNORECASE):
        raise InputError(
            f"submission.csv has the header '{','.join(header)}', not an id and targets. {_AGAIN}"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header) or not row[0] or not all(map(_is_finite, row[1:])):
            raise InputError(
                f"submission.csv row {number} is '{','.join(row)[:80]}', not an id and finite numbers."
            )
    if len({row[0] for row in rows}) != len(rows):
        raise InputError("submission.csv holds an id twice. Look at the kernel's log.")
    return len(rows)


def _is_finite(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
