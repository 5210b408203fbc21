"""The error this project raises for what a user can mend, and the one kind of it that studies survive."""

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something given to the pipeline is wrong.

    The message is one or more whole sentences: the value, the place and the remedy.
    Scripts print it without a traceback and exit with status 2.
    """


class Diverged(InputError):
    """The loss of a training is no longer finite.

    Its arguments are what happened, with place and epoch, and the remedy; the message is both.
    """

    def __str__(self) -> str:
        return " ".join(map(str, self.args))


@contextmanager
def telling_what_is_kept(kept: Callable[[], str]) -> Iterator[None]:
    """Have Ctrl-C tell what long work has come to; scripts print it and how to go on.

    Parameters
    ----------
    kept : callable
        Gives what is kept then, such as "runs/a: 2 of 5 folds are finished".

    Raises
    ------
    KeyboardInterrupt
        With that as its message.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(kept()) from interrupt


def nearest(word: str, words: Iterable[str]) -> str:
    """Suggest the right spelling of a word.

    Parameters
    ----------
    word : str
        What was written.
    words : iterable of str
        What could have been written.

    Returns
    -------
    str
        ``"did you mean 'x'?"``, or the list of choices when none is close.
    """
    choices = sorted(words)
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if match:
        return f"did you mean '{shortened(match[0])}'?"
    return f"choose from {', '.join(map(shortened, choices))}."


def first_five(values: Iterable[object]) -> str:
    """Name the first five of many, so that a message stays readable."""
    items = [shortened(str(value), 300) for value in values]
    return ", ".join(items[:5]) + (", ..." if len(items) > 5 else "")


def shortened(text: str, longest: int = 60) -> str:
    """The beginning of a text, so that a message stays readable whatever a file holds."""
    return text if len(text) <= longest else text[:longest] + "..."
