"""What the steps of a push share: the bundle, the CLI, what is done already, and waiting."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from music_emotion.files import InputError, lock_of, remove_unfinished
from music_emotion.kaggle.kaggle_cli import Cli, CliFailure
from music_emotion.kaggle.push_files import Bundle
from music_emotion.kaggle.push_steps import Steps, only_one

T = TypeVar("T")
FETCHING = ".fetching-"  # begins the name of a folder for what is not checked yet


@dataclass(frozen=True)
class Waits:
    """How long a push waits for what.

    Attributes
    ----------
    upload_minutes : float
        For the dataset's upload.
    ready_minutes : float
        Until Kaggle has unpacked the dataset.
    run_minutes : float
        For the kernel's run, queueing included; Kaggle ends a run after 12 hours.
    score_minutes : float
        For the score of a submission; 0 looks once.
    grace_minutes : float
        For what passes by itself: something new that is not found yet, the state of an earlier
        run or version, an error of Kaggle's own while waiting.
    call_seconds : float
        For one call of the CLI that uploads nothing.
    poll_seconds : float
        Between two looks.

    Raises
    ------
    InputError
        When one is negative, or a call has no time at all.
    """

    upload_minutes: float = 120.0
    ready_minutes: float = 60.0
    run_minutes: float = 780.0
    score_minutes: float = 60.0
    grace_minutes: float = 5.0
    call_seconds: float = 120.0
    poll_seconds: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name in {"upload_minutes", "call_seconds"}):
                flag = field.name.replace("_", "-")
                raise InputError(f"--{flag} is {value:g}. Give a positive number.")


class Push:
    """What every step of a push needs; made by `begin`.

    Attributes
    ----------
    bundle : Bundle
    steps : Steps
    waits : Waits
    cli : Cli
    uploads : Path
        Where the CLI keeps notes on unfinished uploads.
    """

    def __init__(self, bundle: Bundle, steps: Steps, waits: Waits, cli: Cli, uploads: Path) -> None:
        self.bundle, self.steps, self.waits, self.cli = bundle, steps, waits, cli
        self.uploads = uploads
        self._last = ""

    def say_change(self, state: str) -> None:
        """Say a state, but not twice in a row."""
        if state != self._last:
            self.cli.say(state)
            self._last = state

    @contextmanager
    def attempt(self, step: str, **values: Any) -> Iterator[None]:
        """Note that a step begins; forget it when it was refused, so that none asks whether it arrived."""
        self.steps.note(step, **values)
        try:
            yield
        except CliFailure as failure:
            if failure.kind != "passing":
                self.steps.forget(step)
            raise

    def tidy_uploads(self) -> None:
        """Remove the CLI's notes on uploads, which hold signed addresses, once none can go on."""
        if not self.steps.get("uploading") or self.steps.get("uploaded"):
            shutil.rmtree(self.uploads, ignore_errors=True)

    def poll(self, look: Callable[[], T | None], minutes: float) -> T | None:
        """Look again and again until there is something.

        Parameters
        ----------
        look : callable
            Gives None as long as there is nothing.
        minutes : float
            How long; 0 looks once.

        Returns
        -------
        object or None
            What `look` gave, None when there was nothing in that time.

        Raises
        ------
        InputError
            What a look raised, if it can't pass by itself or did not within the time of grace.
        """
        began = well = time.monotonic()
        while True:
            try:
                found = look()
                well = time.monotonic()
            except CliFailure as failure:
                if failure.kind == "final" or time.monotonic() - well >= 60 * self.waits.grace_minutes:
                    raise
                self.say_change(f"{failure} Trying again.")
                found = None
            if found is not None or time.monotonic() - began >= 60 * minutes:
                return found
            time.sleep(self.waits.poll_seconds)


@contextmanager
def begin(
    bundle: Bundle, waits: Waits, environment: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Push]:
    """Give a `Push` to do its steps with, while nobody else pushes the bundle."""
    folder = bundle.folder
    uploads = folder / ".uploads"
    with only_one(folder, lock_of(folder), waits.upload_minutes, say) as lock:
        steps = Steps(folder / "push.json", bundle.hash)
        # The CLI keeps notes on unfinished uploads in the temporary folder. In one of the bundle's
        # own they outlive a reboot, and are never taken for another bundle's.
        cli = Cli(folder, {**environment, "TMPDIR": str(uploads.resolve())}, say, waits.call_seconds, (lock,))
        push = Push(bundle, steps, waits, cli, uploads)
        push.tidy_uploads()
        uploads.mkdir(exist_ok=True)
        _remove_unfinished(folder)
        yield push


def _remove_unfinished(folder: Path) -> None:
    """Remove what a killed push left half-done."""
    for left in folder.glob(f"{FETCHING}*"):
        shutil.rmtree(left)
    remove_unfinished(folder)
