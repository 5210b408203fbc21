"""A blend, or experiments to train there, to a Kaggle dataset and kernel, every known rule checked."""

import re
from functools import partial
from pathlib import Path

from command_line import run
from music_emotion.files import InputError
from music_emotion.kaggle.blend import add_blend
from music_emotion.kaggle.bundle import write_bundle
from music_emotion.kaggle.metadata import Names
from music_emotion.kaggle.plan import add_plan, plan_training

PROJECT = Path(__file__).parents[1]


def package(
    *what: Path,
    owner: str,
    hours: float = 0.0,
    resume: str = "none",
    name: str | None = None,
    dataset: str | None = None,
    kernel: str | None = None,
    competition: str = "none",
    sources: tuple[str, ...] = (),
    out: Path = Path("build"),
) -> None:
    """Write build/<name>/dataset and build/<name>/kernel.

    The kernel predicts the test clips with a blend. With --hours it first trains there: what the
    blend was made of, or the experiments of some files.

    Parameters
    ----------
    what
        Directory of a blend; with --hours, also experiment files.
    owner
        Your name on Kaggle.
    hours
        Train on Kaggle, and end within so many hours, at most 11.5; 0 does not train.
    resume
        Kernel, as owner/slug, whose unfinished training this one goes on with.
    name
        Of the bundle; the blend's by default, with -training where one is.
    dataset
        What the dataset is called there: 6 to 50 of a-z, 0-9 and single hyphens;
        music-emotion-<name> by default.
    kernel
        What the kernel is called, likewise; music-emotion-<name>-inference, or -run, by default.
    competition
        Slug of the competition whose data and sample submission the kernel reads.
    sources
        Datasets to attach beside the bundle, as owner/slug, such as the one that holds the data.
    out
        Folder of all bundles.
    """
    if not what:
        raise InputError("There is nothing to package. Name a blend, such as runs/blend.")
    _check_ways(what, hours, resume)
    if competition == "none" and not sources:
        raise InputError(
            "The kernel would find no data. Give --competition, or --sources with the dataset that holds it."
        )
    last = what[-1].resolve()
    own = last.stem if last.suffix == ".toml" else last.name
    name = name or (f"{own}-training" if hours else own)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"The bundle's name '{name}' is not of letters, digits, . _ and -. Give --name.")
    slug = name.lower().replace("_", "-").replace(".", "-")
    names = Names(
        owner,
        dataset or f"music-emotion-{slug}",
        kernel or f"music-emotion-{slug}-{'run' if hours else 'inference'}",
        competition,
        sources,
        resume,
    )
    contents = partial(add_blend, what[0])
    if hours:
        contents = partial(add_plan, plan_training(what, name, hours, resume))
    build = out / name
    bundle = write_bundle(contents, build, names, PROJECT)
    files = list((build / "dataset").iterdir())
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    print(f"{build}: bundle {bundle[:12]}, {len(files)} files, {size_mb:.1f} MB, every rule checked.")


def _check_ways(what: tuple[Path, ...], hours: float, resume: str) -> None:
    if hours:
        return
    if resume != "none":
        raise InputError("--resume goes on with a training. Give --hours, too.")
    if any(path.suffix == ".toml" for path in what):
        raise InputError(f"{what[0]} is an experiment. To train it on Kaggle, give --hours.")
    if len(what) > 1:
        raise InputError("Several runs are packaged as a blend of them. See ensemble.py.")


if __name__ == "__main__":
    run(package)
