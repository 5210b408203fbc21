"""Find the bundle, install its wheel, and let it predict the test clips, or first train what does."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

BUNDLE = "@bundle@"  # the hash of the bundle this script was made for
INPUT = Path("/kaggle/input")
WORKING = Path("/kaggle/working")


def find_bundle() -> Path:
    """Look for the manifest as deep as Kaggle mounts datasets: input/SLUG or input/datasets/OWNER/SLUG."""
    found = {}
    for pattern in ("*/manifest.json", "datasets/*/*/manifest.json"):
        for path in INPUT.glob(pattern):
            found[json.loads(path.read_text(encoding="utf-8")).get("bundle")] = path.parent
    if BUNDLE not in found:
        sys.exit(
            f"No dataset under {INPUT} holds the bundle {BUNDLE[:12]}, only {[str(h)[:12] for h in found]}. "
            f"Kaggle mounts the latest version that was ready: wait for it, then run the kernel again."
        )
    return found[BUNDLE]


def install(bundle: Path) -> None:
    """Install the wheel where nothing else is, since the image has all that it depends on."""
    target = tempfile.mkdtemp(prefix="music-emotion-")
    wheel = next(bundle.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--target", target, str(wheel)], check=True)
    sys.path.insert(0, target)


if __name__ == "__main__":
    folder = find_bundle()
    install(folder)
    from music_emotion.delivery.kernel import run_bundle

    run_bundle(folder, BUNDLE, INPUT, WORKING)
