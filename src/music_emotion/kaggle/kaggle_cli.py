"""The official Kaggle CLI as a subprocess: every call ends, and is judged by what it says.

Its exit status is 0 after many failures, so a call succeeds only when a given text is there and
none of the texts of failure is. It is never imported: importing it already logs in.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from threading import Timer
from typing import IO

from music_emotion.files import InputError
from music_emotion.kaggle.kaggle_secrets import Scrubber
from music_emotion.kaggle.kaggle_troubles import LIES, TROUBLES, Kind

_READABLE_KEY = "Your Kaggle API key is readable by other"
# a progress bar, the upload's own log and the help after a missing login
_NO_NEWS = re.compile(
    r"\d+%\||^Starting upload|^Upload successful|^  |^\s*$"
    r"|^(First, you|Recommended|No token|If you'd|and supply|Traceback)"
)


class CliFailure(InputError):
    """The CLI did not do what it was asked.

    Attributes
    ----------
    kind : {"absent", "passing", "final"}
        Whether the thing is not there (or not ours to see), the trouble may pass by itself, or
        neither.
    """

    def __init__(self, sentence: str, kind: Kind) -> None:
        super().__init__(sentence)
        self.kind = kind


class Cli:
    """Calls of ``python -m kaggle``.

    Parameters
    ----------
    folder : Path
        Where it runs.
    environment : mapping of str to str
        Its environment, in which it finds its own credentials.
    say : callable
        Takes a line for the user.
    call_seconds : float
        How long one call may take unless it is given a time of its own.
    keep_open : sequence of int
        File descriptors that the CLI keeps open while it runs.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        call_seconds: float,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.folder, self.say, self.call_seconds, self.keep_open = folder, say, call_seconds, keep_open
        # VERBOSE makes it print requests with their Authorization
        kept = {name: value for name, value in environment.items() if not name.startswith("VERBOSE")}
        self._environment = {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
        self.scrub = Scrubber(environment)
        self._warned = False

    def call(
        self, arguments: Sequence[str], success: str, about: str, seconds: float = 0, live: bool = False
    ) -> re.Match[str]:
        """Run one command.

        Parameters
        ----------
        arguments : sequence of str
            What follows ``kaggle``.
        success : str
            Pattern that its standard output holds when all is well.
        about : str
            What the command is about, for an error's sentence.
        seconds : float
            How long it may take; 0 for the usual.
        live : bool
            Say its lines as they come.

        Returns
        -------
        re.Match
            Of `success`; its `string` is the whole standard output, without secrets.

        Raises
        ------
        CliFailure
            When it did not succeed, whatever its exit status.
        """
        place = f"kaggle {' '.join(arguments[:2])} ({about})"
        out, errors, status = self._run(arguments, place, seconds or self.call_seconds, live)
        match = re.search(success, out, re.MULTILINE | re.DOTALL)
        if match and status == 0 and not re.search(LIES, out):
            return match
        raise _explain(place, out, errors)

    def _run(self, arguments: Sequence[str], place: str, seconds: float, live: bool) -> tuple[str, str, int]:
        with tempfile.TemporaryFile() as errors, self._start(arguments, errors) as process:
            timer = Timer(seconds, process.kill)
            timer.start()
            lines = []
            try:
                for line in process.stdout or ():
                    if _READABLE_KEY in line:
                        self._warn(line)
                        continue
                    lines.append(self.scrub(line))
                    if live and line.strip():
                        self.say("  " + lines[-1].rstrip())
                status = process.wait()
            finally:
                in_time = timer.is_alive()
                timer.cancel()
                process.kill()
            errors.seek(0)
            said = self.scrub(errors.read().decode("utf-8", "replace"))
        if not in_time:
            raise CliFailure(
                f"{place} did not end within {seconds:g} seconds and was stopped: the network or Kaggle "
                f"hangs. The same command goes on; a longer time can be given.{_words('', said)}",
                "passing",
            )
        return "".join(lines), said, status

    def _start(self, arguments: Sequence[str], errors: IO[bytes]) -> Popen[str]:
        return Popen(
            [sys.executable, "-m", "kaggle", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            pass_fds=self.keep_open,
        )

    def _warn(self, line: str) -> None:
        if not self._warned:
            self._warned = True
            self.say(f"{line.strip()} Others can submit in your name until you do.")


def _explain(place: str, out: str, errors: str) -> CliFailure:
    """Find the first known trouble in what was said."""
    for pattern, kind, sentence in TROUBLES:
        if re.search(pattern, f"{out}\n{errors}", re.IGNORECASE | re.DOTALL):
            return CliFailure(f"{place}: {sentence}{_words(out, errors)}", kind)
    unknown = "it did not say that it succeeded." if (out + errors).strip() else "it said nothing at all."
    return CliFailure(
        f"{place}: {unknown} Look at the object's page on kaggle.com, then give the same command."
        f"{_words(out, errors)}",
        "final",
    )


def _words(out: str, errors: str) -> str:
    """The CLI's own last words, without progress bars and the inner lines of a traceback."""
    lines = re.split(r"[\r\n]+", f"{out}\n{errors}")
    news = list(dict.fromkeys(line.strip() for line in lines if not _NO_NEWS.search(line)))
    return f" The CLI said: {' / '.join(news[-4:])[-700:]}" if news else ""
