"""The state of a push: the bundle, finished steps, calls with retries, and the check of the output."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from music_emotion.files import InputError, first_five, read_object, sha256, write_json
from music_emotion.kaggle.api import KaggleFailure, failure_of, what_is_missing
from music_emotion.kaggle.metadata import check_metadata

T = TypeVar("T")
CHILD = Path(__file__).with_name("child.py")


class RunFailed(InputError):
    """The kernel's run failed, so fetching its output again would not help."""


@dataclass(frozen=True)
class Bundle:
    """A packaged bundle that can be pushed.

    Attributes
    ----------
    folder : Path
        ``build/<name>``.
    hash : str
        Hash that identifies the bundle.
    sizes : dict of str to int
        Size of every file of the dataset, in bytes.
    dataset, kernel : str
        ``owner/slug`` of each.
    kernel_hash : str
        Hash of the kernel's folder.
    """

    folder: Path
    hash: str
    sizes: dict[str, int]
    dataset: str
    kernel: str
    kernel_hash: str

    def read_steps(self) -> dict[str, dict[str, Any]]:
        """Read the finished steps of this bundle's push, by name; ignore those of another bundle.

        Raises
        ------
        InputError
            When ``push.json`` is damaged.
        """
        path = self.folder / "push.json"
        held = read_object(path) if path.exists() else {"steps": {}}
        if not isinstance(held.get("steps"), dict):
            raise InputError(f"{path} does not list the steps of a push. Delete it to push anew.")
        return held["steps"] if held.get("bundle") == self.hash else {}


def read_bundle(folder: Path) -> Bundle:
    """Read and check ``build/<name>``.

    Raises
    ------
    InputError
        When a file is missing, changed or not listed in the manifest, or the metadata breaks a rule.
    """
    dataset, kernel_file = folder / "dataset", folder / "kernel" / "kernel-metadata.json"
    if not (dataset / "manifest.json").is_file():
        raise InputError(f"{folder} is not a bundle. Name build/<name>, as kaggle package wrote it.")
    manifest = read_object(dataset / "manifest.json")
    bundle, files = str(manifest.get("bundle")), manifest.get("files", {})
    hashes = [bundle, *(facts.get("sha256") for facts in files.values())]
    if not files or not all(re.fullmatch(r"[0-9a-f]{64}", str(each)) for each in hashes):
        raise InputError(f"{dataset / 'manifest.json'} lists no bundle and files. Package it again.")
    _check_files(dataset, files)
    about, metadata = read_object(dataset / "dataset-metadata.json"), read_object(kernel_file)
    check_metadata(about, metadata)
    script = kernel_file.parent / metadata["code_file"]
    if not script.is_file() or bundle not in script.read_text(encoding="utf-8"):
        raise InputError(f"{script} is missing or of another bundle than {dataset}. Package it again.")
    sizes = {name: (dataset / name).stat().st_size for name in [*files, "manifest.json"]}
    kernel_hash = hashlib.sha256(kernel_file.read_bytes() + script.read_bytes()).hexdigest()
    return Bundle(folder, bundle, sizes, about["id"], metadata["id"], kernel_hash)


def _check_files(dataset: Path, files: Mapping[str, Any]) -> None:
    held = {path.name for path in dataset.iterdir()}
    extra = held - {*files, "manifest.json", "dataset-metadata.json"}
    if extra:  # Kaggle's package would upload them
        raise InputError(f"{dataset} holds unlisted files: {first_five(sorted(extra))}. Remove them.")
    for name, facts in files.items():
        if name not in held or sha256(dataset / name) != facts["sha256"]:
            raise InputError(f"{dataset / name} is missing or was changed. Package the bundle again.")


@dataclass(frozen=True)
class Waits:
    """Time limits of a push.

    Attributes
    ----------
    upload_minutes : float
        Longest upload of the dataset.
    ready_minutes : float
        Longest wait until Kaggle has unpacked the dataset.
    run_minutes : float
        Longest wait for the kernel's run, queueing included; Kaggle ends a run after 12 hours.
    score_minutes : float
        Longest wait for the score of a submission; 0 asks once.
    grace_minutes : float
        How long to retry after temporary failures: a new dataset or kernel that is not found yet, the
        state of an earlier run or version, or a server error.
    call_seconds : float
        Time limit of a call that uploads nothing.
    poll_seconds : float
        Pause between two calls while waiting.

    Raises
    ------
    InputError
        When one is negative, or an upload or a call has no time.
    """

    upload_minutes: float = 120.0
    ready_minutes: float = 60.0
    run_minutes: float = 780.0
    score_minutes: float = 60.0
    grace_minutes: float = 5.0
    call_seconds: float = 120.0
    poll_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0 or (value == 0 and name in {"upload_minutes", "call_seconds"}):
                raise InputError(f"--{name.replace('_', '-')} is {value:g}. Give a positive number.")


