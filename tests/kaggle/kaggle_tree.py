"""A folder like Kaggle's, and its kernel: offline, read-only inputs, the image's packages alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


class KaggleTree:
    """Inputs, which are read-only, and a folder to write into; both keep their paths between runs."""

    def __init__(self, root: Path) -> None:
        self.inputs, self.working, self._start = root / "input", root / "working", root / "start"
        for folder in (self.inputs, self.working, self._start):
            folder.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("image_guard.py"), self._start / "sitecustomize.py")

    def mount(self, source: Path, place: str) -> None:
        """Copy a folder below the inputs."""
        target = self.inputs / place
        shutil.copytree(source, target)
        for path in (target, *target.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)

    def here(self, kernel: str) -> str:
        """A kernel's script or notebook, with the two folders put in."""
        return kernel.replace("/kaggle/input", str(self.inputs)).replace("/kaggle/working", str(self.working))

    def run(self, script: str, over_once: str = "never") -> subprocess.CompletedProcess:
        """A kernel's script, started elsewhere and without a network.

        Its time is over once a file lies in its working folder.
        """
        (self._start / "script.py").write_text(self.here(script))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._start),
            "PYTHONPATH": str(self._start),
            "IMAGE": str(PROJECT / "kaggle" / "image.txt"),
            "NOT_FROM": str(PROJECT / "src"),
            "OVER_ONCE": str(self.working / over_once),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(self._start / "script.py")]
        before = self._state_of_inputs()
        done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
        assert self._state_of_inputs() == before  # whoever runs the tests may be above file modes
        return done

    def _state_of_inputs(self) -> dict[Path, tuple[int, int]]:
        paths = sorted(self.inputs.rglob("*"))
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
