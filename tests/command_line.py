"""The command `music-emotion` in this process, called by the names of its scripts."""

import sys

from music_emotion.cli import main

VERBS = {
    "ensemble.py": ("blend",),
    "package.py": ("kaggle", "package"),
    "push.py": ("kaggle", "push"),
    "summarise.py": ("statistics",),
}


def call(script: str, *arguments: object) -> int:
    """Run a subcommand; returns its exit status."""
    before, sys.argv = sys.argv, [script, *map(str, arguments)]
    try:
        main(*VERBS.get(script, (script.removesuffix(".py"),)))
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        sys.argv = before
    return 0
