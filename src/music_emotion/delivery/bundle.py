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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from music_emotion.errors import InputError
from music_emotion.files import read_json, write_json, write_text
from music_emotion.training.run import package_versions

Contents = Callable[[Path], dict[str, Any]]
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_REFERENCE = re.compile(r"[A-Za-z0-9_-]+/[a-z0-9-]+")


@dataclass(frozen=True)
class Names:
    """What things are called on Kaggle. Titles are made from slugs, so that the two agree.

    Attributes
    ----------
    owner : str
        User or organisation.
    dataset, kernel : str
        Slugs: 6 to 50 of a-z, 0-9 and single hyphens; not the same.
    competition : str
        Slug of the competition whose data the kernel reads; "none" for data from `sources` alone.
    sources : tuple of str
        Further datasets as ``owner/slug``, such as the one the competition's data is in.
    resume : str
        ``owner/slug`` of another kernel, whose output a training goes on from; "none" to begin.
    """

    owner: str
    dataset: str
    kernel: str
    competition: str = "none"
    sources: tuple[str, ...] = ()
    resume: str = "none"

    def __post_init__(self) -> None:
        for kind, slug in (("dataset", self.dataset), ("kernel", self.kernel)):
            if not _SLUG.fullmatch(slug) or not 6 <= len(slug) <= 50:
                raise InputError(
                    f"The {kind} slug '{slug}' is not 6 to 50 characters of a-z, 0-9 and single hyphens. "
                    f"Give another with --{kind}."
                )
        if self.dataset == self.kernel:
            raise InputError(
                f"Dataset and kernel are both called '{self.kernel}'; Kaggle refuses that. Give --kernel."
            )
        if not re.fullmatch(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+)*", self.owner):
            raise InputError(f"'{self.owner}' is not the name of a Kaggle user. Give --owner.")
        if self.competition != "none" and not _SLUG.fullmatch(self.competition):
            raise InputError(f"'{self.competition}' is not the slug of a competition. Give --competition.")
        for source in self.sources:
            if not _REFERENCE.fullmatch(source):
                raise InputError(f"'{source}' is not owner/slug of a dataset. Give --sources again.")
        if self.resume != "none" and not _REFERENCE.fullmatch(self.resume):
            raise InputError(f"'{self.resume}' is not owner/slug of a kernel. Give --resume again.")
        if self.resume == f"{self.owner}/{self.kernel}":
            raise InputError(
                f"The kernel would go on from its own output, which each push replaces. Give another name "
                f"with --kernel, such as {self.kernel}-2."
            )


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
        When a file is missing, or Kaggle would not take one.
    """
    with tempfile.TemporaryDirectory(prefix=".building-", dir=_made(build)) as temporary:
        dataset, kernel = _made(Path(temporary) / "dataset"), _made(Path(temporary) / "kernel")
        described = contents(dataset)
        _build_wheel(project, dataset)
        bundle = _write_manifest(dataset, build.name, described)
        write_json(dataset / "dataset-metadata.json", _dataset_metadata(names, project))
        metadata = _kernel_metadata(names, project)
        write_json(kernel / "kernel-metadata.json", metadata)
        script = (project / "kaggle" / metadata["code_file"]).read_text(encoding="utf-8")
        write_text(kernel / metadata["code_file"], script.replace("@bundle@", bundle))
        check_dataset(dataset)
        for folder in (dataset, kernel):
            shutil.rmtree(build / folder.name, ignore_errors=True)
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


def _dataset_metadata(names: Names, project: Path) -> dict[str, Any]:
    template = read_json(project / "kaggle" / "dataset-metadata.json")
    return template | {"id": f"{names.owner}/{names.dataset}", "title": _title(names.dataset)}


def _kernel_metadata(names: Names, project: Path) -> dict[str, Any]:
    template = read_json(project / "kaggle" / "kernel-metadata.json")
    return template | {
        "id": f"{names.owner}/{names.kernel}",
        "title": _title(names.kernel),
        "dataset_sources": [f"{names.owner}/{names.dataset}", *names.sources],
        "competition_sources": [] if names.competition == "none" else [names.competition],
        "kernel_sources": [] if names.resume == "none" else [names.resume],
    }


def _title(slug: str) -> str:
    """Kaggle makes the slug from the title, whatever the metadata say."""
    return slug.replace("-", " ")


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
        if path.suffix in {".zip", ".gz", ".tar", ".pt", ".pth", ".npz", ".bz2", ".7z"}:
            raise InputError(f"{path} would be unpacked by Kaggle. Ship safetensors and plain files.")
        if not re.fullmatch(r"[A-Za-z0-9._+-]+", path.name):
            raise InputError(f"{path} has a character that Kaggle refuses. Rename the run to a-z, 0-9, -.")
    if len(paths) > 50:
        raise InputError(f"{folder} holds {len(paths)} files; 50 arrive in good time. Blend fewer folds.")
