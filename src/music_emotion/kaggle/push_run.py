"""What the steps of a push share: the bundle, what is done, calls, waiting, and the checked output."""

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from music_emotion.files import InputError, first_five, in_turn, read_object, remove_unfinished, write_json
from music_emotion.kaggle.api import ask, credential_files
from music_emotion.kaggle.metadata import check_metadata

T = TypeVar("T")
FETCHING = ".fetching-"  # begins the name of a folder for what is not checked yet


class KaggleFailure(InputError):
    """Kaggle did not do what it was asked.

    Attributes
    ----------
    kind : {"absent", "passing", "final"}
        As `api.ask` tells it.
    """

    def __init__(self, sentence: str, kind: str) -> None:
        super().__init__(sentence)
        self.kind = kind


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

    def read_steps(self) -> dict[str, dict[str, Any]]:
        """The finished steps of this bundle's push, by name; those of another bundle do not count.

        Raises
        ------
        InputError
            When ``push.json`` does not hold steps.
        """
        path = self.folder / "push.json"
        held = read_object(path) if path.exists() else {"steps": {}}
        if not isinstance(held.get("steps"), dict):
            raise InputError(f"{path} does not list the steps of a push. Delete it to push anew.")
        return held["steps"] if held.get("bundle") == self.hash else {}


