"""A stub of Kaggle's API on the loopback interface, for the real CLI.

It speaks what the CLI speaks: JSON by POST, uploads by PUT in one piece, in chunks or resumed,
downloads by GET. It can be told to misbehave at any request, and runs a function when a given
request has come, so that a test can kill the sender at a known moment.
"""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kaggle_state import Blob, KaggleState, Refused


@dataclass
class Fault:
    """How a request is treated: an error, a silence, a cut connection, or an upload cut short.

    `times` is how often; `plain` answers with a page instead of JSON, as a proxy does.
    """

    status: int = 0
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    plain: bool = False
    hang: bool = False
    drop: bool = False
    keep_bytes: int = -1
    times: int = 10**6


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Senders are killed on purpose."""


class KaggleStub(KaggleState):
    """The state, behind a server.

    `requests` lists the names of what came: the API's method, ``PUT <file>``, ``RESUME <file>``
    or ``GET <file>``. `faults` and `hooks` are by these names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[str] = []
        self.faults: dict[str, Fault] = {}
        self.hooks: dict[str, Callable[[], None]] = {}
        self.closing = threading.Event()
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
            waiting = self.hooks.pop(name, None)
        if waiting:
            waiting()


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
                answer = stub.call(method, body)
                status = 200
            except Refused as refused:
                status, answer = refused.status, {"code": refused.status, "message": str(refused)}
            stub.hook(method)
            self._send(status, json.dumps(answer).encode(), {"Content-Type": "application/json"})

        def do_PUT(self) -> None:
            blob = stub.blobs[int(self.path.split("?")[0].rsplit("/", 1)[-1])]
            spans = re.fullmatch(r"bytes (\*|(\d+)-\d+)/\d+", self.headers.get("Content-Range", ""))
            if spans and spans[1] == "*":
                self._read()
                if not self._faulty(f"RESUME {blob.name}"):
                    self._say_how_far(blob)
                return
            name = f"PUT {blob.name}"
            stub.hook(f"{name} begins")
            data = self._read()
            fault = stub.faults.get(name)
            if fault and fault.keep_bytes >= 0 and fault.times > 0:  # as if the rest got lost on the way
                data = data[: fault.keep_bytes]
            blob.data = (blob.data[: int(spans[2])] if spans else b"") + data
            if self._faulty(name):
                return
            stub.hook(name)
            self._send(200 if len(blob.data) == blob.size else 400, b"{}")

        def do_GET(self) -> None:
            owner, slug, file = self.path.split("?")[0].split("/")[-3:]
            if not self._faulty(f"GET {file}"):
                stub.hook(f"GET {file}")
                self._send(200, stub.kernels[f"{owner}/{slug}"].output[file])

        def _say_how_far(self, blob: Blob) -> None:
            if len(blob.data) == blob.size:
                self._send(200, b"{}")
            else:
                ranges = {"Range": f"bytes=0-{len(blob.data) - 1}"} if blob.data else {}
                self._send(308, b"", ranges)

        def _read(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

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
            elif fault.plain:
                page = f"<!DOCTYPE html><html><body>{fault.message}</body></html>".encode()
                self._send(fault.status, page, {"Content-Type": "text/html", **fault.headers})
            else:
                answer = json.dumps({"code": fault.status, "message": fault.message}).encode()
                self._send(fault.status, answer, {"Content-Type": "application/json", **fault.headers})
            return True

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler
