"""The kernel to Kaggle, its run, and what the run leaves."""

import json
import re
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from music_emotion.files import InputError, atomic_path, read_json
from music_emotion.kaggle.kaggle_cli import CliFailure
from music_emotion.kaggle.push_files import Bundle, RunFailed, check_output
from music_emotion.kaggle.push_waits import FETCHING, Push

PUSH_COMMAND = ["kernels", "push", "-p", "kernel"]
OUTPUTS = ("submission.csv", "run.json")
_AT_WORK = {"QUEUED", "RUNNING", "NEW_SCRIPT"}
_LOG_LINES = 5


def status_command(bundle: Bundle) -> list[str]:
    """How the kernel's latest run stands."""
    return ["kernels", "status", bundle.kernel]


def output_command(bundle: Bundle, folder: str) -> list[str]:
    """Fetch what the latest run left, and its log."""
    pattern = r"^(submission\.csv|run\.json)$"
    return ["kernels", "output", bundle.kernel, "-p", folder, "--file-pattern", pattern, "--force"]


def push_kernel(push: Push, need_version: bool) -> None:
    """Push the kernel, which starts its run, unless that is done.

    Parameters
    ----------
    push : Push
    need_version : bool
        Push again where the answer to an earlier push was lost, and the version's number with it.
        No command tells it later.

    Raises
    ------
    InputError
        When Kaggle refused the kernel or one of its sources.
    """
    bundle, steps = push.bundle, push.steps
    pushed, pushing = steps.get("pushed"), steps.get("pushing")
    if pushed and pushed["kernel"] == bundle.kernel_hash and (pushed["version"] or not need_version):
        return
    unanswered = pushing and not pushed and pushing["kernel"] == bundle.kernel_hash and pushing["first"]
    if unanswered and not need_version and _arrived(push, pushing["at"]):  # type: ignore[index]
        steps.note("pushed", kernel=bundle.kernel_hash, version=None)
        return
    steps.forget("ran", "pushed")
    # only of a first push can be told by its bundle's hash that it arrived
    with push.attempt("pushing", kernel=bundle.kernel_hash, first=pushing is None):
        match = push.cli.call(
            PUSH_COMMAND, r"Kernel version (\d+) successfully pushed.*? at (\S+)", bundle.kernel
        )
    if not re.search(rf"/{bundle.kernel}(?![\w-])", match[2], re.IGNORECASE):
        raise InputError(
            f"Kaggle saved the kernel {bundle.kernel} as {match[2]}: it makes the slug from the title. Make "
            f"title and id in kernel-metadata.json agree, and delete the other kernel."
        )
    steps.note("pushed", kernel=bundle.kernel_hash, version=int(match[1]))
    push.cli.say(f"Kernel {bundle.kernel}, version {match[1]}, is pushed.")


def await_run(push: Push) -> None:
    """Wait for the run and save its submission.csv, run.json and log in ``output/``.

    Raises
    ------
    InputError
        When the run failed, was of another bundle, or is not over in time.
    """
    output = push.bundle.folder / "output"
    if push.steps.get("ran") and all((output / name).is_file() for name in OUTPUTS):
        with suppress(InputError):  # changed since: fetched again
            check_output(output, push.bundle.hash)
            return
    try:
        rows = push.poll(_Watch(push).look, push.waits.run_minutes)
    except RunFailed:
        push.steps.forget("pushed")
        raise
    if rows is None:
        raise InputError(
            f"The kernel {push.bundle.kernel} is not done after {push.waits.run_minutes:g} minutes. The same "
            f"command goes on waiting, --run-minutes says how long."
        )
    push.steps.note("ran", rows=rows)
    push.cli.say(f"{output / 'submission.csv'}: {rows} rows, made by bundle {push.bundle.hash[:12]}.")
    _say_what_is_left(push, read_json(output / "run.json"))


def _say_what_is_left(push: Push, run: dict[str, Any]) -> None:
    """A training that ran out of time has handed in what it had."""
    if run.get("complete") is False:
        folds = ", ".join(f"{name} {done}" for name, done in run["folds"].items())
        why = f"stopped at a failure, {run['failure']}" if run.get("failure") else "ran out of time"
        push.cli.say(
            f"The training {why} (folds: {folds}). To go on, package it again with --resume "
            f"{push.bundle.kernel} and another --name, then push that."
        )


