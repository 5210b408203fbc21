"""Push a bundle to Kaggle: upload the dataset, run the kernel, fetch its output, submit it."""

import json
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from music_emotion.files import InputError, in_turn, remove_unfinished
from music_emotion.kaggle.api import KaggleFailure, scrub, warn_of_readable_credentials
from music_emotion.kaggle.push_run import Bundle, Push, RunFailed, Waits, check_output, read_bundle

Way = Literal["file", "kernel"]
_OUTPUTS = r"^(submission\.csv|run\.json)$"
_AT_WORK = {"QUEUED", "RUNNING", "NEW_SCRIPT"}


@dataclass(frozen=True)
class Wish:
    """A submission to make.

    Attributes
    ----------
    competition : str
        Slug of the competition.
    message : str
        Description of the submission.
    way : {"file", "kernel"}
        Upload the fetched CSV, or submit the kernel's version, as code competitions require.
    """

    competition: str
    message: str
    way: Way = "file"

    def description(self, bundle: Bundle) -> str:
        """The message with a tag that identifies the submission in Kaggle's list."""
        return f"{self.message} [{self.way} {bundle.hash[:12]}]"


def push(
    bundle: Path,
    *,
    competition: str = "",
    message: str = "",
    submit: Way = "file",
    waits: Annotated[Waits, Parameter(name="*")] = Waits(),  # noqa: B008 (frozen)
    dry_run: bool = False,
) -> None:
    """Push a bundle, run its kernel, fetch and check its output; submit it to a --competition, if given.

    After an interruption the same command continues. Credentials are those of Kaggle's package: a token in
    ~/.kaggle/access_token or KAGGLE_API_TOKEN.

    Parameters
    ----------
    bundle
        build/<name>, as `music-emotion kaggle package` wrote it.
    competition
        Slug of a competition to submit to.
    message
        Description of the submission; the bundle's name by default.
    submit
        Submit the fetched file, or the kernel itself, as code competitions require.
    waits
        How long to wait.
    dry_run
        Only print the remaining steps, as commands of Kaggle's own command line.
    """
    if message and not competition:
        raise InputError("--message is given without --competition. Say where to submit.")
    packaged = read_bundle(bundle)
    wish = Wish(competition, message or bundle.resolve().name, submit) if competition else None
    if dry_run:
        print("\n".join(planned_commands(packaged, wish)))
    else:
        push_bundle(packaged, waits, wish, os.environ, partial(print, flush=True))


