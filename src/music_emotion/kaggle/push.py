"""A packaged bundle to Kaggle and back: dataset, kernel, its run, its output, a submission."""

import json
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from music_emotion.files import InputError, read_json
from music_emotion.kaggle.api import scrub
from music_emotion.kaggle.push_run import (
    FETCHING,
    Bundle,
    KaggleFailure,
    Push,
    RunFailed,
    Waits,
    begin,
    check_output,
)

Way = Literal["file", "kernel"]
OUTPUTS = r"^(submission\.csv|run\.json)$"
_AT_WORK = {"QUEUED", "RUNNING", "NEW_SCRIPT"}


@dataclass(frozen=True)
class Wish:
    """What to submit where.

    Attributes
    ----------
    competition : str
        Slug of the competition.
    message : str
        Description of the submission.
    way : {"file", "kernel"}
        Upload the fetched CSV, or name the kernel's version, as code competitions ask for.
    """

    competition: str
    message: str
    way: Way = "file"

    def description(self, bundle: Bundle) -> str:
        """The message and what tells this submission from all others, here and in Kaggle's list."""
        return f"{self.message} [{self.way} {bundle.hash[:12]}]"


def push_bundle(
    bundle: Bundle,
    waits: Waits,
    wish: Wish | None,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Do what is not done yet: upload, run, fetch, and submit where it is wished.

    Finished steps are noted in ``build/<name>/push.json``, so that a push that was interrupted anywhere
    goes on, and nothing is uploaded or submitted twice.

    Parameters
    ----------
    bundle : Bundle
        As `read_bundle` gives it.
    waits : Waits
        How long to wait for what.
    wish : Wish or None
        What to submit, if anything.
    environment : mapping of str to str
        In which Kaggle's package finds its credentials, there or in its own files.
    say : callable
        Takes a line for the user.

    Raises
    ------
    InputError
        When a step failed, with what to do about it.
    """
    with begin(bundle, waits, environment, say) as push:
        upload_dataset(push)
        push_kernel(push, need_version=wish is not None and wish.way == "kernel")
        await_run(push)
        if wish is not None:
            submit(push, wish)


def planned_commands(bundle: Bundle, wish: Wish | None) -> list[str]:
    """What `push_bundle` would do, as commands of Kaggle's own command line; none is run.

    Where one depends on Kaggle's answer to another, a comment says so.
    """
    steps = bundle.read_steps()
    status, lines = f"datasets status {bundle.dataset}", []
    if "uploaded" not in steps:
        lines += [
            status,
            "datasets create -p dataset  # when there is no such dataset yet",
            f"datasets version -p dataset -m 'bundle {bundle.hash}'  # when there is",
        ]
    if "ready" not in steps:
        lines.append(f"{status} --format json  # until it is ready and its version rose")
    pushed = steps.get("pushed", {"kernel": None, "version": None})
    if pushed["kernel"] != bundle.kernel_hash:
        lines.append("kernels push -p kernel")
    if "ran" not in steps:
        output = f"kernels output {bundle.kernel} -p output --file-pattern '{OUTPUTS}'"
        lines += [f"kernels status {bundle.kernel}  # until the run is complete", output]
    if wish is not None:
        what = "-f output/submission.csv"
        if wish.way == "kernel":
            what = f"-k {bundle.kernel} -v {pushed['version'] or 'VERSION'} -f submission.csv"
        message = shlex.quote(wish.description(bundle))
        listing = f"competitions submissions -c {wish.competition}"
        submission = f"competitions submit -c {wish.competition} {what} -m {message}"
        lines += [
            listing,
            f"{submission}  # unless it is listed already",
            f"{listing}  # until it has a score",
        ]
    return [f"cd {shlex.quote(str(bundle.folder))}", *(f"kaggle {line}" for line in lines)]


def upload_dataset(push: Push) -> None:
    """Upload the bundle's files unless that is done, and wait until Kaggle has them ready.

    Raises
    ------
    InputError
        When Kaggle refused them, a file did not arrive, or they are not ready in time.
    """
    steps = push.steps
    if "uploaded" not in steps:
        base = steps["uploading"]["base"] if "uploading" in steps else None
        if base is None or not _upload_arrived(push, base):
            base = _upload(push)
        push.note("uploaded", base=base)
        push.tidy_uploads()
    if "ready" not in steps:  # a kernel would get the version before it until then
        push.note("ready", version=_await_version(push, above=steps["uploaded"]["base"]))


def _upload(push: Push) -> int:
    """Upload a new dataset or version; give the number of the version before it."""
    bundle, base, state = push.bundle, 0, None
    try:
        state = _dataset_state(push)
        base = state["current_version_number"]
        if state["status"] not in {"ready", "failed"}:  # an upload beside an unfinished one is refused
            base = _await_version(push, above=0)
    except (
        KaggleFailure
    ) as failure:  # Kaggle says 404 where there is none, or 403 as for others' private ones
        if failure.kind != "absent":
            raise
    megabytes = sum(bundle.sizes.values()) / 1e6
    push.say(f"Uploading {len(bundle.sizes)} files, {megabytes:.1f} MB, to {bundle.dataset}.")
    call, notes = ("dataset version", {"notes": f"bundle {bundle.hash}"}) if state else ("dataset create", {})
    try:
        with push.attempt("uploading", base=base):
            push.call(call, bundle.dataset, 60 * push.waits.upload_minutes, **notes)
    finally:
        push.tidy_uploads()
    return base


def _dataset_state(push: Push) -> dict[str, Any]:
    dataset = push.bundle.dataset
    state: dict[str, Any] = push.call("dataset status", dataset, dataset=dataset)
    push.say_change(f"dataset {dataset}: {state['status']}, version {state['current_version_number']}")
    if state["status"] == "deleted":
        raise InputError(
            f"The dataset {dataset} was deleted, and Kaggle never gives a deleted slug again. Package the "
            f"bundle under another name."
        )
    return state


def _await_version(push: Push, above: int) -> int:
    version = _version_above(push, above, push.waits.ready_minutes)
    if version is None:
        raise InputError(
            f"The dataset {push.bundle.dataset} has no ready version above {above} after "
            f"{push.waits.ready_minutes:g} minutes. See its page for an error, and the account for its "
            f"storage quota (100 GB private). The same command waits on, --ready-minutes says how long."
        )
    return version


def _version_above(push: Push, above: int, minutes: float) -> int | None:
    def look() -> int | None:
        state = _dataset_state(push)
        if state["status"] == "failed":
            raise InputError(
                f"Kaggle could not process the dataset {push.bundle.dataset} (status failed). Its page says "
                f"why; delete push.json and give the same command to upload it again."
            )
        version: int = state["current_version_number"]
        return version if state["status"] == "ready" and version > above else None

    return push.poll(look, minutes)


def _upload_arrived(push: Push, base: int) -> bool:
    """Whether an upload that was interrupted here came to its end on Kaggle all the same."""
    if any(push.uploads.rglob("*.json")):
        return False  # notes on unfinished uploads, which Kaggle's package removes at its end
    try:
        if _version_above(push, base, push.waits.grace_minutes) is None:
            return False
    except KaggleFailure as failure:
        if failure.kind != "absent":
            raise
        return False
    dataset = push.bundle.dataset
    return bool(push.call("dataset files", dataset, dataset=dataset) == push.bundle.sizes)


def push_kernel(push: Push, need_version: bool) -> None:
    """Push the kernel, which starts its run, unless that is done.

    Parameters
    ----------
    push : Push
    need_version : bool
        Push again where the answer to an earlier push was lost, and the version's number with it. Kaggle does
        not tell it later.

    Raises
    ------
    InputError
        When Kaggle refused the kernel or one of its sources.
    """
    bundle, kernel_hash = push.bundle, push.bundle.kernel_hash
    pushed, pushing = push.steps.get("pushed"), push.steps.get("pushing")
    if pushed and pushed["kernel"] == kernel_hash and (pushed["version"] or not need_version):
        return
    unanswered = pushing and not pushed and pushing["kernel"] == kernel_hash and pushing["first"]
    if pushing and unanswered and not need_version and _push_arrived(push, pushing["at"]):
        push.note("pushed", kernel=kernel_hash, version=None)
        return
    push.forget("ran", "pushed")
    # only of a first push can be told by its bundle's hash that it arrived
    with push.attempt("pushing", kernel=kernel_hash, first=pushing is None):
        answer = push.call("kernel push", bundle.kernel)
    if not answer["url"].lower().endswith(f"/{bundle.kernel}".lower()):
        raise InputError(
            f"Kaggle saved the kernel {bundle.kernel} as {answer['url']}: it makes the slug from the title. "
            f"Make title and id in kernel-metadata.json agree, and delete the other kernel."
        )
    push.note("pushed", kernel=kernel_hash, version=answer["version"])
    push.say(f"Kernel {bundle.kernel}, version {answer['version']}, is pushed.")


def await_run(push: Push) -> None:
    """Wait for the run and save its submission.csv, run.json and log in ``output/``.

    Raises
    ------
    InputError
        When the run failed, was of another bundle, or is not over in time.
    """
    bundle, output = push.bundle, push.bundle.folder / "output"
    if "ran" in push.steps:
        with suppress(InputError):  # changed since: fetched again
            check_output(output, bundle.hash)
            return
    try:
        rows = push.poll(_watch(push), push.waits.run_minutes)
    except RunFailed:
        push.forget("pushed")
        raise
    if rows is None:
        raise InputError(
            f"The kernel {bundle.kernel} is not done after {push.waits.run_minutes:g} minutes. The same "
            f"command goes on waiting, --run-minutes says how long."
        )
    push.note("ran", rows=rows)
    push.say(f"{output / 'submission.csv'}: {rows} rows, made by bundle {bundle.hash[:12]}.")
    run = read_json(output / "run.json")
    if run.get("complete") is False:  # a training that handed in what it had
        folds = ", ".join(f"{name} {done}" for name, done in run["folds"].items())
        why = f"stopped at a failure, {run['failure']}" if run.get("failure") else "ran out of time"
        push.say(
            f"The training {why} (folds: {folds}). To go on, package it again with --resume {bundle.kernel} "
            f"and another --name, then push that."
        )


def _watch(push: Push) -> Callable[[], int | None]:
    """Look at a run, which for a while may show the state of the run before it, for the rows it made."""
    pushing, began = push.steps["pushing"], False
    trusted_at = pushing["at"] + 60 * push.waits.grace_minutes

    def look() -> int | None:
        nonlocal began
        status, message = _kernel_state(push)
        began = began or status in _AT_WORK
        trusted = began or time.time() >= trusted_at
        # of an only push the bundle's hash in run.json is proof enough
        if status in _AT_WORK or not (trusted or (pushing["first"] and status == "COMPLETE")):
            return None
        try:
            return _fetch(push) if status == "COMPLETE" else _fail(push, status, message)
        except InputError as error:
            if trusted or isinstance(error, KaggleFailure):
                raise
            return None

    return look


def _kernel_state(push: Push) -> tuple[str, str]:
    kernel = push.bundle.kernel
    state = push.call("kernel status", kernel, kernel=kernel)
    push.say_change(f"kernel {kernel}: {state['status']}")
    return state["status"], state["failure_message"] or ""


def _fetch(push: Push, check: bool = True) -> int:
    """Fetch beside the output, check, and only then put it into its place; give the submission's rows."""
    bundle, output = push.bundle, push.bundle.folder / "output"
    with tempfile.TemporaryDirectory(prefix=FETCHING, dir=bundle.folder) as fetched:
        folder = Path(fetched)
        push.call("kernel output", bundle.kernel, kernel=bundle.kernel, folder=folder.name, pattern=OUTPUTS)
        rows = check_output(folder, bundle.hash) if check else 0
        output.mkdir(exist_ok=True)
        for path in folder.iterdir() if check else folder.glob("*.log"):
            path.replace(output / path.name)
    return rows


def _fail(push: Push, status: str, message: str) -> int:
    kernel, output = push.bundle.kernel, push.bundle.folder / "output"
    if status.startswith("CANCEL"):
        raise RunFailed(f"The run of {kernel} was cancelled ({status}). The same command runs it again.")
    words = f" Kaggle says: {message.strip()}" if message else ""
    with suppress(KaggleFailure):  # the run's failure is the news
        _fetch(push, check=False)
    for path in output.glob("*.log"):
        text = path.read_text(encoding="utf-8", errors="replace")
        with suppress(ValueError, TypeError, KeyError):  # a log is a JSON array of pieces of output
            text = "".join(str(piece["data"]) for piece in json.loads(text))
        words += f" Its log ends: {' / '.join(scrub(text, push.environment).strip().splitlines()[-5:])}"
    raise RunFailed(
        f"The run of {kernel} failed ({status}).{words} The same command runs it again; its log is in "
        f"{output} and at https://www.kaggle.com/code/{kernel}."
    )


def _push_arrived(push: Push, pushed_at: float) -> bool:
    """Whether a push whose answer was lost reached Kaggle all the same."""

    def look() -> bool | None:
        try:
            status, _ = _kernel_state(push)
            if status in _AT_WORK or (status == "COMPLETE" and _fetch(push)):
                return True
        except InputError as error:  # else the output of an earlier run
            if isinstance(error, KaggleFailure) and error.kind != "absent":
                raise
        return False if time.time() >= pushed_at + 60 * push.waits.grace_minutes else None

    return push.poll(look, push.waits.grace_minutes) or False


def submit(push: Push, wish: Wish) -> None:
    """Submit unless Kaggle lists the submission already, confirm it, and wait for its score.

    Raises
    ------
    InputError
        When Kaggle refused it, does not list it, or could not score it.
    """
    message = wish.description(push.bundle)
    key = f"{wish.competition}: {message}"
    if f"submitted to {key}" not in push.steps:
        begun = f"submitting to {key}" in push.steps
        if not _is_listed(push, wish, push.waits.grace_minutes if begun else 0):
            with push.attempt(f"submitting to {key}"):
                _submit(push, wish)
        push.note(f"submitted to {key}")
    score = push.poll(lambda: _score(push, wish), push.waits.score_minutes)
    if score is None:
        late = f"no score within {push.waits.score_minutes:g} minutes. The same command asks again."
        push.say(f"Submitted, but {late}")
    else:
        push.say(f"Submitted to {wish.competition}: public score {score}.")


def _submit(push: Push, wish: Wish) -> None:
    bundle, message = push.bundle, wish.description(push.bundle)
    call, what = "submit file", {"file": "output/submission.csv"}
    if wish.way == "kernel":
        call, what = "submit kernel", {"kernel": bundle.kernel, "number": push.steps["pushed"]["version"]}
    seconds = 60 * push.waits.upload_minutes
    said = push.call(
        call, wish.competition, seconds, competition=wish.competition, message=message, **what
    ).strip()
    push.say(f"Kaggle says: {said or 'nothing'}")
    # the answer is the server's own text, so only the list is proof
    if not _is_listed(push, wish, push.waits.grace_minutes if "uccessfully submitted" in said else 0):
        raise InputError(
            f"{wish.competition} does not list the submission '{message}'. Kaggle said: {said or 'nothing'} "
            f"Look at the competition's page, then give the same command."
        )


def _is_listed(push: Push, wish: Wish, minutes: float) -> bool:
    return push.poll(lambda: _find(push, wish), minutes) is not None


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
