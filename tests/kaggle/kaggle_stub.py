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
    """Versions are files by name; `pending` are the statuses that are shown before the last is ready."""

    versions: list[dict[str, bytes]]
    pending: list[str] = field(default_factory=list)


@dataclass
class Kernel:
    """Runs hold their coming statuses and their output."""

    version: int = 0
    statuses: list[str] = field(default_factory=list)
    output: dict[str, bytes] = field(default_factory=dict)
    failure: str = ""
    log: str = ""


@dataclass
class Fault:
    """An error answer to a request, so many times; without a status, the connection is cut.

    Without a message it is a page instead of JSON, as a proxy gives one.
    """

    status: int = 0
    message: str = ""
    times: int = 10**6


class KaggleStub:
    """Kaggle as far as a push sees it, behind a server.

    `replies` are given in place of a method's own answer; `bodies` holds what each was asked last.
    A kernel's output is what `make_output` makes of the files of its dataset.
    `requests` lists the names of what came: the API's method, ``PUT <file>``, ``RESUME <file>``
    or ``GET <file>``. `faults` and `hooks` are by these names.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.faults: dict[str, Fault] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.bodies: dict[str, Answer] = {}
        self.replies: dict[str, Answer] = {
            "IntrospectToken": {"active": False},
            "GetSubmissionLimits": {"numAllowedNow": 4},
        }
        self.datasets: dict[str, Dataset] = {}
        self.kernels: dict[str, Kernel] = {}
        self.submissions: list[Answer] = []
        self.submitted: list[bytes] = []
        self.blobs: list[Blob] = []
        self.pending, self.score_polls = ["BLOBS_RECEIVED"], 1
        self.ready_status, self.score_status = "READY", "COMPLETE"
        self.run_statuses = ["RUNNING", "COMPLETE"]
        self.make_output: Callable[[dict[str, bytes]], dict[str, bytes]] = lambda _: {}
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.handle_error = lambda *_: None  # senders are killed on purpose
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def hook(self, name: str) -> None:
        """Run once what waits for this request."""
        self.hooks.pop(name, lambda: None)()

    def call(self, method: str, body: Answer) -> Answer:
        """Answer one method of the API."""
        self.bodies[method] = body
        if method in self.replies:
            return self.replies[method]
        return getattr(self, "_" + re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower())(body)

    def _dataset(self, body: Answer) -> Dataset:
        return self.datasets[f"{body['ownerSlug']}/{body['datasetSlug']}"]

    def _get_dataset_status(self, body: Answer) -> Answer:
        pending = self._dataset(body).pending
        return {"status": pending.pop(0) if pending else self.ready_status}

    def _get_dataset(self, body: Answer) -> Answer:
        dataset = self._dataset(body)  # the number rises when the version is ready
        return {"currentVersionNumber": len(dataset.versions) - bool(dataset.pending)}

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
        files = self._files(body.get("files", []))
        self.datasets[f"{body['ownerSlug']}/{body['slug']}"] = Dataset([files], [*self.pending])
        return {"status": "ok", "url": "https://www.kaggle.com/datasets/x"}

    def _create_dataset_version(self, body: Answer) -> Answer:
        dataset = self._dataset(body)
        dataset.versions.append(self._files(body["body"].get("files", [])))
        dataset.pending = ["READY", *self.pending]  # the version before is shown for a while
        return {"status": "ok", "url": "https://www.kaggle.com/datasets/x"}

    def _save_kernel(self, body: Answer) -> Answer:
        sources = body.get("datasetDataSources", [])
        known = [name for name in sources if name in self.datasets and not self.datasets[name].pending]
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
        return self.kernels[f"{body['userName']}/{body['kernelSlug']}"]

    def _get_kernel_session_status(self, body: Answer) -> Answer:
        kernel = self._kernel(body)
        status = kernel.statuses.pop(0) if len(kernel.statuses) > 1 else kernel.statuses[0]
        return {"status": status, "failureMessage": kernel.failure if status == "ERROR" else ""}

    def _list_kernel_session_output(self, body: Answer) -> Answer:
        kernel, place = self._kernel(body), f"output/{body['userName']}/{body['kernelSlug']}"
        urls = {name: f"http://localhost/{place}/{name}?signature=of-a-file" for name in kernel.output}
        return {"files": [{"fileName": name, "url": url} for name, url in urls.items()], "log": kernel.log}

    def _start_submission_upload(self, body: Answer) -> Answer:
        return self._start_blob_upload({"name": body["fileName"], **body})

    def _create_submission(self, body: Answer) -> Answer:
        return self._submit(body, self.blobs[int(body["blobFileTokens"])].data)

    def _create_code_submission(self, body: Answer) -> Answer:
        kernel = self.kernels[f"{body['kernelOwner']}/{body['kernelSlug']}"]
        return self._submit(body, kernel.output[body["fileName"]])

    def _submit(self, body: Answer, data: bytes) -> Answer:
        reference = 1000 + len(self.submissions)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        described = {"description": body["submissionDescription"], "fileName": "submission.csv"}
        self.submissions.insert(0, {"ref": reference, "date": now, **described})
        self.submitted.append(data)
        return {"message": "Successfully submitted to Music Feels", "ref": reference}

    def _list_submissions(self, _: Answer) -> Answer:
        self.score_polls -= bool(self.submissions)
        status = "PENDING" if self.score_polls >= 0 else self.score_status
        scored = {"status": status, **({} if status == "PENDING" else {"publicScore": "0.61803"})}
        return {"submissions": [submission | scored for submission in self.submissions]}


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
            except KeyError:  # nothing of that name is there
                status, answer = 404, {"code": 404, "message": "404 Not Found"}
            stub.hook(method)
            self._send(status, json.dumps(answer), {"Content-Type": "application/json"})

        def do_PUT(self) -> None:
            blob = stub.blobs[int(self.path.split("?")[0].rsplit("/", 1)[-1])]
            spans = re.fullmatch(r"bytes (\*|(\d+)-\d+)/\d+", self.headers.get("Content-Range", ""))
            if spans and spans[1] == "*":
                self._read()
                stub.requests.append(f"RESUME {blob.name}")
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
            stub.requests.append(name)
            fault = stub.faults.get(name)
            if fault is None or fault.times <= 0:
                return False
            fault.times -= 1
            if not fault.status:
                self.close_connection = True
                self.connection.close()
                return True
            answer = json.dumps({"code": fault.status, "message": fault.message})
            kind = "application/json" if fault.message else "text/html"
            page = answer if fault.message else "<!DOCTYPE html><html></html>"
            self._send(fault.status, page, {"Content-Type": kind, "Retry-After": "0"})
            return True

        def _send(self, status: int, body: str | bytes, headers: dict[str, str] | None = None) -> None:
            content = body.encode() if isinstance(body, str) else body
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler
