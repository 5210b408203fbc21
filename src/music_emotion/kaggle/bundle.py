"""Package a bundle for Kaggle: a dataset of code with models or a training plan, and a kernel."""

import json
import re
import shutil
import textwrap
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import pandas as pd

from music_emotion import __version__
from music_emotion.config import Experiment, experiment_to_dict
from music_emotion.datasets.clip_set import in_table_path
from music_emotion.evaluation.blend import read_recipe
from music_emotion.evaluation.blend_runs import check_current
from music_emotion.evaluation.scores import fold_numbers, read_folds
from music_emotion.files import (
    InputError,
    alone_at,
    package_data,
    regular_file,
    remove_unfinished,
    sha256,
    together,
    write_json,
    write_table,
    write_text,
)
from music_emotion.kaggle.metadata import make_metadata
from music_emotion.kaggle.plan import add_plan, digest, plan_training
from music_emotion.models.ear import ear_folder
from music_emotion.models.embedding_table import hearing_of
from music_emotion.runs import read_experiment

_RESULTS = """
import pandas as pd

submission = pd.read_csv(WORKING / "submission.csv")
submission.iloc[:, 1:].hist(bins=20, figsize=(9, 2.5), layout=(1, -1))
display(json.loads((WORKING / "run.json").read_text(encoding="utf-8")), submission.head(10))
"""
# Kaggle unpacks archives that are uploaded, but not wheels.
PACKAGE = f"music_emotion-{__version__}-py3-none-any.whl"


def package(
    *what: Path,
    owner: str,
    hours: float | None = None,
    resume: str | None = None,
    name: str | None = None,
    dataset: str | None = None,
    kernel: str | None = None,
    competition: str | None = None,
    sources: tuple[str, ...] = (),
    notebook: bool = False,
    out: Path = Path("build"),
) -> None:
    """Write build/<name>/dataset and build/<name>/kernel.

    The kernel predicts the test clips with a blend. With --hours it first trains the blend's members or the
    given experiments on Kaggle. The same contents give the same bytes on every machine.

    Parameters
    ----------
    what
        Directory of a blend; with --hours, also experiments by name or file.
    owner
        Your name on Kaggle, or an organisation's.
    hours
        Train on Kaggle, and end within this number of hours, at most 11.5.
    resume
        Kernel, as owner/slug, whose unfinished training this one continues.
    name
        Name of the bundle; the blend's by default, with -training if it is trained there.
    dataset
        Slug of the dataset: 6 to 50 of a-z, 0-9 and single hyphens; music-emotion-<name> by default.
    kernel
        Slug of the kernel, likewise; music-emotion-<name>-inference, or -run, by default, and -notebook.
    competition
        Slug of the competition whose data and sample submission the kernel reads.
    sources
        Datasets to attach beside the bundle, as owner/slug, such as the one that holds the data.
    notebook
        Make the kernel a notebook that shows its results, under a slug of its own.
    out
        Folder of all bundles.
    """
    if not what:
        raise InputError("There is nothing to package. Name a blend, such as runs/blend.")
    if hours is None and resume:
        raise InputError("--resume continues a training. Give --hours, too.")
    if hours is None and what[0].suffix == ".toml":
        raise InputError(f"{what[0]} is an experiment. To train it on Kaggle, give --hours.")
    if hours is None and len(what) > 1:
        raise InputError("Several runs are packaged as a blend of them. Make one with music-emotion blend.")
    if not competition and not sources:
        raise InputError("The kernel would find no data. Give --competition, or --sources with its dataset.")
    own = what[-1].resolve().name.removesuffix(".toml")
    name = name or (own if hours is None else f"{own}-training")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"The bundle's name '{name}' is not of letters, digits, . _ and -. Give --name.")
    slug = "music-emotion-" + re.sub(r"[._]", "-", name.lower())
    # Kaggle never changes the type of a kernel
    kernel = kernel or f"{slug}-{'inference' if hours is None else 'run'}{'-notebook' if notebook else ''}"
    metadata = make_metadata(owner, dataset or slug, kernel, competition, sources, resume, notebook)
    plan = None if hours is None else plan_training(what, name, hours, resume)
    build = out / name
    with alone_at(build, "give another --name"):
        remove_unfinished(build)
        try:
            with together(build, "kernel") as fresh:
                files = fresh / "dataset"
                files.mkdir()
                contents = add_plan(plan, files) if plan else add_blend(what[0], files)
                bundle = _write_files(fresh, name, {**contents, "competition": competition}, *metadata)
                for folder in fresh.iterdir():
                    shutil.rmtree(build / folder.name, ignore_errors=True)
        finally:
            with suppress(OSError):  # not empty, unless packaging failed
                build.rmdir()
    sizes = [path.stat().st_size for path in (build / "dataset").iterdir()]
    print(
        f"{build}: bundle {bundle[:12]}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, every rule checked."
    )


def _write_files(
    folder: Path, name: str, contents: dict[str, Any], about: dict[str, Any], metadata: dict[str, Any]
) -> str:
    """Complete the dataset and write the kernel; return the hash that identifies the bundle."""
    dataset = folder / "dataset"
    write_package(dataset / PACKAGE)
    contents["files"] = {path.name: {"sha256": sha256(path)} for path in sorted(dataset.iterdir())}
    bundle = digest(contents)
    write_json(dataset / "manifest.json", {"bundle": bundle, "name": name, **contents})
    write_json(dataset / "dataset-metadata.json", about)
    write_json(folder / "kernel" / "kernel-metadata.json", metadata)
    script = (package_data("kaggle") / "kernel.py").read_text(encoding="utf-8").replace("@bundle@", bundle)
    if metadata["kernel_type"] == "notebook":
        script = json.dumps(notebook_of(script, name), indent=1)
    write_text(folder / "kernel" / metadata["code_file"], script)
    check_dataset(dataset)
    return bundle


