"""What Kaggle takes: a flat dataset of code, with models or a plan to train them, and a kernel."""

import hashlib
import json
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import pandas as pd

from music_emotion import __version__
from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.blend_runs import check_current
from music_emotion.evaluation.scores import fold_numbers, read_folds
from music_emotion.files import InputError, alone_at, package_data, write_json, write_table, write_text
from music_emotion.kaggle.metadata import make_metadata
from music_emotion.kaggle.plan import add_plan, plan_training
from music_emotion.runs import package_versions, read_experiment

# Kaggle unpacks archives that it is sent, but leaves wheels alone.
PACKAGE = f"music_emotion-{__version__}-py3-none-any.whl"
_UNPACKED = {".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".rar", ".7z", ".pt", ".pth", ".npz"}
_BUILDING = ".building-"


def package(
    what: Sequence[Path],
    owner: str,
    hours: float | None = None,
    resume: str | None = None,
    name: str | None = None,
    dataset: str | None = None,
    kernel: str | None = None,
    competition: str | None = None,
    sources: Sequence[str] = (),
    out: Path = Path("build"),
) -> str:
    """Write a bundle: a dataset, and the kernel that predicts with a blend or first trains one.

    The same contents give the same bytes, on every machine. What a push keeps beside them stays.

    Parameters
    ----------
    what : sequence of Path
        Directory of a blend; with `hours`, or experiment files.
    owner : str
        User or organisation on Kaggle.
    hours : float or None
        Train on Kaggle, and end within so many hours, at most 11.5.
    resume : str or None
        ``owner/slug`` of the kernel whose unfinished training goes on.
    name : str or None
        Of the bundle; of the last of `what`, and ``-training`` where one is, when it is None.
    dataset, kernel : str or None
        Slugs; made from the name when they are None.
    competition : str or None
        Slug of the competition whose data and sample submission the kernel reads.
    sources : sequence of str
        Further datasets to attach, as ``owner/slug``.
    out : Path
        Gets ``<name>/dataset`` and ``<name>/kernel``.

    Returns
    -------
    str
        What was written, in one line.

    Raises
    ------
    InputError
        When something is missing, or Kaggle would not take it; while the bundle is pushed or packaged.
    """
    _check_contents(what, hours, resume)
    if not competition and not sources:
        raise InputError(
            "The kernel would find no data. Give --competition, or --sources with the dataset that holds it."
        )
    last = what[-1].resolve()
    own = last.stem if last.suffix == ".toml" else last.name
    name = name or (own if hours is None else f"{own}-training")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"The bundle's name '{name}' is not of letters, digits, . _ and -. Give --name.")
    slug = "music-emotion-" + re.sub(r"[._]", "-", name.lower())
    kernel = kernel or f"{slug}-{'inference' if hours is None else 'run'}"
    metadata = make_metadata(owner, dataset or slug, kernel, competition, sources, resume)
    plan = None if hours is None else plan_training(what, name, hours, resume)
    build = out / name
    with alone_at(build, "give another --name"):
        for left in build.glob(f"{_BUILDING}*"):  # by a packaging that was killed
            shutil.rmtree(left)
        build.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=build) as temporary:
                fresh = Path(temporary)
                (fresh / "dataset").mkdir()
                contents = (
                    add_plan(plan, fresh / "dataset") if plan else add_blend(what[0], fresh / "dataset")
                )
                bundle = _write_files(fresh, name, {**contents, "competition": competition}, *metadata)
                for folder in fresh.iterdir():
                    shutil.rmtree(build / folder.name, ignore_errors=True)
                    folder.rename(build / folder.name)
        finally:
            with suppress(OSError):  # not empty, unless packaging failed
                build.rmdir()
    sizes = [path.stat().st_size for path in (build / "dataset").iterdir()]
    return (
        f"{build}: bundle {bundle[:12]}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, every rule checked."
    )


