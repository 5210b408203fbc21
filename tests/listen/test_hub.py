"""Models on the Hub: pushed to a stand-in on this machine and loaded again, also without a network."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from audio_files import noise, written
from small_networks import small_network, small_run

from music_emotion.files import InputError
from music_emotion.listen.hub import located

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """The requests of a push and a download, for models of few small files."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.asked.append(path)
        if "/resolve/" in path and (name := path.rpartition("/")[2]) in self.files:
            self._answer(self.files[name], etag=git_id(self.files[name]))
        elif path.startswith("/api/models/me/feel"):
            files = [
                {"rfilename": name, "path": name, "type": "file"}
                | {"size": len(content), "oid": git_id(content)}
                for name, content in self.files.items()
            ]
            is_tree = "/tree/" in path
            known = {"id": "me/feel", "sha": COMMIT, "private": True, "tags": [], "siblings": files}
            self._answer(files if is_tree else known)
        else:
            self._answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(self.path)
        assert self.headers["Authorization"] == "Bearer hf_invented"
        if self.path == "/api/repos/create":
            assert json.loads(body)["name"] == "feel"
            self._answer({"url": self._url("me/feel"), "id": "me/feel"})
        elif "/preupload/" in self.path:
            named = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            self._answer({"files": [each | {"shouldIgnore": False} for each in named]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": self._url(f"me/feel/commit/{COMMIT}"), "commitOid": COMMIT})
        else:
            self._answer({"type": "valid"})  # validation of the card

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{path}"

    def _answer(self, content, status=200, etag=None, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers |= {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}
        headers |= {"ETag": f'"{etag}"'} if etag else {"Content-Type": "application/json"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    kind = type("Hub", (Hub,), {"files": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def python(folder: Path, code: str, endpoint: str, *arguments: str, **variables: str):
    """Run Python with the stand-in as the Hub."""
    environment = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_TOKEN": "hf_invented",
    }
    environment |= {"HF_HUB_DISABLE_XET": "1", "XDG_CACHE_HOME": str(folder / "cache"), **variables}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


MAIN = "from music_emotion.cli import main; main()"


def test_a_model_is_pushed_with_its_card_and_predicts_from_the_hub_and_offline(tmp_path, hub):
    endpoint, files = f"http://127.0.0.1:{hub.server_address[1]}", hub.RequestHandlerClass.files
    small_run(tmp_path / "run", small_network(), small_network(seed=1))
    written(tmp_path / "song.wav", noise(3))
    push = (
        "from music_emotion import EmotionModel; model = EmotionModel.from_pretrained('run');"
        "print(model.push_to_hub('me/feel', 'cc-by-4.0', 'Invented clips.'))"
    )
    pushed = python(tmp_path, push, endpoint)
    assert pushed.returncode == 0, pushed.stderr
    assert pushed.stdout.strip() == f"{endpoint}/me/feel"
    assert set(files) == {"README.md", "facts.json", "emotion0.safetensors", "emotion1.safetensors"}
    card = files["README.md"].decode()
    for known in ("license: cc-by-4.0", "Invented clips.", 'from_pretrained("me/feel")', "valence, energy"):
        assert known in card
    predictions = {}
    ways = {"here": ("run", {}), "hub": ("me/feel", {}), "offline": ("me/feel", {"HF_HUB_OFFLINE": "1"})}
    for out, (model, variables) in ways.items():
        hub.RequestHandlerClass.asked.clear()
        flags = ["predict", "song.wav", "--model", model, "--out", out]
        run = python(tmp_path, MAIN, endpoint, *flags, **variables)
        assert run.returncode == 0, run.stderr
        assert bool(hub.RequestHandlerClass.asked) == (out == "hub")
        row = json.loads((tmp_path / out / "predictions.json").read_text())
        predictions[out] = {k: v for k, v in row["songs"][0].items() if k != "path"}
        assert row["model"]["name"] == Path(model).name
    assert predictions["here"] == predictions["hub"] == predictions["offline"]
    assert {"valence", "valence_low", "energy_percentile"} <= predictions["here"].keys()


def test_what_the_hub_has_not_and_what_it_refuses_gets_a_sentence(tmp_path, hub):
    endpoint = f"http://127.0.0.1:{hub.server_address[1]}"
    written(tmp_path / "song.wav", noise(3))
    missing = python(tmp_path, MAIN, endpoint, "predict", "song.wav", "--model", "me/none")
    assert missing.returncode == 2
    assert missing.stderr.startswith(
        "error: There is no file or folder me/none, and the Hugging Face Hub gives no such model ("
    )
    nowhere = python(tmp_path, MAIN, "http://127.0.0.1:9", "predict", "song.wav", "--model", "me/feel")
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("error: There is no file or folder me/feel, and the Hugging Face")
    assert missing.stderr.count("\n") == nowhere.stderr.count("\n") == 1
    code = (
        "from music_emotion import EmotionModel; from music_emotion.files import InputError\n"
        "try: EmotionModel.from_pretrained(None).push_to_hub('me/feel', 'other')\n"
        "except InputError as error: print(error)"
    )
    refused = python(tmp_path, code, "http://127.0.0.1:9")
    assert "me/feel was not pushed: " in refused.stdout, refused.stderr
    assert "Traceback" not in missing.stderr + nowhere.stderr


def test_what_is_here_is_not_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    Path("me").mkdir()
    for place in ("me/feel", "model.safetensors", "a/b/c", "runs/other.safetensors", "/me/feel"):
        assert located(place) == Path(place)
    with pytest.raises((ImportError, InputError)):
        located("you/feel")
