"""A blend to what Kaggle takes: a flat dataset of models and code, and a kernel that runs them."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from music_emotion.errors import InputError
from music_emotion.files import read_json, write_json, write_text
from music_emotion.results.recipe import Recipe, read_recipe
from music_emotion.training.run import package_versions

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


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
    """

    owner: str
    dataset: str
    kernel: str
    competition: str = "none"
    sources: tuple[str, ...] = ()

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
            if not re.fullmatch(r"[A-Za-z0-9_-]+/[a-z0-9-]+", source):
                raise InputError(f"'{source}' is not owner/slug of a dataset. Give --sources again.")


def write_bundle(blended: Path, build: Path, names: Names, project: Path) -> str:
    """Write the dataset and the kernel of a blend.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.
    build : Path
        Gets `dataset/` and `kernel/`, anew each time; what the push keeps beside them stays.
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
        When the directory is not of a blend, a model is missing, or Kaggle would not take a file.
    """
    recipe = read_recipe(blended)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=_made(build)) as temporary:
        dataset, kernel = _made(Path(temporary) / "dataset"), _made(Path(temporary) / "kernel")
        models = {Path(path).name: _copy_models(Path(path), dataset) for path in recipe.members}
        _build_wheel(project, dataset)
        bundle = _write_manifest(dataset, blended.name, recipe, models)
        write_json(dataset / "dataset-metadata.json", _dataset_metadata(names, project))
        write_json(kernel / "kernel-metadata.json", _kernel_metadata(names, project))
        script = (project / "kaggle" / "inference.py").read_text(encoding="utf-8")
        write_text(kernel / "inference.py", script.replace("@bundle@", bundle))
        check_dataset(dataset)
        for folder in (dataset, kernel):
            shutil.rmtree(build / folder.name, ignore_errors=True)
            folder.rename(build / folder.name)
    return bundle


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy_models(run: Path, dataset: Path) -> list[str]:
    """Copy a run's models under flat names; return the names."""
    experiment = read_json(run / "experiment.json")
    names = []
    for seed in experiment["seeds"]:
        for fold in range(experiment["folds"]["n"]):
            model = run / f"seed{seed}" / f"fold{fold}" / "model.safetensors"
            if not model.is_file():
                raise InputError(f"{model} does not exist. Train the run again: {run} lacks a fold.")
            names.append(f"{run.name}-seed{seed}-fold{fold}.safetensors")
            shutil.copyfile(model, dataset / names[-1])
    return names


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


def _write_manifest(dataset: Path, name: str, recipe: Recipe, models: dict[str, list[str]]) -> str:
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(dataset.iterdir())
    }
    content: dict[str, Any] = {"recipe": asdict(recipe), "models": models, "files": files}
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
