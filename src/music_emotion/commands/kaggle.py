"""From a blend or experiments to a Kaggle bundle, and from there to the leaderboard."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from music_emotion.files import InputError
from music_emotion.kaggle import bundle as bundles
from music_emotion.kaggle.push import Way, Wish, planned_commands, push_bundle
from music_emotion.kaggle.push_run import Waits, read_bundle


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
    out: Path = Path("build"),
) -> None:
    """Write build/<name>/dataset and build/<name>/kernel.

    The kernel predicts the test clips with a blend. With --hours it first trains there: what the
    blend was made of, or the experiments of some files.

    Parameters
    ----------
    what
        Directory of a blend; with --hours, also experiments by name or file.
    owner
        Your name on Kaggle.
    hours
        Train on Kaggle, and end within so many hours, at most 11.5.
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
    print(bundles.package(what, owner, hours, resume, name, dataset, kernel, competition, sources, out))


def push(
    bundle: Path,
    *,
    competition: str = "",
    message: str = "",
    submit: Way = "file",
    waits: Annotated[Waits, Parameter(name="*")] = Waits(),  # noqa: B008 (frozen)
    dry_run: bool = False,
) -> None:
    """Push a bundle, run its kernel, fetch and check what it makes; submit where --competition says.

    Interrupted anywhere, the same command goes on. Credentials are those of Kaggle's package: a
    token in ~/.kaggle/access_token or KAGGLE_API_TOKEN.

    Parameters
    ----------
    bundle
        build/<name>, as `music-emotion kaggle package` wrote it.
    competition
        Slug of a competition to submit to.
    message
        What the submission is described as; the bundle's name by default.
    submit
        Submit the fetched file, or the kernel itself, as code competitions ask for.
    waits
        How long to wait for what.
    dry_run
        Print what is left to do, as commands of Kaggle's own command line, and do nothing.
    """
    if message and not competition:
        raise InputError("--message is given without --competition. Say where to submit.")
    packaged = read_bundle(bundle)
    wish = Wish(competition, message or bundle.resolve().name, submit) if competition else None
    if dry_run:
        print("\n".join(planned_commands(packaged, wish)))
        return
    push_bundle(packaged, waits, wish, os.environ, say=_say)


def _say(line: str) -> None:
    print(line, flush=True)  # seen at once, in a log file too
