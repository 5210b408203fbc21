"""What calls of Kaggle's API need, what their failures mean, and the credentials that no message may hold."""

import base64
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from music_emotion.files import InputError

_LOGIN = "put a token from kaggle.com/settings into ~/.kaggle/access_token, or set KAGGLE_API_TOKEN"
_NO_LOGIN = f"there are no credentials; {_LOGIN}."
_INSTALL = "Run: pip install --upgrade 'music-emotion[kaggle]'"

# Regular expression for the text of a failure, and what the user can do. The first match counts. The text
# begins with the HTTP status, "network", or the name of the exception.
TROUBLES = {
    "^SystemExit": _NO_LOGIN,
    "^(Type|Attribute)Error": f"this version of the package kaggle does not fit. {_INSTALL}",
    "^401|Unauthenticated": "Kaggle refused the credentials (401): they are expired or revoked. Delete the "
    f"stale token (also KAGGLE_API_TOKEN, which takes precedence), then {_LOGIN}.",
    "weekly GPU quota": "this week's GPU hours are used up. Wait (kaggle quota says how long), or set "
    "enable_gpu to false in kernel-metadata.json.",
    "GPU session count": "the account runs as many GPU sessions as it may. Stop one on kaggle.com, or wait.",
    "not valid sources": "Kaggle left out a source that the kernel needs. Correct the sources in "
    "kernel-metadata.json: a dataset must be ready, a competition's rules accepted.",
    "already in use": "the title or slug is in use by another dataset. Package under another name.",
    "create a dataset as this owner": "dataset-metadata.json names another owner than the credentials.",
    "Upload unsuccessful": "a file was not uploaded. The same command uploads the whole bundle again.",
    "Could not submit": "the file's upload failed and nothing was submitted. Give the same command again.",
    "Notebook not found": "Kaggle does not know the kernel. Correct its id in kernel-metadata.json.",
    "Failed to resolve the necessary": "there is no such dataset. Correct its id in dataset-metadata.json.",
    "^409|Conflict": "Kaggle sees a conflict (409): a kernel and a dataset share a slug, or the version "
    "before is not finished. Package under another name, or wait, then give the same command.",
    "^429": "too many requests (429). Wait some minutes, then give the same command.",
    "^5": "Kaggle has an error of its own (500). Wait some minutes, then give the same command.",
    "^network": "the connection was lost. Check the network; the same command continues.",
    "^403": "Kaggle does not allow it (403): it belongs to another account than the credentials, does not "
    "exist, or the account has not accepted the competition's rules or verified its phone.",
    "^404": "Kaggle does not find it (404). Check owner and slug; --competition is the end of its address.",
    "": "Kaggle refused it. Look at its page on kaggle.com, then give the same command.",
}
_KINDS = {"^403": "absent", "^404": "absent", "^429": "passing", "^5": "passing", "^network": "passing"}


class KaggleFailure(InputError):
    """A call of Kaggle's API failed.

    Attributes
    ----------
    kind : {"absent", "passing", "final"}
        "absent": the object does not exist, or the user may not see it. "passing": the failure may be
        temporary. "final": any other failure.
    """

    def __init__(self, sentence: str, kind: str = "final") -> None:
        super().__init__(sentence)
        self.kind = kind


def failure_of(place: str, words: str, environment: Mapping[str, str]) -> KaggleFailure:
    """Turn the words of a failed call into a sentence that says what to do and contains no secrets."""
    words = scrub(words, environment)
    pattern = next(each for each in TROUBLES if re.search(each, words, re.IGNORECASE))
    sentence = f"{place}: {TROUBLES[pattern]} It said: {words[:700]}"
    return KaggleFailure(sentence, _KINDS.get(pattern, "final"))


def what_is_missing(environment: Mapping[str, str]) -> str | None:
    """Say which package or credentials a call needs and does not find; None if it has all."""
    try:
        found = version("kaggle")
        version("six")  # a dependency that kaggle does not declare
    except PackageNotFoundError as absent:
        return f"the package {absent.name} is not installed. {_INSTALL}"
    if [int(number) for number in re.findall(r"\d+", found)[:3]] < [2, 2, 5]:
        return f"the package kaggle is {found}; at least 2.2.5 is needed. {_INSTALL}"
    return None if _secrets(environment) else _NO_LOGIN


def scrub(text: str, environment: Mapping[str, str]) -> str:
    """Replace the credentials of Kaggle's package, and text that looks like credentials, by asterisks."""
    for secret in _secrets(environment):
        text = text.replace(secret, "***")
    text = re.sub(r"(?i)(authorization['\"]?\s*[:=]\s*).*", r"\1***", text)
    text = re.sub(r"\b(Basic|Bearer)\s+[\w.~+/=-]+", r"\1 ***", text)
    # signed URLs of uploads and downloads work for anyone who has them
    return re.sub(r"\bKGAT_\w+|(?<=\?)[\w.-]+=[^\s'\")]*", "***", text)


def warn_of_readable_credentials(environment: Mapping[str, str]) -> list[str]:
    """Return a warning for each file of credentials that other users can read."""
    return [
        f"{path} is readable by others, who can submit in your name. Run: chmod 600 {path}"
        for path in _credential_files(environment)
        if os.name == "posix" and path.is_file() and path.stat().st_mode & 0o044
    ]


def _credential_files(environment: Mapping[str, str]) -> list[Path]:
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
    for path in [*map(Path, filter(None, keys)), *_credential_files(environment)]:
        with suppress(OSError, ValueError):  # missing, not readable, or a token and not a path
            text = path.read_text(encoding="utf-8")
            if path.suffix != ".json":
                keys.append(text)
            elif isinstance(held := json.loads(text), dict):
                users.append(str(held.pop("username", "")))
                keys += [value for value in held.values() if isinstance(value, str)]
    keys = [key.strip() for key in keys if len(key.strip()) >= 6]  # shorter ones would blank ordinary words
    keys += [base64.b64encode(f"{user}:{key}".encode()).decode() for user in users for key in keys]
    return sorted(keys, key=len, reverse=True)