def push_bundle(
    bundle: Bundle,
    waits: Waits,
    wish: Wish | None,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Do the unfinished steps: upload, run, fetch, and submit if requested.

    Finished steps are recorded in ``build/<name>/push.json``. So an interrupted push continues, and nothing
    is uploaded or submitted twice.

    Parameters
    ----------
    bundle : Bundle
        From `read_bundle`.
    waits : Waits
        Time limits.
    wish : Wish or None
        The submission to make, if any.
    environment : mapping of str to str
        Environment in which Kaggle's package finds its credentials, unless they are in its own files.
    say : callable
        Called with each line for the user.

    Raises
    ------
    InputError
        When a step failed. The message says what to do.
    """
    for warning in warn_of_readable_credentials(environment):
        say(warning)
    # a child process that outlives a killed push keeps the lock, so that two uploads never overlap
    with in_turn(bundle.folder, "pushes or packages this bundle") as lock:
        push = Push(bundle, waits, environment, say, lock)
        push.tidy()
        push.temporary.mkdir(exist_ok=True)
        remove_unfinished(bundle.folder)
        try:
            upload_dataset(push)
            push_kernel(push, need_version=wish is not None and wish.way == "kernel")
            await_run(push)
            if wish is not None:
                submit_output(push, wish)
        finally:
            push.tidy()


def planned_commands(bundle: Bundle, wish: Wish | None) -> list[str]:
    """List the remaining steps of `push_bundle` as commands of Kaggle's own command line.

    Comments mark commands that depend on Kaggle's answer to an earlier one.
    """
    steps = bundle.read_steps()
    pushed = steps.get("pushed", {"kernel": None, "version": None})
    status, lines = f"datasets status {bundle.dataset}", []
    if "uploaded" not in steps:
        version = f"datasets version -p dataset -m 'bundle {bundle.hash}'"
        lines += [status, "datasets create -p dataset  # if there is none yet", f"{version}  # otherwise"]
    if "ready" not in steps:
        lines.append(f"{status} --format json  # until it is ready and its version rose")
    if pushed["kernel"] != bundle.kernel_hash:
        lines.append("kernels push -p kernel")
    if "ran" not in steps:
        lines.append(f"kernels status {bundle.kernel}  # until the run is complete")
        lines.append(f"kernels output {bundle.kernel} -p output --file-pattern '{_OUTPUTS}'")
    if wish is not None:
        version = pushed["version"] or "VERSION"
        by_kernel = f"-k {bundle.kernel} -v {version} -f submission.csv"
        what = by_kernel if wish.way == "kernel" else "-f output/submission.csv"
        submit = f"competitions submit -c {wish.competition} {what}"
        listing = f"competitions submissions -c {wish.competition}"
        lines.append(listing)
        lines.append(f"{submit} -m {shlex.quote(wish.description(bundle))}  # unless it is listed already")
        lines.append(f"{listing}  # until it has a score")
    return [f"cd {shlex.quote(str(bundle.folder))}", *(f"kaggle {line}" for line in lines)]


def upload_dataset(push: Push) -> None:
    """Upload the bundle's files unless that is done, and wait until the dataset is ready.

    Raises
    ------
    InputError
        When Kaggle refused the files, a file did not arrive, or the dataset is not ready in time.
    """
    steps, ready_minutes = push.steps, push.waits.ready_minutes
    if "uploaded" not in steps:
        if "uploading" not in steps or not _upload_arrived(push, steps["uploading"]["base"]):
            _upload(push)
        push.note("uploaded")
    if "ready" not in steps:  # until then, a kernel would get the previous version
        push.note("ready", version=_await_version(push, steps["uploading"]["base"], ready_minutes))


def _upload(push: Push) -> None:
    """Upload a new dataset or version, and note the number of the version before it."""
    bundle, call, base, notes = push.bundle, "dataset create", 0, {}
    try:
        state = _dataset_state(push)
        base = state["current_version_number"]
        call, notes = "dataset version", {"notes": f"bundle {bundle.hash}"}
        if state["status"] not in {"ready", "failed"}:  # Kaggle refuses a second upload at the same time
            base = _await_version(push, 0, push.waits.ready_minutes)
    except KaggleFailure as failure:
        if failure.kind != "absent":  # Kaggle says 404, or 403 as for others' private datasets
            raise
    megabytes = sum(bundle.sizes.values()) / 1e6
    push.say(f"Uploading {len(bundle.sizes)} files, {megabytes:.1f} MB, to {bundle.dataset}.")
    with push.attempt("uploading", base=base):
        push.call(call, bundle.dataset, 60 * push.waits.upload_minutes, **notes)


def _dataset_state(push: Push) -> dict[str, Any]:
    dataset = push.bundle.dataset
    state: dict[str, Any] = push.call("dataset status", dataset, dataset=dataset)
    push.say_change(f"dataset {dataset}: {state['status']}, version {state['current_version_number']}")
    if state["status"] == "deleted":
        raise InputError(f"The dataset {dataset} was deleted, and with it its slug. Give another --name.")
    return state


def _await_version(push: Push, above: int, minutes: float) -> int:
    dataset = push.bundle.dataset

    def look() -> int | None:
        state = _dataset_state(push)
        if state["status"] == "failed":
            raise InputError(
                f"Kaggle could not process the dataset {dataset}. Its page says why; delete push.json and "
                f"give the same command to upload it again."
            )
        version: int = state["current_version_number"]
        return version if state["status"] == "ready" and version > above else None

    version = push.poll(look, minutes)
    if version is None:
        raise InputError(
            f"Dataset {dataset} has no ready version above {above} after {minutes:g} minutes. Its page may "
            f"show an error or a full quota. The same command waits on, --ready-minutes says how long."
        )
    return version


def _upload_arrived(push: Push, base: int) -> bool:
    """Whether an upload that was interrupted here still completed on Kaggle."""
    dataset = push.bundle.dataset
    if any(push.temporary.rglob("*.json")):
        return False  # records of unfinished uploads, which Kaggle's package removes at the end
    try:
        _await_version(push, base, push.waits.grace_minutes)
    except InputError as error:
        if isinstance(error, KaggleFailure) and error.kind != "absent":
            raise
        return False
    return bool(push.call("dataset files", dataset, dataset=dataset) == push.bundle.sizes)


def push_kernel(push: Push, need_version: bool) -> None:
    """Push the kernel, which starts its run, unless that is done.

    Parameters
    ----------
    push : Push
    need_version : bool
        Push again if the answer to an earlier push was lost, since only that answer contains the version
        number.

    Raises
    ------
    InputError
        When Kaggle refused the kernel or one of its sources.
    """
    kernel, kernel_hash = push.bundle.kernel, push.bundle.kernel_hash
    pushed, pushing = (push.steps.get(step, {}) for step in ("pushed", "pushing"))
    if pushed.get("kernel") == kernel_hash and (pushed["version"] or not need_version):
        return
    is_lost = not pushed and pushing.get("kernel") == kernel_hash and pushing["first"]
    if is_lost and not need_version and _push_arrived(push, pushing["at"]):
        push.note("pushed", kernel=kernel_hash, version=None)
        return
    push.forget("ran", "pushed")
    # the bundle's hash in run.json proves arrival only for a first push
    with push.attempt("pushing", kernel=kernel_hash, first=not pushing):
        answer = push.call("kernel push", kernel)
    if not answer["url"].lower().endswith(f"/{kernel}".lower()):
        raise InputError(
            f"Kaggle saved the kernel {kernel} as {answer['url']}, after its title. Make title and id in "
            f"kernel-metadata.json agree, and delete the other kernel."
        )
    push.note("pushed", kernel=kernel_hash, version=answer["version"])
    push.say(f"Kernel {kernel}, version {answer['version']}, is pushed.")


def _push_arrived(push: Push, pushed_at: float) -> bool:
    """Whether a push whose answer was lost still reached Kaggle."""

    def look() -> bool | None:
        try:
            status, _ = _kernel_state(push)
            if status in _AT_WORK or (status == "COMPLETE" and _fetch(push)):
                return True
        except InputError as error:  # otherwise it is the output of an earlier run
            if isinstance(error, KaggleFailure) and error.kind != "absent":
                raise
        return False if time.time() >= pushed_at + 60 * push.waits.grace_minutes else None

    return push.poll(look, push.waits.grace_minutes) or False


def await_run(push: Push) -> None:
    """Wait for the run and save its submission.csv, run.json and log in ``output/``.

    Raises
    ------
    InputError
        When the run failed, belongs to another bundle, or did not end in time.
    """
    bundle, output, minutes = push.bundle, push.bundle.folder / "output", push.waits.run_minutes
    if "ran" in push.steps:
        with suppress(InputError):  # if the output has changed, fetch it again
            check_output(output, bundle.hash)
            return
    try:
        run = push.poll(partial(_look_at_run, push), minutes)
    except RunFailed:
        push.forget("pushed")
        raise
    if run is None:
        raise InputError(
            f"The kernel {bundle.kernel} is not done after {minutes:g} minutes. The same command waits on, "
            f"--run-minutes says how long."
        )
    push.note("ran", rows=run["rows"])
    push.say(f"{output / 'submission.csv'}: {run['rows']} rows, made by bundle {bundle.hash[:12]}.")
    if run.get("complete") is False:
        folds = ", ".join(f"{name} {done}" for name, done in run["folds"].items())
        why = f"stopped at a failure, {run['failure']}" if run.get("failure") else "ran out of time"
        push.say(f"The training {why} (folds: {folds}).")
        push.say(f"To continue, package it with --resume {bundle.kernel} and another --name, then push that.")


def _look_at_run(push: Push) -> dict[str, Any] | None:
    """Fetch the output of a finished run. At first, Kaggle may still show the state of the previous run."""
    pushing = push.steps["pushing"]
    status, message = _kernel_state(push)
    if status in _AT_WORK:
        pushing["began"] = True
        return None
    trusted = "began" in pushing or time.time() >= pushing["at"] + 60 * push.waits.grace_minutes
    # after a first push, the bundle's hash in run.json suffices
    if not trusted and not (pushing["first"] and status == "COMPLETE"):
        return None
    try:
        return _fetch(push) if status == "COMPLETE" else _fail(push, status, message)
    except InputError as error:
        if trusted or isinstance(error, KaggleFailure):
            raise
        return None


def _kernel_state(push: Push) -> tuple[str, str]:
    kernel = push.bundle.kernel
    state = push.call("kernel status", kernel, kernel=kernel)
    push.say_change(f"kernel {kernel}: {state['status']}")
    return state["status"], state["failure_message"] or ""


def _fetch(push: Push, only_log: bool = False) -> dict[str, Any]:
    """Fetch and check the output, then move it to ``output/``; return the content of ``run.json``."""
    kernel, output, run = push.bundle.kernel, push.bundle.folder / "output", {}
    with tempfile.TemporaryDirectory(dir=push.temporary.resolve()) as fetched:
        push.call("kernel output", kernel, kernel=kernel, folder=fetched, pattern=_OUTPUTS)
        if not only_log:
            run = check_output(Path(fetched), push.bundle.hash)
        output.mkdir(exist_ok=True)
        for path in Path(fetched).glob("*.log" if only_log else "*"):
            path.replace(output / path.name)
    return run


def _fail(push: Push, status: str, message: str) -> dict[str, Any]:
    kernel, output = push.bundle.kernel, push.bundle.folder / "output"
    if status.startswith("CANCEL"):
        raise RunFailed(f"The run of {kernel} was cancelled ({status}). The same command runs it again.")
    words = f" Kaggle says: {message.strip()}" if message else ""
    with suppress(KaggleFailure):  # report the failed run even without its log
        _fetch(push, only_log=True)
    for path in output.glob("*.log"):
        text = path.read_text(encoding="utf-8", errors="replace")
        with suppress(ValueError, TypeError, KeyError):  # a log is a JSON array of pieces of output
            text = "".join(str(piece["data"]) for piece in json.loads(text))
        words += f" Its log ends: {' / '.join(scrub(text, push.environment).strip().splitlines()[-5:])}"
    raise RunFailed(
        f"The run of {kernel} failed ({status}).{words} The same command runs it again; its log is in "
        f"{output} and at https://www.kaggle.com/code/{kernel}."
    )


def submit_output(push: Push, wish: Wish) -> None:
    """Submit unless Kaggle already lists the submission, confirm it, and wait for its score.

    Raises
    ------
    InputError
        When Kaggle refused the submission, does not list it, or could not score it.
    """
    key, minutes = f"{wish.competition}: {wish.description(push.bundle)}", push.waits.score_minutes
    if f"submitted to {key}" not in push.steps:
        begun = f"submitting to {key}" in push.steps
        if not push.poll(partial(_find, push, wish), push.waits.grace_minutes if begun else 0):
            with push.attempt(f"submitting to {key}"):
                _submit(push, wish)
        push.note(f"submitted to {key}")
    score = push.poll(partial(_score, push, wish), minutes)
    late = f"no score within {minutes:g} minutes. The same command asks again."
    push.say(f"Submitted to {wish.competition}: {f'public score {score}.' if score else late}")


def _submit(push: Push, wish: Wish) -> None:
    message, competition = wish.description(push.bundle), wish.competition
    call, what = "submit file", {"file": "output/submission.csv"}
    if wish.way == "kernel":
        kernel, version = push.bundle.kernel, push.steps["pushed"]["version"]
        call, what = "submit kernel", {"kernel": kernel, "number": version}
    seconds = 60 * push.waits.upload_minutes
    said = push.call(call, competition, seconds, competition=competition, message=message, **what).strip()
    push.say(f"Kaggle says: {said or 'nothing'}")
    # the answer is free text, so check Kaggle's list
    taken = "uccessfully submitted" in said
    if not push.poll(partial(_find, push, wish), push.waits.grace_minutes if taken else 0):
        raise InputError(
            f"{competition} does not list the submission '{message}'. Kaggle said: {said or 'nothing'} "
            f"Look at the competition's page, then give the same command."
        )


def _find(push: Push, wish: Wish) -> dict[str, Any] | None:
    listed = push.call("submissions", wish.competition, competition=wish.competition)
    return next((each for each in listed if each["description"] == wish.description(push.bundle)), None)


def _score(push: Push, wish: Wish) -> str | None:
    found = _find(push, wish)
    if found is None:
        return None
    push.say_change(f"submission {found['ref']}: {found['status']}")
    if found["status"] == "ERROR":
        raise InputError(
            f"{wish.competition} could not score submission {found['ref']}. Its page says why: "
            f"https://www.kaggle.com/competitions/{wish.competition}/submissions"
        )
    return str(found["public_score"]) if found["status"] == "COMPLETE" else None
