"""The bundle's files to a Kaggle dataset, until Kaggle has them ready."""

import json
import re
from dataclasses import dataclass

from music_emotion.files import InputError, first_five
from music_emotion.kaggle.kaggle_cli import CliFailure
from music_emotion.kaggle.push_files import Bundle
from music_emotion.kaggle.push_waits import Push

CREATED = r"Your (private|public) Dataset is being created"
VERSIONED = r"Dataset version is being created"


@dataclass(frozen=True)
class _State:
    status: str
    version: int


def status_command(bundle: Bundle) -> list[str]:
    """How the dataset stands, as JSON."""
    return ["datasets", "status", bundle.dataset, "--format", "json"]


def upload_command(bundle: Bundle, exists: bool) -> list[str]:
    """Upload the whole bundle, as a new dataset or as a version of one that exists."""
    # a folder given relatively: the CLI makes a file name of the whole path
    if exists:
        return ["datasets", "version", "-p", "dataset", "-m", f"bundle {bundle.hash}"]
    return ["datasets", "create", "-p", "dataset"]


def upload_dataset(push: Push) -> None:
    """Upload the bundle, unless that is done.

    Raises
    ------
    InputError
        When Kaggle refused it or a file did not arrive.
    """
    if push.steps.get("uploaded"):
        return
    started = push.steps.get("uploading")
    if started and _arrived(push, started["base"]):
        base = started["base"]
    else:
        before = _look_for(push)
        base = before.version if before else 0
        if before and before.status not in {"ready", "failed"}:
            base = _await_version(push, above=0)  # an upload beside an unfinished one is refused
        try:
            with push.attempt("uploading", base=base):
                _upload(push, exists=before is not None)
        finally:
            push.tidy_uploads()
    push.steps.note("uploaded", base=base)
    push.tidy_uploads()


def await_dataset(push: Push) -> None:
    """Wait until the uploaded version is ready; a kernel would get the one before it until then."""
    uploaded = push.steps.get("uploaded")
    if uploaded and not push.steps.get("ready"):
        push.steps.note("ready", version=_await_version(push, above=uploaded["base"]))


def _upload(push: Push, exists: bool) -> None:
    bundle = push.bundle
    megabytes = sum(bundle.sizes.values()) / 1e6
    push.cli.say(f"Uploading {len(bundle.sizes)} files, {megabytes:.1f} MB, to {bundle.dataset}.")
    done = push.cli.call(
        upload_command(bundle, exists),
        VERSIONED if exists else CREATED,
        bundle.dataset,
        seconds=60 * push.waits.upload_minutes,
        live=True,
    )
    sent = re.findall(r"^Upload successful: (.+) \(", done.string, re.MULTILINE)
    if missing := sorted(set(bundle.sizes) - set(sent)):
        raise CliFailure(
            f"The dataset {bundle.dataset} was made without {first_five(missing)}. The same command uploads "
            f"the whole bundle again.",
            "final",
        )


def _look_for(push: Push) -> _State | None:
    """The dataset's state, None when there is none (Kaggle says 404, or 403 as for others' private ones)."""
    try:
        return _state(push)
    except CliFailure as failure:
        if failure.kind == "absent":
            return None
        raise


def _state(push: Push) -> _State:
    match = push.cli.call(status_command(push.bundle), r"^\{.*\}", push.bundle.dataset)
    said = json.loads(match[0])
    state = _State(str(said["status"]), int(said["current_version_number"] or 0))
    push.say_change(f"dataset {push.bundle.dataset}: {state.status}, version {state.version}")
    if state.status == "deleted":
        raise InputError(
            f"The dataset {push.bundle.dataset} was deleted, and Kaggle never gives a deleted slug again. "
            f"Package the bundle under another name."
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
        state = _state(push)
        if state.status == "failed":
            raise InputError(
                f"Kaggle could not process the dataset {push.bundle.dataset} (status failed). Its page says "
                f"why; delete push.json and give the same command to upload it again."
            )
        return state.version if state.status == "ready" and state.version > above else None

    return push.poll(look, minutes)


def _arrived(push: Push, base: int) -> bool:
    """Whether an upload that was interrupted here came to its end on Kaggle all the same."""
    if any(push.uploads.glob(".kaggle/uploads/*.json")):
        return False  # the CLI removes its notes on unfinished uploads when it comes to its end
    try:
        if _version_above(push, base, push.waits.grace_minutes) is None:
            return False
    except CliFailure as failure:
        if failure.kind != "absent":
            raise
        return False
    listing = ["datasets", "files", push.bundle.dataset, "--page-size", "200", "--format", "json"]
    match = push.cli.call(listing, r"^\[.*\]", push.bundle.dataset)
    return {file["name"]: file["size"] for file in json.loads(match[0])} == push.bundle.sizes
