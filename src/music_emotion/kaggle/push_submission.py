"""A run's submission to the competition, once, and its score."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from music_emotion.files import InputError
from music_emotion.kaggle.push_files import Bundle
from music_emotion.kaggle.push_waits import Push

Way = Literal["file", "kernel"]


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


def list_command(wish: Wish) -> list[str]:
    """The latest submissions, as JSON."""
    return ["competitions", "submissions", "-c", wish.competition, "--format", "json"]


def submit_command(bundle: Bundle, wish: Wish, version: str) -> list[str]:
    """Submit the fetched file, or a version of the kernel."""
    what = ["-f", "output/submission.csv"]
    if wish.way == "kernel":
        what = ["-k", bundle.kernel, "-v", version, "-f", "submission.csv"]
    return ["competitions", "submit", "-c", wish.competition, *what, "-m", wish.description(bundle)]


def submit(push: Push, wish: Wish) -> None:
    """Submit unless Kaggle lists the submission already, confirm it, and wait for its score.

    Raises
    ------
    InputError
        When Kaggle refused it, does not list it, or could not score it.
    """
    key = f"{wish.competition}: {wish.description(push.bundle)}"
    if not push.steps.get(f"submitted to {key}"):
        begun = push.steps.get(f"submitting to {key}")
        if not _is_listed(push, wish, push.waits.grace_minutes if begun else 0):
            with push.attempt(f"submitting to {key}"):
                _submit(push, wish)
        push.steps.note(f"submitted to {key}")
    _await_score(push, wish)


def _submit(push: Push, wish: Wish) -> None:
    pushed = push.steps.get("pushed") or {}
    command = submit_command(push.bundle, wish, str(pushed.get("version")))
    said = push.cli.call(command, "", wish.competition, seconds=60 * push.waits.upload_minutes).string
    push.cli.say(f"Kaggle says: {' '.join(said.split()) or 'nothing'}")
    # the answer is the server's own text, so only the list is proof
    patience = push.waits.grace_minutes if "uccessfully submitted" in said else 0
    if not _is_listed(push, wish, patience):
        raise InputError(
            f"{wish.competition} does not list the submission '{wish.description(push.bundle)}'. The CLI "
            f"said: {said.strip() or 'nothing'} Look at the competition's page, then give the same command."
        )


def _is_listed(push: Push, wish: Wish, minutes: float) -> bool:
    return push.poll(lambda: _find(push, wish), minutes) is not None


def _find(push: Push, wish: Wish) -> dict[str, Any] | None:
    match = push.cli.call(list_command(wish), r"^(\[.*\]|No submissions found)", wish.competition)
    listed = json.loads(match[0]) if match[0].startswith("[") else []
    ours = [each for each in listed if each["description"] == wish.description(push.bundle)]
    return ours[0] if ours else None


def _await_score(push: Push, wish: Wish) -> None:
    def look() -> str | None:
        found = _find(push, wish)
        if found is None:
            return None
        status = str(found["status"]).rsplit(".", 1)[-1].upper()
        push.say_change(f"submission {found['ref']}: {status}")
        if status == "ERROR":
            raise InputError(
                f"{wish.competition} could not score submission {found['ref']}. Its page says why: "
                f"https://www.kaggle.com/competitions/{wish.competition}/submissions"
            )
        return str(found["publicScore"]) if status == "COMPLETE" else None

    score = push.poll(look, push.waits.score_minutes)
    if score is None:
        push.cli.say(
            f"Submitted, but no score within {push.waits.score_minutes:g} minutes. The same command asks "
            f"again."
        )
    else:
        push.cli.say(f"Submitted to {wish.competition}: public score {score}.")
