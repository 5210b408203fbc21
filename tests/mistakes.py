"""How to damage the files of the folder a test is in; a damage is called to do it."""

from collections.abc import Callable
from pathlib import Path

Damage = Callable[[], object]


def nothing() -> None:
    """The files are right; the command is not."""


def write(path: str, content: str | bytes) -> Damage:
    return lambda: Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path: str, n_bytes: int) -> Damage:
    """The first bytes alone, or with a negative number all but the last."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:n_bytes])


def remove(*paths: str) -> Damage:
    return lambda: [Path(path).unlink() for path in paths]


def replace(path: str, old: str, new: str) -> Damage:
    def damage() -> None:
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new, 1))

    return damage


def lines(path: str, change: Callable[[list[str]], list[str]]) -> Damage:
    def damage() -> None:
        changed = change(Path(path).read_text().splitlines())
        Path(path).write_text("\n".join(changed) + "\n")

    return damage


def line(path: str, number: int, text: str) -> Damage:
    """Another text in a line, counted from 1."""
    return lines(path, lambda old: [*old[: number - 1], text, *old[number:]])


def both(*damages: Damage) -> Damage:
    return lambda: [damage() for damage in damages]
