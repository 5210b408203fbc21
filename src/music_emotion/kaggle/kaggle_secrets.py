"""Blanking credentials in what the Kaggle CLI prints."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_SHORTEST = 6  # a shorter "secret" would blank ordinary words
_FORMS = (
    (re.compile(r"(authorization['\"]?\s*[:=]\s*).*", re.IGNORECASE), r"\1***"),
    (re.compile(r"\b(Basic|Bearer)\s+[\w.~+/=-]+"), r"\1 ***"),
    (re.compile(r"\bKGAT_\w+"), "***"),
    # the address of an upload or a download is signed: who has it may use it
    (re.compile(r"\?[\w.-]+=[^\s'\")]*"), "?***"),
)


class Scrubber:
    """Blank the credentials that the CLI would use, and whatever looks like one.

    The CLI's own places are read for this and for nothing else.

    Parameters
    ----------
    environment : mapping of str to str
        What the CLI is started with.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        found = {secret.strip() for secret in _secrets(environment)}
        # the longest first, since one may be part of another
        self._secrets = sorted((s for s in found if len(s) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with every secret replaced by ``***``."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        for pattern, replacement in _FORMS:
            text = pattern.sub(replacement, text)
        return text


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    user = environment.get("KAGGLE_USERNAME", "")
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_TOKEN"):
        value = environment.get(name, "")
        yield from (value, _basic(user, value), _text(Path(value)) if value else "")
    for folder in _folders(environment):
        yield from (_text(folder / "access_token"), _text(folder / "access_token.txt"))
        for name in ("kaggle.json", "credentials.json"):
            held = _json(folder / name)
            for key, value in held.items():
                if key != "username":
                    yield from (value, _basic(held.get("username", user), value), _basic(user, value))


def _folders(environment: Mapping[str, str]) -> list[Path]:
    home = Path(environment["HOME"]) if "HOME" in environment else Path.home()
    settings = Path(environment.get("XDG_CONFIG_HOME", home / ".config"))
    folders = [home / ".kaggle", settings / "kaggle"]
    given = environment.get("KAGGLE_CONFIG_DIR")
    return [Path(given), *folders] if given else folders


def _basic(user: str, key: str) -> str:
    return base64.b64encode(f"{user}:{key}".encode()).decode() if key else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # not there, not ours to read, or a token that is no path
        return ""


def _json(path: Path) -> dict[str, str]:
    try:
        held = json.loads(_text(path))
    except ValueError:
        return {}
    return (
        {key: value for key, value in held.items() if isinstance(value, str)}
        if isinstance(held, dict)
        else {}
    )
