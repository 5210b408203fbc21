"""Find the bundle, check and unpack it, and run it."""

import hashlib
import json
import sys
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

BUNDLE = "@bundle@"  # the hash of the bundle this script was made for
INPUT = Path("/kaggle/input")
WORKING = Path("/kaggle/working")


def find_bundle() -> Path:
    """Find the bundle's manifest where Kaggle mounts datasets: input/SLUG or input/datasets/OWNER/SLUG."""
    found = {}
    for pattern in ("*/manifest.json", "datasets/*/*/manifest.json"):
        for path in INPUT.glob(pattern):
            with suppress(ValueError, TypeError, KeyError):  # the manifest of something else
                found[json.loads(path.read_text(encoding="utf-8"))["bundle"]] = path.parent
    if BUNDLE not in found:
        sys.exit(
            f"No dataset under {INPUT} holds the bundle {BUNDLE[:12]}, only {[h[:12] for h in found]}. "
            f"Kaggle mounts the latest version that was ready: attach the dataset, wait for it, run again."
        )
    return found[BUNDLE]


def unpack(bundle: Path) -> None:
    """Check every file of the bundle, and make its package importable."""
    files = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["files"]
    for name, facts in files.items():
        path = bundle / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
            sys.exit(f"{path} is missing or damaged. Upload the dataset again, and wait until it is ready.")
    target = tempfile.mkdtemp(prefix="music-emotion-")
    zipfile.ZipFile(bundle / next(name for name in files if name.endswith(".whl"))).extractall(target)
    sys.path.insert(0, target)


if __name__ == "__main__":
    folder = find_bundle()
    unpack(folder)
    from music_emotion.files import InputError
    from music_emotion.kaggle.kernel import run_bundle

    try:
        run_bundle(folder, INPUT, WORKING)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
