"""Kaggle's own Python API, in a child process that answers in JSON and ends within a stated time.

Importing `kaggle` logs in, prints, makes folders and may exit, and its requests have no time limit. So only
the child imports it: this file, run as a script. What Kaggle's package prints is ignored. The child imports
nothing else of this project, so that it starts fast.
"""

import base64
import faulthandler
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Timer
from typing import Any

_LOGIN = "put a token from kaggle.com/settings into ~/.kaggle/access_token, or set KAGGLE_API_TOKEN"
_NO_LOGIN = f"there are no credentials; {_LOGIN}."
_INSTALL = "Run: pip install --upgrade 'music-emotion[kaggle]'"

# What a failure's words hold, and what the user can do. The first that matches counts. Words begin with the
# status of HTTP, "network", or else the name of the exception.
TROUBLES = {
    "^SystemExit": _NO_LOGIN,
    "^(Type|Attribute)Error": f"this version of the package kaggle does not fit. {_INSTALL}",
    "^401|Unauthenticated": "Kaggle refused the credentials (401): they are expired or revoked. Delete the "
    f"stale token (also KAGGLE_API_TOKEN, which goes before all others), then {_LOGIN}.",
    "weekly GPU quota": "this week's GPU hours are used up. See kaggle quota for when new ones come, or set "
    "enable_gpu to false in kernel-metadata.json.",
    "GPU session count": "the account runs as many GPU sessions as it may. Stop one on kaggle.com, or wait, "
    "then give the same command.",
    "not valid sources": "Kaggle left out a source that the kernel needs, and runs it without. Correct the "
    "sources in kernel-metadata.json (a dataset must be ready, a competition's rules accepted), then give "
    "the same command.",
    "already in use": "the title or slug is in use by another dataset. Package under another name.",
    "create a dataset as this owner": "the id in dataset-metadata.json names another owner than the "
    "credentials. Correct the owner.",
    "Upload unsuccessful": "a file was not uploaded. The same command uploads the whole bundle again.",
    "Could not submit": "the file's upload failed and nothing was submitted. Give the same command again.",
    "Notebook not found": "Kaggle does not know the kernel. Take id_no out of kernel-metadata.json and check "
    "the id's owner.",
    "Failed to resolve the necessary information": "the dataset does not exist, so it can have no version. "
    "Check the id in dataset-metadata.json.",
    "^409|Conflict": "Kaggle sees a conflict (409): a kernel and a dataset must not share a slug, and a "
    "version must be finished before the next. Package under another name, or wait, then give the same "
    "command.",
    "^429": "too many requests (429). Wait some minutes, then give the same command.",
    "^5": "Kaggle has an error of its own (500). Wait some minutes, then give the same command.",
    "^network": "the connection was lost. Check the network; the same command goes on.",
    "^403": "Kaggle does not allow it (403): it belongs to another account than the credentials, does not "
    "exist, or the account has not accepted the competition's rules or verified its phone.",
    "^404": "Kaggle does not find it (404). Check owner and slug; --competition is the last part of the "
    "competition's address.",
    "": "Kaggle refused it. Look at its page on kaggle.com, then give the same command.",
}
_KINDS = {"^403": "absent", "^404": "absent", "^429": "passing", "^5": "passing", "^network": "passing"}