def read_bundle(folder: Path) -> Bundle:
    """Check ``build/<name>`` and say what it holds.

    Raises
    ------
    InputError
        When a file is missing, changed or too many, or the metadata can't be pushed.
    """
    manifest_file, kernel_file = (
        folder / "dataset" / "manifest.json",
        folder / "kernel" / "kernel-metadata.json",
    )
    if not manifest_file.is_file():
        raise InputError(
            f"{folder} is not a bundle. Name build/<name>, as music-emotion kaggle package wrote it."
        )
    manifest = read_object(manifest_file)
    bundle, files = str(manifest.get("bundle")), manifest.get("files", {})
    hashes = [bundle, *(facts.get("sha256") for facts in files.values())]
    if not files or not all(re.fullmatch(r"[0-9a-f]{64}", str(each)) for each in hashes):
        raise InputError(f"{manifest_file} lists no bundle and files. Package it again.")
    _check_files(folder / "dataset", files)
    dataset, kernel = read_object(folder / "dataset" / "dataset-metadata.json"), read_object(kernel_file)
    check_metadata(dataset, kernel)
    code = folder / "kernel" / kernel["code_file"]
    if not code.is_file():
        raise InputError(f"{kernel_file}: code_file {code.name} does not exist. Package it again.")
    if bundle not in code.read_text(encoding="utf-8"):
        raise InputError(f"{code} was made for another bundle than {folder / 'dataset'}. Package it again.")
    sizes = {
        path.name: path.stat().st_size
        for path in map((folder / "dataset").joinpath, [*files, "manifest.json"])
    }
    kernel_hash = hashlib.sha256(kernel_file.read_bytes() + code.read_bytes()).hexdigest()
    return Bundle(folder, bundle, sizes, dataset["id"], kernel["id"], kernel_hash)


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Every file of the manifest as it was packaged, and nothing else: Kaggle uploads all it finds."""
    extra = {path.name for path in folder.iterdir()} - {*files, "manifest.json", "dataset-metadata.json"}
    if extra:
        raise InputError(
            f"{folder} holds what its manifest does not list: {first_five(sorted(extra))}. Remove it."
        )
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise InputError(
                f"{folder / name} is missing, though the manifest lists it. Package the bundle again."
            )
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected["sha256"]:
                raise InputError(
                    f"{folder / name} was changed after packaging (sha256). Package the bundle again."
                )


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
        For what passes by itself: something new that is not found yet, the state of an earlier run or
        version, an error of Kaggle's own while waiting.
    call_seconds : float
        For one call that uploads nothing.
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
                raise InputError(f"--{field.name.replace('_', '-')} is {value:g}. Give a positive number.")


class Push:
    """A push under way; made by `begin`.

    Attributes
    ----------
    bundle : Bundle
    waits : Waits
    environment : mapping of str to str
        Of Kaggle's package.
    say : callable
        Takes a line for the user.
    steps : dict
        What is done, by name; on disk as soon as it is done.
    """

    def __init__(
        self,
        bundle: Bundle,
        waits: Waits,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        lock: int | None = None,
    ) -> None:
        self.bundle, self.waits, self.say, self.steps = bundle, waits, say, bundle.read_steps()
        # In a folder of the bundle's own, Kaggle's notes on unfinished uploads outlive a reboot, and are
        # never taken for another bundle's.
        self.uploads = bundle.folder / ".uploads"
        self.environment = {**environment, "TMPDIR": str(self.uploads.resolve())}
        self._lock, self._last = lock, ""

    def note(self, step: str, **values: Any) -> None:
        """Note a step and when it was reached."""
        self.steps[step] = {**values, "at": time.time()}
        self.forget()

    def forget(self, *steps: str) -> None:
        """Have steps done again."""
        for step in steps:
            self.steps.pop(step, None)
        write_json(self.bundle.folder / "push.json", {"bundle": self.bundle.hash, "steps": self.steps})

    @contextmanager
    def attempt(self, step: str, **values: Any) -> Iterator[None]:
        """Note that a step begins; forget it when it was refused, so that none asks whether it arrived."""
        self.note(step, **values)
        try:
            yield
        except KaggleFailure as failure:
            if failure.kind != "passing":
                self.forget(step)
            raise

    def call(self, call: str, about: str, seconds: float = 0.0, **arguments: Any) -> Any:
        """Ask Kaggle for something, as `api.ask` does.

        Raises
        ------
        KaggleFailure
            With what to do about it.
        """
        seconds = seconds or self.waits.call_seconds
        keep_open = [self._lock] if self._lock is not None and os.name == "posix" else []
        folder, sent = self.bundle.folder, lambda name: self.say(f"  sent {name}")
        answer = ask(call, arguments, folder, self.environment, seconds, keep_open, sent)
        if "error" in answer:
            raise KaggleFailure(f"{call} ({about}): {answer['error']}", answer["kind"])
        return answer["value"]

    def say_change(self, state: str) -> None:
        """Say a state, but not twice in a row."""
        if state != self._last:
            self.say(state)
        self._last = state

    def tidy_uploads(self) -> None:
        """Remove the notes on uploads, which hold signed addresses, once none can go on."""
        if "uploading" not in self.steps or "uploaded" in self.steps:
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
            found = None
            try:
                found = look()
                well = time.monotonic()
            except KaggleFailure as failure:
                if failure.kind == "final" or time.monotonic() - well >= 60 * self.waits.grace_minutes:
                    raise
                self.say_change(f"{failure} Trying again.")
            if found is not None or time.monotonic() - began >= 60 * minutes:
                return found
            time.sleep(self.waits.poll_seconds)


@contextmanager
def begin(
    bundle: Bundle, waits: Waits, environment: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Push]:
    """Give a `Push` to do its steps with, while nobody else pushes the bundle.

    A call that outlives a killed push keeps the lock, so that none uploads beside it.
    """
    for path in credential_files(environment):
        if os.name == "posix" and path.is_file() and path.stat().st_mode & 0o044:
            say(f"{path} is readable by others, who can submit in your name. Run: chmod 600 {path}")
    with in_turn(bundle.folder, "pushes or packages this bundle") as lock:
        push = Push(bundle, waits, environment, say, lock)
        push.tidy_uploads()
        push.uploads.mkdir(exist_ok=True)
        for left in bundle.folder.glob(f"{FETCHING}*"):
            shutil.rmtree(left)
        remove_unfinished(bundle.folder)
        yield push


def check_output(folder: Path, bundle: str) -> int:
    """Check what a kernel's run left.

    Parameters
    ----------
    folder : Path
        Holds ``run.json`` and ``submission.csv``.
    bundle : str
        Hash of the bundle that must have made them.

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
    for name in ("run.json", "submission.csv"):
        if not (folder / name).is_file():
            raise RunFailed(
                f"The kernel's output has no {name}: it stopped before writing it. Look at its log; the same "
                f"command runs it again."
            )
    again = "The same command fetches it again."
    text = (folder / "run.json").read_text(encoding="utf-8", errors="replace")
    try:
        run = json.loads(text)
        found, rows, finished = str(run.get("bundle")), run.get("rows"), run.get("finished")
    except (ValueError, AttributeError):
        raise InputError(
            f"run.json of the kernel is no JSON object but begins '{text[:40]}'. {again}"
        ) from None
    if found != bundle:
        raise RunFailed(
            f"run.json is of bundle {found[:12]}, not of {bundle[:12]}: an earlier run, or one on the "
            f"dataset's earlier version. The same command runs the kernel again."
        )
    if finished is not True:
        raise RunFailed(
            "run.json has no end marker: the kernel stopped before its end, though Kaggle calls it complete. "
            "Look at its log; the same command runs it again."
        )
    try:
        table = pd.read_csv(folder / "submission.csv", dtype=str, keep_default_na=False)
        numbers = table.iloc[:, 1:].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    except ValueError as error:  # as pandas' errors of parsing are
        raise InputError(f"submission.csv is no table ({error}). {again}") from None
    if table.shape[1] < 2 or not re.match(r"id\b|.*_id$", table.columns[0], re.IGNORECASE):
        raise InputError(
            f"submission.csv has the header '{','.join(table.columns)}', not an id and targets. {again}"
        )
    wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(wrong):
        cells = ",".join(table.iloc[wrong[0]])
        raise InputError(f"submission.csv row {wrong[0] + 2} is '{cells}', not an id and finite numbers.")
    if table.iloc[:, 0].duplicated().any():
        raise InputError("submission.csv holds an id twice. Look at the kernel's log.")
    if len(table) != rows:
        raise InputError(f"submission.csv has {len(table)} rows, run.json says {rows}. {again}")
    return len(table)
