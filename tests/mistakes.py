"""How to damage the files of the folder a test is in; a damage is called to do it."""

import faulthandler
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[], object]
PAGE = (Path(__file__).parents[1] / "docs" / "FAULTS.md").read_text(encoding="utf-8")
SAID = dict(re.findall(r"^\| ([\w-]+) \| (.+) \|$", PAGE, re.MULTILINE))
SMALL = """
name = "small"
excerpt.frames = 32
model.widths = [8, 16]
train.epochs = 1
train.batch_size = 8
folds.n = 3
"""


def check_refusal(case: str, call: Callable[..., tuple[int, str, str]], command: tuple[str, ...]) -> None:
    """A command ends with the sentence that docs/FAULTS.md has for the case; … stands for any text there."""
    # ends a command that waits for the other end of a pipe
    faulthandler.dump_traceback_later(120, exit=True, file=sys.__stderr__)
    try:
        status, _, errors = call(*command)
    finally:
        faulthandler.cancel_dump_traceback_later()
    said = " ".join(errors.split())
    assert status in (1, 2), said
    assert "Traceback" not in said
    assert re.fullmatch(re.escape(SAID[case]).replace("…", ".*"), said.partition("error: ")[2]), said


def contents() -> dict[Path, bytes]:
    """All files of the folder but locks, which stay."""
    paths = (path for path in Path().rglob("*") if path.suffix != ".lock")
    return {path: path.read_bytes() for path in paths if path.is_file()}


def nothing() -> None:
    """The files are right; the command is not."""


def write(path: str, content: str | bytes) -> Damage:
    return lambda: Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


def cut(path: str, n_bytes: int) -> Damage:
    """The first bytes alone, or with a negative number all but the last."""
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[:n_bytes])


def remove(*paths: str) -> Damage:
    return lambda: [Path(path).unlink() for path in paths]


def pipe(path: str) -> Damage:
    def damage() -> None:
        Path(path).unlink(missing_ok=True)
        os.mkfifo(path)

    return damage


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