class _Watch:
    """Looks at a run, which for a while may show the state of the run before it."""

    def __init__(self, push: Push) -> None:
        self._push, self._began = push, False
        pushing = push.steps.get("pushing")
        assert pushing is not None
        self._only = pushing["first"]
        self._trusted_at = pushing["at"] + 60 * push.waits.grace_minutes

    def look(self) -> int | None:
        """Rows of the submission once it is here."""
        status, message = _status(self._push)
        if status in _AT_WORK:
            self._began = True
            return None
        trusted = self._began or time.time() >= self._trusted_at
        # of an only push the bundle's hash in run.json is proof enough
        if not trusted and not (self._only and status == "COMPLETE"):
            return None
        try:
            return _fetch(self._push) if status == "COMPLETE" else self._fail(status, message)
        except CliFailure:
            raise
        except InputError:
            if trusted:
                raise
            return None

    def _fail(self, status: str, message: str) -> int:
        kernel = self._push.bundle.kernel
        if status.startswith("CANCEL"):
            raise RunFailed(f"The run of {kernel} was cancelled ({status}). The same command runs it again.")
        last = _last_words(self._push)
        raise RunFailed(
            f"The run of {kernel} failed ({status}).{message}{last} The same command runs it again; its log "
            f"is in {self._push.bundle.folder / 'output'} and at https://www.kaggle.com/code/{kernel}."
        )


def _status(push: Push) -> tuple[str, str]:
    match = push.cli.call(
        status_command(push.bundle), r'has status "(?:KernelWorkerStatus\.)?(\w+)"', push.bundle.kernel
    )
    status = match[1].upper()  # older CLIs print "complete"
    push.say_change(f"kernel {push.bundle.kernel}: {status}")
    said = re.search(r'Failure message: "(.*)"', match.string, re.DOTALL)
    return status, f" Kaggle says: {said[1].strip()}" if said else ""


def _fetch(push: Push) -> int:
    """Fetch beside the output, check, and only then put it into its place."""
    with tempfile.TemporaryDirectory(prefix=FETCHING, dir=push.bundle.folder) as name:
        folder = Path(name)
        push.cli.call(output_command(push.bundle, folder.name), "", push.bundle.kernel)
        rows = check_output(folder, push.bundle.hash)
        for path in folder.iterdir():
            _keep(path, push)
    return rows


def _keep(path: Path, push: Push) -> None:
    with atomic_path(push.bundle.folder / "output" / path.name) as temporary:
        temporary.write_bytes(path.read_bytes())


def _last_words(push: Push) -> str:
    """The end of a failed run's log, which is kept."""
    with tempfile.TemporaryDirectory(prefix=FETCHING, dir=push.bundle.folder) as name:
        folder = Path(name)
        try:
            push.cli.call(output_command(push.bundle, folder.name), "", push.bundle.kernel)
        except CliFailure:
            return ""  # the run's failure is the news
        for path in folder.glob("*.log"):
            _keep(path, push)
            words = push.cli.scrub(_log_text(path)).strip().splitlines()
            return f" Its log ends: {' / '.join(words[-_LOG_LINES:])}"
    return ""


def _log_text(path: Path) -> str:
    """A log is a JSON array of pieces of output."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        return "".join(str(piece["data"]) for piece in json.loads(text))
    except (ValueError, TypeError, KeyError):
        return text


def _arrived(push: Push, pushed_at: float) -> bool:
    """Whether a push whose answer was lost reached Kaggle all the same."""

    def look() -> bool | None:
        try:
            status, _ = _status(push)
            if status in _AT_WORK:
                return True
            if status == "COMPLETE":
                _fetch(push)
                return True
        except CliFailure as failure:
            if failure.kind != "absent":
                raise
        except InputError:
            pass  # the output of an earlier run
        return False if time.time() >= pushed_at + 60 * push.waits.grace_minutes else None

    return push.poll(look, push.waits.grace_minutes) or False
