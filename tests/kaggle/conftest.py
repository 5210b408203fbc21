"""A packaged bundle, a stub of Kaggle, and an environment in which Kaggle's package reaches nothing else."""

import base64
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported one by one, the stub by them

from kaggle_stub import Dataset, KaggleStub, Kernel

from music_emotion.files import InputError, write_json
from music_emotion.kaggle.metadata import make_metadata
from music_emotion.kaggle.push import Wish, push_bundle
from music_emotion.kaggle.push_run import Push, Waits, read_bundle

KEY = "0123456789abcdefinventedkey"
DATASET, KERNEL = "tester/feels-weights", "tester/feels-kernel"
N_ROWS = 5


def write_build(folder: Path, content: bytes = b"weights") -> Path:
    """A bundle as `package` writes it; other content makes another bundle."""
    files = {
        "fold0.safetensors": content,
        "fold1.safetensors": 100 * content,
        "music_emotion-0.1.0-py3-none-any.whl": b"PK wheel",
    }
    about, kernel = make_metadata("tester", "feels-weights", "feels-kernel", "music-feels", (), None)
    bundle = hashlib.sha256(content).hexdigest()
    listed = {name: {"sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    write_json(folder / "dataset" / "manifest.json", {"bundle": bundle, "files": listed})
    write_json(folder / "dataset" / "dataset-metadata.json", about)
    write_json(folder / "kernel" / "kernel-metadata.json", kernel)
    (folder / "kernel" / "kernel.py").write_text(f"BUNDLE = '{bundle}'\n", encoding="utf-8")
    for name, data in files.items():
        (folder / "dataset" / name).write_bytes(data)
    return folder


def infer(files: dict[str, bytes]) -> dict[str, bytes]:
    """What the kernel leaves, given what arrived of the dataset."""
    bundle = json.loads(files["manifest.json"])["bundle"] if "manifest.json" in files else None
    rows = "".join(f"{number},0.{number},0.5\n" for number in range(N_ROWS))
    submission = f"Id,valence,energy\n{rows}".encode()
    run = {"bundle": bundle, "rows": N_ROWS, "sha256": hashlib.sha256(submission).hexdigest()}
    return {
        "submission.csv": submission,
        "run.json": json.dumps(run).encode(),
        "picture.png": b"not asked for",
    }


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write_build(tmp_path / "build" / "feels 1")


@pytest.fixture
def stub() -> Iterator[KaggleStub]:
    server = KaggleStub()
    server.make_output = infer
    yield server
    server.close()


@pytest.fixture
def environment(stub: KaggleStub, tmp_path: Path) -> dict[str, str]:
    """From scratch and fail-closed: http goes to the stub, https to a port where nobody listens."""
    home = tmp_path / "home"
    home.mkdir()
    return {
        "PATH": os.environ["PATH"],
        **dict.fromkeys(("HOME", "TMPDIR", "KAGGLE_CONFIG_DIR"), str(home)),
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": stub.address,
        "https_proxy": "http://127.0.0.1:9",
        "KAGGLE_USERNAME": "tester",
        "KAGGLE_KEY": KEY,
    }


class Pusher:
    """Pushes in this process, and remembers all that was said."""

    def __init__(self, build: Path, environment: dict[str, str]) -> None:
        self.build, self.environment, self.said = build, environment, ""

    def __call__(self, wish: Wish | None = None, **waits: float) -> None:
        quick = Waits(**{"grace_minutes": 0.0, "poll_seconds": 0.02, "call_seconds": 60.0, **waits})
        push_bundle(read_bundle(self.build), quick, wish, self.environment, self._say)

    def _say(self, line: str) -> None:
        self.said += line + "\n"

    def fails(self, sentence: str, wish: Wish | None = None, **waits: float) -> None:
        """Push, and find this pattern in the error."""
        with pytest.raises(InputError, match=rf"(?s){sentence}") as error:
            self(wish, **waits)
        self.said += f"{error.value}\n"

    def note(self, **steps: dict) -> None:
        """Have steps done already."""
        push = Push(read_bundle(self.build), Waits(), self.environment, self._say)
        for step, values in steps.items():
            push.note(step, **values)


@pytest.fixture
def pusher(build: Path, environment: dict[str, str]) -> Iterator[Pusher]:
    """Whatever a test does, the key must be nowhere in the end."""
    pusher = Pusher(build, environment)
    yield pusher
    secrets = (KEY, base64.b64encode(f"tester:{KEY}".encode()).decode(), "signature=of")
    held = [path.read_bytes().decode("utf-8", "replace") for path in build.rglob("*") if path.is_file()]
    assert len(held) >= 7
    for text in (pusher.said, *held):
        assert not any(secret in text for secret in secrets)


@pytest.fixture
def uploaded(pusher: Pusher, stub: KaggleStub) -> Pusher:
    """A push whose dataset is on Kaggle and ready."""
    folder = pusher.build / "dataset"
    files = {name: (folder / name).read_bytes() for name in read_bundle(pusher.build).sizes}
    stub.datasets[DATASET] = Dataset([files])
    pusher.note(uploading={"base": 0}, uploaded={}, ready={"version": 1})
    return pusher


@pytest.fixture
def pushed(uploaded: Pusher, stub: KaggleStub) -> Pusher:
    """A push whose kernel runs on Kaggle."""
    stub.kernels[KERNEL] = Kernel(1, list(stub.run_statuses), infer(stub.datasets[DATASET].versions[-1]))
    kernel = {"kernel": read_bundle(uploaded.build).kernel_hash}
    uploaded.note(pushing={**kernel, "first": True}, pushed={**kernel, "version": 1})
    return uploaded


@pytest.fixture
def fetched(pushed: Pusher, stub: KaggleStub) -> Pusher:
    """A push whose output is here."""
    (pushed.build / "output").mkdir()
    for name in ("submission.csv", "run.json"):
        (pushed.build / "output" / name).write_bytes(stub.kernels[KERNEL].output[name])
    pushed.note(ran={"rows": N_ROWS})
    return pushed
