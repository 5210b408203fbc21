"""A stub of Kaggle's API on the loopback interface, for Kaggle's own package.

It speaks what the package speaks: JSON by POST, uploads by PUT in one piece, in chunks or resumed,
downloads by GET. It can be told to misbehave at any request, and runs a function when a given
request has come, so that a test can kill the sender at a known moment.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = dict[str, Any]


@dataclass
class Blob:
    name: str
    size: int
    data: bytes = b""


@dataclass
class Dataset:
    """Versions are files by name; the last is ready after `polls` more looks.

    Before that, as many looks as `stale` still show the version before it, which is ready.
    """

    versions: list[dict[str, bytes]]
    notes: list[str]
    polls: int = 0
    stale: int = 0


@dataclass
class Kernel:
    """Runs hold their coming statuses and their output."""

    version: int = 0
    statuses: list[str] = field(default_factory=list)
    output: dict[str, bytes] = field(default_factory=dict)
    failure: str = ""
    log: str = ""


class Refused(Exception):
    """An error answer: status and message."""


@dataclass
class Fault:
    """How a request is treated: an error, a silence, or a cut connection.

    `times` is how often; `plain` answers with a page instead of JSON, as a proxy does.
    """

    status: int = 0
    message: str = ""
    plain: bool = False
    hang: bool = False
    drop: bool = False
    times: int = 10**6


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Senders are killed on purpose."""