def notebook_of(script: str, name: str) -> dict[str, Any]:
    """The kernel's script as a notebook of a few cells, which ends with the submission.

    Parameters
    ----------
    script : str
        `kernel.py`.
    name : str
        Name of the bundle, for the title.

    Returns
    -------
    dict
        Content of an ``.ipynb`` file, format 4.
    """
    top, main = re.split("^if __name__.*\n", script, flags=re.MULTILINE)
    what, functions = top.removeprefix('"""').split('"""\n', 1)
    texts = [
        f"# {name}\n\nMade by music-emotion {__version__}. {what} It needs no internet.",
        functions,
        "## Run\n\nEvery file of the bundle is checked first. The submission is checked last.",
        textwrap.dedent(main),
        "## Results\n\nThe submission, and how it was made.",
        _RESULTS,
    ]
    cells: list[dict[str, Any]] = [{"metadata": {}, "source": text.strip()} for text in texts]
    for cell in cells[::2]:
        cell["cell_type"] = "markdown"
    for cell in cells[1::2]:
        cell |= {"cell_type": "code", "execution_count": None, "outputs": []}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


def write_package(path: Path) -> None:
    """Zip this package and its data; a wheel and a checkout give the same bytes.

    Parameters
    ----------
    path : Path
        The archive. Its members are laid out as in a wheel, sorted, with a fixed date.
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
            member = ZipInfo(name)  # dated 1980; uncompressed, since zlib versions differ
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, members[name].read_bytes())


def add_blend(blended: Path, dataset: Path) -> dict[str, Any]:
    """Copy the models of a blend's networks, and the folds of its classical runs, into the dataset.

    Classical runs are fitted again on Kaggle, where the groups are missing. So each gets a table with the
    fold of every clip, one column per seed.

    Parameters
    ----------
    blended : Path
        ``runs/<blend>``.
    dataset : Path
        Folder to copy to.

    Returns
    -------
    dict
        Entries of the manifest: the ``recipe``; ``models``, run to files; ``refits``, run to its experiment
        and the file of its folds; ``tables``, path of each table that runs read to its name in the dataset;
        ``embed``, name of each table that the kernel makes of the test arrays to its `Hearing`.

    Raises
    ------
    InputError
        When the directory is not a blend's, or a run has changed since the blend or lacks a fold. When a
        network reads a table, or a table or the weights it was made with are missing.
    """
    recipe = read_recipe(blended)
    check_current(blended, recipe)
    contents: dict[str, Any] = {"recipe": asdict(recipe), "models": {}, "refits": {}}
    contents |= {"tables": {}, "embed": {}}
    for run in map(Path, recipe.members):
        experiment = read_experiment(run)
        needed = "valid.csv" if experiment.is_classical else "model.safetensors"
        for seed, fold in ((seed, fold) for seed in experiment.seeds for fold in range(experiment.folds.n)):
            path = run / f"seed{seed}" / f"fold{fold}" / needed
            regular_file(path, remedy=f"Train the run again: {run} lacks a fold.")
            if not experiment.is_classical:
                name = f"{run.name}-seed{seed}-fold{fold}.safetensors"
                shutil.copyfile(path, dataset / name)
                contents["models"].setdefault(run.name, []).append(name)
        _add_tables(run, experiment, dataset, contents)
        if experiment.is_classical:
            folds, tables = f"{run.name}-folds.csv", read_folds(run, "valid")
            columns = {str(seed): fold_numbers(tables[seed]) for seed in experiment.seeds}
            write_table(dataset / folds, pd.DataFrame(columns).reset_index())
            contents["refits"][run.name] = {"experiment": experiment_to_dict(experiment), "folds": folds}
    return contents


def _add_tables(run: Path, experiment: Experiment, dataset: Path, contents: dict[str, Any]) -> None:
    """Copy a run's tables into the dataset, or the ear's weights for a table it made of the test arrays."""
    data = experiment.data
    tables = [*([] if data.statistics is None else [data.statistics]), *data.embeddings]
    if tables and not experiment.is_classical:
        raise InputError(f"{run} is a network that reads {tables[0]}. Blend estimators or arrays instead.")
    for table in (table for table in tables if table not in contents["tables"]):
        name = contents["tables"][table] = f"table{len(contents['tables'])}-{{split}}.csv"
        for split in ("train", "test"):
            path, placed = (Path(in_table_path(each, split, "emotion")) for each in (table, name))
            regular_file(path, f"{run}: the table", "The kernel needs it. Make it again.")
            if split == "train" or not (hearing := hearing_of(path)):
                shutil.copyfile(path, dataset / placed)
                continue
            contents["embed"][placed.name] = asdict(hearing)
            for ear, made_with in hearing.ears.items():
                weights = ear_folder() / ear
                if not weights.is_file() or sha256(weights) != made_with:
                    made = f"{path} was embedded with {ear} (SHA-256 {made_with[:12]}...)"
                    raise InputError(f"{made}, which {weights.parent} lacks. Put the file there.")
                shutil.copyfile(weights, dataset / ear)


def check_dataset(folder: Path) -> None:
    """Refuse files that Kaggle would not take.

    Raises
    ------
    InputError
        When there is such a file. The message names it and what to change.
    """
    paths = sorted(folder.iterdir())
    for path in paths:
        if not re.fullmatch(r"[A-Za-z0-9._+-]+", path.name):
            raise InputError(f"{path} has a character that Kaggle refuses. Rename the run to a-z, 0-9, -.")
    if len(paths) > 50:
        raise InputError(f"{folder} holds {len(paths)} files; 50 arrive in good time. Blend fewer folds.")