def _check_contents(what: Sequence[Path], hours: float | None, resume: str | None) -> None:
    if not what:
        raise InputError("There is nothing to package. Name a blend, such as runs/blend.")
    if hours is not None:
        return
    if resume:
        raise InputError("--resume goes on with a training. Give --hours, too.")
    if any(path.suffix == ".toml" for path in what):
        raise InputError(f"{what[0]} is an experiment. To train it on Kaggle, give --hours.")
    if len(what) > 1:
        raise InputError("Several runs are packaged as a blend of them. Make one with music-emotion blend.")


def _write_files(
    folder: Path, name: str, contents: dict[str, Any], about: dict[str, Any], metadata: dict[str, Any]
) -> str:
    """Complete the dataset, write the kernel, and give the hash by which kernel, output and push know it."""
    dataset = folder / "dataset"
    write_package(dataset / PACKAGE)
    contents["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(dataset.iterdir())
    }
    bundle = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    versions = {"python": platform.python_version(), **package_versions()}
    write_json(dataset / "manifest.json", {"bundle": bundle, "name": name, "versions": versions, **contents})
    write_json(dataset / "dataset-metadata.json", about)
    write_json(folder / "kernel" / "kernel-metadata.json", metadata)
    script = (package_data("kaggle") / metadata["code_file"]).read_text(encoding="utf-8")
    write_text(folder / "kernel" / metadata["code_file"], script.replace("@bundle@", bundle))
    check_dataset(dataset)
    return bundle


def write_package(path: Path) -> None:
    """Zip this package and its data: the same bytes from a wheel as from a checkout.

    Parameters
    ----------
    path : Path
        The archive. Its members are as in a wheel, in order, without times of their own.
    """
    package = Path(__file__).parents[1]
    folders = {
        "experiments": package_data("experiments"),
        "kaggle/templates": package_data("kaggle"),
        ".": package,
    }
    members = {
        (Path("music_emotion", place) / file.relative_to(folder)).as_posix(): file
        for place, folder in folders.items()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with ZipFile(path, "w") as archive:
        for name in sorted(members):
            member = ZipInfo(name)  # of 1980, and stored as it is, since each zlib compresses otherwise
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, members[name].read_bytes())


def add_blend(blended: Path, dataset: Path) -> dict[str, Any]:
    """Copy into the dataset what a blend's members predict with.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.
    dataset : Path
        Gets the models of networks, and the folds of classical runs, which are fitted again there.

    Returns
    -------
    dict
        For the manifest: the ``recipe``; ``models``, run to files; ``refits``, run to its experiment and
        the file of its folds.

    Raises
    ------
    InputError
        When the directory is not of a blend, a member has changed since, or lacks a fold.
    """
    recipe = read_recipe(blended)
    check_current(blended, recipe)
    contents: dict[str, Any] = {"recipe": asdict(recipe), "models": {}, "refits": {}}
    for run in map(Path, recipe.members):
        experiment = read_experiment(run)
        folds = [(seed, fold) for seed in experiment.seeds for fold in range(experiment.folds.n)]
        needed = "valid.csv" if experiment.is_classical else "model.safetensors"
        for seed, fold in folds:
            path = run / f"seed{seed}" / f"fold{fold}" / needed
            if not path.is_file():
                raise InputError(f"{path} does not exist. Train the run again: {run} lacks a fold.")
            if not experiment.is_classical:
                name = f"{run.name}-seed{seed}-fold{fold}.safetensors"
                shutil.copyfile(path, dataset / name)
                contents["models"].setdefault(run.name, []).append(name)
        if experiment.is_classical:
            contents["refits"][run.name] = _add_folds(run, experiment, dataset / f"{run.name}-folds.csv")
    return contents


def _add_folds(run: Path, experiment: Experiment, path: Path) -> dict[str, Any]:
    """Write every clip's fold, a column per seed: Kaggle knows neither the groups nor our splitter."""
    tables = read_folds(run, "valid")
    columns = {str(seed): fold_numbers(tables[seed]) for seed in experiment.seeds}
    write_table(path, pd.DataFrame(columns).reset_index())
    return {"experiment": experiment_to_dict(experiment), "folds": path.name}


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
            raise InputError(
                f"{path} is a folder; Kaggle's package leaves folders out. Put its files beside it."
            )
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
