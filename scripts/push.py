"""A packaged bundle to Kaggle with the official CLI: dataset, kernel, its submission, the leaderboard."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from command_line import run
from music_emotion.files import InputError
from music_emotion.kaggle.push import planned_commands, push_bundle
from music_emotion.kaggle.push_files import read_bundle
from music_emotion.kaggle.push_submission import Way, Wish
from music_emotion.kaggle.push_waits import Waits


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

    Interrupted anywhere, the same command goes on. Credentials are the CLI's own: a token in
    ~/.kaggle/access_token or KAGGLE_API_TOKEN.

    Parameters
    ----------
    bundle
        build/<name>, as package.py wrote it.
    competition
        Slug of a competition to submit to.
    message
        What the submission is described as; the bundle's name by default.
    submit
        Submit the fetched file, or the kernel itself, as code competitions ask for.
    waits
        How long to wait for what.
    dry_run
        Print each command that would run, and run none.
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


if __name__ == "__main__":
    run(push)
