"""What Kaggle takes: a flat dataset of code, models or a plan to train some, and a kernel that runs them."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from music_emotion.files import InputError, alone_at, write_json, write_text
from music_emotion.kaggle.metadata import Names, check_metadata, dataset_metadata, kernel_metadata
from music_emotion.runs import package_versions

Contents = Callable[[Path], dict[str, Any]]
_BUILDING = ".building-"
_UNPACKED = {".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".rar", ".7z", ".pt", ".pth", ".npz"}


def write_bundle(contents: Contents, build: Path, names: Names, project: Path) -> str:
    """Write a dataset and the kernel that runs it.

    Parameters
    ----------
    contents : callable
        Puts its own files into the dataset's folder, and gives what the manifest says of them:
        `add_blend` or `add_plan`.
    build : Path
        ``build/<name>``; gets `dataset/` and `kernel/`, anew each time; what the push keeps beside
        them stays.
    names : Names
    project : Path
        The project's root: `pyproject.toml` for the wheel, `kaggle/` for the templates.

    Returns
    -------
    str
        The bundle's hash, by which kernel, output and push know each other.

    Raises
    ------
    InputError
        When a file is missing, or Kaggle would not take one; while the bundle is pushed or packaged.
    """
    with alone_at(build, "give another --name"):
        for left in build.glob(f"{_BUILDING}*"):  # by a packaging that was killed
            shutil.rmtree(left)
        try:
            return _write_parts(contents, build, names, project)
        finally:
            with suppress(OSError):  # empty, when packaging failed
                build.rmdir()


def _write_parts(contents: Contents, build: Path, names: Names, project: Path) -> str:
    with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=_made(build)) as temporary:
        dataset, kernel = _made(Path(temporary) / "dataset"), _made(Path(temporary) / "kernel")
        described = contents(dataset)
        _build_wheel(project, dataset)
        described["competition"] = names.competition
        bundle = _write_manifest(dataset, build.name, described)
        about_dataset, metadata = dataset_metadata(names, project), kernel_metadata(names, project)
        check_metadata(about_dataset, metadata)
        write_json(dataset / "dataset-metadata.json", about_dataset)
        write_json(kernel / "kernel-metadata.json", metadata)
        script = (project / "kaggle" / metadata["code_file"]).read_text(encoding="utf-8")
        write_text(kernel / metadata["code_file"], script.replace("@bundle@", bundle))
        check_dataset(dataset)
        for folder in (dataset, kernel):
            if (build / folder.name).exists():
                shutil.rmtree(build / folder.name)
            folder.rename(build / folder.name)
    return bundle


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _build_wheel(project: Path, folder: Path) -> None:
    """Build the project's wheel from a copy, since building leaves files in the source."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "project"
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(project / "src", source / "src", ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copyfile(project / name, source / name)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        # the same sources give the same bytes, and so the same bundle
        environment = os.environ | {"SOURCE_DATE_EPOCH": "315532800", "PIP_NO_INDEX": "1"}
        done = subprocess.run(
            [*command, "--wheel-dir", str(folder), str(source)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise InputError(f"The project's wheel can't be built: {done.stderr.strip()[-500:]}")


def _write_manifest(dataset: Path, name: str, described: dict[str, Any]) -> str:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(dataset.iterdir())
    }
    content = {**described, "files": files}
    bundle = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    versions = {"python": platform.python_version(), **package_versions()}
    write_json(dataset / "manifest.json", {"bundle": bundle, "name": name, "versions": versions, **content})
    return bundle


def check_dataset(folder: Path) -> None:
    """Refuse what Kaggle would drop, unpack or choke on.

    Raises
    ------
    InputError
        Naming the file, and what to change.
    """
    paths = sorted(folder.iterdir())
    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; the CLI leaves folders out. Put its files beside it.")
        if path.name.startswith("."):
            raise InputError(f"{path} is hidden, but would be uploaded. Remove it.")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; Kaggle loses empty files. Remove it.")
        if path.suffix.lower() in _UNPACKED:
            raise InputError(f"{path} would be unpacked by Kaggle. Ship safetensors and plain files.")
        if not re.fullmatch(r"[A-Za-z0-9._+-]+", path.name):
            raise InputError(f"{path} has a character that Kaggle refuses. Rename the run to a-z, 0-9, -.")
    if len(paths) > 50:
        raise InputError(f"{folder} holds {len(paths)} files; 50 arrive in good time. Blend fewer folds.")