class Push:
    """A push in progress.

    Attributes
    ----------
    bundle : Bundle
    waits : Waits
    environment : mapping of str to str
        Environment of Kaggle's package.
    say : callable
        Called with each line for the user.
    steps : dict
        Finished steps by name, as in ``push.json``.
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
        # Kaggle's records of unfinished uploads survive a reboot here, and belong to this bundle alone.
        self.temporary = bundle.folder / ".uploads"
        self.environment = {**environment, "TMPDIR": str(self.temporary.resolve())}
        self._lock, self._last = lock, ""

    def note(self, step: str, **values: Any) -> None:
        """Record a step and its time in ``push.json``."""
        self.steps[step] = {**values, "at": time.time()}
        self.forget()

    def forget(self, *steps: str) -> None:
        """Remove steps from ``push.json``, so that they are done again."""
        for step in steps:
            self.steps.pop(step, None)
        write_json(self.bundle.folder / "push.json", {"bundle": self.bundle.hash, "steps": self.steps})

    @contextmanager
    def attempt(self, step: str, **values: Any) -> Iterator[None]:
        """Record the start of a step, so that a later push can check if it arrived; forget it if refused."""
        self.note(step, **values)
        try:
            yield
        except KaggleFailure as failure:
            if failure.kind != "passing":
                self.forget(step)
            raise

    def call(self, call: str, about: str, seconds: float = 0.0, **arguments: Any) -> Any:
        """Make one call of Kaggle's API in a child process with a time limit, and return its value.

        Importing `kaggle` logs in, prints, makes folders and may exit, and its requests have no time limit.
        So only the child process imports it.

        Parameters
        ----------
        call : str
            One of `child.CALLS`.
        about : str
            The dataset, kernel or competition, for messages.
        seconds : float
            Time limit; ``call_seconds`` by default.
        **arguments
            Keyword arguments of the call, as JSON can hold them.

        Raises
        ------
        KaggleFailure
            When the call fails or exceeds its time. The message says what to do and contains no secrets.
        """
        place, seconds = f"{call} ({about})", seconds or self.waits.call_seconds
        if cause := what_is_missing(self.environment):
            raise KaggleFailure(f"{place}: {cause}")
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(CHILD), json.dumps([call, arguments, seconds])],
                cwd=self.bundle.folder,
                env={**self.environment, "PYTHONUTF8": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                pass_fds=[self._lock] if self._lock is not None and os.name == "posix" else [],
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            hangs = f"it did not end within {seconds:g} seconds: the network or Kaggle hangs"
            raise KaggleFailure(f"{place}: {hangs}. The same command continues.", "passing") from None
        answer: dict[str, Any] = {"words": "The child process ended without an answer."}
        with suppress(ValueError):
            answer = json.loads(done.stdout)
        if "value" in answer:
            return answer["value"]
        raise failure_of(place, answer["words"], self.environment)

    def say_change(self, state: str) -> None:
        """Print a state unless it was the last one printed."""
        if state != self._last:
            self.say(state)
        self._last = state

    def tidy(self) -> None:
        """Remove temporary files, except Kaggle's records of an upload that can be resumed."""
        if "uploading" not in self.steps or "uploaded" in self.steps:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def poll(self, look: Callable[[], T | None], minutes: float) -> T | None:
        """Call `look` until it returns a value or the time is over.

        Parameters
        ----------
        look : callable
            Returns None while there is no result yet.
        minutes : float
            Time limit; 0 calls it once.

        Returns
        -------
        object or None
            The value from `look`; None if there was none in time.

        Raises
        ------
        InputError
            The error from `look`, if it is not temporary or lasts longer than the grace time.
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


def check_output(folder: Path, bundle: str) -> dict[str, Any]:
    """Check the output of a kernel's run.

    Parameters
    ----------
    folder : Path
        Holds ``run.json`` and ``submission.csv``.
    bundle : str
        Hash of the bundle that the run must belong to.

    Returns
    -------
    dict
        The content of ``run.json``.

    Raises
    ------
    RunFailed
        When a file is missing, or belongs to another bundle.
    InputError
        When a file differs from the one that the kernel wrote.
    """
    again = "The same command runs the kernel again."
    for name in ("run.json", "submission.csv"):
        if not (folder / name).is_file():
            raise RunFailed(f"The kernel stopped before it wrote {name}. {again}")
    try:
        run = read_object(folder / "run.json")
    except InputError:
        raise InputError("run.json is not a JSON object. The same command fetches it again.") from None
    found = str(run.get("bundle"))
    if found != bundle:
        raise RunFailed(f"run.json is of bundle {found[:12]}, not of {bundle[:12]}. {again}")
    if run.get("sha256") != sha256(folder / "submission.csv"):
        raise InputError("submission.csv is not as the kernel wrote it. The same command fetches it again.")
    return run