def ask(
    call: str,
    arguments: Mapping[str, Any],
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    keep_open: Sequence[int] = (),
    sent: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Make one call of Kaggle's API in a child process.

    Parameters
    ----------
    call : str
        One of `CALLS`.
    arguments : mapping
        Of the call, by name.
    folder : Path
        Where the child runs.
    environment : mapping of str to str
        The child's, in which Kaggle's package finds its own credentials.
    seconds : float
        How long it may take.
    keep_open : sequence of int
        File descriptors that the child keeps open.
    sent : callable
        Takes the name of each file that was uploaded.

    Returns
    -------
    dict
        Either ``value``, what the call gave; or ``error``, whole sentences without secrets, and ``kind``:
        "absent" when the thing is not there or not ours to see, "passing" when the trouble may pass by
        itself, else "final".
    """
    if cause := _what_is_missing(environment):
        return {"error": cause, "kind": "final"}
    answer: dict[str, Any] = {}
    with subprocess.Popen(
        [sys.executable, "-P", __file__, json.dumps([call, arguments, seconds])],
        cwd=folder,
        env={**environment, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        pass_fds=keep_open,
    ) as process:
        timer = Timer(seconds, process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                with suppress(ValueError):  # a line cut by the child's end
                    answer = json.loads(line)
                    if "sent" in answer:
                        sent(answer["sent"])
        finally:
            in_time = timer.is_alive()
            timer.cancel()
            process.kill()
    if "value" in answer:
        return answer
    if not in_time:
        hangs = f"it did not end within {seconds:g} seconds and was stopped: the network or Kaggle hangs."
        return {"error": f"{hangs} The same command goes on; a longer time can be given.", "kind": "passing"}
    words = scrub(answer.get("words", "The child process ended without an answer."), environment)
    pattern = next(each for each in TROUBLES if re.search(each, words, re.IGNORECASE))
    return {"error": f"{TROUBLES[pattern]} It said: {words[:700]}", "kind": _KINDS.get(pattern, "final")}


def _what_is_missing(environment: Mapping[str, str]) -> str | None:
    try:
        found = version("kaggle")
        version("six")  # which it needs, but does not ask for
    except PackageNotFoundError as absent:
        return f"the package {absent.name} is not installed. {_INSTALL}"
    if [int(number) for number in re.findall(r"\d+", found)[:3]] < [2, 2, 5]:
        return f"the package kaggle is {found}; at least 2.2.5 is needed. {_INSTALL}"
    return None if _secrets(environment) else _NO_LOGIN


def scrub(text: str, environment: Mapping[str, str]) -> str:
    """Blank the credentials that Kaggle's package would use, and whatever looks like one."""
    for secret in _secrets(environment):
        text = text.replace(secret, "***")
    text = re.sub(r"(?i)(authorization['\"]?\s*[:=]\s*).*", r"\1***", text)
    text = re.sub(r"\b(Basic|Bearer)\s+[\w.~+/=-]+", r"\1 ***", text)
    # the address of an upload or a download is signed: who has it may use it
    return re.sub(r"\bKGAT_\w+|(?<=\?)[\w.-]+=[^\s'\")]*", "***", text)


def credential_files(environment: Mapping[str, str]) -> list[Path]:
    """Where Kaggle's package looks for credentials."""
    home = Path(environment.get("HOME") or Path.home())
    folders = [home / ".kaggle", Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"]
    folders += [Path(given) for given in [environment.get("KAGGLE_CONFIG_DIR")] if given]
    names = ("access_token", "access_token.txt", "kaggle.json", "credentials.json")
    return [folder / name for folder in folders for name in names]


def _secrets(environment: Mapping[str, str]) -> list[str]:
    """Every credential, the longest first, since one may be part of another."""
    users = [environment.get("KAGGLE_USERNAME", "")]
    keys = [environment.get(name, "") for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_TOKEN")]
    for path in [*map(Path, filter(None, keys)), *credential_files(environment)]:
        with suppress(OSError, ValueError):  # not there, not ours to read, or a token and no path
            text = path.read_text(encoding="utf-8")
            if path.suffix != ".json":
                keys.append(text)
            elif isinstance(held := json.loads(text), dict):
                users.append(str(held.pop("username", "")))
                keys += [value for value in held.values() if isinstance(value, str)]
    keys = [key.strip() for key in keys if len(key.strip()) >= 6]  # a shorter one would blank ordinary words
    keys += [base64.b64encode(f"{user}:{key}".encode()).decode() for user in users for key in keys]
    return sorted(keys, key=len, reverse=True)


# Of each call, what it does with the package's `KaggleApi` and with arguments that JSON can hold. Paths are
# relative to the bundle's folder: Kaggle's notes on unfinished uploads are named after the path it is given.
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
    return {name: getattr(value, "name", value) for name, value in values.items()}  # of an enum, its name


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
    if answer.message == "Could not submit to competition":  # the package's own words for a failed upload
        raise ValueError(answer.message)
    return str(answer.message)


def main(call: str, arguments: Mapping[str, Any], seconds: float) -> None:
    """Make one call, and write to what was standard output, in JSON lines, the files it sent and its answer.

    Parameters
    ----------
    call, arguments
        As for `ask`.
    seconds : float
        After which this process ends, also when the one that started it was killed.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def say(**answer: Any) -> None:
        with suppress(OSError):  # nobody reads any more; the call still comes to its end
            print(json.dumps(answer), file=answers, flush=True)

    try:
        from kaggle.api.kaggle_api_extended import KaggleApi, ResumableUploadResult

        class Api(KaggleApi):
            def upload_complete(self, path: str, *arguments: Any, **named: Any) -> Any:
                result = super().upload_complete(path, *arguments, **named)
                if result == ResumableUploadResult.COMPLETE:
                    say(sent=os.path.basename(path))
                return result

        api = Api()
        api.authenticate()
        say(value=CALLS[call](api, **arguments))
    except BaseException as error:  # the package exits where it finds no credentials
        say(words=_words(error))


def _words(error: BaseException) -> str:
    """The status of HTTP, "network", or the exception's name, and what it says."""
    cause: BaseException | None = error
    while cause is not None and not hasattr(cause, "response"):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return f"{type(error).__name__}: {error}"
    response = cause.response
    return f"{'network' if response is None else response.status_code}: {error}"


if __name__ == "__main__":
    main(*json.loads(sys.argv[1]))
