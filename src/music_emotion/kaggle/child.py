"""The child process of `Push.call`: makes one call of Kaggle's API and answers in one line of JSON.

It imports nothing else of this project, so that it starts fast. What Kaggle's package prints is discarded.
"""

import faulthandler
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

# Each call takes a `KaggleApi` and arguments that JSON can hold. Paths of uploads are relative to the
# bundle's folder, since Kaggle's package names its records of unfinished uploads after them.
CALLS: dict[str, Callable[..., Any]] = {
    "dataset status": lambda api, dataset: json.loads(api.dataset_status(dataset, format="json")),
    "dataset files": lambda api, dataset: {
        file.name: file.total_bytes for file in api.dataset_list_files(dataset, page_size=200).files
    },
    "dataset create": lambda api: _check_dataset(api.dataset_create_new("dataset", quiet=True)),
    "dataset version": lambda api, notes: _check_dataset(
        api.dataset_create_version("dataset", notes, quiet=True)
    ),
    "kernel push": lambda api: _check_kernel(api.kernels_push("kernel")),
    "kernel status": lambda api, kernel: _fields(api.kernels_status(kernel), "status", "failure_message"),
    "kernel output": lambda api, kernel, folder, pattern: api.kernels_output(
        kernel, folder, file_pattern=pattern, force=True
    ),
    "submissions": lambda api, competition: [
        _fields(each, "ref", "description", "status", "public_score")
        for each in api.competition_submissions(competition)
    ],
    "submit file": lambda api, competition, message, file: _check_submission(
        api.competition_submit(file, message, competition, quiet=True)
    ),
    "submit kernel": lambda api, competition, message, kernel, number: _check_submission(
        api.competition_submit_code("submission.csv", message, competition, kernel, number, quiet=True)
    ),
}


def _fields(answer: Any, *names: str) -> dict[str, Any]:
    values = {name: getattr(answer, name) for name in names}
    return {name: getattr(value, "name", value) for name, value in values.items()}  # an enum's name


def _check_dataset(answer: Any) -> None:
    if answer.error or str(answer.status).lower() != "ok":
        raise ValueError(answer.error)


def _check_kernel(answer: Any) -> dict[str, Any]:
    kinds = ("dataset", "competition", "kernel", "model")
    refused = [source for kind in kinds for source in getattr(answer, f"invalid_{kind}_sources") or ()]
    if answer.error or refused:
        raise ValueError(answer.error or f"not valid sources: {', '.join(refused)}")
    return {"version": answer.version_number, "url": answer.url}


def _check_submission(answer: Any) -> str:
    if answer.message == "Could not submit to competition":  # the package's message for a failed upload
        raise ValueError(answer.message)
    return str(answer.message)


def main(call: str, arguments: Mapping[str, Any], seconds: float) -> None:
    """Make one call; write its answer to standard output, and the files it uploads to standard error.

    Parameters
    ----------
    call, arguments
        As for `Push.call`.
    seconds : float
        Time limit of this process. It also applies when the parent is killed.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    answers, progress = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)

    def say(line: str, stream: Any) -> None:
        with suppress(OSError):  # the parent has ended; finish the call anyway
            print(line, file=stream, flush=True)

    try:
        from kaggle.api.kaggle_api_extended import KaggleApi, ResumableUploadResult

        class Api(KaggleApi):
            def upload_complete(self, path: str, *arguments: Any, **named: Any) -> Any:
                result = super().upload_complete(path, *arguments, **named)
                if result == ResumableUploadResult.COMPLETE:
                    say(f"  sent {os.path.basename(path)}", progress)
                return result

        api = Api()
        api.authenticate()
        answer = json.dumps({"value": CALLS[call](api, **arguments)})
    except BaseException as error:  # the package exits without credentials
        answer = json.dumps({"words": _words(error)})
    say(answer, answers)


def _words(error: BaseException) -> str:
    """Return the text of a failure: HTTP status, "network" or the exception's name, and the message."""
    cause: BaseException | None = error
    while cause is not None and not hasattr(cause, "response"):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return f"{type(error).__name__}: {error}"
    response = cause.response
    return f"{'network' if response is None else response.status_code}: {error}"


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
