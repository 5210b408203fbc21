"""The project's scripts, run in this process as at home."""

import runpy
import sys

from kaggle_tree import PROJECT


def script(name: str, *arguments: object) -> int:
    """Run a script of the project and return its exit status."""
    before, status = sys.argv, 0
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(PROJECT / "scripts" / name), run_name="__main__")
    except SystemExit as left:
        status = int(left.code or 0)
    finally:
        sys.argv = before
    return status