class KaggleStub:
    """Kaggle as far as a push sees it, behind a server.

    `replies` are given in place of a method's own answer; `bodies` lists what methods were asked.
    A kernel's output is what `make_output` makes of the files of its dataset.
    `requests` lists the names of what came: the API's method, ``PUT <file>``, ``RESUME <file>``
    or ``GET <file>``. `faults` and `hooks` are by these names.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.faults: dict[str, Fault] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.bodies: list[Answer] = []
        self.replies: dict[str, Answer] = {}
        self.datasets: dict[str, Dataset] = {}
        self.kernels: dict[str, Kernel] = {}
        self.submissions: list[Answer] = []
        self.blobs: list[Blob] = []
        self.competition = "music-feels"
        self.ready_polls, self.stale_polls, self.score_polls = 1, 0, 1
        self.ready_status, self.score_status = "READY", "COMPLETE"
        self.run_statuses = ["RUNNING", "COMPLETE"]
        self.make_output: Callable[[dict[str, bytes]], dict[str, bytes]] = lambda _: {}
        self._lock, self.closing = threading.Lock(), threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def fault(self, name: str) -> Fault | None:
        """Note that a request came, and say how to treat it."""
        with self._lock:
            self.requests.append(name)
            fault = self.faults.get(name)
            if fault is None or fault.times <= 0:
                return None
            fault.times -= 1
            return fault

    def hook(self, name: str) -> None:
        """Run once what waits for this request."""
        with self._lock:
            waiting = self.hooks.pop(name, lambda: None)
        waiting()

    def call(self, method: str, body: Answer) -> Answer:
        """Answer one method of the API."""
        with self._lock:
            self.bodies.append({"method": method, **body})
            if method in self.replies:
                return self.replies[method]
            return getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower())(body)

    def _introspect_token(self, _: Answer) -> Answer:
        return {"active": False}

    def _dataset(self, body: Answer) -> Dataset:
        name = f"{body['ownerSlug']}/{body['datasetSlug']}"
        if name not in self.datasets:
            raise Refused(404, "404 Not Found")
        return self.datasets[name]

    def _get_dataset_status(self, body: Answer) -> Answer:
        dataset = self._dataset(body)
        if dataset.stale > 0:
            dataset.stale -= 1
            return {"status": "READY"}
        dataset.polls -= 1
        return {"status": self.ready_status if dataset.polls < 0 else "BLOBS_RECEIVED"}

    def _get_dataset(self, body: Answer) -> Answer:
        dataset = self._dataset(body)  # the number rises when the version is ready
        return {"currentVersionNumber": len(dataset.versions) - (dataset.polls >= 0)}

    def _list_dataset_files(self, body: Answer) -> Answer:
        files = self._dataset(body).versions[-1]
        return {"datasetFiles": [{"name": name, "totalBytes": len(data)} for name, data in files.items()]}

    def _start_blob_upload(self, body: Answer) -> Answer:
        self.blobs.append(Blob(body["name"], body.get("contentLength", 0)))
        token = len(self.blobs) - 1
        return {"token": str(token), "createUrl": f"http://localhost/upload/{token}?signature=of-an-upload"}

    def _files(self, files: list[Answer]) -> dict[str, bytes]:
        blobs = [self.blobs[int(file["token"])] for file in files]
        return {blob.name: blob.data for blob in blobs}

    def _create_dataset(self, body: Answer) -> Answer:
        name = f"{body['ownerSlug']}/{body['slug']}"
        if name in self.datasets:
            return {"status": "error", "error": f'The requested title "{body["title"]}" is already in use'}
        files = self._files(body.get("files", []))
        self.datasets[name] = Dataset([files], [""], self.ready_polls)
        return {"status": "ok", "url": f"https://www.kaggle.com/datasets/{name}"}

    def _create_dataset_version(self, body: Answer) -> Answer:
        dataset = self._dataset(body)
        dataset.versions.append(self._files(body["body"].get("files", [])))
        dataset.notes.append(body["body"]["versionNotes"])
        dataset.polls, dataset.stale = self.ready_polls, self.stale_polls
        return {"status": "ok", "url": "https://www.kaggle.com/datasets/x"}

    def _save_kernel(self, body: Answer) -> Answer:
        sources = body.get("datasetDataSources", [])
        known = [name for name in sources if name in self.datasets and self.datasets[name].polls < 0]
        kernel = self.kernels.setdefault(body["slug"], Kernel())
        kernel.version += 1
        kernel.statuses = list(self.run_statuses)
        kernel.output = self.make_output(self.datasets[known[0]].versions[-1] if known else {})
        return {
            "ref": body["slug"],
            "url": f"https://www.kaggle.com/code/{body['slug']}",
            "versionNumber": kernel.version,
            "invalidDatasetSources": sorted(set(sources) - set(known)),
            "invalidKernelSources": sorted(set(body.get("kernelDataSources", [])) - set(self.kernels)),
        }

    def _kernel(self, body: Answer) -> Kernel:
        name = f"{body['userName']}/{body['kernelSlug']}"
        if name not in self.kernels:
            raise Refused(403, "Permission 'kernels.get' was denied")
        return self.kernels[name]

    def _get_kernel_session_status(self, body: Answer) -> Answer:
        kernel = self._kernel(body)
        status = kernel.statuses.pop(0) if len(kernel.statuses) > 1 else kernel.statuses[0]
        return {"status": status, "failureMessage": kernel.failure if status == "ERROR" else ""}

    def _list_kernel_session_output(self, body: Answer) -> Answer:
        kernel, name = self._kernel(body), f"{body['userName']}/{body['kernelSlug']}"
        urls = [
            {"fileName": file, "url": f"http://localhost/output/{name}/{file}?signature=of-a-file"}
            for file in kernel.output
        ]
        return {"files": urls, "log": kernel.log}

    def _start_submission_upload(self, body: Answer) -> Answer:
        self._check_competition(body)
        return self._start_blob_upload({"name": body["fileName"], **body})

    def _create_submission(self, body: Answer) -> Answer:
        return self._submit(body, self.blobs[int(body["blobFileTokens"])].data)

    def _create_code_submission(self, body: Answer) -> Answer:
        self._check_competition(body)
        kernel = self.kernels[f"{body['kernelOwner']}/{body['kernelSlug']}"]
        if body["kernelVersion"] != kernel.version:
            raise Refused(400, "Kernel version not found")
        return self._submit(body, kernel.output[body["fileName"]])

    def _check_competition(self, body: Answer) -> None:
        if body["competitionName"] != self.competition:
            raise Refused(404, "404 Not Found")

    def _submit(self, body: Answer, data: bytes) -> Answer:
        submission = {
            "ref": 1000 + len(self.submissions),
            "description": body["submissionDescription"],
            "fileName": "submission.csv",
            "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "data": data,
            "polls": self.score_polls,
        }
        self.submissions.insert(0, submission)
        return {"message": "Successfully submitted to Music Feels", "ref": submission["ref"]}

    def _get_submission_limits(self, _: Answer) -> Answer:
        return {"numAllowedNow": 4}

    def _list_submissions(self, body: Answer) -> Answer:
        self._check_competition(body)
        listed = []
        for submission in self.submissions:
            submission["polls"] -= 1
            shown = {key: submission[key] for key in ("ref", "description", "fileName", "date")}
            scored = {"status": self.score_status, "publicScore": "0.61803"}
            listed.append({**shown, **(scored if submission["polls"] < 0 else {"status": "PENDING"})})
        return {"submissions": listed}


def _handler(stub: KaggleStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self._read() or b"{}")
            method = self.path.rsplit("/", 1)[-1]
            if self._faulty(method):
                return
            try:
                status, answer = 200, stub.call(method, body)
            except Refused as refused:
                status, message = refused.args
                answer = {"code": status, "message": message}
            stub.hook(method)
            self._send(status, json.dumps(answer), {"Content-Type": "application/json"})

        def do_PUT(self) -> None:
            blob = stub.blobs[int(self.path.split("?")[0].rsplit("/", 1)[-1])]
            spans = re.fullmatch(r"bytes (\*|(\d+)-\d+)/\d+", self.headers.get("Content-Range", ""))
            if spans and spans[1] == "*":
                self._read()
                stub.fault(f"RESUME {blob.name}")
                so_far = {"Range": f"bytes=0-{len(blob.data) - 1}"} if blob.data else {}
                self._send(200 if len(blob.data) == blob.size else 308, "", so_far)
                return
            name = f"PUT {blob.name}"
            stub.hook(f"{name} begins")
            data = self._read()
            blob.data = (blob.data[: int(spans[2])] if spans else b"") + data
            if self._faulty(name):
                return
            stub.hook(name)
            self._send(200 if len(blob.data) == blob.size else 400, "{}")

        def do_GET(self) -> None:
            owner, slug, file = self.path.split("?")[0].split("/")[-3:]
            if not self._faulty(f"GET {file}"):
                stub.hook(f"GET {file}")
                self._send(200, stub.kernels[f"{owner}/{slug}"].output[file])

        def _read(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def _faulty(self, name: str) -> bool:
            """Note the request, and misbehave as told."""
            fault = stub.fault(name)
            if fault is None or not (fault.status or fault.hang or fault.drop):
                return False
            if fault.hang:
                stub.closing.wait()
            if fault.hang or fault.drop:
                self.close_connection = True
                self.connection.close()
                return True
            kind, answer = "application/json", json.dumps({"code": fault.status, "message": fault.message})
            if fault.plain:
                kind, answer = "text/html", f"<!DOCTYPE html><html><body>{fault.message}</body></html>"
            self._send(fault.status, answer, {"Content-Type": kind, "Retry-After": "0"})
            return True

        def _send(self, status: int, body: str | bytes, headers: dict[str, str] | None = None) -> None:
            content = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler
