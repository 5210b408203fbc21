"""A packaged bundle to Kaggle and back: dataset, kernel, its run, its output, a submission."""

import shlex
from collections.abc import Callable, Mapping

from music_emotion.kaggle.push_dataset import await_dataset, upload_command, upload_dataset
from music_emotion.kaggle.push_dataset import status_command as dataset_status_command
from music_emotion.kaggle.push_files import Bundle
from music_emotion.kaggle.push_kernel import PUSH_COMMAND, await_run, output_command, push_kernel
from music_emotion.kaggle.push_kernel import status_command as kernel_status_command
from music_emotion.kaggle.push_steps import Steps
from music_emotion.kaggle.push_submission import Wish, list_command, submit, submit_command
from music_emotion.kaggle.push_waits import Waits, begin


def push_bundle(
    bundle: Bundle,
    waits: Waits,
    wish: Wish | None,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    """Do what is not done yet: upload, run, fetch, and submit where it is wished.

    Finished steps are noted in ``build/<name>/push.json``, so that a push that was interrupted
    anywhere goes on, and nothing is uploaded or submitted twice.

    Parameters
    ----------
    bundle : Bundle
        As `read_bundle` gives it.
    waits : Waits
        How long to wait for what.
    wish : Wish or None
        What to submit, if anything.
    environment : mapping of str to str
        What the CLI is started with; it finds its credentials there or in its own files.
    say : callable
        Takes a line for the user.

    Raises
    ------
    InputError
        When a step failed, with what to do about it.
    """
    with begin(bundle, waits, environment, say) as push:
        upload_dataset(push)
        await_dataset(push)
        push_kernel(push, need_version=wish is not None and wish.way == "kernel")
        await_run(push)
        if wish is not None:
            submit(push, wish)


def planned_commands(bundle: Bundle, wish: Wish | None) -> list[str]:
    """The commands that `push_bundle` would run, to be read; none is run.

    Where one depends on Kaggle's answer to another, a comment says so.
    """
    steps = Steps(bundle.folder / "push.json", bundle.hash)
    lines = []
    if not steps.get("uploaded"):
        lines += [
            _line(dataset_status_command(bundle)),
            _line(upload_command(bundle, exists=False)) + "  # when there is no such dataset yet",
            _line(upload_command(bundle, exists=True)) + "  # when there is",
        ]
    if not steps.get("ready"):
        lines.append(_line(dataset_status_command(bundle)) + "  # until it is ready and its version rose")
    pushed = steps.get("pushed")
    version = str((pushed or {}).get("version") or "VERSION")
    if not pushed or pushed["kernel"] != bundle.kernel_hash:
        lines.append(_line(PUSH_COMMAND))
    if not steps.get("ran"):
        lines.append(_line(kernel_status_command(bundle)) + "  # until the run is complete")
        lines.append(_line(output_command(bundle, "FOLDER")) + "  # checked, then moved to output/")
    if wish is not None:
        listing = _line(list_command(wish))
        lines += [
            listing,
            _line(submit_command(bundle, wish, version)) + "  # unless it is listed already",
            listing + "  # until it has a score",
        ]
    return [f"cd {shlex.quote(str(bundle.folder))}", *lines]


def _line(arguments: list[str]) -> str:
    return shlex.join(["python", "-m", "kaggle", *arguments])
